"""Manifests of named fields: JSON lines, and tables with a header."""

import csv
import difflib
import functools
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jaxasr.data.textfile import NUMBER, blank_line, each_line, each_physical_line, few, json_object, json_type, show
from jaxasr.data.utterance import Kind, Utterance, audio_path, folder_of
from jaxasr.errors import NO_TEXT, DataError
from jaxasr.registry import did_you_mean

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv")

# NeMo, FunASR, Common Voice and Hugging Face name these fields so; of several in one row the first counts.
AUDIO = ("audio_filepath", "source", "path", "audio", "file_name")
TEXT = ("text", "target", "sentence", "transcription")
ID = ("id", "utt_id", "key")
SPEAKER = ("speaker", "client_id")
START, SECONDS = "offset", "duration"


class _Fields(NamedTuple):
    """Under which name a row has what."""

    audio: str | None
    text: str | None
    id: str | None
    speaker: str | None


def is_table(path: str) -> bool:
    """Whether a file's name is that of JSON lines or of a table.

    >>> is_table("train.jsonl.gz")
    True
    """
    return path.removesuffix(".gz").endswith(SUFFIXES)


def read(path: str, need_text: bool, kind: Kind | None) -> Iterator[tuple[str, Utterance]]:
    """Each utterance of a file with the `file:line` it begins at; its id is empty where the row has none."""
    base = folder_of(os.path.dirname(path))
    clips = os.path.join(base, "clips") if os.path.isdir(os.path.join(base, "clips")) else base
    for where, row, fields in _rows(path, functools.partial(_fields_of_manifest, need_text=need_text)):
        # Common Voice's tables name the files of a folder beside them
        folder = clips if fields.audio == "path" and os.sep not in str(row["path"]) else base
        yield where, _utterance(where, folder, row, fields, kind)


def read_texts(path: str) -> Iterator[tuple[str, Utterance]]:
    """As `read`, of a manifest or of results: ids and transcripts; a path is looked at only where there is no id."""
    for where, row, fields in _rows(path, _fields_of_results):
        text = (_string(where, row, fields.text) or "").strip()
        if name := _id(where, row, fields):
            yield where, Utterance(name, "", text)
        else:
            start = _seconds(where, row, START) or 0.0
            yield where, Utterance("", _string(where, row, fields.audio) or "", text, start=start)


def read_lines(path: str) -> Iterator[tuple[str, Utterance]]:
    """As `read`, transcripts alone, of rows that need nothing else."""
    for where, row, fields in _rows(path, _fields_of_lines):
        text, speaker = (_string(where, row, name) or "" for name in (fields.text, fields.speaker))
        yield where, Utterance(_id(where, row, fields), path, text.strip(), speaker)


# Rows --------------------------------------------------------------------------------------------------------

_Rows = Iterator[tuple[str, Mapping[str, Any], _Fields]]
_Choose = Callable[[str, Mapping[str, Any]], _Fields]
"""From a place and a row, or a header, to the names that count there."""


def _rows(path: str, choose: _Choose) -> _Rows:
    return (_table_rows if path.removesuffix(".gz").endswith((".csv", ".tsv")) else _json_rows)(path, choose)


def _json_rows(path: str, choose: _Choose) -> _Rows:
    for number, line in enumerate(each_line(path), 1):
        where = f"{path}:{number}"
        row = json_object(where, line)
        yield where, row, choose(where, row)


def _table_rows(path: str, choose: _Choose) -> _Rows:
    """CSV with quotes; TSV without, as Common Voice writes it."""
    rows = _cells(path)
    where, header = next(rows)
    if twice := doubled(header):
        raise DataError(f"{where}: column {show(twice)} stands twice; names are used once; rename or remove one.")
    fields = choose(where, dict.fromkeys(header))
    where = None
    for where, row in rows:
        if len(row) != len(header):
            raise DataError(
                f"{where}: {len(row)} columns; {len(header)}, as in the header, were expected; add or remove some, "
                f"or {'quote what holds a comma' if _is_csv(path) else 'take tabs out of the text'}."
            )
        named: dict[str, Any] = dict(zip(header, row, strict=True))
        for name in (START, SECONDS):
            if name in named:
                named[name] = _number(where, name, named[name])
        yield where, named, fields
    if where is None:
        raise DataError(f"{path}: a header and no rows; one row an utterance was expected; check what wrote the file.")


def doubled(header: Sequence[str]) -> str:
    """The first name that stands there for the second time; empty where none does.

    >>> doubled(["id", "text", "id"])
    'id'
    """
    seen: set[str] = set()
    return next((name for name in header if name and (name in seen or seen.add(name))), "")


def _is_csv(path: str) -> bool:
    return path.removesuffix(".gz").endswith(".csv")


def _cells(path: str) -> Iterator[tuple[str, list[str]]]:
    """The cells of each row with the `file:line` it begins at; quoted cells may go over several lines."""
    text = (line + "\n" for line in each_physical_line(path))
    if _is_csv(path):
        reader = csv.reader(text, strict=True)
    else:
        reader = csv.reader(text, strict=True, delimiter="\t", quoting=csv.QUOTE_NONE)
    while True:
        where = f"{path}:{reader.line_num + 1}"
        try:
            row = next(reader, None)
        except csv.Error as error:
            raise DataError(
                f"{where}: not a row of a table ({error}); cells without line breaks, in CSV quoted where they hold a "
                "comma or a quote, were expected; correct it."
            ) from error
        if row is None:
            return
        if not row:
            raise blank_line(where)
        yield where, row


