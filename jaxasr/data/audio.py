"""Sound files: their headers, and stretches of them at a chosen rate."""

import contextlib
import dataclasses
import fractions
import functools
import io
import math
import os
from collections.abc import Iterator
from typing import ClassVar

import numpy as np
import soundfile
import soxr

from jaxasr.data import containers, packs
from jaxasr.data.batch import AsrExample
from jaxasr.data.reading import beat
from jaxasr.data.source import FileSource, Header, check_finite, check_seconds, opened, place, segment, status
from jaxasr.data.utterance import Kind, Utterance
from jaxasr.errors import ConfigError, DataError

SUFFIXES = (
    ".wav", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".mp2", ".aiff", ".aif", ".aifc", ".au", ".snd", ".caf", ".w64",
    ".rf64", ".sph", ".nist", ".voc",
)  # fmt: skip
"""What the names of sound files end in, in small letters, where a folder is searched for them."""

# libsndfile's sf_count_t maximum: a stream whose header leaves the length open.
_UNKNOWN_FRAMES = 2**63 - 1
_BLOCK = 2**16
"""Samples of all channels that are decoded at once."""
_ENDLESS = 1e9
"""Seconds that no file has, and whose samples can be counted."""
RATES, MOST_A_SECOND = (1_000, 1_000_000), 2_500_000
"""Samples a second of a channel, and of all of them: what says more than 48 channels of 48 kHz is no recording."""
_LOUDEST = 8.0
"""What float samples may peak at; those beyond it are on another scale, not too loud."""


@dataclasses.dataclass(frozen=True)
class SoundSource(FileSource):
    """Sound files of any rate, read at one."""

    sample_rate: int
    channel: int | None = None
    """Which channel; None for the mean of all."""
    kind: ClassVar[Kind] = "sound"

    @property
    def rate(self) -> float:
        return self.sample_rate

    @property
    def width(self) -> None:
        return None

    def file(self, path: str) -> str:
        return packs.file_of(path)

    def info(self, path: str) -> Header:
        return info(path)

    def check(self, path: str, header: Header) -> None:
        with _opened(path, path) as file:
            for block in _parts(path, file, header.frames):
                check_finite(path, block, "samples")

    def length(self, utterance: Utterance, header: Header, speed: float) -> int:
        _, frames = segment(utterance, header.frames, header.rate)
        return resampled_length(frames, header.rate, self.sample_rate, speed)

    def stated_length(self, utterance: Utterance, speed: float) -> int:
        assert utterance.seconds is not None
        # a file's own rate, which is not known, rounds otherwise: by less than a millisecond
        frames = math.ceil((min(utterance.seconds, _ENDLESS) + 0.001) * self.sample_rate)
        return resampled_length(frames, self.sample_rate, self.sample_rate, speed)

    def read(self, utterance: Utterance) -> np.ndarray:
        return read(utterance, self.sample_rate, channel=self.channel, speed=utterance.speed)

    def blocks(self, utterance: Utterance) -> Iterator[np.ndarray]:
        """What `read` gives of an utterance at speed 1, in blocks, int16 (S,): of any length in little memory."""
        return blocks(utterance, self.sample_rate, channel=self.channel)

    def from_bytes(self, where: str, data: bytes, max_seconds: float = math.inf) -> np.ndarray:
        """What is in a sound file whose bytes these are, as `read` gives it, int16 (S,).

        Raises:
          DataError: it cannot be decoded, or is longer than `max_seconds`.
        """
        utterance = Utterance(where, "bytes", "")
        with _opened(io.BytesIO(data), where) as file:
            check_seconds(where, self.seconds(_header(where, file)), max_seconds)
        return np.concatenate([*blocks(utterance, self.sample_rate, channel=self.channel, file=io.BytesIO(data))])

    def from_array(self, where: str, array: np.ndarray, rate: int | None = None) -> np.ndarray:
        """Takes samples (S,) as int16, or as float with full scale at 1; at the source's own rate, or another.

        Raises:
          DataError: the array is of another kind, louder than full scale or not finite, or the rate no whole number.
        """
        if rate is not None and not (rate > 0 and float(rate).is_integer()):
            raise DataError(f"{where}: a rate of {rate}; whole samples a second were expected; correct it.")
        if array.ndim != 1 or not (array.dtype == np.int16 or np.issubdtype(array.dtype, np.floating)):
            raise DataError(
                f"{where}: an array of shape {array.shape} and type {array.dtype}; samples (S,) as int16 or as "
                "float in [-1, 1] at the task's sample rate were expected; take one channel and resample."
            )
        sound = array.astype(np.float32) / (32768 if array.dtype == np.int16 else 1)
        check_finite(where, sound, "samples")
        if (peak := np.abs(sound).max(initial=0.0)) > _LOUDEST:
            raise DataError(
                f"{where}: floats of up to {peak:g}; float in [-1, 1], or int16, was expected; divide by the full "
                "scale, such as 32768."
            )
        return sound if rate is None else _resampled(sound, int(rate), self.sample_rate, 1.0)

    def example(self, utterance_id: str, inputs: np.ndarray, tokens: np.ndarray) -> AsrExample:
        return AsrExample(utterance_id, to_int16(inputs), tokens)


