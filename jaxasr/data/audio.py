"""Sound files: their headers, and stretches of them at a chosen rate."""

import concurrent.futures
import contextlib
import dataclasses
import fractions
import functools
import logging
import math
import os
import pathlib
import sqlite3
import stat
import sys
from collections.abc import Iterable, Iterator

import numpy as np
import rich.console
import rich.progress
import soundfile
import soxr

from jaxasr.data.manifest import Utterance
from jaxasr.errors import ConfigError, DataError

_LOG = logging.getLogger(__name__)

# libsndfile's sf_count_t maximum: a stream whose header leaves the length open.
_UNKNOWN_FRAMES = 2**63 - 1
_BLOCK = 2**16
_KEPT_AT_ONCE = 1000


@dataclasses.dataclass(frozen=True)
class AudioInfo:
    """What a sound file's header says: frames (samples of each channel), frames a second, channels."""

    frames: int
    rate: int
    channels: int


def info(path: str | os.PathLike[str]) -> AudioInfo:
    """The header of a sound file; a file that cannot be read is a DataError that names it."""
    path = os.fspath(path)
    with _opened(path, path) as file:
        return _header(path, file)


def _header(where: str, file: soundfile.SoundFile) -> AudioInfo:
    if file.frames == _UNKNOWN_FRAMES:
        raise DataError(
            f"{where}: the header leaves the length open, as a piped encoder writes it; a length was expected; "
            "encode the file again from a file instead of a pipe."
        )
    return AudioInfo(file.frames, file.samplerate, file.channels)


def _status(path: str, where: str) -> os.stat_result:
    try:
        status = os.stat(path)
    except OSError as error:
        raise DataError(
            f"{where}: {error.strerror}; a sound file was expected; check the path (a relative one starts at the "
            "manifest's folder) and its permissions."
        ) from error
    # Opening a named pipe would wait for its writer.
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{where}: not a regular file; a sound file was expected; correct the path.")
    return status


@contextlib.contextmanager
def _opened(path: str, where: str) -> Iterator[soundfile.SoundFile]:
    """The open sound file; whatever soundfile raises inside becomes a DataError beginning with `where`."""
    _status(path, where)
    try:
        with soundfile.SoundFile(path) as file:
            yield file
    except (soundfile.SoundFileError, TypeError, MemoryError) as error:
        # TypeError: a headerless .raw file. MemoryError: a header that claims hours too many.
        raise DataError(
            f"{where}: cannot be decoded ({str(error).strip() or type(error).__name__}); a sound file that "
            "libsndfile reads (wav, flac, ogg, mp3, ...) was expected; convert it or remove it from the manifest."
        ) from error


# Headers of many files ---------------------------------------------------------------------------------------


def probe(
    paths: Iterable[str | os.PathLike[str]], *, whole: bool = False, progress: bool = True
) -> dict[str, AudioInfo | DataError]:
    """The header of each file, or the DataError that reading it raised.

    Headers are kept under `$XDG_CACHE_HOME/jaxasr` and taken from there while a file's size and time of change
    stay the same. The progress bar shows only on a terminal.

    Args:
      whole: read each file to its end once, so that a file cut short or with samples that are no numbers shows now.
    """
    unique = list(dict.fromkeys(os.fspath(path) for path in paths))
    console = rich.console.Console(stderr=True)
    hidden = not (progress and sys.stderr.isatty())
    fresh: list[_Entry] = []
    results: dict[str, AudioInfo | DataError] = {}
    with _Cache() as cache, concurrent.futures.ThreadPoolExecutor(min(32, 4 + (os.cpu_count() or 1))) as threads:
        pending = threads.map(functools.partial(_probe, whole=whole), unique, (cache.get(path) for path in unique))
        doing = "Checking sound" if whole else "Reading headers"
        shown = rich.progress.track(pending, doing, total=len(unique), console=console, disable=hidden, transient=True)
        try:
            for path, (result, entry) in zip(unique, shown, strict=True):
                results[path] = result
                fresh += [entry] if entry else []
                if len(fresh) == _KEPT_AT_ONCE:  # a check of many hours can be stopped and gone on with
                    cache.put(fresh)
                    fresh.clear()
        finally:
            cache.put(fresh)
    return results


