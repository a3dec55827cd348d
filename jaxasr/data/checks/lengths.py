"""How long sound and text are, together and beside those of the others."""

from collections.abc import Iterator

import numpy as np

from jaxasr.data.checks.part import Finding, Part
from jaxasr.data.checks.table import info, warning

SHORT, FASTEST, SLOWEST = 0.05, 40.0, 0.5
"""Seconds; characters a second."""
ENOUGH, FAR = 100, 8.0
"""How many values tell what is usual, and how many times the usual distance from their middle is far."""


def _characters(part: Part) -> np.ndarray:
    return np.array([len(row.text) for row in part.rows], float)


def _at(part: Part, wanted: np.ndarray, shown: np.ndarray, unit: str) -> Iterator[Finding]:
    return (part.at(part.rows[int(i)], f"{shown[i]:.2f} {unit}") for i in np.flatnonzero(wanted))


def _outliers(values: np.ndarray, sides: str = "<>") -> np.ndarray:
    """Which of the values, on a scale of logarithms, are far from all the others; none of few."""
    with np.errstate(divide="ignore", invalid="ignore"):
        logs = np.where(values > 0, np.log(values), np.nan)
    known = logs[np.isfinite(logs)]
    if len(known) < ENOUGH:
        return np.zeros(len(values), bool)
    middle = np.median(known)
    usual = max(float(np.median(np.abs(known - middle))), 0.05)
    far = np.nan_to_num((logs - middle) / usual)
    return ((far > FAR) & (">" in sides)) | ((far < -FAR) & ("<" in sides))


def _pace(part: Part) -> np.ndarray:
    """(N,) characters a second; 0 without text, NaN where no length is known."""
    return _characters(part) / np.maximum(part.seconds, 1e-3)


@warning("too-short", f"sound of less than {SHORT} s", fix="check the times; no word is as short")
def too_short(part: Part) -> Iterator[Finding]:
    yield from _at(part, part.seconds < SHORT, part.seconds, "s")


@info("too-long", "sound of more than --max_seconds, which training leaves out", fix="cut it into segments")
def too_long(part: Part) -> Iterator[Finding]:
    yield from _at(part, part.seconds > part.settings.max_seconds, part.seconds, "s")


@warning(
    "too-much-text", f"more than {FASTEST:g} characters a second", fix="check whether text and sound belong together"
)
def too_much_text(part: Part) -> Iterator[Finding]:
    yield from _at(part, _pace(part) > FASTEST, _pace(part), "characters/s")


@warning("too-few-frames", "fewer frames than CTC needs for the text", fix="check the text, or use a faster frame rate",
         needs="frames")  # fmt: skip
def too_few_frames(part: Part) -> Iterator[Finding]:
    frames, needed = part.settings.frames, part.settings.needed
    assert frames and needed
    for row, seconds in zip(part.rows, part.seconds, strict=True):
        if row.text and seconds == seconds and (has := frames(seconds)) < (wants := max(needed(row.text), 1)):
            yield part.at(row, f"{has} frames for {wants}")


@info("too-little-text", f"less than a character in {1 / SLOWEST:g} s", fix="check whether the text is whole")
def too_little_text(part: Part) -> Iterator[Finding]:
    pace = _pace(part)
    yield from _at(part, (pace < SLOWEST) & (pace > 0) & (part.seconds > 5), pace, "characters/s")


@info("odd-pace", "far more, or fewer, characters a second than the others", fix="listen to it")
def odd_pace(part: Part) -> Iterator[Finding]:
    yield from _at(part, _outliers(_pace(part)), _pace(part), "characters/s")


@info("odd-length", "sound far longer or shorter than the others", fix="listen to it")
def odd_length(part: Part) -> Iterator[Finding]:
    yield from _at(part, _outliers(part.seconds), part.seconds, "s")


@info("odd-text", "a text far longer than the others", fix="check whether line feeds were lost")
def odd_text(part: Part) -> Iterator[Finding]:
    yield from _at(part, _outliers(_characters(part), ">"), _characters(part), "characters")
