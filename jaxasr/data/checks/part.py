"""What checks look at: the lines of a manifest, whatever is wrong with some of them."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np

from jaxasr.data.checks.hearing import Ears, Heard
from jaxasr.data.utterance import holds_features, plain_id

Need = Literal["manifest", "headers", "sound", "tokens", "frames"]
"""Beside the manifest: files that are opened (headers) or read (sound), a token list, the encoder's frame rate."""


class Finding(NamedTuple):
    """Where something is wrong, and what came there."""

    file: str
    line: int
    """Counted from 1; 0 for the file as a whole."""
    id: str
    came: str

    @property
    def where(self) -> str:
        """`file:line`, or the file alone where there is no line."""
        return f"{self.file}:{self.line}" if self.line else self.file


class Row(NamedTuple):
    """An utterance as a manifest has it."""

    line: int
    """Where it is listed."""
    id: str
    """Empty where none is written."""
    audio: str
    """Path from the root on."""
    text: str
    text_line: int
    speaker: str = ""
    start: float = 0.0
    seconds: float | None = None
    """None for all that follows `start`."""

    @property
    def name(self) -> str:
        """The id, or else what training calls it after its sound, if there is any."""
        return self.id or (self.audio and plain_id(self.audio, self.start))


@dataclasses.dataclass(frozen=True)
class Settings:
    """What checks may know beside the manifests."""

    sound: Literal["no", "headers", "all"] = "all"
    """How much of the sound is read."""
    unknown: Callable[[str], list[str]] | None = None
    """The symbols of a text that a token list lacks."""
    needed: Callable[[str], int] | None = None
    """The fewest frames that CTC can align a text with."""
    frames: Callable[[float], int] | None = None
    """Encoder frames of so many seconds."""
    rate: int | None = None
    """Samples a second that the model takes."""
    max_seconds: float = 40.0

    @property
    def known(self) -> set[Need]:
        """What checks can ask for."""
        sound: dict[str, set[Need]] = {"no": set(), "headers": {"headers"}, "all": {"headers", "sound"}}
        tokens: set[Need] = {"tokens"} if self.unknown else set()
        frames: set[Need] = {"frames"} if self.frames else set()
        return {"manifest", *sound[self.sound], *tokens, *frames}


@dataclasses.dataclass(frozen=True)
class TextFile:
    """What reading a text file has shown of it as a whole; line numbers count from 1."""

    path: str
    lines: int = 0
    fault: str = ""
    """Why it cannot be read."""
    bom: bool = False
    crlf: Sequence[int] = ()
    not_utf8: Mapping[int, str] = dataclasses.field(default_factory=dict)
    """By line, the first byte that is none."""
    nul: Sequence[int] = ()
    blank: Sequence[int] = ()
    """Those that a line with something in it follows."""
    huge: Sequence[int] = ()
    ended: bool = True
    """Whether the last line ends in a line feed."""


class Table(NamedTuple):
    """A file of a Kaldi folder: the first word of each line, and the rest."""

    path: str
    keys: list[str]
    values: list[str]
    lines: Sequence[int]

    def first(self) -> dict[str, int]:
        """By key, the index of the first line that has it."""
        found = dict(zip(reversed(self.keys), range(len(self.keys) - 1, -1, -1), strict=True))
        return found if len(found) == len(self.keys) else {key: found[key] for key in dict.fromkeys(self.keys)}

    def kept(self, keep: Callable[[str, int], bool]) -> "Table":
        """The lines for which `keep` says so, of key and line number."""
        chosen = [i for i, (key, line) in enumerate(zip(self.keys, self.lines, strict=True)) if keep(key, line)]
        keys, values = [self.keys[i] for i in chosen], [self.values[i] for i in chosen]
        return Table(self.path, keys, values, [self.lines[i] for i in chosen])


@dataclasses.dataclass(frozen=True)
class Part:
    """One manifest: what of it can be read as utterances, and what was met on the way."""

    path: str
    form: Literal["kaldi", "json", "csv", "tsv", "none"]
    settings: Settings
    ears: Ears
    owner: str = ""
    """The file that lists the utterances."""
    text_file: str = ""
    """The file with the transcripts."""
    rows: Sequence[Row] = ()
    files: Sequence[TextFile] = ()
    tables: Mapping[str, Table] = dataclasses.field(default_factory=dict)
    """Of a Kaldi folder, by their names."""
    sources: Sequence[str] = ()
    """Of JSON lines and tables, the lines as they stand."""
    met: Mapping[str, Sequence[Finding]] = dataclasses.field(default_factory=dict)
    """By the name of a check, what cannot be read as it should."""

    def at(self, row: Row, came: str) -> Finding:
        """A finding at the line that lists an utterance."""
        return Finding(self.owner, row.line, row.name, came)

    def at_text(self, row: Row, came: str) -> Finding:
        """A finding at the line with an utterance's transcript."""
        return Finding(self.text_file, row.text_line, row.name, came)

    def heard(self) -> Iterator[tuple[Row, Heard]]:
        """The utterances whose sound was looked at, with what it is like."""
        for row in self.rows:
            if (heard := self.ears.found.get((row.audio, row.start, row.seconds))) is not None:
                yield row, heard

    def of_sound(self) -> Iterable[Row]:
        """The utterances that are sound, and not features."""
        return (row for row in self.rows if row.audio and not holds_features(row.audio))

    @functools.cached_property
    def seconds(self) -> np.ndarray:
        """(N,) how long each utterance is; NaN where neither manifest nor sound says so."""
        stated = np.array([np.nan if r.seconds is None else r.seconds for r in self.rows], float)
        if self.settings.sound != "no":
            spans = ((row.audio, row.start, row.seconds) for row in self.rows)
            heard = np.array([getattr(self.ears.found.get(span), "seconds", np.nan) for span in spans], float)
            stated = np.where(np.isnan(heard), stated, heard)
        return stated

    @functools.cached_property
    def symbols(self) -> dict[str, int]:
        """How often each character stands in the texts."""
        counts = np.zeros(1, np.int64)
        texts = [row.text for row in self.rows]
        for first in range(0, len(texts), 10_000):
            codes = "".join(texts[first : first + 10_000]).encode("utf-32-le")
            found = np.bincount(np.frombuffer(codes, np.uint32), minlength=len(counts))
            found[: len(counts)] += counts
            counts = found
        return {chr(code): int(counts[code]) for code in np.flatnonzero(counts)}
