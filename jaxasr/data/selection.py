"""Which utterances a run can use, how long they are at every speed, and why the others stay out."""

import dataclasses
import functools
import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from jaxasr.data.manifest import Utterance
from jaxasr.data.mixing import Drawn
from jaxasr.data.source import Header, Source, place
from jaxasr.data.textfile import few
from jaxasr.errors import DataError


@dataclasses.dataclass(frozen=True)
class Measures:
    """What selection must know of a task."""

    source: Source
    frames: Callable[[np.ndarray], np.ndarray]
    """Encoder frames that so many samples (or frames of features) give."""
    frames_needed: Callable[[str], int]
    """The fewest frames that the loss can align a transcript with."""
    num_tokens: Callable[[str], int]
    unknown: Callable[[str], list[str]]


@dataclasses.dataclass(frozen=True)
class Selection:
    """The utterances in use and their measures; `in = used + left out` holds by construction and is checked."""

    utterances: list[Utterance]
    samples: np.ndarray
    """(N, speeds) samples (or frames of features) at the task's rate, at each speed factor."""
    usable: np.ndarray
    """(N, speeds) whether the loss can align the utterance at that speed."""
    tokens: np.ndarray
    """(N,) tokens of each transcript."""
    speeds: tuple[float, ...]
    left_out: dict[str, list[str]]
    """Reason to ids."""
    total: int
    faults: dict[str, str] = dataclasses.field(default_factory=dict)
    """Id of an unreadable utterance to what is wrong with it."""
    unknown: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    """Id of an utterance that is left out for its unknown symbols to these."""
    hashes: np.ndarray = dataclasses.field(init=False, repr=False)
    """(N,) uint64 of the ids."""

    def __post_init__(self):
        object.__setattr__(self, "hashes", np.array([id_hash(u.id) for u in self.utterances], np.uint64))
        count = len(self.utterances) + sum(map(len, self.left_out.values()))
        if count != self.total:
            raise AssertionError(f"{self.total} utterances came in, {count} are used or left out")

    @property
    def plain_samples(self) -> np.ndarray:
        """(N,) samples at speed 1, or else at the first speed."""
        return self.samples[:, self.speeds.index(1.0) if 1.0 in self.speeds else 0]

    @functools.cached_property
    def corpora(self) -> np.ndarray:
        """(N,) the manifest that each utterance comes from."""
        return np.array([u.corpus for u in self.utterances], np.int64)

    def accounting(self) -> str:
        """`in = used + reasons`, with the first ids of each reason."""
        parts = [f"{len(self.utterances)} used"]
        for reason, ids in self.left_out.items():
            more = ", ..." if len(ids) > 3 else ""
            symbols = dict.fromkeys(symbol for name in ids for symbol in self.unknown.get(name, ()))
            shown = f" {few(symbols)}" if symbols else ""
            parts.append(f"{len(ids)} {reason}{shown} ({', '.join(ids[:3])}{more})")
        return f"{self.total} in = " + " + ".join(parts)

    def left_out_rows(self) -> Iterator[dict[str, Any]]:
        """Every utterance that is left out: its id, the reason, and its fault or its unknown symbols."""
        for reason, ids in self.left_out.items():
            for name in ids:
                fault = {"fault": self.faults[name]} if name in self.faults else {}
                symbols = {"symbols": self.unknown[name]} if name in self.unknown else {}
                yield {"id": name, "reason": reason} | fault | symbols


def select(
    utterances: Sequence[Utterance],
    infos: Mapping[str, Header | DataError],
    measures: Measures,
    *,
    speeds: tuple[float, ...] = (1.0,),
    max_seconds: float = float("inf"),
    leave_out_unknown: bool = True,
) -> Selection:
    """The utterances that training can use; every other one is put down under a reason.

    A speed at which an utterance is too long, or has too few frames for its tokens, is not used for it; an
    utterance without any speed left stays out.
    """
    left_out: dict[str, list[str]] = {}
    faults: dict[str, str] = {}
    unknown: dict[str, list[str]] = {}
    measured: list[Utterance] = []
    all_samples: list[int] = []
    all_tokens: list[int] = []
    for utterance in utterances:
        try:
            samples = lengths(utterance, infos, measures.source, speeds)
        except DataError as error:
            left_out.setdefault("unreadable", []).append(utterance.id)
            faults[utterance.id] = str(error)
            continue
        tokens = measures.num_tokens(utterance.text) if utterance.text.strip() else 0
        if not tokens:  # as a cleaner leaves of a full stop
            left_out.setdefault("with empty text", []).append(utterance.id)
        elif leave_out_unknown and (symbols := measures.unknown(utterance.text)):
            left_out.setdefault("with unknown symbols", []).append(utterance.id)
            unknown[utterance.id] = symbols
        else:
            measured.append(utterance)
            all_samples += samples
            all_tokens.append(tokens)
    samples = np.array(all_samples, np.int64).reshape(len(measured), len(speeds))
    needed = np.array([max(measures.frames_needed(u.text), 1) for u in measured], np.int64)
    short_enough = samples <= max_seconds * measures.source.rate
    usable = short_enough & (measures.frames(samples) >= needed[:, None])
    for row in np.flatnonzero(~usable.any(axis=1)):
        reason = INFEASIBLE if short_enough[row].any() else "too long"
        left_out.setdefault(reason, []).append(measured[row].id)
    kept = np.flatnonzero(usable.any(axis=1))
    used = [measured[row] for row in kept]
    tokens = np.array(all_tokens, np.int64)[kept]
    return Selection(used, samples[kept], usable[kept], tokens, speeds, left_out, len(utterances), faults, unknown)


