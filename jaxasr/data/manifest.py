"""Utterances from Kaldi folders and JSON-lines files; every fault names its file and line."""

import dataclasses
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from jaxasr.data.textfile import claim, few, json_object, kind, lines, show
from jaxasr.errors import DataError
from jaxasr.registry import did_you_mean

PathLike = str | os.PathLike[str]


@dataclasses.dataclass(frozen=True)
class Utterance:
    """One transcribed stretch of a sound file; `seconds` None means to the end of the file.

    `speed` is no part of a manifest: training draws a factor for every epoch (1.1: a tenth faster).
    """

    id: str
    audio: str
    text: str
    speaker: str = ""
    start: float = 0.0
    seconds: float | None = None
    speed: float = 1.0


class _Fields(NamedTuple):
    audio: str
    text: str
    ids: tuple[str, ...]


_NEMO = _Fields("audio_filepath", "text", ("id", "utt_id"))
_FUNASR = _Fields("source", "target", ("key",))

# float() also takes "nan", "1_0" and other scripts' digits.
_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)


def read(path: PathLike, *, need_text: bool = True) -> list[Utterance]:
    """The utterances of one manifest, in its order.

    A folder with a `wav.scp` is a Kaldi folder; a `.jsonl` or `.json` file has one object a line, with NeMo's
    field names or FunASR's. Relative audio paths start at the manifest's folder. Without `need_text` a missing
    transcript is an empty one.
    """
    return [utterance for _, utterance in _located(os.fspath(path), need_text)]


def read_all(paths: Iterable[PathLike], *, need_text: bool = True) -> list[Utterance]:
    """The utterances of several manifests, one after the other; an id may stand in one of them only."""
    seen: dict[str, str] = {}
    utterances = []
    for path in paths:
        for where, utterance in _located(os.fspath(path), need_text):
            claim(seen, utterance.id, where)
            utterances.append(utterance)
    return utterances


def _located(path: str, need_text: bool) -> Iterator[tuple[str, Utterance]]:
    """Each utterance with the `file:line` it came from."""
    if os.path.isdir(path):
        return _kaldi(path, need_text)
    if not os.path.exists(path):
        raise DataError(f"{path}: no such file or folder; a manifest was expected; check the path.")
    if not path.endswith((".jsonl", ".json")):
        raise DataError(
            f"{path}: neither a folder nor a .jsonl or .json file; a manifest is one of these; "
            "convert it, or rename it if it holds one JSON object a line."
        )
    return _json_lines(path, need_text)


def _audio_path(where: str, folder: str, value: str) -> str:
    if value.endswith("|"):
        raise DataError(
            f"{where}: {show(value)} is a shell command; a sound file was expected, since a manifest must not "
            "run programs; run the pipe once into files and list those."
        )
    if re.match(r"[A-Za-z]\w*://", value):
        raise DataError(
            f"{where}: {show(value)} is a URL; a sound file on disk was expected; download it and list the file."
        )
    return os.path.normpath(os.path.join(folder, value))


def _folder_of(path: str) -> str:
    # Resolved before "../" is taken away, so that a linked folder's "../audio" is beside what it links to.
    return os.path.realpath(path)


# Kaldi folders -----------------------------------------------------------------------------------------------


class _Row(NamedTuple):
    where: str
    value: str


class _Span(NamedTuple):
    where: str
    audio: str
    start: float = 0.0
    seconds: float | None = None


def _kaldi(folder: str, need_text: bool) -> Iterator[tuple[str, Utterance]]:
    if not os.path.exists(os.path.join(folder, "wav.scp")):
        raise DataError(
            f"{folder}: a folder without 'wav.scp'; a Kaldi folder has one; name a Kaldi folder or a .jsonl file."
        )
    recordings = _recordings(folder)
    segments = os.path.join(folder, "segments")
    cut = os.path.exists(segments)
    spans = _segments(segments, recordings) if cut else recordings
    owner = "segments" if cut else "wav.scp"
    texts = _column(os.path.join(folder, "text"), owner, spans, needed=need_text)
    speakers = _column(os.path.join(folder, "utt2spk"), owner, spans, needed=False)
    for name, span in spans.items():
        speaker = speakers.get(name, "")
        yield span.where, Utterance(name, span.audio, texts.get(name, ""), speaker, span.start, span.seconds)


def _table(path: str) -> dict[str, _Row]:
    """The rest of each line by the line's first word."""
    seen: dict[str, str] = {}
    rows = {}
    for number, line in enumerate(lines(path), 1):
        key, *rest = line.split(maxsplit=1)
        where = f"{path}:{number}"
        claim(seen, key, where)
        rows[key] = _Row(where, rest[0].strip() if rest else "")
    return rows


def _recordings(folder: str) -> dict[str, _Span]:
    base = _folder_of(folder)
    recordings = {}
    for name, (where, value) in _table(os.path.join(folder, "wav.scp")).items():
        if not value:
            raise DataError(f"{where}: no path after id {show(name)}; 'ID PATH' was expected; add the path.")
        recordings[name] = _Span(where, _audio_path(where, base, value))
    return recordings


def _segments(path: str, recordings: Mapping[str, _Span]) -> dict[str, _Span]:
    spans = {}
    for name, (where, value) in _table(path).items():
        fields = value.split()
        if len(fields) != 3:
            raise DataError(
                f"{where}: {len(fields) + 1} fields; 'UTTERANCE RECORDING START END' was expected; write these four."
            )
        recording, start, end = fields[0], _time(where, fields[1]), _time(where, fields[2])
        if recording not in recordings:
            raise DataError(
                f"{where}: recording {show(recording)} is not in wav.scp; each segment's recording is; add it "
                f"there or remove the segment.{did_you_mean(recording, itertools.islice(recordings, 1000))}"
            )
        if end <= start:
            raise DataError(
                f"{where}: end {end} is not after start {start}; times in seconds, the end after the start, were "
                "expected; correct or remove the segment."
            )
        spans[name] = _Span(where, recordings[recording].audio, start, end - start)
    return spans


