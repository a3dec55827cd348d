"""What the sound of an utterance is like: its file's header, levels and a digest of its samples."""

import concurrent.futures
import functools
import hashlib
import os
import struct
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import rich.console
import rich.progress
import soundfile

from jaxasr.data import audio, packs
from jaxasr.data.source import Header, segment
from jaxasr.data.utterance import Utterance
from jaxasr.errors import DataError

_BLOCK = 2**16
"""Samples of all channels that are read at once."""
_FULL = 0.99
"""Of full scale: what a clipped sample is at least, of 8 bits too."""

Span = tuple[str, float, float | None]
"""Path, and seconds from where on and how many, None for all."""


class Levels(NamedTuple):
    """What the samples of an utterance are like, of all its channels; full scale is 1."""

    peak: float
    mean: float
    rms: float
    mixed_rms: float
    """Of the mean of the channels."""
    clipped: float
    """Share of samples at full scale."""
    constant: bool
    """Whether all are the same."""
    digest: bytes


class Heard(NamedTuple):
    """What is known of the sound of an utterance."""

    fault: str = ""
    """The check that it fails."""
    why: str = ""
    header: Header | None = None
    """Of the whole file."""
    format: str = ""
    """As libsndfile calls it."""
    seconds: float = np.nan
    """Of the utterance."""
    levels: Levels | None = None
    """None where only headers are read."""


class Ears:
    """Listens to each stretch of sound once."""

    def __init__(self, workers: int = 1) -> None:
        self.workers = workers
        self.found: dict[Span, Heard] = {}

    def listen(self, spans: Iterable[Span], *, whole: bool, console: rich.console.Console | None = None) -> None:
        """Opens the file of each, and reads what belongs to it where `whole` is wanted."""
        fresh = [span for span in dict.fromkeys(spans) if span not in self.found]
        header = functools.lru_cache(1024)(_header)  # of a recording with many segments
        with concurrent.futures.ThreadPoolExecutor(self.workers) as threads:
            heard = threads.map(lambda span: hear(span, header(span[0]), whole), fresh)
            if console is not None:
                heard = rich.progress.track(heard, "Listening", total=len(fresh), console=console, transient=True)
            self.found.update(zip(fresh, heard, strict=True))


def hear(span: Span, file: Heard, whole: bool) -> Heard:
    """What a stretch of a file is like of which the header is known."""
    path, start, seconds = span
    header = file.header
    if header is None:
        return file
    try:
        first, count = segment(Utterance("", path, "", start=start, seconds=seconds), header.frames, header.rate)
    except DataError:
        end = "its end" if seconds is None else f"{start + seconds:.3f} s"
        why = f"{start:.3f} s to {end} of {header.frames / header.rate:.3f} s in {path}"
        return file._replace(fault="segment-outside", why=why)
    file = file._replace(seconds=count / header.rate)
    whole &= not packs.is_record(path)  # all of it was read when it was packed
    return _listened(file, path, first, count) if whole else file


def _header(path: str) -> Heard:
    if not os.path.lexists(packs.file_of(path)):
        return Heard("missing-sound", path)
    try:
        header = audio.info(path)
        if packs.is_record(path):
            return Heard(header=header)
        if missing := _cut_off(path):
            return Heard("truncated-sound", f"{path} lacks {missing} of the bytes that its header tells of")
        if not header.frames:
            return Heard("empty-sound", path)
        return Heard(header=header, format=soundfile.info(path).format)
    except (DataError, soundfile.SoundFileError, OSError) as error:
        return Heard("unreadable-sound", str(error))


def _cut_off(path: str) -> int:
    """Bytes that the header of a RIFF file promises beyond the file's end, of which libsndfile says nothing."""
    with open(path, "rb") as file:
        head, size = file.read(2**16), os.path.getsize(path)
    place = 12
    while head[:4] == b"RIFF" and place + 8 <= len(head):
        name, length = struct.unpack_from("<4sI", head, place)
        if name == b"data":
            return max(place + 8 + length - size, 0) if length < 2**32 - 2**12 else 0  # a length that is left open
        place += 8 + length + length % 2
    return 0


def _listened(file: Heard, path: str, first: int, count: int) -> Heard:
    try:
        levels = _levels(path, first, count)
    except soundfile.SoundFileError as error:
        return file._replace(fault="unreadable-sound", why=f"{path}: {error}")
    return file._replace(fault=levels, why=path) if isinstance(levels, str) else file._replace(levels=levels)


def _levels(path: str, first: int, count: int) -> Levels | str:
    """The levels, or the check that reading fails; block by block, so that hours take little memory."""
    digest, low, high = hashlib.blake2b(digest_size=16), np.inf, -np.inf
    total = squares = mixed = 0.0
    clipped = done = 0
    with soundfile.SoundFile(path) as opened:
        digest.update(struct.pack("<II", opened.samplerate, opened.channels))
        opened.seek(first)
        size = max(_BLOCK // opened.channels, 1)
        while done < count:
            block = opened.read(min(size, count - done), dtype="float32", always_2d=True)
            if not len(block):
                return "truncated-sound"
            if not np.isfinite(block).all():
                return "not-finite"
            done += len(block)
            low, high = min(low, float(block.min())), max(high, float(block.max()))
            wide = block.astype(np.float64)
            total, squares = total + float(wide.sum()), squares + float(np.square(wide).sum())
            mixed += float(np.square(wide.mean(axis=1)).sum())
            clipped += int((np.abs(block) >= _FULL).sum())
            digest.update(block.tobytes())
        samples = max(done * opened.channels, 1)
    rms, mixed_rms = (squares / samples) ** 0.5, (mixed / max(done, 1)) ** 0.5
    peak = max(-low, high) if done else 0.0
    return Levels(peak, total / samples, rms, mixed_rms, clipped / samples, low == high, digest.digest())
