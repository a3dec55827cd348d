"""Files of `torch.save`, without torch: read without running anything that the file says, and written."""

import functools
import math
import pathlib
import struct
import sys
import zipfile
from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

import numpy as np

from jaxasr.convert import torch_pickle
from jaxasr.convert.torch_pickle import DTYPES, Storage, Tensor
from jaxasr.errors import CheckpointError

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Under which of its keys a training state keeps the parameters."""
PARALLEL = "module."
"""What names begin with that torch's DataParallel has made."""
MOST_PICKLED = 64 << 20
"""Bytes of what a file says of its tensors; hundreds of thousands are told of in so many."""
MOST_UNPACKED = 20
"""Times its size, beside `MOST_PICKLED`, that a file may unpack to; torch packs nothing, and numbers hardly can be."""
ALIGNMENT = 64
"""Bytes of which the place of each file in a zip of torch's is a multiple."""


def read(path: str | pathlib.Path, say: Callable[[str], None]) -> dict[str, np.ndarray]:
    """The tensors of the dictionary in a file, or of the one that it has under one of `WRAPPERS`, by their names.

    They are views, of any shapes, into the file, which is mapped into memory: what is not looked at is not read. Where
    all names begin with `PARALLEL` they are given without it. `say` is told how many they are, and what is left out.

    Raises:
      CheckpointError: the file is none of torch's, is of a torch before 1.6, is damaged, has no tensors, or asks for
        anything but tensors, dictionaries, lists, numbers and texts.
    """
    path = pathlib.Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _arrays(_Archive(path, archive), say)
    except CheckpointError:
        raise
    except zipfile.BadZipFile as error:
        raise _no_zip(path) from error
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror}; a file of torch.save was expected; give another path."
        ) from error
    except Exception as error:  # a damaged pickle raises whatever it likes
        raise CheckpointError(
            f"{path}: {type(error).__name__}: {error}; a whole file of torch.save was expected; copy it anew."
        ) from error


class _Archive:
    """A zip of torch's: `data.pkl`, and beside it the bytes of every storage."""

    def __init__(self, path: pathlib.Path, archive: zipfile.ZipFile):
        self.path = path
        self._zip = archive
        self._bytes = np.memmap(path, np.uint8, "r")
        self._room = MOST_PICKLED + MOST_UNPACKED * len(self._bytes)
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError(
                f"{path}: a zip with {len(pickles)} files data.pkl; one was expected, as torch.save writes it; give "
                "another file."
            )
        self._root = pickles[0].removesuffix("data.pkl")
        self._swapped = f"{self._root}byteorder" in archive.namelist() and self._read("byteorder", 16) == b"big"
        self._storages: dict[Storage, np.ndarray] = {}

    def content(self) -> Any:
        return torch_pickle.load(self._read("data.pkl", MOST_PICKLED), self.path)

    def array(self, name: str, tensor: Tensor) -> np.ndarray:
        """Its part of the storage, which other tensors may share."""
        if tensor.storage not in self._storages:
            self._storages[tensor.storage] = self._storage(tensor.storage)
        storage = self._storages[tensor.storage]
        # not left to NumPy, whose sums and products of 64 bits a file can make wrap
        last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.size, tensor.stride, strict=True))
        if 0 not in tensor.size and max(last + 1, math.prod(tensor.size)) > storage.size:
            raise CheckpointError(
                f"{self.path}: {name} has size {tensor.size}, stride {tensor.stride} and offset {tensor.offset} in "
                f"{storage.size} numbers; a tensor inside of them, each its own, was expected; copy the file anew, or "
                "save it with tensors made contiguous()."
            )
        size = storage.dtype.itemsize
        strides = tuple(step * size for step in tensor.stride)
        return np.ndarray(tensor.size, storage.dtype, storage, tensor.offset * size, strides)

    def _storage(self, storage: Storage) -> np.ndarray:
        dtype = np.dtype(DTYPES[storage.kind])
        name = f"data/{storage.key}"
        raw = self._mapped_or_read(name, storage.numel * dtype.itemsize).view(dtype)
        if raw.size != storage.numel:
            raise CheckpointError(
                f"{self.path}: {name} has {raw.size} numbers; {storage.numel} were expected; copy the file anew."
            )
        return raw.byteswap() if self._swapped else raw

    def _mapped_or_read(self, name: str, most: int) -> np.ndarray:
        info = self._zip.getinfo(f"{self._root}{name}")
        if info.compress_type != zipfile.ZIP_STORED:
            return np.frombuffer(self._read(name, most), np.uint8)
        # the header before the bytes has lengths of its own, which the table of contents does not tell
        lengths = self._bytes[info.header_offset + 26 : info.header_offset + 30]
        start = info.header_offset + 30 + sum(struct.unpack("<HH", lengths.tobytes()))
        return self._bytes[start : start + info.file_size]

    def _read(self, name: str, most: int) -> bytes:
        """A file of the zip whole; of little that is compressed could come very much."""
        info, most = self._zip.getinfo(f"{self._root}{name}"), min(most, self._room)
        if info.file_size > most or info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise CheckpointError(
                f"{self.path}: {name} has {info.file_size} bytes, by compression {info.compress_type}; at most {most}, "
                "stored or deflated, were expected; copy the file anew, or save the parameters alone: "
                "torch.save(model.state_dict(), NEW)."
            )
        self._room -= info.file_size
        with self._zip.open(info) as file:
            return file.read(info.file_size)  # with a number, so that no more is decompressed