@dataclasses.dataclass(frozen=True)
class _Entry:
    path: str
    size: int
    mtime_ns: int
    info: AudioInfo
    whole: bool
    """Whether the sound was read to its end."""


def _probe(path: str, known: _Entry | None, *, whole: bool) -> tuple[AudioInfo | DataError, _Entry | None]:
    """The header or fault, and the entry to keep where it is not the known one."""
    try:
        # Taken before the file is read: one that changes in between is read again next time.
        status = _status(path, path)
        if known and (known.size, known.mtime_ns) == (status.st_size, status.st_mtime_ns) and known.whole >= whole:
            return known.info, None
        found = info(path)
        if whole:
            _check_sound(path, found)
    except DataError as error:
        return error, None
    return found, _Entry(os.path.abspath(path), status.st_size, status.st_mtime_ns, found, whole)


def _check_sound(path: str, info: AudioInfo) -> None:
    """Raises a DataError where the file ends before its header says, or holds a sample that is no number."""
    frames = 0
    with _opened(path, path) as file:
        while len(block := file.read(_BLOCK, dtype="float32")):
            frames += len(block)
            _check_finite(path, block)
    _check_count(path, frames, info.frames, info.frames)


def _check_finite(where: str, sound: np.ndarray) -> None:
    if not np.isfinite(sound).all():
        raise DataError(
            f"{where}: infinite or NaN samples; finite ones were expected; write the file again or "
            "remove the utterance."
        )


def _check_count(where: str, found: int, wanted: int, frames: int) -> None:
    if found < wanted:
        raise DataError(
            f"{where}: ends {wanted - found} frames early; {frames} frames, as its header says, were "
            "expected; replace the file cut short."
        )


class _Cache:
    """Headers by absolute path in a database; one that fails is left alone after a warning."""

    def __init__(self) -> None:
        self._database: sqlite3.Connection | None = None

    def __enter__(self) -> "_Cache":
        with self._guarded():
            home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
            folder = pathlib.Path(home) / "jaxasr"
            folder.mkdir(parents=True, exist_ok=True)
            self._database = sqlite3.connect(folder / "sound.sqlite")
            self._database.execute(
                "CREATE TABLE IF NOT EXISTS sound "
                "(path TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, "
                "frames INTEGER, rate INTEGER, channels INTEGER, whole INTEGER)"
            )
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._database:
            self._database.close()
        self._database = None

    @contextlib.contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        # RuntimeError: no home folder. UnicodeError: a path that is no text.
        except (OSError, RuntimeError, UnicodeError, sqlite3.Error) as error:
            _LOG.warning("The cache of audio headers is not used: %s", error)
            self._close()

    def get(self, path: str) -> _Entry | None:
        with self._guarded():
            if self._database:
                query = "SELECT size, mtime_ns, frames, rate, channels, whole FROM sound WHERE path = ?"
                row = self._database.execute(query, (os.path.abspath(path),)).fetchone()
                return _Entry(path, row[0], row[1], AudioInfo(*row[2:5]), bool(row[5])) if row else None
        return None

    def put(self, entries: list[_Entry]) -> None:
        with self._guarded():
            if self._database and entries:
                rows = [(e.path, e.size, e.mtime_ns, *dataclasses.astuple(e.info), e.whole) for e in entries]
                with self._database:
                    self._database.executemany("INSERT OR REPLACE INTO sound VALUES (?, ?, ?, ?, ?, ?, ?)", rows)


# Stretches of sound ------------------------------------------------------------------------------------------


def segment(utterance: Utterance, info: AudioInfo) -> tuple[int, int]:
    """The first source frame of the utterance and the number of its source frames.

    An end up to 0.1 s past the file's is clipped: manifests round their durations.
    """
    first = _frames(utterance.start, info.rate)
    end = info.frames
    if utterance.seconds is not None:
        end = _frames(utterance.start + utterance.seconds, info.rate)
    if 10 * (end - info.frames) > info.rate or (first >= info.frames and first > 0):
        stated = "the end" if utterance.seconds is None else f"{utterance.start + utterance.seconds:.3f} s"
        raise DataError(
            f"{_where(utterance)}: from {utterance.start:.3f} s to {stated} of a file of "
            f"{info.frames / info.rate:.3f} s; a stretch inside the file was expected; correct the manifest or "
            "replace a file cut short."
        )
    return first, min(end, info.frames) - first