def info(path: str | os.PathLike[str]) -> Header:
    """The header of a sound file; a file that cannot be read is a DataError that names it."""
    path = os.fspath(path)
    with _opened(path, path) as file:
        return _header(path, file)


def _header(where: str, file: soundfile.SoundFile) -> Header:
    if file.frames == _UNKNOWN_FRAMES:
        raise DataError(
            f"{where}: the header leaves the length open, as a piped encoder writes it; a length was expected; "
            "encode the file again from a file instead of a pipe."
        )
    least, most = RATES
    if not (least <= file.samplerate <= most and file.samplerate * file.channels <= MOST_A_SECOND):
        raise DataError(
            f"{where}: {file.channels} channels of {file.samplerate} samples a second; {least} to {most} a second, and "
            f"at most {MOST_A_SECOND} in all channels, were expected; replace the file, or take some of its channels."
        )
    return Header(file.frames, file.samplerate, file.channels)


@contextlib.contextmanager
def _opened(path: str | io.BytesIO, where: str) -> Iterator[soundfile.SoundFile]:
    """The open sound file; whatever soundfile raises inside becomes a DataError beginning with `where`."""
    try:
        with _raw(path, where) as raw:
            containers.check(where, raw)
            # By its path, since soundfile would call back for every few bytes of an open file.
            with soundfile.SoundFile(raw if isinstance(raw, io.BytesIO) else raw.name) as file:
                yield file
    except (soundfile.SoundFileError, TypeError, MemoryError) as error:
        # TypeError: a headerless .raw file. MemoryError: a header that claims hours too many.
        raise DataError(
            f"{where}: cannot be decoded ({str(error).strip() or type(error).__name__}); a sound file that "
            "libsndfile reads (wav, flac, ogg, mp3, ...) was expected; convert it or remove it from the manifest."
        ) from error


def _raw(path: str | io.BytesIO, where: str) -> io.BytesIO | io.FileIO:
    if not isinstance(path, str):
        return path
    if not packs.is_record(path):
        return opened(path, where)
    status(packs.file_of(path), where)
    return io.BytesIO(packs.sound(path, where))


# Stretches of sound ------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _ratio(from_rate: int, to_rate: int, speed: float) -> fractions.Fraction:
    if not (math.isfinite(speed) and speed > 0):
        raise ConfigError(f"speed: {speed}; a factor above 0 (1.1: a tenth faster) was expected; correct it.")
    # str gives the shortest digits: 1.1 is 11/10, not the binary fraction beside it.
    return fractions.Fraction(to_rate) / (from_rate * fractions.Fraction(str(float(speed))))


