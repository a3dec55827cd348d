"""Packed corpora: shards of ArrayRecord, any record of which is read at once, and an index of all their utterances."""

import contextlib
import functools
import io
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxasr.data.source import Header
from jaxasr.data.utterance import Kind, Utterance
from jaxasr.errors import ConfigError, DataError, show

INDEX = "index.npz"
_RECORD = re.compile(r"(.+\.array_record):(\d{1,18})", re.ASCII | re.DOTALL)
_OPEN = 256
"""Shards held open; a process may open about a thousand files."""


class Index(NamedTuple):
    """Columns of a pack's utterances, shard after shard, in the order of their records."""

    ids: list[str]
    texts: list[str]
    speakers: list[str]
    frames: np.ndarray
    """(N,) of each channel."""
    rates: np.ndarray
    """(N,) frames a second."""
    channels: np.ndarray
    """(N,)."""
    records: np.ndarray
    """(shards,) records of each shard."""
    sizes: np.ndarray
    """(shards,) bytes of each shard."""

    def save(self, path: str) -> None:
        """Writes it whole or not at all."""
        columns: Any = self._asdict() | {name: _joined(getattr(self, name)) for name in _TEXTS}
        content = io.BytesIO()
        np.savez_compressed(content, **columns)
        write_atomically(path, content.getvalue())

    @classmethod
    def load(cls, path: str) -> "Index":
        """The index that is in a file.

        Raises:
          DataError: it is damaged, or of another format.
        """
        with _stored(path) as stored:
            columns: Any = {name: _counts(stored, name) for name in cls._fields if name not in _TEXTS}
            number = len(columns["frames"])
            columns |= {name: _split(stored[name], number) for name in _TEXTS}
            index = cls(**columns)
            index._check()
        return index

    def _check(self) -> None:
        """Raises ValueError where columns are not of the same utterances, or an id is none."""
        of_utterances = (self.ids, self.texts, self.speakers, self.frames, self.rates, self.channels)
        if {*map(len, of_utterances)} != {sum(self.records.tolist())} or len(self.records) != len(self.sizes):
            raise ValueError("columns of other lengths")
        if bad := [name for name in self.ids if name.split() != [name]]:
            raise ValueError(f"the id {show(bad[0])}")

    @classmethod
    def of_parts(cls, parts: Sequence["Index"]) -> "Index":
        """One index of shards that have one each."""
        columns: list[Any] = [*zip(*parts, strict=True)]
        joined: Any = ([*itertools.chain(*c)] if isinstance(c[0], list) else np.concatenate(c) for c in columns)
        return cls(*joined)


_TEXTS = ("ids", "texts", "speakers")


@contextlib.contextmanager
def _stored(path: str) -> Iterator[Mapping[str, np.ndarray]]:
    """Columns as they are stored; whatever is raised inside becomes an error that names the file."""
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            yield stored
    except Exception as error:  # what a broken file makes NumPy raise is anybody's guess
        raise DataError(
            f"{path}: cannot be read ({error}); the index of a pack was expected; pack the corpus again."
        ) from error


