"""Text files by line: reading them, and the faults that all of them share."""

import codecs
import itertools
import json
import os
from collections.abc import Iterable
from typing import Any

from jaxasr.errors import DataError


def lines(path: str | os.PathLike[str]) -> list[str]:
    """The lines of a UTF-8 file without BOM, carriage returns and blank lines at its end."""
    try:
        with open(path, "rb") as file:
            raw = file.read().removeprefix(codecs.BOM_UTF8)
    except OSError as error:
        raise DataError(
            f"{path}: {error.strerror}; a file that can be read was expected; check the path and its permissions."
        ) from error
    try:
        content = raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: byte 0x{raw[error.start]:02x} is not UTF-8; UTF-8 was expected; "
            "convert the file with iconv."
        ) from error
    # Not splitlines(): U+2028 and form feeds may stand in a transcript.
    found = [line.removesuffix("\r") for line in content.rstrip().split("\n")]
    if found == [""]:
        raise DataError(f"{path}: no lines; at least one was expected; check what wrote the file.")
    for number, line in enumerate(found, 1):
        if not line.strip():
            raise DataError(f"{path}:{number}: a blank line; blank lines may only end a file; remove it.")
        if "\0" in line:
            raise DataError(f"{path}:{number}: a NUL character; text was expected; remove it.")
    return found


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
            f"{where}: a JSON {kind(value)}; one JSON object a line was expected; write each utterance on its own line."
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


def kind(value: object) -> str:
    kinds = {type(None): "null", bool: "boolean", str: "string", list: "list", dict: "object"}
    return kinds.get(type(value), "number")