def resampled_length(frames: int, from_rate: int, to_rate: int, speed: float = 1.0) -> int:
    """frames * to_rate / (from_rate * speed), exactly, with halves rounded up.

    >>> resampled_length(44100, 44100, 16000)
    16000
    >>> resampled_length(16000, 16000, 16000, speed=1.1)
    14545
    """
    ratio = _ratio(from_rate, to_rate, speed)
    return (2 * frames * ratio.numerator + ratio.denominator) // (2 * ratio.denominator)


def read(utterance: Utterance, rate: int, *, channel: int | None = None, speed: float = 1.0) -> np.ndarray:
    """The utterance's sound: float32 (S,), int16's full scale at 1, `rate` samples a second.

    `channel` None takes the mean of the channels. A speed above 1 is shorter and higher, as sox's `speed`; it
    costs nothing beside the resampling. S is `resampled_length` of the segment's frames.

    >>> from jaxasr.corpora import digits
    >>> utterance = Utterance("zero", str(digits() / "audio" / "test-theo.flac"), "ZERO", seconds=0.25)
    >>> read(utterance, 16000).shape
    (4000,)
    """
    where = place(utterance)
    with _opened(utterance.audio, where) as file:
        header = _header(where, file)
        sound = _mono(where, file, *segment(utterance, header.frames, header.rate), channel)
    return _resampled(sound, header.rate, rate, speed)


def blocks(
    utterance: Utterance, rate: int, *, channel: int | None = None, file: io.BytesIO | None = None
) -> Iterator[np.ndarray]:
    """What `read` gives at speed 1, block by block, each int16 (S,), of which none is long.

    Args:
      file: what a file holds, in place of the one that the utterance names.
    """
    where = place(utterance)
    with _opened(file or utterance.audio, where) as sounding:
        header = _header(where, sounding)
        first, count = segment(utterance, header.frames, header.rate)
        left = resampled_length(count, header.rate, rate)
        resampler = None if header.rate == rate else soxr.ResampleStream(header.rate, rate, 1)
        sounding.seek(first)
        for frames in _parts(where, sounding, count):
            count -= len(frames)
            sound = _one_channel(where, frames, channel)
            if resampler is not None:
                sound = resampler.resample_chunk(sound, last=count == 0)[:left]
            left -= len(sound)
            yield sound
    yield np.zeros(left, np.float32)


def excerpt(path: str, rate: int, first: int, count: int) -> np.ndarray:
    """The first channel of `count` frames of a file from frame `first` on: float32 (S,), `rate` samples a second.

    >>> from jaxasr.corpora import digits
    >>> excerpt(str(digits() / "audio" / "test-theo.flac"), 16000, 0, 800).shape
    (1600,)
    """
    with _opened(path, path) as file:
        sound, from_rate = _mono(path, file, first, count, 0), file.samplerate
    return _resampled(sound, from_rate, rate, 1.0)


def _resampled(sound: np.ndarray, from_rate: int, rate: int, speed: float) -> np.ndarray:
    if len(sound) == 0 or _ratio(from_rate, rate, speed) == 1:
        return sound
    length = resampled_length(len(sound), from_rate, rate, speed)
    resampled = soxr.resample(sound, from_rate * speed, rate)[:length]
    return np.pad(resampled, (0, length - len(resampled)))


def _mono(where: str, file: soundfile.SoundFile, first: int, count: int, channel: int | None) -> np.ndarray:
    """(count,) from frame `first` on."""
    if first:
        file.seek(first)
    parts = [_one_channel(where, frames, channel) for frames in _parts(where, file, count)]
    return parts[0] if len(parts) == 1 else np.concatenate([np.zeros(0, np.float32), *parts])