def _time(where: str, word: str) -> float:
    value = float(word) if _NUMBER.fullmatch(word) else math.nan
    if not (math.isfinite(value) and value >= 0):
        raise DataError(
            f"{where}: time {show(word)}; a number of seconds, 0 or more, was expected; correct the segment."
        )
    return value


def _column(path: str, owner: str, spans: Mapping[str, _Span], *, needed: bool) -> dict[str, str]:
    """The values of a table that lists the ids of `owner`; none where it may be and is absent."""
    if not os.path.exists(path):
        if needed:
            raise DataError(
                f"{path}: no such file; transcripts, a line 'ID TEXT' for each utterance, were expected; write it."
            )
        return {}
    rows = _table(path)
    missing = [key for key in spans if key not in rows]
    extra = [key for key in rows if key not in spans]
    if missing:
        raise DataError(
            f"{path}: {len(missing)} of the {len(spans)} ids of {owner} are missing ({few(missing)}); both list "
            f"the same ids; add them here or remove them from {owner}."
        )
    if extra:
        raise DataError(
            f"{rows[extra[0]].where}: {len(extra)} of {len(rows)} ids are not in {owner} ({few(extra)}); both "
            f"list the same ids; remove them here or add them to {owner}."
        )
    return {key: row.value for key, row in rows.items()}


# JSON lines --------------------------------------------------------------------------------------------------


def _json_lines(path: str, need_text: bool) -> Iterator[tuple[str, Utterance]]:
    base = _folder_of(os.path.dirname(path))
    rows = [(f"{path}:{number}", line) for number, line in enumerate(lines(path), 1)]
    parsed = [(where, _utterance(where, base, json_object(where, line), need_text)) for where, line in rows]
    seen: dict[str, str] = {}
    for where, utterance in parsed:
        if utterance.id:
            claim(seen, utterance.id, where)
    for number, (where, utterance) in enumerate(parsed, 1):
        if not utterance.id:
            name = next(name for name in _names(utterance, number) if name not in seen)
            seen[name] = where
            utterance = dataclasses.replace(utterance, id=name)
        yield where, utterance


def _names(utterance: Utterance, number: int) -> Iterator[str]:
    """Ids for an utterance that has none, the plainest first; written ids have been taken before."""
    stem = "_".join(os.path.splitext(os.path.basename(utterance.audio))[0].split()) or "utterance"
    if utterance.start:
        stem = f"{stem}-{round(utterance.start * 1000):07d}"  # milliseconds
    yield stem
    yield from (f"{stem}-{again}" for again in itertools.count(number))


def _utterance(where: str, base: str, row: dict[str, Any], need_text: bool) -> Utterance:
    """The utterance of one object; its id is empty where the object has none."""
    fields = next((known for known in (_NEMO, _FUNASR) if known.audio in row), None)
    if fields is None:
        near = did_you_mean(_NEMO.audio, row) or did_you_mean(_FUNASR.audio, row)
        raise DataError(
            f"{where}: neither a field 'audio_filepath' nor 'source', but {few(row) or 'none'}; NeMo's or "
            f"FunASR's fields were expected; rename the one with the path.{near}"
        )
    text = _string(where, row, fields.text)
    if text is None and need_text:
        raise DataError(
            f"{where}: no field {fields.text!r}, but {few(row)}; a transcript was expected; add it, or remove "
            f"the line.{did_you_mean(fields.text, row)}"
        )
    audio = _string(where, row, fields.audio)
    if not audio:
        raise DataError(f"{where}: field {fields.audio!r} is empty; the path of a sound file was expected; add it.")
    name = next((name for name in (_string(where, row, field) for field in fields.ids) if name is not None), None)
    if name is not None and name.split() != [name]:
        raise DataError(f"{where}: id {show(name)}; a word without white space was expected; rename it.")
    start, seconds = _seconds(where, row, "offset"), _seconds(where, row, "duration")
    if seconds == 0:
        raise DataError(f"{where}: 'duration' is 0; more than 0 seconds was expected; correct or remove the line.")
    speaker = _string(where, row, "speaker") or ""
    path = _audio_path(where, base, audio)
    return Utterance(name or "", path, (text or "").strip(), speaker, start or 0.0, seconds)


def _string(where: str, row: dict[str, Any], name: str) -> str | None:
    if name not in row:
        return None
    value = row[name]
    if not isinstance(value, str):
        raise DataError(f"{where}: field {name!r} is a {kind(value)}; a string was expected; quote or correct it.")
    if "\0" in value or any("\ud800" <= letter <= "\udfff" for letter in value):
        raise DataError(
            f"{where}: field {name!r} holds a NUL character or half a surrogate pair; text was expected; remove it."
        )
    return value


def _seconds(where: str, row: dict[str, Any], name: str) -> float | None:
    """The field's number, or None where it is absent or null."""
    value = row.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise DataError(f"{where}: field {name!r} is a {kind(value)}; a number of seconds was expected; correct it.")
    # An int beyond the floats cannot even be asked whether it is finite.
    if not 0 <= value <= 1e300:
        raise DataError(
            f"{where}: field {name!r} is {show(value)}; a finite number of seconds, 0 or more, was expected; "
            "correct it."
        )
    return float(value)
