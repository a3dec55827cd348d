"""Manifests as they are: every line that can be read becomes a row, and what is wrong with the others is noted."""

import csv
import functools
import gzip
import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaxasr.data import packs
from jaxasr.data.checks.hearing import Ears
from jaxasr.data.checks.part import Finding, Part, Row, Settings, Table, TextFile
from jaxasr.data.source import status
from jaxasr.data.tables import SECONDS, START, doubled, fields_among, is_table, misspelling
from jaxasr.data.textfile import NUMBER, json_type, show, unpacked
from jaxasr.data.utterance import URL, folder_of
from jaxasr.errors import NO_TEXT, DataError

HUGE = 1_000_000
"""Characters of a line that is no transcript."""
KALDI = ("wav.scp", "feats.scp", "segments", "text", "utt2spk", "spk2utt", "utt2dur")


def read(path: str, settings: Settings, ears: Ears) -> Part:
    """A manifest of any form; of a path that is none, a part without rows."""
    part = Part(path, "none", settings, ears)
    if packs.is_pack(path):
        return _none(part, "a pack, whose sound was read when it was made; check what it was made from")
    if os.path.isdir(path):
        return _kaldi(part)
    if not os.path.exists(path):
        return _none(part, "no such file or folder")
    return _table(part) if is_table(path) else _none(part, "the name is that of no manifest")


def _none(part: Part, came: str) -> Part:
    return replace(part, met={"not-a-manifest": [Finding(part.path, 0, "", came)]})


# Text files --------------------------------------------------------------------------------------------------


def read_file(path: str) -> tuple[TextFile, list[str]]:
    """What a text file is like, and all its lines without their ends.

    >>> from jaxasr.corpora import digits
    >>> file, lines = read_file(str(digits() / "test" / "text"))
    >>> file.lines == len(lines), lines[0]
    (True, 'george-0-00 ZERO')
    """
    try:
        status(path, path)
        data = unpacked(path)
        with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
            bom = file.read(3) == b"\xef\xbb\xbf"
    except DataError as error:
        return TextFile(path, fault=str(error).removeprefix(f"{path}: ")), []
    bad: dict[int, str] = {}
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode(errors="replace")
        bad = dict(_not_utf8(data))
    lines = text.split("\n")
    ended = not lines[-1]
    lines = lines[:-1] if ended else lines
    crlf = [n for n, line in enumerate(lines, 1) if line.endswith("\r")] if "\r" in text else []
    for n in crlf:
        lines[n - 1] = lines[n - 1][:-1]
    nul = [n for n, line in enumerate(lines, 1) if "\0" in line] if "\0" in text else []
    blank = [n for n, line in enumerate(lines, 1) if not line or line.isspace()]
    while blank and blank[-1] == len(lines):  # blank lines may end a file
        lines.pop()
        blank.pop()
    huge = [n for n, line in enumerate(lines, 1) if len(line) > HUGE]
    return TextFile(path, len(lines), "", bom, crlf, bad, nul, blank, huge, ended or not lines), lines


def _not_utf8(data: bytes) -> Iterator[tuple[int, str]]:
    for number, raw in enumerate(data.split(b"\n"), 1):
        try:
            raw.decode()
        except UnicodeDecodeError as error:
            yield number, f"0x{raw[error.start]:02x}"


