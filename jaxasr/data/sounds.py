"""Collections of noises and of rooms: found once, read when they are drawn."""

import dataclasses
import functools
import os
from collections.abc import Iterator

import numpy as np

from jaxasr.data import audio, textfile
from jaxasr.data.audio import SUFFIXES
from jaxasr.data.probe import probe
from jaxasr.data.source import Header
from jaxasr.data.utterance import audio_path, folder_of
from jaxasr.errors import DataError


@dataclasses.dataclass(frozen=True)
class SoundFile:
    """A file that has been read to its end, and what its header says."""

    path: str
    frames: int
    rate: int


def find(path: str, sample_rate: int, option: str) -> tuple[SoundFile, ...]:
    """The sound files that `path` names, in an order that does not change.

    Args:
      path: a folder, searched with the folders in it for names in `audio.SUFFIXES`; a list of files, with a line
        `ID PATH` or `PATH` each, where relative paths start at the list's folder; or one sound file.
      sample_rate: what they will be resampled to.
      option: stands at the beginning of errors.

    Raises:
      DataError: there is none, or one of them cannot be read to its end or holds no sample.

    >>> from jaxasr.corpora import digits
    >>> find(str(digits() / "audio" / "test-theo.flac"), 8000, "--noises")[0].rate
    8000
    """
    where = f"{option}={path}"
    listed = list(_listed(where, path))
    if not listed:
        raise DataError(f"{where}: no sound file; names that end in {' '.join(SUFFIXES)} were expected; add some.")
    infos = probe([file for _, file in listed], audio.SoundSource(sample_rate), whole=True)
    files, faults = [], []
    for place, file in listed:
        try:
            files.append(_usable(file, infos[file], sample_rate))
        except DataError as error:
            faults.append(f"{place}{error}")
    if faults:
        error = faults[0]
        raise DataError(f"{where}: {len(faults)} of {len(listed)} sound files cannot be used: {error}")
    return tuple(files)


def _usable(file: str, info: Header | DataError, sample_rate: int) -> SoundFile:
    if isinstance(info, DataError):
        raise info
    if not audio.resampled_length(info.frames, info.rate, sample_rate):
        raise DataError(f"{file}: {info.frames} samples; some sound was expected; remove the file.")
    return SoundFile(file, info.frames, info.rate)


def _listed(where: str, path: str) -> Iterator[tuple[str, str]]:
    """Where each file is named, empty or ending in a colon, and its path."""
    if os.path.isdir(path):
        yield from (("", file) for file in sorted(inside(where, path)))
    elif path.lower().endswith(SUFFIXES):
        yield "", path
    elif os.path.exists(path):
        folder = folder_of(os.path.dirname(path))
        for number, line in enumerate(textfile.lines(path), 1):
            place = f"{path}:{number}"
            yield f"{place}: ", _path_in(place, folder, line)
    else:
        raise DataError(
            f"{where}: no such file or folder; a folder of sound files or a list of them was expected; check the path."
        )


def _path_in(place: str, folder: str, line: str) -> str:
    """The path of a line that is `PATH`, in which spaces may stand, or `ID PATH`."""
    behind_id, alone = (audio_path(place, folder, value.strip(), None) for value in (line.split(maxsplit=1)[-1], line))
    if behind_id == alone or not os.path.exists(alone):
        return behind_id
    if os.path.exists(behind_id):
        raise DataError(
            f"{place}: {behind_id} behind an id, or {alone}; there are both, and one was expected; write 'ID PATH' "
            "with an absolute path."
        )
    return alone


def inside(where: str, folder: str, suffixes: tuple[str, ...] = SUFFIXES) -> Iterator[str]:
    """The files of such names in a folder and, through links too, in those below it; hidden ones are none.

    Raises:
      DataError: a folder cannot be read.

    >>> from jaxasr.corpora import digits
    >>> len(list(inside("--noises", str(digits() / "audio"))))
    18
    """

    def refuse(error: OSError) -> None:
        raise DataError(
            f"{where}: {error.filename}: {error.strerror}; a folder that can be read was expected; check its "
            "permissions."
        ) from error

    seen: set[str] = set()
    for here, folders, names in os.walk(folder, onerror=refuse, followlinks=True):
        if (real := os.path.realpath(here)) in seen:  # a link back
            folders.clear()
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(here, n) for n in names if n.lower().endswith(suffixes) and not n.startswith("."))


def crop(file: SoundFile, samples: int, sample_rate: int, rng: np.random.Generator) -> np.ndarray:
    """A stretch of the file of so many samples, resampled, from a random place; float32 (S,).

    A shorter file is gone through again and again, from a random place too.
    """
    needed = -(-samples * file.rate // sample_rate)
    if file.frames >= needed:
        first = int(rng.integers(file.frames - needed + 1))
        return audio.excerpt(file.path, sample_rate, first, needed)[:samples]
    whole = audio.excerpt(file.path, sample_rate, 0, file.frames)
    return np.take(whole, np.arange(samples) + rng.integers(len(whole)), mode="wrap")


@functools.lru_cache(maxsize=128)
def response(file: SoundFile, sample_rate: int) -> np.ndarray:
    """The impulse response that is a file, resampled; float32 (K,).

    Raises:
      DataError: it is all zeros, or cannot be read.
    """
    taps = audio.excerpt(file.path, sample_rate, 0, file.frames)
    if not taps.any():
        raise DataError(f"{file.path}: all zeros; the impulse response of a room was expected; remove the file.")
    taps.flags.writeable = False
    return taps