def _counts(stored: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """A column of whole numbers; without a rate or a channel there is no sound."""
    column = stored[name]
    if column.ndim != 1 or column.dtype.kind != "i" or (column < (name in ("rates", "channels"))).any():
        raise ValueError(f"{name} that are no counts")
    return column


def _joined(texts: Sequence[str]) -> np.ndarray:
    """No manifest has a NUL in a text."""
    return np.frombuffer("\0".join(texts).encode(), np.uint8)


def _split(joined: np.ndarray, number: int) -> list[str]:
    return joined.tobytes().decode().split("\0") if number else []


def write_atomically(path: str, content: bytes) -> None:
    """Writes a file that is there whole or not at all, even if the machine stops."""
    with open(f"{path}.part", "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.part", path)


def shard(number: int) -> str:
    """The file name of a shard.

    >>> shard(3)
    'shard-00003.array_record'
    """
    return f"shard-{number:05d}.array_record"


# Reading -----------------------------------------------------------------------------------------------------


def is_pack(folder: str) -> bool:
    """Whether the folder has a pack's index.

    >>> from jaxasr.corpora import digits
    >>> is_pack(str(digits() / "test"))
    False
    """
    return os.path.exists(os.path.join(folder, INDEX))


def read(folder: str, kind: Kind | None) -> Iterator[tuple[str, Utterance]]:
    """Each utterance of a pack with its place in it.

    Raises:
      DataError: features are asked for, or the index is damaged.
    """
    if kind == "features":
        raise DataError(
            f"{folder}: a pack, which holds sound; features were expected; choose --frontend=wav_frontend, or name a "
            "manifest of features."
        )
    index = Index.load(os.path.join(folder, INDEX))
    for number, size in enumerate(index.sizes.tolist()):
        _check_shard(os.path.join(folder, shard(number)), size)
    for where, *values in zip(_places(folder, index), index.ids, index.texts, index.speakers, strict=True):
        yield where, Utterance(values[0], where, values[1], values[2])


def _places(folder: str, index: Index) -> Iterator[str]:
    """The path of each record."""
    for number, records in enumerate(index.records.tolist()):
        path = os.path.join(os.path.realpath(folder), shard(number))
        yield from (f"{path}:{record}" for record in range(records))


def _check_shard(path: str, size: int) -> None:
    found = os.path.getsize(path) if os.path.exists(path) else 0
    if found != size:
        raise DataError(
            f"{path}: {found} bytes; {size}, as {INDEX} says, were expected; copy the file again, or pack the corpus "
            "again."
        )


def is_record(path: str) -> bool:
    """Whether a path names a record of a shard: `PATH.array_record:NUMBER`.

    >>> is_record("packed/shard-00000.array_record:7")
    True
    """
    return bool(_RECORD.fullmatch(path))


def file_of(path: str) -> str:
    """The file on disk that a path is in: a record's shard, or the path itself.

    >>> file_of("packed/shard-00000.array_record:7")
    'packed/shard-00000.array_record'
    """
    return _record_of(path)[0] if is_record(path) else path


def _record_of(path: str) -> tuple[str, int]:
    file, _, number = path.rpartition(":")
    return file, int(number)


def headers(paths: Iterable[str]) -> dict[str, Header | DataError]:
    """By path, what the indices of packs say of these records."""
    shards: dict[str, list[Header]] = {}
    found = {}
    for path in paths:
        file, number = _record_of(path)
        if file not in shards:
            shards |= {file: []} | dict(_shard_headers(os.path.dirname(file)))
        found[path] = shards[file][number] if number < len(shards[file]) else _no_record(path, len(shards[file]))
    return found


def _no_record(path: str, records: int) -> DataError:
    return DataError(f"{path}: the shard has {records} records, as {INDEX} says; one of them was expected; correct it.")


def _shard_headers(folder: str) -> Iterator[tuple[str, list[Header]]]:
    """Each shard, and the headers of its records."""
    with _stored(os.path.join(folder, INDEX)) as stored:
        *measures, records = (_counts(stored, name) for name in ("frames", "rates", "channels", "records"))
    found = [*map(Header, *(column.tolist() for column in measures))]
    for number, last in enumerate(np.cumsum(records).tolist()):
        yield os.path.join(folder, shard(number)), found[last - int(records[number]) : last]


def sound(path: str, where: str) -> bytes:
    """The sound file that a record holds; errors begin with `where`.

    Raises:
      DataError: the record cannot be read.
    """
    file, number = _record_of(path)
    try:
        (record,) = _reader(file).read([number])
        return record[record.index(b"\n") + 1 :]
    except ConfigError:
        raise
    except Exception as error:  # what a broken file makes array_record raise is anybody's guess
        raise DataError(
            f"{where}: cannot be read ({type(error).__name__}); a record of a pack was expected; copy "
            "its shard again, or pack the corpus again."
        ) from error


def record(utterance: Utterance, content: bytes) -> bytes:
    """A record: a line of JSON that says what it is, and a sound file.

    >>> record(Utterance("zero", "zero.flac", "ZERO"), b"fLaC").splitlines()[-1]
    b'fLaC'
    """
    said = {"id": utterance.id, "text": utterance.text, "speaker": utterance.speaker}
    return json.dumps(said, ensure_ascii=False).encode() + b"\n" + content


@functools.lru_cache(maxsize=_OPEN)
def _reader(file: str) -> Any:
    return array_record(file).ArrayRecordReader(file, "readahead_buffer_size:0", file_reader_buffer_size=32768)


def array_record(where: str) -> Any:
    """The module that reads and writes shards.

    Raises:
      ConfigError: it is not installed.
    """
    try:
        from array_record.python import array_record_module  # pyright: ignore[reportAttributeAccessIssue]
    except ImportError as error:
        raise ConfigError(
            f"{where}: no module array_record; it was expected, since it reads and writes packs; pip install "
            "array_record (Linux and macOS), or name the manifest that was packed."
        ) from error
    return array_record_module
