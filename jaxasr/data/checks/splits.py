"""What several manifests share; the first of two is taken for what is trained on, and loses what both have."""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence

from jaxasr.data.checks.part import Finding, Part, Row
from jaxasr.data.checks.speech import audible
from jaxasr.data.checks.table import info, warning
from jaxasr.data.textfile import show


def _shared(
    parts: Sequence[Part], keyed: Callable[[Part], Iterable[tuple[object, Row]]]
) -> Iterator[tuple[Part, Row, Part, Row]]:
    """Rows of a part with a key that a later part has too; where `keyed` gives it."""
    for one, other in itertools.combinations(parts, 2):
        known = dict(keyed(other))
        for key, row in keyed(one):
            if key in known:
                yield one, row, other, known[key]


def _found(parts: Sequence[Part], keyed: Callable[[Part], Iterable[tuple[object, Row]]]) -> Iterator[Finding]:
    for part, row, other, twin in _shared(parts, keyed):
        yield part.at(row, f"{twin.name} at {other.owner}:{twin.line}")


@warning("shared-id", "an id that a later manifest has too", fix="rename it, or remove it from one", across=True)
def shared_id(parts: Sequence[Part]) -> Iterator[Finding]:
    return _found(parts, lambda part: ((row.id, row) for row in part.rows if row.id))


@warning("shared-stretch", "a stretch of sound that a later manifest has too", fix="remove it from one", across=True)
def shared_stretch(parts: Sequence[Part]) -> Iterator[Finding]:
    return _found(parts, lambda part: (((row.audio, row.start, row.seconds), row) for row in part.rows))


@warning(
    "shared-sound", "the same samples as in a later manifest", fix="remove it from one", needs="sound", across=True
)
def shared_sound(parts: Sequence[Part]) -> Iterator[Finding]:
    def keyed(part: Part) -> Iterator[tuple[object, Row]]:
        return ((h.levels.digest, row) for row, h in part.heard() if h.levels and audible(h.levels))

    for part, row, other, twin in _shared(parts, keyed):
        if (row.audio, row.start, row.seconds) != (twin.audio, twin.start, twin.seconds):
            yield part.at(row, f"{twin.name} at {other.owner}:{twin.line}")


@info("shared-speaker", "a speaker whom a later manifest has too", fix="test on speakers of its own", across=True)
def shared_speaker(parts: Sequence[Part]) -> Iterator[Finding]:
    def keyed(part: Part) -> Iterator[tuple[object, Row]]:
        first: dict[str, Row] = {}
        for row in part.rows:
            if row.speaker:
                first.setdefault(row.speaker, row)
        return iter(first.items())

    for part, row, other, twin in _shared(parts, keyed):
        yield part.at(row, f"{show(row.speaker)} at {other.owner}:{twin.line}")


@info("shared-text", "a text that a later manifest has too", fix="test on texts of their own", across=True)
def shared_text(parts: Sequence[Part]) -> Iterator[Finding]:
    return _found(parts, lambda part: ((row.text, row) for row in part.rows if row.text))
