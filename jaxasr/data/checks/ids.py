"""Ids and speakers."""

import itertools
import unicodedata
from collections.abc import Callable, Iterator

from jaxasr.data.checks.part import Finding, Part, Row
from jaxasr.data.checks.table import error, info, warning
from jaxasr.data.textfile import show

LONGEST = 200
"""Bytes of an id; a file's name has 255, and needs an ending."""


@error("duplicate-id", "an id that stands in a file before", fix="rename one of them, or remove it")
def duplicate_id(part: Part) -> Iterator[Finding]:
    if part.form == "kaldi":
        listed = [(t.path, t.keys, t.lines) for name, t in part.tables.items() if name != "spk2utt"]
    else:
        named = [row for row in part.rows if row.id]
        listed = [(part.owner, [row.id for row in named], [row.line for row in named])]
    for path, keys, lines in listed:
        if len(set(keys)) == len(keys):
            continue
        first: dict[str, int] = {}
        for key, line in zip(keys, lines, strict=True):
            if first.setdefault(key, line) != line:
                yield Finding(path, line, key, f"already in line {first[key]}")


@warning("invisible-in-id", "an id or a speaker with a character that does not show", fix="remove the character")
def invisible(part: Part) -> Iterator[Finding]:
    for row in part.rows:
        for name in (row.id, row.speaker):
            if not name.isprintable():
                yield part.at(row, show(name))


@info("id-as-file-name", "an id that cannot be the name of a file", fix="write it without / and \\, or shorter")
def file_name(part: Part) -> Iterator[Finding]:
    for row in part.rows:
        if "/" in row.id or "\\" in row.id or row.id[:1] in (".", "-") or len(row.id.encode()) > LONGEST:
            yield part.at(row, show(row.id))


@info("ids-alike", "an id that differs from another in case or Unicode's forms alone", fix="rename one of them")
def ids_alike(part: Part) -> Iterator[Finding]:
    return _alike(part, lambda row: row.id)


@info("speakers-alike", "a speaker who differs from another in case or Unicode's forms alone", fix="write one name")
def speakers_alike(part: Part) -> Iterator[Finding]:
    return _alike(part, lambda row: row.speaker)


def _alike(part: Part, name_of: Callable[[Row], str]) -> Iterator[Finding]:
    rows: dict[str, Row] = {}
    for row in part.rows:
        rows.setdefault(name_of(row), row)
    folded: dict[str, str] = {}
    for name, row in rows.items():
        plain = (name if name.isascii() else unicodedata.normalize("NFKC", name)).casefold()
        if folded.setdefault(plain, name) != name:
            yield part.at(row, f"{show(name)} beside {show(folded[plain])}")


@warning("same-stretch", "a stretch of sound that another utterance has too", fix="keep one of them")
def same_stretch(part: Part) -> Iterator[Finding]:
    spans = [(row.audio, row.start, row.seconds) for row in part.rows]
    if len(set(spans)) == len(spans):
        return
    first: dict[tuple[str, float, float | None], Row] = {}
    for span, row in zip(spans, part.rows, strict=True):
        if (other := first.setdefault(span, row)) is not row:
            yield part.at(row, f"the sound of {other.name}, line {other.line}")


@info("overlap", "a segment that begins while another of its recording goes on", fix="check the times")
def overlap(part: Part) -> Iterator[Finding]:
    if len({row.audio for row in part.rows}) == len(part.rows):
        return
    timed = sorted((row for row in part.rows if row.seconds), key=lambda row: (row.audio, row.start))
    for one, other in itertools.pairwise(timed):
        if one.audio == other.audio and one.start + (one.seconds or 0.0) > other.start + 0.1:
            yield part.at(other, f"{one.name} ends {one.start + (one.seconds or 0.0) - other.start:.2f} s later")