def _number(where: str, name: str, cell: str) -> float | None:
    word = cell.strip()  # float() would leave some white space, such as U+001C
    if word and not NUMBER.fullmatch(word):
        raise DataError(
            f"{where}: field {name!r} is {show(cell)}; a number of seconds, or nothing, was expected; correct it."
        )
    return float(word) if word else None


# Fields ------------------------------------------------------------------------------------------------------


def _fields(row: Mapping[str, Any]) -> _Fields:
    """Which of the known names a row has."""
    return fields_among(tuple(row))


@functools.lru_cache  # rows of one file have the same names, or few kinds of them
def fields_among(row: tuple[str, ...]) -> _Fields:
    """Which of a row's fields have the sound, the text, the id and the speaker.

    >>> fields_among(("audio_filepath", "text", "duration"))
    _Fields(audio='audio_filepath', text='text', id=None, speaker=None)
    """
    return _Fields(*(next((name for name in names if name in row), None) for names in (AUDIO, TEXT, ID, SPEAKER)))


def _fields_of_manifest(where: str, row: Mapping[str, Any], need_text: bool) -> _Fields:
    fields = _fields(row)
    if fields.audio is None:
        raise _missing(where, row, AUDIO, "the path of a sound file")
    if fields.text is None and need_text:
        raise _missing(where, row, TEXT, "a transcript")
    if misspelt := misspelling(tuple(row)):
        raise DataError(
            f"{where}: field {show(misspelt[0])}, which is not known, and none {misspelt[1]!r}; a known name, or one "
            f"less like it, was expected; rename or remove it.{did_you_mean(misspelt[0], misspelt[1:])}"
        )
    return fields


@functools.lru_cache
def misspelling(names: tuple[str, ...]) -> tuple[str, str] | None:
    """A name that is unknown and nearly that of a field which may be absent and is, and this; they are few at once.

    >>> misspelling(("audio", "text", "durations"))
    ('durations', 'duration')
    """
    unknown = [name for name in names if name not in {*AUDIO, *TEXT, *ID, *SPEAKER, START, SECONDS}]
    for wanted in (SPEAKER, (START,), (SECONDS,)):
        if not any(name in names for name in wanted):
            for name in wanted:
                if near := difflib.get_close_matches(name, unknown, n=1, cutoff=0.85):
                    return near[0], name
    return None


def _fields_of_results(where: str, row: Mapping[str, Any]) -> _Fields:
    fields = _fields(row)
    if fields.id is None and fields.audio is None:
        raise _missing(where, row, ID, "an id")
    if fields.text is None:
        raise _missing(where, row, TEXT, "a transcript")
    return fields


def _fields_of_lines(where: str, row: Mapping[str, Any]) -> _Fields:
    fields = _fields(row)
    if fields.text is None:
        raise _missing(where, row, TEXT, "a transcript")
    return fields


def _missing(where: str, row: Mapping[str, Any], names: tuple[str, ...], what: str) -> DataError:
    near = next((found for found in (did_you_mean(name, row) for name in names) if found), "")
    if len(row) == 1 and ";" in next(iter(row)):  # as spreadsheets write it where the comma is a decimal point
        near = " A .csv has commas between its fields, and no semicolons."
    first = ", ".join(map(repr, names[:-1]))
    return DataError(
        f"{where}: no field {first} or {names[-1]!r}, but {few(row) or 'none'}; {what} was expected in one of them; "
        f"add it, or rename the one that has it.{near}"
    )


def _utterance(where: str, folder: str, row: Mapping[str, Any], fields: _Fields, kind: Kind | None) -> Utterance:
    """The utterance of a row; its id is empty where the row has none."""
    audio, text = _string(where, row, fields.audio), _string(where, row, fields.text)
    if not audio:
        raise DataError(f"{where}: field {fields.audio!r} is empty; the path of a sound file was expected; add it.")
    start, seconds = _seconds(where, row, START), _seconds(where, row, SECONDS)
    if seconds == 0:
        raise DataError(f"{where}: {SECONDS!r} is 0; more than 0 seconds was expected; correct or remove the line.")
    speaker = sys.intern(_string(where, row, fields.speaker) or "")
    path = audio_path(where, folder, audio, kind)
    return Utterance(_id(where, row, fields), path, (text or "").strip(), speaker, start or 0.0, seconds)


def _id(where: str, row: Mapping[str, Any], fields: _Fields) -> str:
    """The row's id; empty where it has none."""
    name = _string(where, row, fields.id)
    if name is not None and name.split() != [name]:
        raise DataError(f"{where}: id {show(name)}; a word without white space was expected; rename it.")
    return name or ""


def _string(where: str, row: Mapping[str, Any], name: str | None) -> str | None:
    if name is None:
        return None
    value = row[name]
    if not isinstance(value, str):
        raise DataError(f"{where}: field {name!r} is a {json_type(value)}; a string was expected; quote or correct it.")
    if NO_TEXT.search(value):
        raise DataError(
            f"{where}: field {name!r} holds a NUL character or half a surrogate pair; text was expected; remove it."
        )
    return value


def _seconds(where: str, row: Mapping[str, Any], name: str) -> float | None:
    """The field's number, or None where it is absent or null."""
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(
            f"{where}: field {name!r} is a {json_type(value)}; a number of seconds was expected; correct it."
        )
    # An int beyond the floats cannot even be asked whether it is finite.
    if not 0 <= value <= 1e300:
        raise DataError(
            f"{where}: field {name!r} is {show(value)}; a finite number of seconds, 0 or more, was expected; "
            "correct it."
        )
    return float(value)
