"""Features given instead of sound: NumPy files, and matrices in Kaldi's archives."""

import contextlib
import dataclasses
import os
import struct
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, ClassVar, NamedTuple

import numpy as np

from jaxasr.data.batch import AsrFeatureExample
from jaxasr.data.reading import beat
from jaxasr.data.source import FileSource, Header, check_finite, place, segment, status
from jaxasr.data.utterance import Kind, Utterance, check_kind
from jaxasr.errors import ConfigError, DataError, JaxasrError

_BLOCK = 4096


@dataclasses.dataclass(frozen=True)
class FeatureSource(FileSource):
    """Frames of one width from `.npy` files (T, F) of floats and from `PATH.ark:OFFSET`."""

    num_features: int
    """F."""
    hop_ms: float
    """From one frame to the next, in milliseconds."""
    kind: ClassVar[Kind] = "features"

    @property
    def rate(self) -> float:
        return 1000.0 / self.hop_ms

    @property
    def width(self) -> int:
        return self.num_features

    def file(self, path: str) -> str:
        file, offset = _split(path, path)
        if offset is not None:
            _matrix_reader(path)  # where it is missing, this says so although the header is known from before
        return file

    def info(self, path: str) -> Header:
        with _opened(path, path) as (header, _):
            return header

    def check(self, path: str, header: Header) -> None:
        features = _load(path, path)
        for first in range(0, header.frames, _BLOCK):
            beat()
            check_finite(path, _float32(features[first : first + _BLOCK]), "values")

    def length(self, utterance: Utterance, header: Header, speed: float) -> int:
        if speed != 1.0:
            raise ConfigError(f"{place(utterance)}: speed {speed}; 1 was expected of features; give --preprocess=none.")
        self._check_width(place(utterance), header.channels)
        return segment(utterance, header.frames, self.rate)[1]

    def stated_length(self, utterance: Utterance, speed: float) -> int:
        header = Header(2**62, 0, self.width)  # at least as long as any
        return self.length(utterance, header, speed)

    def read(self, utterance: Utterance) -> np.ndarray:
        where = place(utterance)
        features = _load(utterance.audio, where)
        self._check_width(where, features.shape[1])
        first, count = segment(utterance, len(features), self.rate)
        features = _float32(features[first : first + count])
        check_finite(where, features, "values")
        return features

    def from_array(self, where: str, array: np.ndarray) -> np.ndarray:
        """Takes frames (T, F) of floats."""
        _checked(where, array.shape, array.dtype)
        self._check_width(where, array.shape[1])
        features = _float32(array)
        check_finite(where, features, "values")
        return features

    def example(self, utterance_id: str, inputs: np.ndarray, tokens: np.ndarray) -> AsrFeatureExample:
        return AsrFeatureExample(utterance_id, inputs, tokens)

    def _check_width(self, where: str, width: int) -> None:
        if width != self.width:
            raise DataError(
                f"{where}: frames of {width} features; {self.width}, as --frontend.width says, were expected; give "
                f"--frontend.width={width}, or features made as those that the model knows."
            )


def _float32(values: np.ndarray) -> np.ndarray:
    """A copy in memory; what is beyond float32 becomes infinite."""
    with np.errstate(over="ignore"):
        return np.array(values, np.float32)


def _checked(where: str, shape: tuple[int, ...], dtype: Any) -> Header:
    if len(shape) != 2 or np.dtype(dtype).kind != "f":
        raise DataError(
            f"{where}: an array of shape {shape} and type {dtype}; floats (T, F), frames of features, were expected; "
            "give one such array for each utterance."
        )
    if 0 in shape:
        raise DataError(f"{where}: {shape[0]} frames of {shape[1]} features; at least 1 was expected; remove it.")
    return Header(shape[0], 0, shape[1])


def _load(path: str, where: str) -> np.ndarray:
    """(T, F) of some type of floats, perhaps still on disk."""
    with _opened(path, where) as (_, load):
        return load()


@contextlib.contextmanager
def _opened(path: str, where: str) -> Iterator[tuple[Header, Callable[[], np.ndarray]]]:
    """The header, and what reads the rest; whatever is raised inside becomes an error beginning with `where`."""
    file, offset = _split(path, where)
    status(file, where)
    try:
        if offset is None:
            array = np.lib.format.open_memmap(file, "r")
            yield _checked(where, array.shape, array.dtype), lambda: array
        else:
            read = _matrix_reader(where)
            with open(file, "rb") as archive:
                header = _checked(where, _matrix_shape(where, archive, offset), np.float32)
                archive.seek(offset)
                yield header, lambda: read(archive)
    except JaxasrError:
        raise
    except Exception as error:  # what a broken file makes NumPy and kaldiio raise is anybody's guess
        raise DataError(
            f"{where}: cannot be read ({str(error).strip() or type(error).__name__}); floats (T, F) as numpy.save or "
            "Kaldi's copy-feats writes them were expected; write the file again or remove it from the manifest."
        ) from error


def _split(path: str, where: str) -> tuple[str, int | None]:
    """The file, and where in an archive of Kaldi's the features are."""
    check_kind(where, path, "features")
    file, _, offset = path.rpartition(":")
    return (path, None) if path.endswith(".npy") else (file, int(offset))


# Kaldi's archives --------------------------------------------------------------------------------------------


class _Layout(NamedTuple):
    """A type of binary matrix: rows and columns in its header, and the bytes of its data."""

    size: struct.Struct
    value: int
    column: int = 0


_LAYOUTS = {
    b"FM": _Layout(struct.Struct("<xixi"), 4),
    b"DM": _Layout(struct.Struct("<xixi"), 8),
    b"CM": _Layout(struct.Struct("<8xii"), 1, 8),
    b"CM2": _Layout(struct.Struct("<8xii"), 2),
    b"CM3": _Layout(struct.Struct("<8xii"), 1),
}


def _matrix_shape(where: str, file: BinaryIO, offset: int) -> tuple[int, int]:
    """Rows and columns of the matrix at `offset`, which is whole."""
    file.seek(offset)
    head = file.read(32)
    token, _, rest = head[2:].partition(b" ")
    if head[:2] != b"\0B" or token not in _LAYOUTS:
        raise DataError(
            f"{where}: no binary matrix begins there; Kaldi's, in floats or compressed, was expected; take the path "
            "from the feats.scp that was written with the archive."
        )
    layout = _LAYOUTS[token]
    rows, cols = layout.size.unpack_from(rest.ljust(layout.size.size, b"\0"))
    data = offset + 3 + len(token) + layout.size.size
    missing = data + cols * layout.column + rows * cols * layout.value - os.fstat(file.fileno()).st_size
    if min(rows, cols) < 0 or missing > 0:
        raise DataError(
            f"{where}: a matrix of {rows} rows and {cols} columns of which {max(missing, 0)} bytes are missing; a "
            "whole one was expected; replace the archive cut short."
        )
    return rows, cols


def _matrix_reader(where: str) -> Callable[[BinaryIO], np.ndarray]:
    try:
        from kaldiio import matio
    except ImportError as error:
        raise ConfigError(
            f"{where}: Kaldi's archives are read by kaldiio, which is not installed; pip install kaldiio, or "
            '"jaxasr[kaldi]"; or give .npy files.'
        ) from error
    # Not load_mat, which runs what looks like a shell command, nor read_kaldi, which loads pickles.
    return lambda file: np.asarray(matio.read_matrix_or_vector(file))