INFEASIBLE = "with fewer frames than CTC needs"


def lengths(
    utterance: Utterance, infos: Mapping[str, Header | DataError], source: Source, speeds: tuple[float, ...]
) -> tuple[int, ...]:
    """The samples that the utterance has as it is read, at each speed; an unreadable file is raised as its DataError.

    Of a file that is not among the `infos` the manifest says how much it has at most.
    """
    info = infos.get(utterance.audio)
    if info is None:
        return tuple(source.stated_length(utterance, speed) for speed in speeds)
    if isinstance(info, DataError):
        error = str(info).removeprefix(f"{utterance.audio}: ")  # which names the file alone
        raise DataError(f"{place(utterance)}: {error}") from info
    return tuple(source.length(utterance, info, speed) for speed in speeds)


def why_unreadable(utterance: Utterance, infos: Mapping[str, Header | DataError], source: Source) -> str:
    """What keeps the utterance from being read, as far as the headers tell; empty where nothing does."""
    try:
        lengths(utterance, infos, source, (1.0,))
    except DataError as error:
        return str(error)
    return ""


def select_all(
    utterances: Sequence[Utterance], infos: Mapping[str, Header | DataError], measures: Measures
) -> Selection:
    """Every utterance, for evaluation and decoding, which leave nothing out.

    Raises:
      DataError: a file cannot be read.
    """
    samples = [lengths(u, infos, measures.source, (1.0,)) for u in utterances]
    shape = (len(utterances), 1)
    return Selection(
        list(utterances),
        np.array(samples, np.int64).reshape(shape),
        np.ones(shape, bool),
        np.array([measures.num_tokens(u.text) for u in utterances], np.int64),
        (1.0,),
        {},
        len(utterances),
    )


def id_hash(utterance_id: str) -> int:
    """64 bits of an utterance's id, the same on every machine.

    >>> id_hash("utt1") == id_hash("utt2")
    False
    """
    return int.from_bytes(hashlib.blake2b(utterance_id.encode(), digest_size=8).digest(), "little")


def draw_speeds(selection: Selection, seed: int, epoch: int, drawn: Drawn | None = None) -> np.ndarray:
    """(M,) index of each utterance's speed in this epoch: a function of (seed, epoch, id, repeat) alone.

    Args:
      drawn: what stands in the epoch; None for every utterance once.
    """
    hashes, usable = selection.hashes, selection.usable
    mixed = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)[0]
    with np.errstate(over="ignore"):
        if drawn is not None:
            usable = usable[drawn.indices]
            hashes = hashes[drawn.indices] + drawn.repeats.astype(np.uint64) * np.uint64(0xA0761D6478BD642F)
        bits = (hashes ^ mixed) * np.uint64(0x9E3779B97F4A7C15)
        bits = (bits ^ (bits >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    uniform = ((bits ^ (bits >> np.uint64(32))) >> np.uint64(11)).astype(np.float64) / 2.0**53
    rank = np.floor(uniform * usable.sum(axis=1)).astype(np.int64)  # among the speeds that fit
    return np.argmax(np.cumsum(usable, axis=1) > rank[:, None], axis=1)


def split_valid(utterances: Sequence[Utterance], share: float = 0.05) -> tuple[list[Utterance], list[Utterance], str]:
    """(train, valid, how it was split): whole speakers where there are enough of them, else single utterances.

    Which ones is a function of the ids alone, so every run of the same data splits alike.

    Raises:
      DataError: there are fewer than two utterances.

    >>> said = [Utterance(f"{n}", "a.flac", "ZERO", speaker) for n, speaker in enumerate(["ann", "bob", "cem", "dee"])]
    >>> train, valid, how = split_valid(said, 0.25)
    >>> [u.speaker for u in valid], how
    (['dee'], '1 of 4 speakers')
    """
    if len(utterances) < 2:
        raise DataError(
            f"--train: {len(utterances)} utterances; at least two were expected, one of them to validate with; "
            "give more, or a --valid of their own."
        )
    wanted = max(1, round(share * len(utterances)))
    by_speaker: dict[str, list[Utterance]] = {}
    for utterance in utterances:
        by_speaker.setdefault(utterance.speaker, []).append(utterance)
    # one speaker may stand for at most twice the share, or too much would be lost
    small = {s: us for s, us in by_speaker.items() if s and len(us) <= 2 * wanted}
    chosen: set[str] = set()
    if len(small) >= 2 and "" not in by_speaker:
        speakers = 0
        for speaker in sorted(small, key=id_hash):
            if len(chosen) + len(small[speaker]) / 2 <= wanted or not chosen:
                chosen |= {u.id for u in small[speaker]}
                speakers += 1
        how = f"{speakers} of {len(by_speaker)} speakers"
    else:
        chosen = set(sorted((u.id for u in utterances), key=id_hash)[:wanted])
        how = "single utterances"
    train = [u for u in utterances if u.id not in chosen]
    valid = [u for u in utterances if u.id in chosen]
    return train, valid, how
