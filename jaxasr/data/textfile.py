"""Text files by line: reading them, and the faults that all of them share."""

import codecs
import contextlib
import gzip
import io
import itertools
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator
from typing import IO, Any

from jaxasr.errors import DataError
from jaxasr.errors import show as show

MOST_UNPACKED = 200
"""Times its size that a packed file may unpack to: text gives ten or twenty."""
# float() also takes "nan", "1_0" and other scripts' digits.
NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a UTF-8 file, whole: none of them is blank."""
    return list(each_line(path))


def each_line(path: str | os.PathLike[str]) -> Iterator[str]:
    """`lines`, one by one."""
    for number, line in enumerate(each_physical_line(path), 1):
        if not line or line.isspace():
            raise blank_line(f"{path}:{number}")
        yield line


def blank_line(where: str) -> DataError:
    """The error of a blank line at `where`.

    >>> str(blank_line("text:3"))
    'text:3: a blank line; blank lines may only end a file; remove it.'
    """
    return DataError(f"{where}: a blank line; blank lines may only end a file; remove it.")


def physical_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a UTF-8 file, unpacked where it ends in .gz, without BOM, carriage returns and a blank end.

    A line of white space is an empty one.
    """
    return list(each_physical_line(path))


def each_physical_line(path: str | os.PathLike[str]) -> Iterator[str]:
    """`physical_lines`, one by one: a file of any length in little memory.

    Raises:
      DataError: a line is not UTF-8, has a NUL character, or is blank before the end; or there is none.
    """
    blank, empty = 0, True
    # Not text mode nor splitlines(): U+2028 and form feeds may stand in a transcript.
    for number, raw in enumerate(_raw_lines(path), 1):
        try:
            line = raw.decode().removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{path}:{number}: byte 0x{raw[error.start]:02x} is not UTF-8; UTF-8 was expected; "
                "convert the file with iconv."
            ) from error
        if "\0" in line:
            raise DataError(f"{path}:{number}: a NUL character; text was expected; remove it.")
        if not line or line.isspace():
            blank += 1
            continue
        yield from itertools.repeat("", blank)
        blank, empty = 0, False
        yield line
    if empty:
        raise DataError(f"{path}: no lines; at least one was expected; check what wrote the file.")


def _raw_lines(path: str | os.PathLike[str]) -> Iterator[bytes]:
    """The lines of a text file as they are, unpacked where it ends in .gz, without BOM."""
    with _readable(path) as file:
        yield _text(path, file.readline())
        yield from file


def unpacked(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a text file, unpacked where it ends in .gz, without BOM."""
    with _readable(path) as file:
        return _text(path, file.read())


def _text(path: str | os.PathLike[str], raw: bytes) -> bytes:
    """What a file begins with, without BOM."""
    raw = raw.removeprefix(codecs.BOM_UTF8)
    if raw.startswith(b"\x1f\x8b"):
        raise DataError(f"{path}: packed by gzip; a name that ends in .gz, or text, was expected; rename or unpack it.")
    return raw


@contextlib.contextmanager
def _readable(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    try:
        with open(path, "rb") as file:
            yield _unpacking(path, file) if os.fspath(path).endswith(".gz") else file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be unpacked ({error}); a whole gzip file was expected; write it again, or take .gz from "
            "its name if it is not packed."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; a file that can be read was expected; check the path and its permissions."
        ) from error


def _unpacking(path: str | os.PathLike[str], file: IO[bytes]) -> IO[bytes]:
    most = 2**24 + MOST_UNPACKED * os.fstat(file.fileno()).st_size
    return io.BufferedReader(_Unpacked(path, gzip.GzipFile(fileobj=file), most), 2**16)


class _Unpacked(io.RawIOBase):
    """What a packed file holds, up to so many bytes."""

    def __init__(self, path: str | os.PathLike[str], file: gzip.GzipFile, most: int):
        self.path, self.file, self.most, self.count = path, file, most, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        block = self.file.read1(len(buffer))
        self.count += len(block)
        if self.count > self.most:
            raise DataError(
                f"{self.path}: unpacks to more than {self.most} bytes; at most {MOST_UNPACKED} times its size was "
                "expected of text; unpack it yourself if you trust where it comes from."
            )
        buffer[: len(block)] = block
        return len(block)


def json_object(where: str, line: str) -> dict[str, Any]:
    """The JSON object that is a line.

    Raises:
      DataError: it is none.

    >>> json_object("train.jsonl:1", '{"text": "good morning"}')
    {'text': 'good morning'}
    """
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        # ValueError is also what a number of thousands of digits raises.
        raise DataError(
            f"{where}: not JSON ({error}); one JSON object a line was expected; write each utterance on its own line."
        ) from error
    if not isinstance(value, dict):
        raise DataError(
            f"{where}: a JSON {json_type(value)}; one JSON object a line was expected; write each utterance on its "
            "own line."
        )
    return value


def claim(seen: dict[str, str], name: str, where: str) -> None:
    """Notes in `seen` where an id stands; a second place is a DataError."""
    if name in seen:
        raise twice(where, name, seen[name])
    seen[name] = where


def twice(where: str, name: str, first: str) -> DataError:
    """The error of an id at `where` that stands at `first` already.

    >>> str(twice("text:7", "theo-1", "text:2"))
    "text:7: id 'theo-1' is already at text:2; ids are used once; rename or remove one."
    """
    return DataError(f"{where}: id {show(name)} is already at {first}; ids are used once; rename or remove one.")


def few(names: Iterable[str]) -> str:
    """The first three of some names, quoted.

    >>> few(["a", "b", "c", "d", "e", "f"])
    "'a', 'b', 'c', ..."
    """
    first = list(itertools.islice(names, 4))
    return ", ".join(show(name) for name in first[:3]) + (", ..." if len(first) > 3 else "")


def json_type(value: object) -> str:
    """What JSON calls the type of a value that was read from it.

    >>> json_type([1])
    'list'
    """
    kinds = {type(None): "null", bool: "boolean", str: "string", list: "list", dict: "object"}
    return kinds.get(type(value), "number")
