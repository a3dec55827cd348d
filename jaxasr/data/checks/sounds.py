"""Sound files: whether they can be read, and whether manifests tell the truth of them."""

import collections
import os
from collections.abc import Iterator

from jaxasr.data.checks.part import Finding, Need, Part
from jaxasr.data.checks.table import error, info, warning

ENDINGS = {
    "WAV": ".wav .wave", "WAVEX": ".wav .wave", "RF64": ".wav .rf64", "FLAC": ".flac", "OGG": ".ogg .oga .opus",
    "MPEG": ".mp3 .mp2", "AIFF": ".aiff .aif .aifc", "AU": ".au .snd", "CAF": ".caf", "W64": ".w64",
    "NIST": ".sph .nist .wav .wv1 .wv2", "VOC": ".voc",
}  # fmt: skip


def _failing(name: str, what: str, *, fix: str, needs: Need = "headers") -> None:
    """Adds the check of what listening calls by that name."""

    @error(name, what, fix=fix, needs=needs)
    def found(part: Part) -> Iterator[Finding]:
        return (part.at(row, heard.why) for row, heard in part.heard() if heard.fault == name)


_failing("missing-sound", "no file at the path", fix="correct the path: a relative one starts at the manifest's folder")
_failing("unreadable-sound", "a file that cannot be opened as sound", fix="convert it, or replace it")
_failing("empty-sound", "a sound file without samples", fix="replace it, or remove the utterance")
_failing("truncated-sound", "a sound file that ends before its header says", fix="copy it anew")
_failing("segment-outside", "a stretch that is not inside its file", fix="correct the times, or replace the file")
_failing("not-finite", "samples that are no numbers", fix="write the file again", needs="sound")


@warning("duration-mismatch", "a file of another length than stated", fix="state its own", needs="headers")
def duration_mismatch(part: Part) -> Iterator[Finding]:
    if part.owner.endswith("segments"):
        return
    uses = collections.Counter(row.audio for row in part.rows)
    for row, heard in part.heard():
        if heard.header and row.seconds and not row.start and uses[row.audio] == 1:
            whole = heard.header.frames / heard.header.rate
            if abs(whole - row.seconds) > max(0.1, 0.01 * whole):
                yield part.at(row, f"{row.seconds:.3f} s stated of {whole:.3f} s")


def _usual_rate(part: Part) -> int:
    """The rate of most files."""
    rates = collections.Counter(heard.header.rate for _, heard in part.heard() if heard.header)
    return max(rates, key=lambda rate: (rates[rate], rate)) if rates else 0


@warning("lower-rate", "fewer samples a second than most files have", fix="replace it, or train on it apart",
         needs="headers")  # fmt: skip
def lower_rate(part: Part) -> Iterator[Finding]:
    usual = _usual_rate(part)
    for row, heard in part.heard():
        if heard.header and heard.header.rate < usual:
            yield part.at(row, f"{heard.header.rate} Hz; most have {usual} Hz")


@info("higher-rate", "more samples a second than most files have", fix="none is needed: sound is resampled",
      needs="headers")  # fmt: skip
def higher_rate(part: Part) -> Iterator[Finding]:
    usual = _usual_rate(part)
    for row, heard in part.heard():
        if heard.header and heard.header.rate > usual:
            yield part.at(row, f"{heard.header.rate} Hz; most have {usual} Hz")


@info("rate-of-model", "fewer samples a second than the model takes", fix="choose a model of this rate",
      needs="headers")  # fmt: skip
def rate_of_model(part: Part) -> Iterator[Finding]:
    for row, heard in part.heard():
        if heard.header and part.settings.rate and heard.header.rate < part.settings.rate:
            yield part.at(row, f"{heard.header.rate} Hz; the model takes {part.settings.rate} Hz")


@info("channels", "more than one channel, of which training takes the mean", fix="choose one with --channel",
      needs="headers")  # fmt: skip
def channels(part: Part) -> Iterator[Finding]:
    for row, heard in part.heard():
        if heard.header and heard.header.channels > 1:
            yield part.at(row, f"{heard.header.channels} channels")


@info("ending", "a file whose name ends as that of another format", fix="rename it", needs="headers")
def ending(part: Part) -> Iterator[Finding]:
    for row, heard in part.heard():
        suffix = os.path.splitext(row.audio)[1].lower()
        if heard.header and suffix and suffix not in ENDINGS.get(heard.format, suffix).split():
            yield part.at(row, f"{heard.format} in a {suffix} file")