def _parts(where: str, file: soundfile.SoundFile, count: int) -> Iterator[np.ndarray]:
    """float32 (frames, channels) of the next `count` frames, a block after the other, whatever a header claims.

    Raises:
      DataError: there are fewer.
    """
    size = max(_BLOCK // file.channels, 1)
    for done in range(0, count, size):
        frames = file.read(min(size, count - done), dtype="float32", always_2d=True)
        beat()
        if done + size >= count or len(frames) < size:
            _check_count(where, done + len(frames), count, file.frames)
        yield frames


def _check_count(where: str, found: int, wanted: int, frames: int) -> None:
    if found < wanted:
        raise DataError(
            f"{where}: ends {wanted - found} frames early; {frames} frames, as its header says, were "
            "expected; replace the file cut short."
        )


_WHOLE_NUMBERS = {"PCM_S8": "PCM_16", "PCM_U8": "PCM_16", "PCM_16": "PCM_16", "PCM_24": "PCM_24"}
"""Subtypes of files to those of FLAC that lose nothing."""


def cut_out(utterance: Utterance) -> tuple[bytes, Header]:
    """A sound file of the utterance alone, which is read as the utterance is, and its header.

    Whole numbers of up to 24 bits become FLAC. Other sound stays the file that it is, or float32 where it is a part.

    Raises:
      DataError: the utterance cannot be read to its end.

    >>> from jaxasr.corpora import digits
    >>> utterance = Utterance("zero", str(digits() / "audio" / "test-theo.flac"), "ZERO", seconds=0.25)
    >>> cut_out(utterance)[1]
    Header(frames=2000, rate=8000, channels=1)
    """
    where = place(utterance)
    with _opened(utterance.audio, where) as file:
        header, form, subtype = _header(where, file), file.format, _WHOLE_NUMBERS.get(file.subtype)
        first, count = segment(utterance, header.frames, header.rate)
        whole_numbers = subtype is not None and count > 0 and header.channels <= 8 and header.rate <= 655_350
        file.seek(first)
        sound = file.read(count, dtype="int32" if whole_numbers else "float32", always_2d=True)
        _check_count(where, len(sound), count, header.frames)
    check_finite(where, sound, "samples")
    if count == header.frames and not (whole_numbers and form != "FLAC"):
        content = _bytes_of(utterance.audio, where)
    else:
        written = io.BytesIO()
        kind = ("FLAC", subtype) if whole_numbers else ("WAV", "FLOAT")
        soundfile.write(written, sound, header.rate, format=kind[0], subtype=kind[1])
        content = written.getvalue() if whole_numbers else _without_time(written.getvalue())
    return content, Header(count, header.rate, header.channels)


def _without_time(wav: bytes) -> bytes:
    """A WAV file of floats without the time at which libsndfile wrote it: the same sound is the same bytes."""
    if (chunk := wav.find(b"PEAK", 0, 64)) < 0:
        return wav
    return wav[: chunk + 12] + bytes(4) + wav[chunk + 16 :]


def _bytes_of(path: str, where: str) -> bytes:
    if packs.is_record(path):
        return packs.sound(path, where)
    with open(path, "rb") as file:
        return file.read()


def _one_channel(where: str, sound: np.ndarray, channel: int | None) -> np.ndarray:
    """(S,) of (S, channels), all of which are numbers."""
    channels = sound.shape[1]
    if channel is not None and not 0 <= channel < channels:
        raise DataError(
            f"{where}: channel {channel} of a file of {channels}; 0 to {channels - 1} was expected; "
            "choose one of these, or none for the mean."
        )
    mono = sound.mean(axis=1) if channel is None and channels > 1 else np.ascontiguousarray(sound[:, channel or 0])
    check_finite(where, mono, "samples")
    return mono


def to_int16(audio: np.ndarray) -> np.ndarray:
    """Samples (S,) with full scale at 1, times 32768 as int16 (S,): rounded, halves to even, and clipped.

    >>> to_int16(np.array([-1.0, 0.5, 1.0])).tolist()
    [-32768, 16384, 32767]
    """
    return np.clip(np.rint(audio * 32768), -32768, 32767).astype(np.int16)
