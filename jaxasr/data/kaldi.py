"""Kaldi folders: tables of ids and what belongs to them."""

import itertools
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from jaxasr.data.textfile import NUMBER, each_line, few, show, twice
from jaxasr.data.utterance import Kind, Utterance, audio_path, folder_of
from jaxasr.errors import DataError
from jaxasr.registry import did_you_mean


class _Span(NamedTuple):
    audio: str
    start: float
    seconds: float | None


def script(kind: Kind | None) -> str:
    """The file that lists what the utterances of a folder are read from.

    >>> script("features")
    'feats.scp'
    """
    return "feats.scp" if kind == "features" else "wav.scp"


def read(folder: str, need_text: bool, kind: Kind | None) -> Iterator[tuple[str, Utterance]]:
    """Each utterance of a Kaldi folder with the `file:line` it came from.

    `segments` cuts sound alone: `feats.scp` has one line an utterance. Without it, `utt2dur` says how long each is.

    Raises:
      DataError: a file of the folder is missing, has lines that mean nothing, or does not fit the others.

    >>> from jaxasr.corpora import digits
    >>> next(read(str(digits() / "test"), need_text=True, kind="sound"))[1].seconds
    0.298
    """
    owner = script(kind)
    if not os.path.exists(os.path.join(folder, owner)):
        other = "wav.scp" if kind == "features" else "feats.scp"
        frontend = "wav_frontend" if kind == "features" else "features --preprocess=none"
        found = os.path.exists(os.path.join(folder, other))
        raise DataError(
            f"{folder}: a folder without '{owner}'; a Kaldi folder has one; name a Kaldi folder or a .jsonl file."
            + (f" --frontend={frontend} reads its '{other}'." if found else "")
        )
    ids: Mapping[str, Any] = _recordings(folder, owner, kind)
    segments = os.path.join(folder, "segments")
    if kind != "features" and os.path.exists(segments):
        ids, owner = _segments(segments, ids), "segments"
        spans = ids.values()
    else:
        durations = _durations(os.path.join(folder, "utt2dur"), owner, ids)
        spans = map(_Span, ids.values(), itertools.repeat(0.0), durations)
    texts = _column(os.path.join(folder, "text"), owner, ids, needed=need_text)
    speakers = _speakers(folder, owner, ids)
    listed = os.path.join(folder, owner)
    for number, (name, span, text, speaker) in enumerate(zip(ids, spans, texts, speakers, strict=True), 1):
        yield f"{listed}:{number}", Utterance(name, span.audio, text, speaker, span.start, span.seconds)


def read_texts(folder: str) -> Iterator[tuple[str, Utterance]]:
    """As `read`, the transcripts alone.

    >>> from jaxasr.corpora import digits
    >>> next(read_texts(str(digits() / "test")))[1].text
    'ZERO'
    """
    path = os.path.join(folder, "text")
    rows = _table(path)
    for number, ((name, text), speaker) in enumerate(
        zip(rows.items(), _speakers(folder, "text", rows), strict=True), 1
    ):
        yield f"{path}:{number}", Utterance(name, path, text, speaker)


def _table(path: str) -> dict[str, str]:
    """The rest of each line by the line's first word, in the order of the lines: one each."""
    rows: dict[str, str] = {}
    for number, line in enumerate(each_line(path), 1):
        key, *value = line.split(maxsplit=1)
        rows[key] = value[0].rstrip() if value else ""
        if len(rows) < number:
            raise twice(f"{path}:{number}", key, _where(path, rows, key))
    return rows


def _where(path: str, rows: Mapping[str, object], key: str) -> str:
    return f"{path}:{list(rows).index(key) + 1}"


def _recordings(folder: str, owner: str, kind: Kind | None) -> dict[str, str]:
    """The path of each."""
    base, path = folder_of(folder), os.path.join(folder, owner)
    recordings = {}
    for number, (name, value) in enumerate(_table(path).items(), 1):
        where = f"{path}:{number}"
        if not value:
            raise DataError(f"{where}: no path after id {show(name)}; 'ID PATH' was expected; add the path.")
        recordings[name] = audio_path(where, base, value, kind)
    return recordings


def _segments(path: str, recordings: Mapping[str, str]) -> dict[str, _Span]:
    spans = {}
    for number, (name, value) in enumerate(_table(path).items(), 1):
        where, fields = f"{path}:{number}", value.split()
        if len(fields) != 3:
            raise DataError(
                f"{where}: {len(fields) + 1} fields; 'UTTERANCE RECORDING START END' was expected; write these four."
            )
        recording, start, end = fields[0], _time(where, fields[1]), _end(where, fields[2])
        if recording not in recordings:
            raise DataError(
                f"{where}: recording {show(recording)} is not in wav.scp; each segment's recording is; add it "
                f"there or remove the segment.{did_you_mean(recording, itertools.islice(recordings, 1000))}"
            )
        if end is not None and end <= start:
            raise DataError(
                f"{where}: end {end} is not after start {start}; times in seconds, the end after the start, were "
                "expected; correct or remove the segment."
            )
        spans[name] = _Span(recordings[recording], start, None if end is None else end - start)
    return spans


def _end(where: str, word: str) -> float | None:
    """None for -1, which stands for the end of the recording."""
    return None if NUMBER.fullmatch(word) and float(word) == -1.0 else _time(where, word)


def _time(where: str, word: str) -> float:
    value = float(word) if NUMBER.fullmatch(word) else math.nan
    if not (math.isfinite(value) and value >= 0):
        raise DataError(f"{where}: time {show(word)}; a number of seconds, 0 or more, was expected; correct it.")
    return value


def _durations(path: str, owner: str, ids: Mapping[str, object]) -> list[float | None]:
    if not os.path.exists(path):
        return [None] * len(ids)
    rows = _checked(path, owner, ids)
    return [_duration(path, rows, name) for name in ids]


def _duration(path: str, rows: Mapping[str, str], name: str) -> float:
    word = rows[name]
    if NUMBER.fullmatch(word) and 0.0 < (seconds := float(word)) < math.inf:
        return seconds
    where = _where(path, rows, name)
    _time(where, word)
    raise DataError(f"{where}: 0 seconds; more than 0 was expected; correct or remove the line.")


def _speakers(folder: str, owner: str, ids: Mapping[str, object]) -> list[str]:
    return [*map(sys.intern, _column(os.path.join(folder, "utt2spk"), owner, ids, needed=False))]


def _column(path: str, owner: str, ids: Mapping[str, object], *, needed: bool) -> list[str]:
    """The value of each of `owner`'s ids in another table; all are empty where it may be absent, and is."""
    if not os.path.exists(path):
        if needed:
            raise DataError(
                f"{path}: no such file; transcripts, a line 'ID TEXT' for each utterance, were expected; write it."
            )
        return [""] * len(ids)
    rows = _checked(path, owner, ids)
    return [rows[name] for name in ids]


def _checked(path: str, owner: str, ids: Mapping[str, object]) -> dict[str, str]:
    """The rows of a table, which lists the ids of `owner`."""
    rows = _table(path)
    if rows.keys() == ids.keys():
        return rows
    if missing := [name for name in ids if name not in rows]:
        raise DataError(
            f"{path}: {len(missing)} of the {len(ids)} ids of {owner} are missing ({few(missing)}); both list "
            f"the same ids; add them here or remove them from {owner}."
        )
    extra = [name for name in rows if name not in ids]
    raise DataError(
        f"{_where(path, rows, extra[0])}: {len(extra)} of {len(rows)} ids are not in {owner} ({few(extra)}); both "
        f"list the same ids; remove them here or add them to {owner}."
    )
