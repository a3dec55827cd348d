"""Parameters in files of safetensors, by their paths; and files that are whole at any moment."""

import contextlib
import hashlib
import os
import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from jaxasr.errors import CheckpointError
from jaxasr.paths import leaves, unflatten
from jaxasr.typing import Params

UNFINISHED = ".part"
"""What the name of a file ends in, and with a dot begins with, that is not whole yet."""
MOST_HEADER = 16 << 20
"""Bytes of what a file says of its parameters."""


def write_atomically(path: pathlib.Path, content: bytes, *, synced: bool = True) -> None:
    """Writes a file so that at any moment it is whole: the old one or the new one.

    Args:
      synced: also after a power cut, for which it waits for the disk.

    Raises:
      CheckpointError: it cannot be written; nothing is left of the new one then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}{UNFINISHED}")
    try:
        with written(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                if synced:
                    os.fsync(file.fileno())
            temporary.replace(path)
            if synced:
                sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def written(path: pathlib.Path) -> Iterator[None]:
    """Raises CheckpointError where what is inside cannot write to `path`."""
    try:
        yield
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror}; a file to write was expected, and room for it; free some, or choose another."
        ) from error


def sync_folder(folder: pathlib.Path) -> None:
    """Returns when the names of the files in it are on the disk too, where the system can say so."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def flatten(params: Params) -> dict[str, np.ndarray]:
    """Parameters, of any shapes, by their path, `encoder/first/attention/qkv/kernel`.

    >>> flatten({"ctc": {"kernel": np.eye(2), "bias": np.zeros(2)}})["ctc/bias"].tolist()
    [0.0, 0.0]
    """
    return {path: np.asarray(leaf) for path, leaf in leaves(params)}


def shapes_by_path(params: Params) -> dict[str, tuple[int, ...]]:
    """The shapes of parameters, which may be no arrays, by their paths.

    >>> shapes_by_path({"ctc": {"kernel": np.ones((4, 5)), "bias": np.ones(5)}})
    {'ctc/bias': (5,), 'ctc/kernel': (4, 5)}
    """
    return {path: leaf.shape for path, leaf in leaves(params)}


def save_params(path: pathlib.Path, params: Params) -> None:
    """With a checksum in the file's own metadata."""
    # safetensors writes the memory that an array lies in, which for a slice or a transpose is other numbers
    flat = {name: np.asarray(value, order="C") for name, value in flatten(params).items()}
    write_atomically(path, safetensors.numpy.save(flat, {"sha256": _digest(flat)}))


def load_params(path: pathlib.Path) -> Params:
    """Parameters as NumPy arrays.

    Raises:
      CheckpointError: there is no such file, or it is not as it was saved; one without a checksum is taken as it is.
    """
    with _reading(path):
        flat = safetensors.numpy.load_file(path)
        with safetensors.safe_open(path, "numpy") as opened:
            known = (opened.metadata() or {}).get("sha256")
        if known not in (None, _digest(flat)):
            raise CheckpointError(
                f"{path}: other numbers than those that its checksum is of; parameters as they were saved were "
                "expected; copy the model anew."
            )
        return unflatten(flat)


def _digest(flat: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of names, types, shapes and numbers."""
    digest = hashlib.sha256()
    for name, value in sorted(flat.items()):
        digest.update(f"{name}\0{value.dtype}\0{value.shape}\0".encode())
        digest.update(value.tobytes())
    return digest.hexdigest()


def param_shapes(path: pathlib.Path) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter in a file, by its path; the numbers are not read."""
    with opened_params(path) as opened:
        return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118


@contextlib.contextmanager
def opened_params(path: pathlib.Path) -> Iterator[Any]:
    """safetensors' reader of a file, of which only what is asked for is read; errors are as of `load_params`."""
    with _reading(path), safetensors.safe_open(path, "numpy") as opened:
        yield opened


@contextlib.contextmanager
def _reading(path: pathlib.Path) -> Iterator[None]:
    """Raises CheckpointError for whatever is wrong with the file that is read inside."""
    try:
        check_header(path)
        yield
    except CheckpointError:
        raise
    except Exception as error:  # a header can make its reader, NumPy and `unflatten` raise whatever they like
        raise CheckpointError(
            f"{path}: {error}; parameters in a safetensors file were expected; train again, or copy the model anew."
        ) from error


def check_header(path: pathlib.Path) -> None:
    """Raises CheckpointError where reading the header alone would take very much memory."""
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if MOST_HEADER < size < path.stat().st_size:
        raise CheckpointError(
            f"{path}: a header of {size} bytes; at most {MOST_HEADER}, which tell of a hundred thousand parameters, "
            "were expected; copy the model anew."
        )
