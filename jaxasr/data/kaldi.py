"""Kaldi folders: tables of ids and what belongs to them."""

import itertools
import math
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from jaxasr.data.textfile import NUMBER, claim, few, lines, show
from jaxasr.data.utterance import Kind, Utterance, audio_path, folder_of
from jaxasr.errors import DataError
from jaxasr.registry import did_you_mean


class _Row(NamedTuple):
    where: str
    value: str


class _Span(NamedTuple):
    where: str
    audio: str
    start: float = 0.0
    seconds: float | None = None


def script(kind: Kind | None) -> str:
    """The file that lists what the utterances of a folder are read from."""
    return "feats.scp" if kind == "features" else "wav.scp"


def read(folder: str, need_text: bool, kind: Kind | None) -> Iterator[tuple[str, Utterance]]:
    """Each utterance of a Kaldi folder with the `file:line` it came from.

    `segments` cuts sound alone: `feats.scp` has one line an utterance.
    """
    owner = script(kind)
    if not os.path.exists(os.path.join(folder, owner)):
        other = "wav.scp" if kind == "features" else "feats.scp"
        frontend = "wav_frontend" if kind == "features" else "features --preprocess=none"
        found = os.path.exists(os.path.join(folder, other))
        raise DataError(
            f"{folder}: a folder without '{owner}'; a Kaldi folder has one; name a Kaldi folder or a .jsonl file."
            + (f" --frontend={frontend} reads its '{other}'." if found else "")
        )
    spans = _recordings(folder, owner, kind)
    segments = os.path.join(folder, "segments")
    if kind != "features" and os.path.exists(segments):
        spans, owner = _segments(segments, spans), "segments"
    texts = _column(os.path.join(folder, "text"), owner, spans, needed=need_text)
    speakers = _column(os.path.join(folder, "utt2spk"), owner, spans, needed=False)
    for name, span in spans.items():
        speaker = speakers.get(name, "")
        yield span.where, Utterance(name, span.audio, texts.get(name, ""), speaker, span.start, span.seconds)


def read_texts(folder: str) -> Iterator[tuple[str, Utterance]]:
    """As `read`, the transcripts alone."""
    path = os.path.join(folder, "text")
    rows = _table(path)
    speakers = _column(os.path.join(folder, "utt2spk"), "text", rows, needed=False)
    for name, (where, text) in rows.items():
        yield where, Utterance(name, path, text, speakers.get(name, ""))


def _table(path: str) -> dict[str, _Row]:
    """The rest of each line by the line's first word."""
    seen: dict[str, str] = {}
    rows = {}
    for number, line in enumerate(lines(path), 1):
        key, *rest = line.split(maxsplit=1)
        where = f"{path}:{number}"
        claim(seen, key, where)
        rows[key] = _Row(where, rest[0].strip() if rest else "")
    return rows


def _recordings(folder: str, owner: str, kind: Kind | None) -> dict[str, _Span]:
    base = folder_of(folder)
    recordings = {}
    for name, (where, value) in _table(os.path.join(folder, owner)).items():
        if not value:
            raise DataError(f"{where}: no path after id {show(name)}; 'ID PATH' was expected; add the path.")
        recordings[name] = _Span(where, audio_path(where, base, value, kind))
    return recordings


def _segments(path: str, recordings: Mapping[str, _Span]) -> dict[str, _Span]:
    spans = {}
    for name, (where, value) in _table(path).items():
        fields = value.split()
        if len(fields) != 3:
            raise DataError(
                f"{where}: {len(fields) + 1} fields; 'UTTERANCE RECORDING START END' was expected; write these four."
            )
        recording, start, end = fields[0], _time(where, fields[1]), _end(where, fields[2])
        if recording not in recordings:
            raise DataError(
                f"{where}: recording {show(recording)} is not in wav.scp; each segment's recording is; add it "
                f"there or remove the segment.{did_you_mean(recording, itertools.islice(recordings, 1000))}"
            )
        if end is not None and end <= start:
            raise DataError(
                f"{where}: end {end} is not after start {start}; times in seconds, the end after the start, were "
                "expected; correct or remove the segment."
            )
        spans[name] = _Span(where, recordings[recording].audio, start, None if end is None else end - start)
    return spans


def _end(where: str, word: str) -> float | None:
    """None for -1, which stands for the end of the recording."""
    return None if NUMBER.fullmatch(word) and float(word) == -1.0 else _time(where, word)


def _time(where: str, word: str) -> float:
    value = float(word) if NUMBER.fullmatch(word) else math.nan
    if not (math.isfinite(value) and value >= 0):
        raise DataError(
            f"{where}: time {show(word)}; a number of seconds, 0 or more, was expected; correct the segment."
        )
    return value


def _column(path: str, owner: str, spans: Mapping[str, object], *, needed: bool) -> dict[str, str]:
    """The values of a table that lists the ids of `owner`; none where it may be and is absent."""
    if not os.path.exists(path):
        if needed:
            raise DataError(
                f"{path}: no such file; transcripts, a line 'ID TEXT' for each utterance, were expected; write it."
            )
        return {}
    rows = _table(path)
    missing = [key for key in spans if key not in rows]
    extra = [key for key in rows if key not in spans]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of the {len(spans)} ids of {owner} are missing ({few(missing)}); both list "
            f"the same ids; add them here or remove them from {owner}."
        )
    if extra:
        raise DataError(
            f"{rows[extra[0]].where}: {len(extra)} of {len(rows)} ids are not in {owner} ({few(extra)}); both "
            f"list the same ids; remove them here or add them to {owner}."
        )
    return {key: row.value for key, row in rows.items()}
