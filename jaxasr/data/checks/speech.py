"""What is in the sound: levels, and the same sound twice."""

from collections.abc import Iterator

from jaxasr.data.checks.hearing import Levels
from jaxasr.data.checks.part import Finding, Part, Row
from jaxasr.data.checks.table import info, warning

SILENT, QUIET = 1e-3, 1e-3
"""Peak; root of the mean square; of full scale."""
OFFSET, CLIPPED = 0.02, 0.002
"""Mean of the samples; share of samples at full scale."""


def _levels(part: Part) -> Iterator[tuple[Row, Levels]]:
    return ((row, heard.levels) for row, heard in part.heard() if heard.levels)


def audible(levels: Levels) -> bool:
    """Whether there is a sound in it, and not only a level."""
    return levels.peak >= SILENT and not levels.constant


@warning("silent", f"no sample above {SILENT:g} of full scale", fix="record it anew, or remove it", needs="sound")
def silent(part: Part) -> Iterator[Finding]:
    return (part.at(row, f"a peak of {x.peak:.2g}") for row, x in _levels(part) if x.peak < SILENT)


@warning("constant", "samples that are all the same", fix="record it anew, or remove it", needs="sound")
def constant(part: Part) -> Iterator[Finding]:
    held = ((row, x) for row, x in _levels(part) if x.constant and x.peak >= SILENT)
    return (part.at(row, f"{x.mean:.3f} throughout") for row, x in held)


@warning("clipped", f"more than {100 * CLIPPED:g} % of the samples at full scale", fix="record it anew, less loud",
         needs="sound")  # fmt: skip
def clipped(part: Part) -> Iterator[Finding]:
    loud = ((row, x) for row, x in _levels(part) if x.clipped > CLIPPED and not x.constant)
    return (part.at(row, f"{100 * x.clipped:.1f} %") for row, x in loud)


@warning("dc-offset", f"samples whose mean is above {OFFSET:g} of full scale", fix="subtract the mean", needs="sound")
def dc_offset(part: Part) -> Iterator[Finding]:
    return (part.at(row, f"a mean of {x.mean:.3f}") for row, x in _levels(part) if abs(x.mean) > OFFSET and audible(x))


@warning("opposed-channels", "channels of which the mean is nearly silent", fix="choose one of them", needs="sound")
def opposed(part: Part) -> Iterator[Finding]:
    far = ((row, x) for row, x in _levels(part) if audible(x) and x.mixed_rms < 0.1 * x.rms)
    return (part.at(row, f"{x.rms:.3f} each, {x.mixed_rms:.3f} together") for row, x in far)


@info("quiet", f"sound of less than {QUIET:g} of full scale", fix="listen to it", needs="sound")
def quiet(part: Part) -> Iterator[Finding]:
    return (part.at(row, f"{x.rms:.2g} of full scale") for row, x in _levels(part) if x.rms < QUIET and audible(x))


def _again(part: Part) -> Iterator[tuple[Row, Row]]:
    """Utterances of other stretches with the same samples, each with the first that has them."""
    first: dict[bytes, Row] = {}
    for row, levels in _levels(part):
        if audible(levels):
            other = first.setdefault(levels.digest, row)
            if (other.audio, other.start, other.seconds) != (row.audio, row.start, row.seconds):
                yield other, row


@warning(
    "same-sound", "the same samples as another utterance, and the same text", fix="keep one of them", needs="sound"
)
def same_sound(part: Part) -> Iterator[Finding]:
    for other, row in _again(part):
        if other.text == row.text:
            yield part.at(row, f"the sound of {other.name}, line {other.line}")


@warning("same-sound-other-text", "the same samples as another utterance, and another text", fix="listen to it",
         needs="sound")  # fmt: skip
def same_sound_other_text(part: Part) -> Iterator[Finding]:
    for other, row in _again(part):
        if other.text != row.text:
            yield part.at(other, f"the sound of {row.name}, line {row.line}")
            yield part.at(row, f"the sound of {other.name}, line {other.line}")
