"""Parameters in files of safetensors, by their paths; and files that are whole at any moment."""

import contextlib
import os
import pathlib

import numpy as np
import safetensors
import safetensors.numpy
from safetensors import SafetensorError

from jaxasr.errors import CheckpointError
from jaxasr.paths import leaves, unflatten
from jaxasr.typing import Params


def write_atomically(path: pathlib.Path, content: bytes, *, synced: bool = True) -> None:
    """Writes a file so that at any moment it is whole: the old one or the new one.

    Args:
      synced: also after a power cut, for which it waits for the disk.

    Raises:
      CheckpointError: it cannot be written; nothing is left of the new one then.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            if synced:
                os.fsync(file.fileno())
        temporary.replace(path)
        if synced:
            sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror}; a file to write was expected, and room for it; free some, or choose another."
        ) from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def sync_folder(folder: pathlib.Path) -> None:
    """Returns when the names of the files in it are on the disk too, where the system can say so."""
    with contextlib.suppress(OSError):
        opened = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(opened)
        finally:
            os.close(opened)


def flatten(params: Params) -> dict[str, np.ndarray]:
    """Parameters by their path, `encoder/first/attention/qkv/kernel`."""
    return {path: np.asarray(leaf) for path, leaf in leaves(params)}


def shapes_by_path(params: Params) -> dict[str, tuple[int, ...]]:
    """The shapes of parameters, which may be no arrays, by their paths."""
    return {path: leaf.shape for path, leaf in leaves(params)}


def save_params(path: pathlib.Path, params: Params) -> None:
    write_atomically(path, safetensors.numpy.save(flatten(params)))


def load_params(path: pathlib.Path) -> Params:
    """Parameters as NumPy arrays."""
    try:
        return unflatten(safetensors.numpy.load_file(path))
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: pathlib.Path, error: Exception) -> CheckpointError:
    return CheckpointError(
        f"{path}: {error}; parameters in a safetensors file were expected; train again, or copy the model anew."
    )


def param_shapes(path: pathlib.Path) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter in a file, by its path; the numbers are not read."""
    try:
        with safetensors.safe_open(path, "numpy") as opened:
            return {name: tuple(opened.get_slice(name).get_shape()) for name in opened.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise _unreadable(path, error) from error
