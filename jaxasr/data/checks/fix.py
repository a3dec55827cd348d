"""Clean copies of manifests: mended where that takes no judgement, without the lines of which something is wrong."""

import csv
import dataclasses
import io
import json
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jaxasr.data.checks.part import Finding, Part, Row
from jaxasr.data.checks.reading import KALDI, assembled, csv_records, read_file
from jaxasr.data.checks.table import Check, chosen, run
from jaxasr.data.checks.texts import mended
from jaxasr.data.packs import write_atomically
from jaxasr.data.tables import fields_among
from jaxasr.data.utterance import folder_of
from jaxasr.errors import ConfigError, DataError

LEFT_OUT, CHANGED = "left_out.jsonl", "changed.jsonl"

Place = tuple[str, int]
Reasons = dict[Place, tuple[Check, Finding]]
"""Why lines are left out."""


class Copy(NamedTuple):
    """What became of a manifest."""

    part: Part
    """The utterances that are left, with the lines that they came from."""
    path: str
    lines: int
    """Of the original."""
    left_out: Sequence[Mapping[str, Any]]
    """For each line that is not in the copy, its place, its id, the check and what came."""
    changed: Sequence[Mapping[str, Any]]
    """For each text that was mended, its place, its id, what it was and what it is."""
    not_copied: Sequence[str]
    """Files of a Kaldi folder that jaxasr does not read."""


def check_free(folder: str) -> None:
    """Raises ConfigError where there is something that a copy could write over."""
    if os.path.lexists(folder) and not (os.path.isdir(folder) and not os.listdir(folder)):
        raise ConfigError(
            f"--fix={folder}: not an empty folder; one to make was expected, so that nothing is lost; give another."
        )


def fix(parts: Sequence[Part], folder: str, ignored: Collection[str] = ()) -> list[Copy]:
    """Writes clean copies of the parts into a new folder, and in it what was left out and what was changed.

    Leaving out goes on until the checks find nothing more in what is left.

    Raises:
      ConfigError: the folder cannot be written.
      DataError: nothing is left of a part.
    """
    checks = [check for check in chosen(parts, ignored)[0] if check.cure == "left out"]
    views, reasons = [_mended(part) for part in parts], {}
    while fresh := {place: why for place, why in _reasons(views, checks).items() if place not in reasons}:
        reasons |= fresh
        views = [_without(view, reasons) for view in views]
    views = [_without(view, reasons) for view in views]  # what no check names may still have lost its utterance
    for part, view in zip(parts, views, strict=True):
        if not view.rows:
            first = next((f"{f.where}: {c.what} ({f.came})." for c, f in reasons.values() if _of(part, f.file)), "")
            raise DataError(
                f"{part.path}: no utterance is left for a clean copy; at least one was expected; correct the data, "
                f"or --ignore a check. {first}"
            )
    try:
        return _write(parts, views, folder, reasons)
    except OSError as error:
        raise ConfigError(
            f"--fix={folder}: {error.strerror}; a folder to write in was expected; give another."
        ) from error


def _of(part: Part, file: str) -> bool:
    return file == part.path or os.path.dirname(file) == part.path.rstrip(os.sep)


def _reasons(views: Sequence[Part], checks: Sequence[Check]) -> Reasons:
    """By line, the first check that it fails."""
    found: Reasons = {}

    def note(check: Check, finding: Finding) -> None:
        found.setdefault((finding.file, finding.line), (check, finding))

    run(views, checks, note)
    return found


# What is left ------------------------------------------------------------------------------------------------


def _mended(part: Part) -> Part:
    if "text" in part.tables:
        text = part.tables["text"]
        tables = {**part.tables, "text": text._replace(values=[mended(value) for value in text.values])}
        tables = {name: table for name, table in tables.items() if name != "spk2utt"}  # it is made of utt2spk
        return assembled(part, tables)
    return dataclasses.replace(part, rows=[row._replace(text=mended(row.text)) for row in part.rows])


