"""Text files by line: reading them, and the faults that all of them share."""

import codecs
import gzip
import itertools
import json
import os
import re
import zlib
from collections.abc import Iterable
from typing import Any

from jaxasr.errors import DataError

# float() also takes "nan", "1_0" and other scripts' digits.
NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a UTF-8 file, whole: none of them is blank."""
    found = physical_lines(path)
    for number, line in enumerate(found, 1):
        if not line.strip():
            raise blank_line(f"{path}:{number}")
    return found


def blank_line(where: str) -> DataError:
    return DataError(f"{where}: a blank line; blank lines may only end a file; remove it.")


def physical_lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a UTF-8 file, unpacked where it ends in .gz, without BOM, carriage returns and a blank end."""
    raw = unpacked(path)
    try:
        content = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8; UTF-8 was expected; "
            "convert the file with iconv."
        ) from error
    # Not splitlines(): U+2028 and form feeds may stand in a transcript.
    found = [line.removesuffix("\r") for line in content.split("\n")]
    while found and not found[-1].strip():
        found.pop()
    if not found:
        raise DataError(f"{path}: no lines; at least one was expected; check what wrote the file.")
    for number, line in enumerate(found, 1):
        if "\0" in line:
            raise DataError(f"{path}:{number}: a NUL character; text was expected; remove it.")
    return found


def unpacked(path: str | os.PathLike[str]) -> bytes:
    """The bytes of a text file, unpacked where it ends in .gz, without BOM."""
    raw = _content(path).removeprefix(codecs.BOM_UTF8)
    if raw.startswith(b"\x1f\x8b"):
        raise DataError(f"{path}: packed by gzip; a name that ends in .gz, or text, was expected; rename or unpack it.")
    return raw


def _content(path: str | os.PathLike[str]) -> bytes:
    opened = gzip.open if os.fspath(path).endswith(".gz") else open
    try:
        with opened(path, "rb") as file:
            return file.read()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(
            f"{path}: cannot be unpacked ({error}); a whole gzip file was expected; write it again, or take .gz from "
            "its name if it is not packed."
        ) from error
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; a file that can be read was expected; check the path and its permissions."
        ) from error


def json_object(where: str, line: str) -> dict[str, Any]:
    """The JSON object that is a line."""
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
        raise DataError(
            f"{where}: id {show(name)} is already at {seen[name]}; ids are used once; rename or remove one."
        )
    seen[name] = where


def show(value: object) -> str:
    """A value as an error message quotes it."""
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def few(names: Iterable[str]) -> str:
    """The first three of some names, quoted."""
    first = list(itertools.islice(names, 4))
    return ", ".join(show(name) for name in first[:3]) + (", ..." if len(first) > 3 else "")


def json_type(value: object) -> str:
    kinds = {type(None): "null", bool: "boolean", str: "string", list: "list", dict: "object"}
    return kinds.get(type(value), "number")
