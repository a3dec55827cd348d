"""Sound files: their headers, and stretches of them at a chosen rate."""

import contextlib
import dataclasses
import fractions
import functools
import io
import math
import os
from collections.abc import Iterator
from typing import BinaryIO, ClassVar, Literal

import numpy as np
import soundfile
import soxr

from jaxasr.data import packs
from jaxasr.data.batch import AsrExample
from jaxasr.data.reading import beat
from jaxasr.data.source import FileSource, Header, check_finite, place, segment, status
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
        frames = 0
        with _opened(path, path) as file:
            while len(block := file.read(_BLOCK, dtype="float32")):
                beat()
                frames += len(block)
                check_finite(path, block, "samples")
        _check_count(path, frames, header.frames, header.frames)

    def length(self, utterance: Utterance, header: Header, speed: float) -> int:
        _, frames = segment(utterance, header.frames, header.rate)
        return resampled_length(frames, header.rate, self.sample_rate, speed)

    def stated_length(self, utterance: Utterance, speed: float) -> int:
        assert utterance.seconds is not None
        # a file's own rate, which is not known, rounds otherwise: by less than a millisecond
        frames = math.ceil((utterance.seconds + 0.001) * self.sample_rate)
        return resampled_length(frames, self.sample_rate, self.sample_rate, speed)

    def read(self, utterance: Utterance) -> np.ndarray:
        return read(utterance, self.sample_rate, channel=self.channel, speed=utterance.speed)

    def blocks(self, utterance: Utterance) -> Iterator[np.ndarray]:
        """What `read` gives of an utterance at speed 1, block by block: of any length in little memory."""
        return blocks(utterance, self.sample_rate, channel=self.channel)

    def from_bytes(self, where: str, data: bytes) -> np.ndarray:
        """What is in a sound file whose bytes these are, as `read` gives it."""
        utterance = Utterance(where, "bytes", "")
        return np.concatenate([*blocks(utterance, self.sample_rate, channel=self.channel, file=io.BytesIO(data))])

    def from_array(self, where: str, array: np.ndarray, rate: int | None = None) -> np.ndarray:
        """Takes samples (S,) as int16, or as float with full scale at 1; at the source's own rate, or another."""
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
    return Header(file.frames, file.samplerate, file.channels)


@contextlib.contextmanager
def _opened(path: str | BinaryIO, where: str) -> Iterator[soundfile.SoundFile]:
    """The open sound file; whatever soundfile raises inside becomes a DataError beginning with `where`."""
    if isinstance(path, str):
        status(packs.file_of(path), where)
        path = io.BytesIO(packs.sound(path, where)) if packs.is_record(path) else path
    try:
        with soundfile.SoundFile(path) as file:
            yield file
    except (soundfile.SoundFileError, TypeError, MemoryError) as error:
        # TypeError: a headerless .raw file. MemoryError: a header that claims hours too many.
        raise DataError(
            f"{where}: cannot be decoded ({str(error).strip() or type(error).__name__}); a sound file that "
            "libsndfile reads (wav, flac, ogg, mp3, ...) was expected; convert it or remove it from the manifest."
        ) from error


# Stretches of sound ------------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=64)
def _ratio(from_rate: int, to_rate: int, speed: float) -> fractions.Fraction:
    if not (math.isfinite(speed) and speed > 0):
        raise ConfigError(f"speed: {speed}; a factor above 0 (1.1: a tenth faster) was expected; correct it.")
    # str gives the shortest digits: 1.1 is 11/10, not the binary fraction beside it.
    return fractions.Fraction(to_rate) / (from_rate * fractions.Fraction(str(float(speed))))


def resampled_length(frames: int, from_rate: int, to_rate: int, speed: float = 1.0) -> int:
    """frames * to_rate / (from_rate * speed), exactly, with halves rounded up."""
    ratio = _ratio(from_rate, to_rate, speed)
    return (2 * frames * ratio.numerator + ratio.denominator) // (2 * ratio.denominator)


def read(utterance: Utterance, rate: int, *, channel: int | None = None, speed: float = 1.0) -> np.ndarray:
    """The utterance's sound: float32 (S,), int16's full scale at 1, `rate` samples a second.

    `channel` None takes the mean of the channels. A speed above 1 is shorter and higher, as sox's `speed`; it
    costs nothing beside the resampling. S is `resampled_length` of the segment's frames.
    """
    frames, from_rate = _decode(utterance)
    sound = _one_channel(place(utterance), frames, channel)
    check_finite(place(utterance), sound, "samples")
    return _resampled(sound, from_rate, rate, speed)