def _without(part: Part, reasons: Reasons) -> Part:
    """The part without these lines, and what belongs to them."""
    plain = dataclasses.replace(part, files=(), met={})
    if part.form != "kaldi":
        return dataclasses.replace(plain, rows=[r for r in part.rows if (part.owner, r.line) not in reasons])
    tables = {
        name: table.kept(lambda _, line, path=table.path: (path, line) not in reasons)
        for name, table in part.tables.items()
    }
    rows = assembled(plain, tables).rows
    listed = os.path.basename(part.owner)
    owner = {row.id for row in rows}
    for name in ("utt2spk", "utt2dur"):
        if name in tables and not (name == "utt2dur" and listed == "segments"):
            owner &= set(tables[name].keys)
    for name, table in tables.items():
        if name in ("text", "utt2spk", "utt2dur", "feats.scp", listed):
            tables[name] = table.kept(lambda key, _: key in owner)
    if listed == "segments":
        used = {value.split()[0] for value in tables["segments"].values}
        tables["wav.scp"] = tables["wav.scp"].kept(lambda key, _: key in used)
    return assembled(plain, tables)


# What is written ---------------------------------------------------------------------------------------------


def _write(parts: Sequence[Part], views: Sequence[Part], folder: str, reasons: Reasons) -> list[Copy]:
    os.makedirs(folder, exist_ok=True)
    copies, taken = [], {LEFT_OUT, CHANGED}
    for part, view in zip(parts, views, strict=True):
        path = os.path.join(folder, _name(part.path, taken))
        kept = (_write_kaldi if part.form == "kaldi" else _write_table)(view, path)
        copies.append(_copy(part, view, path, kept, reasons))
    for name, rows in ((LEFT_OUT, [c.left_out for c in copies]), (CHANGED, [c.changed for c in copies])):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for of_part in rows for row in of_part]
        write_atomically(os.path.join(folder, name), "".join(lines).encode())
    return copies


def _name(path: str, taken: set[str]) -> str:
    """That of the original, numbered where another has it."""
    base, dot, suffix = os.path.basename(os.path.realpath(path)).removesuffix(".gz").partition(".")
    name, number = f"{base}{dot}{suffix}", 1
    while name in taken:
        number += 1
        name = f"{base}-{number}{dot}{suffix}"
    taken.add(name)
    return name


def _relative(value: str, old: str, new: str) -> str:
    """A path of a manifest in the folder `old`, for one in `new`."""
    return value if os.path.isabs(value) else os.path.relpath(os.path.join(old, value), new)


def _write_kaldi(view: Part, folder: str) -> set[Place]:
    os.makedirs(folder)
    old, new = folder_of(view.path), folder_of(folder)
    kept: set[Place] = set()
    for name, table in view.tables.items():
        values = [_relative(v, old, new) for v in table.values] if name.endswith(".scp") else table.values
        _save(os.path.join(folder, name), zip(table.keys, values, strict=True))
        kept |= {(table.path, line) for line in table.lines}
    if speakers := view.tables.get("utt2spk"):
        spoken: dict[str, list[str]] = {}
        for key, speaker in sorted(zip(speakers.keys, speakers.values, strict=True)):
            spoken.setdefault(speaker, []).append(key)
        _save(os.path.join(folder, "spk2utt"), ((speaker, " ".join(ids)) for speaker, ids in spoken.items()))
    return kept


def _save(path: str, rows: Iterator[tuple[str, str]]) -> None:
    write_atomically(path, "".join(f"{key} {value}\n" for key, value in sorted(rows)).encode())


def _write_table(view: Part, path: str) -> set[Place]:
    wanted = {row.line: row for row in view.rows}
    folder = folder_of(os.path.dirname(path))
    if view.form == "json":
        content = "".join(_json_lines(view, wanted, folder))
    else:
        written = io.StringIO()
        quotes: Any = {} if view.form == "csv" else {"delimiter": "\t", "quoting": csv.QUOTE_NONE, "quotechar": None}
        csv.writer(written, lineterminator="\n", **quotes).writerows(_cells(view, wanted, folder))
        content = written.getvalue()
    write_atomically(path, content.encode())
    return {(view.owner, line) for line in wanted}