def usable(file: TextFile, lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    """The lines that are text, with their numbers."""
    unusable = {*file.not_utf8, *file.nul, *file.blank, *file.huge}
    if not unusable:
        return enumerate(lines, 1)
    return ((number, line) for number, line in enumerate(lines, 1) if number not in unusable)


class _Met(dict[str, list[Finding]]):
    """What is met in reading, by the name of its check."""

    def note(self, name: str, file: str, line: int, id_: str, came: str) -> None:
        self.setdefault(name, []).append(Finding(file, line, _text(id_), _text(came)))


def _text(text: str) -> str:
    """With question marks in place of halves of surrogate pairs, which JSON may hold and no file."""
    return text.encode(errors="replace").decode()


def _path(folder: str, value: str) -> str:
    """As `utterance.audio_path` gives it, at once where there is nothing to take away."""
    path = os.path.join(folder, value)
    return os.path.normpath(path) if "/." in path or "//" in path else path


def _refused(value: str) -> str:
    """The check that a path fails which is none."""
    if value.endswith("|"):
        return "pipe"
    return "url" if "://" in value and URL.match(value) else ""


# Kaldi folders -----------------------------------------------------------------------------------------------


def _kaldi(part: Part) -> Part:
    names = [name for name in KALDI if os.path.lexists(os.path.join(part.path, name))]
    files, tables, met = [], {}, _Met()
    for name in names:
        path = os.path.join(part.path, name)
        file, lines = read_file(path)
        files.append(file)
        tables[name] = _table_of(path, usable(file, lines))
    listed = "wav.scp" if "wav.scp" in names or "feats.scp" not in names else "feats.scp"
    for name in (listed, "text"):
        if name not in names:
            met.note("missing-file", os.path.join(part.path, name), 0, "", f"no {name}")
    return assembled(replace(part, form="kaldi", files=files, met=met), tables)


def _table_of(path: str, lines: Iterator[tuple[int, str]]) -> Table:
    keys, values, numbers = [], [], []
    for number, line in lines:
        key, *rest = line.split(maxsplit=1)
        keys.append(key)
        values.append(rest[0].rstrip() if rest else "")
        numbers.append(number)
    return Table(path, keys, values, numbers)


def assembled(part: Part, tables: Mapping[str, Table]) -> Part:
    """The part of a Kaldi folder with these tables."""
    met = _Met({name: list(findings) for name, findings in part.met.items()})
    listed = tables.get("wav.scp") or tables.get("feats.scp") or _empty(part.path, "wav.scp")
    recordings = _recordings(folder_of(part.path), listed, met)
    segments = tables.get("segments") if "wav.scp" in tables else None
    if segments is None:
        owner, spans = listed, [(i, (path, 0.0, None)) for i, path in recordings.values()]
    else:
        owner, spans = segments, list(_spans(segments, recordings, met))
    texts = tables.get("text") or _empty(part.path, "text")
    speakers = _values(tables.get("utt2spk"), met)
    durations = {} if segments is not None else _durations(tables.get("utt2dur"), met)
    place = texts.first()
    rows, seen = [], set()
    for i, (audio, start, seconds) in spans:
        key = owner.keys[i]
        if key in place and key not in seen:
            at, seconds = place[key], durations.get(key, seconds)
            text, line, speaker = texts.values[at], texts.lines[at], speakers.get(key, "")
            rows.append(Row(owner.lines[i], key, audio, text, line, speaker, start, seconds))
        seen.add(key)
    return replace(part, owner=owner.path, text_file=texts.path, rows=rows, tables=tables, met=met)


def _empty(folder: str, name: str) -> Table:
    return Table(os.path.join(folder, name), [], [], [])


def _recordings(base: str, table: Table, met: _Met) -> dict[str, tuple[int, str]]:
    """By id, the line's index and the path."""
    found: dict[str, tuple[int, str]] = {}
    for i, (key, value) in enumerate(zip(table.keys, table.values, strict=True)):
        if name := "no-path" if not value else _refused(value):
            met.note(name, table.path, table.lines[i], key, show(value))
        else:
            found.setdefault(key, (i, _path(base, value)))
    return found


def _spans(
    table: Table, recordings: Mapping[str, tuple[int, str]], met: _Met
) -> Iterator[tuple[int, tuple[str, float, float | None]]]:
    """The index of a line of `segments`, and the stretch of sound that it names."""
    for i, (key, value) in enumerate(zip(table.keys, table.values, strict=True)):
        fields, line = value.split(), table.lines[i]
        if len(fields) != 3:
            met.note("segment-fields", table.path, line, key, f"{len(fields) + 1} fields")
            continue
        start, end = _time(fields[1]), _time(fields[2])
        if start is None or start < 0 or end is None or (end < 0 and end != -1):
            met.note("bad-time", table.path, line, key, f"{fields[1]} {fields[2]}")
        elif start >= end != -1:
            met.note("segment-order", table.path, line, key, f"from {fields[1]} to {fields[2]}")
        elif fields[0] not in recordings:
            met.note("unknown-recording", table.path, line, key, show(fields[0]))
        else:
            yield i, (recordings[fields[0]][1], start, None if end == -1 else end - start)


def _time(word: str) -> float | None:
    value = float(word) if NUMBER.fullmatch(word) else math.nan
    return value if math.isfinite(value) else None


def _durations(table: Table | None, met: _Met) -> dict[str, float]:
    found = {}
    for i, (key, value) in enumerate(zip(table.keys, table.values, strict=True) if table else ()):
        seconds = _time(value)
        if table and (seconds is None or seconds <= 0):
            met.note("bad-time", table.path, table.lines[i], key, show(value))
        elif seconds is not None:
            found.setdefault(key, seconds)
    return found


def _values(table: Table | None, met: _Met) -> dict[str, str]:
    """The speakers."""
    found: dict[str, str] = {}
    for key, value, line in zip(table.keys, table.values, table.lines, strict=True) if table else ():
        if table and len(value.split()) != 1:
            met.note("speaker-fields", table.path, line, key, show(value))
        found.setdefault(key, value)
    return found


# JSON lines, CSV, TSV ----------------------------------------------------------------------------------------


def _table(part: Part) -> Part:
    file, lines = read_file(part.path)
    base = folder_of(os.path.dirname(part.path))
    clips = os.path.join(base, "clips") if os.path.isdir(os.path.join(base, "clips")) else base
    met = _Met()
    form = table_form(part.path)
    if file.blank and form != "json":  # in a quoted cell a blank line is a part of it
        file = replace(file, blank=[n for n, cells in csv_records(form, file, lines) if cells == []])
    objects = _json_objects(part.path, file, lines, met) if form == "json" else _cells(part.path, file, lines, met)
    rows = []
    for line, values in objects:
        if row := _row(part.path, line, values, (base, clips), met):
            rows.append(row)
    read = {"form": form, "owner": part.path, "text_file": part.path, "rows": rows}
    return replace(part, **read, files=[file], sources=lines, met=met)


def table_form(path: str) -> str:
    """json, csv or tsv, by a file's name.

    >>> table_form("corpus/train.tsv.gz")
    'tsv'
    """
    return {"csv": "csv", "tsv": "tsv"}.get(path.removesuffix(".gz").rsplit(".")[-1], "json")


def _json_objects(
    path: str, file: TextFile, lines: Sequence[str], met: _Met
) -> Iterator[tuple[int, Mapping[str, Any]]]:
    twice: list[str] = []

    def paired(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            twice.append(doubled([name for name, _ in pairs]))
        return found

    loads = json.JSONDecoder(object_pairs_hook=paired).decode
    for number, line in usable(file, lines):
        twice.clear()
        try:
            value = loads(line)
        except (ValueError, RecursionError) as error:
            met.note("not-json", path, number, "", str(error))
            continue
        if twice:
            met.note("field-twice", path, number, "", show(twice[-1]))
        if isinstance(value, dict):
            yield number, value
        else:
            met.note("not-an-object", path, number, "", f"a JSON {json_type(value)}")


def _cells(path: str, file: TextFile, lines: Sequence[str], met: _Met) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows of a table with a header, and the line that each begins at."""
    records = csv_records(table_form(path), file, lines)
    header: list[str] = []
    number = 0
    for number, cells in records:
        if isinstance(cells, str):
            met.note("not-csv", path, number, "", cells)
        elif not cells:
            continue
        elif not header:
            header = cells
            if twice := doubled(header):
                met.note("column-twice", path, number, "", show(twice))
                return
        elif len(cells) != len(header):
            met.note("columns", path, number, "", f"{len(cells)} of {len(header)} columns")
        else:
            yield number, _numbers(dict(zip(header, cells, strict=True)))
    if header and number == 1:
        met.note("header-alone", path, 1, "", "no rows")


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    """With numbers in place of the cells that are; an empty one is none."""
    for name in (START, SECONDS):
        if name in row:
            cell = row[name].strip()
            row[name] = float(cell) if NUMBER.fullmatch(cell) else cell or None
    return row


def csv_records(form: str, file: TextFile, lines: Sequence[str]) -> Iterator[tuple[int, list[str] | str]]:
    """The cells of each row of a table, or what is wrong with it, and the number of the line that it begins at.

    A blank line that is no part of a cell is a row without cells.
    """
    numbers: list[int] = []

    def fed() -> Iterator[str]:
        for number, line in usable(replace(file, blank=()), lines):
            numbers.append(number)
            yield ("" if line.isspace() else line) + "\n"

    quotes: Any = {} if form == "csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE}
    reader = csv.reader(fed(), strict=True, **quotes)
    while True:
        before = len(numbers)
        try:
            cells = next(reader, None)
        except csv.Error as error:
            yield numbers[before], str(error)
            continue
        if cells is None:
            return
        yield numbers[before], cells


_TEXTS = ("audio", "text", "id", "speaker")


def _row(path: str, line: int, values: Mapping[str, Any], folders: tuple[str, str], met: _Met) -> Row | None:
    """The utterance of an object or a row of a table; None where something in it cannot be used."""
    fields = fields_among(tuple(values))
    audio, text, name, speaker = (None if field is None else values[field] for field in fields)
    note = functools.partial(met.note, file=path, line=line, id_=str(name or audio or ""))
    if fields.audio is None or fields.text is None:
        note("no-audio-field" if fields.audio is None else "no-text-field", came=", ".join(values) or "nothing")
    elif slip := misspelling(tuple(values)):
        note("misspelt-field", came=f"{slip[0]}, and no {slip[1]}")
    elif wrong := [f for f, v in zip(fields, (audio, text, name, speaker), strict=True) if f and not _is_text(v)]:
        note("field-type", id_="", came=f"{wrong[0]} is {show(values[wrong[0]])}")
    elif not audio:
        note("no-path", came=f"{fields.audio} is empty")
    elif name is not None and name.split() != [name]:
        note("id-of-words", came=show(name))
    elif refused := _refused(audio):
        note(refused, came=show(audio))
    elif not all(_is_time(values.get(field)) for field in (START, SECONDS)) or values.get(SECONDS) == 0:
        note("bad-time", came=f"{START} {show(values.get(START))}, {SECONDS} {show(values.get(SECONDS))}")
    else:
        folder = folders[1] if fields.audio == "path" and os.sep not in audio else folders[0]
        start, seconds = values.get(START) or 0.0, values.get(SECONDS)
        return Row(line, name or "", _path(folder, audio), (text or "").strip(), line, speaker or "", start, seconds)
    return None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not NO_TEXT.search(value)


def _is_time(value: Any) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1e300)
