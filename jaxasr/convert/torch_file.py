"""The tensors in a file of `torch.save`, without torch, and without running anything that the file says."""

import collections
import io
import pathlib
import pickle
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxasr.errors import CheckpointError

WRAPPERS = ("state_dict", "model_state_dict", "model")
"""Under which of its keys a training state keeps the parameters."""


def read(path: str | pathlib.Path) -> dict[str, np.ndarray]:
    """The tensors of the dictionary in a file, or of the one that it has under one of `WRAPPERS`, by their names.

    They are views into the file, which is mapped into memory: what is not looked at is not read.

    Raises:
      CheckpointError: the file is none of torch's, is of a torch before 1.6, is damaged, has no tensors, or asks for
        anything but tensors, dictionaries, lists, numbers and texts.
    """
    path = pathlib.Path(path)
    try:
        with zipfile.ZipFile(path) as archive:
            return _arrays(_Archive(path, archive))
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


class _Storage(NamedTuple):
    dtype: str
    key: str


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


class _MakeTensor:
    """Stands for torch's function; without a dictionary of attributes, which a pickle could write to."""

    __slots__ = ()

    def __call__(self, storage: _Storage, offset: int, size: Any, stride: Any, *_: Any) -> _Tensor:
        return _Tensor(storage, offset, size, stride)


class _MakeParameter:
    __slots__ = ()

    def __call__(self, tensor: _Tensor, *_: Any) -> _Tensor:
        return tensor


DTYPES: Mapping[str, Any] = {
    "FloatStorage": np.float32,
    "DoubleStorage": np.float64,
    "HalfStorage": np.float16,
    "BFloat16Storage": jnp.bfloat16,
    "LongStorage": np.int64,
    "IntStorage": np.int32,
    "ShortStorage": np.int16,
    "CharStorage": np.int8,
    "ByteStorage": np.uint8,
    "BoolStorage": np.bool_,
    "ComplexFloatStorage": np.complex64,
    "ComplexDoubleStorage": np.complex128,
}
ALLOWED: Mapping[str, Any] = {
    "collections.OrderedDict": collections.OrderedDict,
    "torch._utils._rebuild_tensor_v2": _MakeTensor(),
    "torch._utils._rebuild_parameter": _MakeParameter(),
    **{f"torch.{name}": name for name in DTYPES},
}
"""All that a pickle may ask for."""


class _Unpickler(pickle.Unpickler):
    def __init__(self, path: pathlib.Path, content: bytes):
        super().__init__(io.BytesIO(content), encoding="utf-8")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        symbol = f"{module}.{name}"
        if symbol not in ALLOWED:
            raise CheckpointError(
                f"{self._path}: it asks for {symbol}; tensors, dictionaries, lists, numbers and texts alone were "
                "expected, since by other names a file could run anything; save the parameters alone: "
                "torch.save(model.state_dict(), NEW)."
            )
        return ALLOWED[symbol]

    def persistent_load(self, pid: Any) -> _Storage:
        _, dtype, key, _, _ = pid
        return _Storage(dtype, key)


class _Archive:
    """A zip of torch's: `data.pkl`, and beside it the bytes of every storage."""

    def __init__(self, path: pathlib.Path, archive: zipfile.ZipFile):
        self.path = path
        self._zip = archive
        self._bytes = np.memmap(path, np.uint8, "r")
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError(
                f"{path}: a zip with {len(pickles)} files data.pkl; one was expected, as torch.save writes it; give "
                "another file."
            )
        self._root = pickles[0].removesuffix("data.pkl")
        order = f"{self._root}byteorder"
        self._swapped = order in archive.namelist() and archive.read(order) == b"big"
        self._storages: dict[_Storage, np.ndarray] = {}

    def content(self) -> Any:
        return _Unpickler(self.path, self._zip.read(f"{self._root}data.pkl")).load()

    def array(self, tensor: _Tensor) -> np.ndarray:
        """Its part of the storage, which other tensors may share."""
        if tensor.storage not in self._storages:
            self._storages[tensor.storage] = self._storage(*tensor.storage)
        storage = self._storages[tensor.storage]
        size = storage.dtype.itemsize
        strides = tuple(step * size for step in tensor.stride)
        return np.ndarray(tensor.size, storage.dtype, storage, tensor.offset * size, strides)  # checks the bounds

    def _storage(self, dtype: str, key: str) -> np.ndarray:
        info = self._zip.getinfo(f"{self._root}data/{key}")
        if info.compress_type == zipfile.ZIP_STORED:
            # the header before the bytes has lengths of its own, which the table of contents does not tell
            lengths = self._bytes[info.header_offset + 26 : info.header_offset + 30]
            name, extra = struct.unpack("<HH", lengths.tobytes())
            start = info.header_offset + 30 + name + extra
            raw = self._bytes[start : start + info.file_size]
        else:
            raw = np.frombuffer(self._zip.read(info), np.uint8)
        storage = raw.view(DTYPES[dtype])
        return storage.byteswap() if self._swapped else storage


def _arrays(archive: _Archive) -> dict[str, np.ndarray]:
    content = archive.content()
    for name in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    tensors = {name: x for name, x in content.items() if isinstance(x, _Tensor)} if isinstance(content, dict) else {}
    if not tensors:
        raise CheckpointError(
            f"{archive.path}: no tensors; a dictionary of them was expected, alone or under {', '.join(WRAPPERS)}; "
            "save the parameters: torch.save(model.state_dict(), NEW)."
        )
    return {str(name): archive.array(tensor) for name, tensor in tensors.items()}


def _no_zip(path: pathlib.Path) -> CheckpointError:
    with path.open("rb") as file:
        if file.read(2) == b"\x80\x02":
            return CheckpointError(
                f"{path}: a file as torch wrote it before 1.6; a zip was expected; save it anew where torch is: "
                "torch.save(torch.load(OLD, map_location='cpu', weights_only=True), NEW)."
            )
    return CheckpointError(f"{path}: no zip; a file of torch.save was expected; give another, or copy it anew.")