def _arrays(archive: _Archive, say: Callable[[str], None]) -> dict[str, np.ndarray]:
    content = archive.content()
    content = content if isinstance(content, dict) else {}
    chosen = next((inside for inside in (*map(content.get, WRAPPERS), content) if _tensors(inside)), None)
    if chosen is None:
        raise CheckpointError(
            f"{archive.path}: no tensors; a dictionary of them was expected, alone or under {', '.join(WRAPPERS)}; "
            "save the parameters: torch.save(model.state_dict(), NEW)."
        )
    tensors = _tensors(chosen)
    beside = [] if chosen is content else [key for key, x in content.items() if x is not chosen]
    left_out = [str(key) for key in (*beside, *(key for key in chosen if key not in tensors))]
    say(f"{archive.path}: {len(tensors)} tensors; left out: {', '.join(left_out) or 'none'}")
    parallel = all(name.startswith(PARALLEL) for name in tensors)
    return {name.removeprefix(PARALLEL) if parallel else name: archive.array(name, x) for name, x in tensors.items()}


def _tensors(content: Any) -> dict[str, Tensor]:
    if not isinstance(content, dict):
        return {}
    return {name: x for name, x in content.items() if isinstance(name, str) and isinstance(x, Tensor)}


def _no_zip(path: pathlib.Path) -> CheckpointError:
    with path.open("rb") as file:
        head = file.read(512)
    is_tar = head[257:262] == b"ustar"  # of torch before 0.2, which reads it only as what may run anything
    if is_tar or (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05")):
        trusted = ", if you trust who made it" if is_tar else ""
        return CheckpointError(
            f"{path}: a file as torch wrote it before 1.6; a zip was expected; save it anew where torch is{trusted}: "
            f"torch.save(torch.load(OLD, map_location='cpu', weights_only={not is_tar}), NEW)."
        )
    return CheckpointError(f"{path}: no zip; a file of torch.save was expected; give another, or copy it anew.")


# --- written -----------------------------------------------------------------------------------------------------


def write(path: str | pathlib.Path, tensors: Mapping[str, np.ndarray]) -> None:
    """A file as torch.save writes a dictionary of tensors, for `torch.load(path, weights_only=True)`.

    Each tensor has a storage of its own. The same tensors give the same bytes.

    Raises:
      CheckpointError: torch has no such dtype, or there is no place for the file.
    """
    pickled = torch_pickle.dump(tensors)
    try:
        with open(path, "wb") as file, zipfile.ZipFile(file, "w") as archive:
            add = functools.partial(_add, file, archive)
            add("data.pkl", pickled)
            add("byteorder", sys.byteorder.encode())
            for key, x in enumerate(tensors.values()):
                add(f"data/{key}", np.ascontiguousarray(x).reshape(-1).view(np.uint8))
            add("version", b"3\n")
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror}; a file to write to was expected; give another path, or make room."
        ) from error


def _add(file: BinaryIO, archive: zipfile.ZipFile, name: str, content: Any) -> None:
    info = zipfile.ZipInfo(f"archive/{name}", date_time=(1980, 1, 1, 0, 0, 0))
    info.create_system = 3  # or it would be the system's
    info.file_size = len(content)
    large = info.file_size >= zipfile.ZIP64_LIMIT // 2
    header = 30 + len(info.filename) + (20 if large else 0)
    padding = -(file.tell() + header + 4) % ALIGNMENT
    info.extra = struct.pack("<2sH", b"FB", padding) + bytes(padding)  # as torch names it
    with archive.open(info, "w", force_zip64=large) as inside:
        inside.write(content)
