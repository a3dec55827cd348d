"""Kaldi folders: tables of ids and what belongs to them."""

import itertools
import math
import os
import sys
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from jaxasr.data.textfile import NUMBER, each_line, few, show, twice
from jaxasr.data.utterance import Kind, Utterance, audio_path, folder_of
from jaxasr.errors import DataError
from jaxasr.registry import did_you_mean


class _Span(NamedTuple):
    audio: str
    start: float = 0.0
    seconds: float | None = None


def script(kind: Kind | None) -> str:
    """The file that lists what the utterances of a folder are read from."""
    return "feats.scp" if kind == "features" else "wav.scp"


def read(folder: str, need_text: bool, kind: Kind | None) -> Iterator[tuple[str, Utterance]]:
    """Each utterance of a Kaldi folder with the `file:line` it came from.

    `segments` cuts sound alone: `feats.scp` has one line an utterance. Without it, `utt2dur` says how long each is.
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
    spans = _recordings(folder, owner, kind)
    segments = os.path.join(folder, "segments")
    if kind != "features" and os.path.exists(segments):
        spans, owner = _segments(segments, spans), "segments"
        durations = {}
    else:
        durations = _durations(os.path.join(folder, "utt2dur"), owner, spans)
    texts = _column(os.path.join(folder, "text"), owner, spans, needed=need_text)
    speakers = _speakers(folder, owner, spans)
    listed = os.path.join(folder, owner)
    for number, (name, span) in enumerate(spans.items(), 1):
        text, speaker, seconds = texts.get(name, ""), speakers.get(name, ""), durations.get(name, span.seconds)
        yield f"{listed}:{number}", Utterance(name, span.audio, text, speaker, span.start, seconds)


def read_texts(folder: str) -> Iterator[tuple[str, Utterance]]:
    """As `read`, the transcripts alone."""
    path = os.path.join(folder, "text")
    rows = _table(path)
    speakers = _speakers(folder, "text", rows)
    for number, (name, text) in enumerate(rows.items(), 1):
        yield f"{path}:{number}", Utterance(name, path, text, speakers.get(name, ""))


def _table(path: str) -> dict[str, str]:
    """The rest of each line by the line's first word, in the order of the lines: one each."""
    rows: dict[str, str] = {}
    for number, line in enumerate(each_line(path), 1):
        key, value, *_ = *line.split(maxsplit=1), ""
        if key in rows:
            raise twice(f"{path}:{number}", key, _where(path, rows, key))
        rows[sys.intern(key)] = value.rstrip()  # every table has the same ids
    return rows


def _where(path: str, rows: Mapping[str, object], key: str) -> str:
    return f"{path}:{list(rows).index(key) + 1}"


def _recordings(folder: str, owner: str, kind: Kind | None) -> dict[str, _Span]:
    base, path = folder_of(folder), os.path.join(folder, owner)
    recordings = {}
    for number, (name, value) in enumerate(_table(path).items(), 1):
        where = f"{path}:{number}"
        if not value:
            raise DataError(f"{where}: no path after id {show(name)}; 'ID PATH' was expected; add the path.")
        recordings[name] = _Span(audio_path(where, base, value, kind))
    return recordings


def _segments(path: str, recordings: Mapping[str, _Span]) -> dict[str, _Span]:
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
        spans[name] = _Span(recordings[recording].audio, start, None if end is None else end - start)
    return spans


def _end(where: str, word: str) -> float | None:
    """None for -1, which stands for the end of the recording."""
    return None if NUMBER.fullmatch(word) and float(word) == -1.0 else _time(where, word)


def _time(where: str, word: str) -> float:
    value = float(word) if NUMBER.fullmatch(word) else math.nan
    if not (math.isfinite(value) and value >= 0):
        raise DataError(f"{where}: time {show(word)}; a number of seconds, 0 or more, was expected; correct it.")
    return value


def _durations(path: str, owner: str, spans: Mapping[str, object]) -> dict[str, float]:
    found = {}
    for number, (name, value) in enumerate(_column(path, owner, spans, needed=False).items(), 1):
        found[name] = _time(f"{path}:{number}", value)
        if not found[name]:
            raise DataError(f"{path}:{number}: 0 seconds; more than 0 was expected; correct or remove the line.")
    return found


def _speakers(folder: str, owner: str, spans: Mapping[str, object]) -> dict[str, str]:
    found = _column(os.path.join(folder, "utt2spk"), owner, spans, needed=False)
    return {name: sys.intern(speaker) for name, speaker in found.items()}


def _column(path: str, owner: str, spans: Mapping[str, object], *, needed: bool) -> dict[str, str]:
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
            f"{_where(path, rows, extra[0])}: {len(extra)} of {len(rows)} ids are not in {owner} ({few(extra)}); both "
            f"list the same ids; remove them here or add them to {owner}."
        )
    return rows