def _where(utterance: Utterance) -> str:
    return f"{utterance.audio} (utterance {utterance.id})"


def _frames(seconds: float, rate: int) -> int:
    # The limit keeps an absurd time from overflowing to infinity, which no int holds.
    return math.floor(min(seconds * rate, 2.0**62) + 0.5)


@functools.lru_cache(maxsize=64)
def _ratio(from_rate: int, to_rate: int, speed: float) -> fractions.Fraction:
    if not (math.isfinite(speed) and speed > 0):
        raise ConfigError(f"speed: {speed}; a factor above 0 (1.1: a tenth faster) was expected; correct it.")
    # str gives the shortest digits: 1.1 is 11/10, not the binary fraction beside it.
    return fractions.Fraction(to_rate) / (from_rate * fractions.Fraction(str(float(speed))))


def resampled_length(frames: int, from_rate: int, to_rate: int, speed: float = 1.0) -> int:
    """frames * to_rate / (from_rate * speed), exactly, with halves rounded up."""
    return math.floor(frames * _ratio(from_rate, to_rate, speed) + fractions.Fraction(1, 2))


def read(utterance: Utterance, rate: int, *, channel: int | None = None, speed: float = 1.0) -> np.ndarray:
    """The utterance's sound: float32 (S,), int16's full scale at 1, `rate` samples a second.

    `channel` None takes the mean of the channels. A speed above 1 is shorter and higher, as sox's `speed`; it
    costs nothing beside the resampling. S is `resampled_length` of the segment's frames.
    """
    frames, from_rate = _decode(utterance)
    sound = _one_channel(utterance, frames, channel)
    _check_finite(_where(utterance), sound)
    return _resampled(sound, from_rate, rate, speed)


def excerpt(path: str, rate: int, first: int, count: int) -> np.ndarray:
    """The first channel of `count` frames of a file from frame `first` on: float32 (S,), `rate` samples a second."""
    with _opened(path, path) as file:
        sound = np.ascontiguousarray(_frames_from(path, file, first, count)[:, 0])
        from_rate = file.samplerate
    _check_finite(path, sound)
    return _resampled(sound, from_rate, rate, 1.0)


def _resampled(sound: np.ndarray, from_rate: int, rate: int, speed: float) -> np.ndarray:
    if len(sound) == 0 or _ratio(from_rate, rate, speed) == 1:
        return sound
    length = resampled_length(len(sound), from_rate, rate, speed)
    resampled = soxr.resample(sound, from_rate * speed, rate)[:length]
    return np.pad(resampled, (0, length - len(resampled)))


def _decode(utterance: Utterance) -> tuple[np.ndarray, int]:
    """The utterance's float32 (frames, channels), and how many of them make a second."""
    where = _where(utterance)
    with _opened(utterance.audio, where) as file:
        header = _header(where, file)
        return _frames_from(where, file, *segment(utterance, header)), header.rate


def _frames_from(where: str, file: soundfile.SoundFile, first: int, count: int) -> np.ndarray:
    """(count, channels) from frame `first` on."""
    if first:
        file.seek(first)
    sound = file.read(count, dtype="float32", always_2d=True)
    _check_count(where, len(sound), count, file.frames)
    return sound


def _one_channel(utterance: Utterance, sound: np.ndarray, channel: int | None) -> np.ndarray:
    channels = sound.shape[1]
    if channel is None:
        return sound.mean(axis=1) if channels > 1 else sound[:, 0]
    if not 0 <= channel < channels:
        raise DataError(
            f"{_where(utterance)}: channel {channel} of a file of {channels}; 0 to {channels - 1} was expected; "
            "choose one of these, or none for the mean."
        )
    return np.ascontiguousarray(sound[:, channel])


def to_int16(audio: np.ndarray) -> np.ndarray:
    """The samples times 32768 as int16: rounded, halves to even, and clipped."""
    return np.clip(np.rint(audio * 32768), -32768, 32767).astype(np.int16)