def _json_lines(view: Part, wanted: Mapping[int, Row], folder: str) -> Iterator[str]:
    for number, line in enumerate(view.sources, 1):
        if number in wanted:
            values = json.loads(line)
            values |= _anew(tuple(values), wanted[number], values, folder)
            escaped = "\\u" in line  # maybe half a surrogate pair in some field, which cannot be written otherwise
            yield json.dumps(values, ensure_ascii=escaped) + "\n"


def _cells(view: Part, wanted: Mapping[int, Row], folder: str) -> Iterator[list[str]]:
    header: list[str] = []
    for number, cells in csv_records(view.form, read_file(view.owner)[0], view.sources):
        if not isinstance(cells, str) and cells and not header:
            header = cells
            yield header
        elif number in wanted:
            values = dict(zip(header, cells, strict=True))
            yield [*(values | _anew(tuple(header), wanted[number], values, folder)).values()]


def _anew(names: tuple[str, ...], row: Row, values: Mapping[str, str], folder: str) -> dict[str, str]:
    """The fields that a copy has otherwise."""
    fields = fields_among(names)
    assert fields.audio and fields.text
    here = values[fields.audio] if os.path.isabs(values[fields.audio]) else os.path.relpath(row.audio, folder)
    return {fields.audio: here, fields.text: row.text}


# What is told ------------------------------------------------------------------------------------------------


def _copy(part: Part, view: Part, path: str, kept: set[Place], reasons: Reasons) -> Copy:
    by_id = {finding.id: found for found in reasons.values() if (finding := found[1]).id}
    listed = list(_lines(part))
    rows = [_told(place, name, reasons, by_id) for place, name in listed if place not in kept]
    before = {(part.text_file, row.text_line): row.text for row in part.rows}
    changed = [
        {"where": f"{view.text_file}:{row.text_line}", "id": row.name, "from": old, "to": row.text}
        for row in view.rows
        if (old := before.get((view.text_file, row.text_line), row.text)) != row.text
    ]
    others = [name for name in sorted(os.listdir(part.path)) if name not in KALDI] if part.form == "kaldi" else []
    return Copy(view, path, len(listed), rows, changed, others)


def _lines(part: Part) -> Iterator[tuple[Place, str]]:
    """Every line of a part that holds something, with its id where it has one."""
    names = {(t.path, line): key for t in part.tables.values() for key, line in zip(t.keys, t.lines, strict=True)}
    names |= {(part.owner, row.line): row.name for row in part.rows}
    for file in part.files:
        if os.path.basename(file.path) == "spk2utt" and part.form == "kaldi":
            continue
        if part.form in ("csv", "tsv"):  # of which a row may go over several lines
            starts = {line: cells for line, cells in csv_records(part.form, file, part.sources) if cells}
            header = next((line for line, cells in starts.items() if not isinstance(cells, str)), 0)
            lines = sorted({*starts, *file.not_utf8, *file.nul, *file.huge} - {header})
        else:
            blank = set(file.blank)
            lines = [line for line in range(1, file.lines + 1) if line not in blank]
        yield from (((file.path, line), names.get((file.path, line), "")) for line in lines)


def _told(place: Place, name: str, reasons: Reasons, by_id: Mapping[str, tuple[Check, Finding]]) -> dict[str, Any]:
    check, why = "unused", "no utterance that is left needs it"
    if found := reasons.get(place):
        check, why = found[0].name, found[1].came
    elif found := by_id.get(name):
        check, why = found[0].name, f"{found[1].where}: {found[1].came}"
    return {"where": f"{place[0]}:{place[1]}", "id": name, "check": check, "why": why}