def blocks(
    utterance: Utterance, rate: int, *, channel: int | None = None, file: BinaryIO | None = None
) -> Iterator[np.ndarray]:
    """What `read` gives at speed 1, block by block, of which none is long.

    Args:
      file: what a file holds, in place of the one that the utterance names.
    """
    where = place(utterance)
    with _opened(file or utterance.audio, where) as opened:
        header = _header(where, opened)
        first, count = segment(utterance, header.frames, header.rate)
        left = resampled_length(count, header.rate, rate)
        resampler = None if header.rate == rate else soxr.ResampleStream(header.rate, rate, 1)
        opened.seek(first)
        for done in range(0, count, _BLOCK):
            frames = opened.read(min(_BLOCK, count - done), dtype="float32", always_2d=True)
            beat()
            last = done + _BLOCK >= count
            if last or len(frames) < _BLOCK:
                _check_count(where, done + len(frames), count, header.frames)
            sound = _one_channel(where, frames, channel)
            check_finite(where, sound, "samples")
            if resampler is not None:
                sound = resampler.resample_chunk(sound, last=last)[:left]
            left -= len(sound)
            yield sound
    yield np.zeros(left, np.float32)


def excerpt(path: str, rate: int, first: int, count: int) -> np.ndarray:
    """The first channel of `count` frames of a file from frame `first` on: float32 (S,), `rate` samples a second."""
    with _opened(path, path) as file:
        sound = np.ascontiguousarray(_frames_from(path, file, first, count)[:, 0])
        from_rate = file.samplerate
    check_finite(path, sound, "samples")
    return _resampled(sound, from_rate, rate, 1.0)


def _resampled(sound: np.ndarray, from_rate: int, rate: int, speed: float) -> np.ndarray:
    if len(sound) == 0 or _ratio(from_rate, rate, speed) == 1:
        return sound
    length = resampled_length(len(sound), from_rate, rate, speed)
    resampled = soxr.resample(sound, from_rate * speed, rate)[:length]
    return np.pad(resampled, (0, length - len(resampled)))


def _decode(utterance: Utterance) -> tuple[np.ndarray, int]:
    """The utterance's float32 (frames, channels), and how many of them make a second."""
    where = place(utterance)
    with _opened(utterance.audio, where) as file:
        header = _header(where, file)
        return _frames_from(where, file, *segment(utterance, header.frames, header.rate)), header.rate


def _frames_from(
    where: str, file: soundfile.SoundFile, first: int, count: int, dtype: Literal["float32", "int32"] = "float32"
) -> np.ndarray:
    """(count, channels) from frame `first` on."""
    if first:
        file.seek(first)
    sound = file.read(count, dtype=dtype, always_2d=True)
    _check_count(where, len(sound), count, file.frames)
    return sound


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
    """
    where = place(utterance)
    with _opened(utterance.audio, where) as file:
        header, form, subtype = _header(where, file), file.format, _WHOLE_NUMBERS.get(file.subtype)
        first, count = segment(utterance, header.frames, header.rate)
        whole_numbers = subtype is not None and count > 0 and header.channels <= 8 and header.rate <= 655_350
        sound = _frames_from(where, file, first, count, "int32" if whole_numbers else "float32")
    check_finite(where, sound, "samples")
    if count == header.frames and not (whole_numbers and form != "FLAC"):
        content = _bytes_of(utterance.audio, where)
    else:
        written = io.BytesIO()
        kind = ("FLAC", subtype) if whole_numbers else ("WAV", "FLOAT")
        soundfile.write(written, sound, header.rate, format=kind[0], subtype=kind[1])
        content = written.getvalue()
    return content, Header(count, header.rate, header.channels)


def _bytes_of(path: str, where: str) -> bytes:
    if packs.is_record(path):
        return packs.sound(path, where)
    with open(path, "rb") as file:
        return file.read()


def _one_channel(where: str, sound: np.ndarray, channel: int | None) -> np.ndarray:
    channels = sound.shape[1]
    if channel is None:
        return sound.mean(axis=1) if channels > 1 else sound[:, 0]
    if not 0 <= channel < channels:
        raise DataError(
            f"{where}: channel {channel} of a file of {channels}; 0 to {channels - 1} was expected; "
            "choose one of these, or none for the mean."
        )
    return np.ascontiguousarray(sound[:, channel])


def to_int16(audio: np.ndarray) -> np.ndarray:
    """The samples times 32768 as int16: rounded, halves to even, and clipped."""
    return np.clip(np.rint(audio * 32768), -32768, 32767).astype(np.int16)
