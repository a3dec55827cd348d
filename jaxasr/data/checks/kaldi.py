"""Kaldi folders: the form of their files, and whether these belong together."""

from collections.abc import Iterator

from jaxasr.data.checks.part import Finding, Part
from jaxasr.data.checks.table import error, info, met, warning
from jaxasr.data.textfile import few, show

met("missing-file", "a Kaldi folder without wav.scp or text", fix="write it: a line 'ID PATH', or 'ID TEXT', each")
met("no-path", "an utterance or a recording without a path", fix="add the path, or remove the line")
met("pipe", "a shell command in place of a path", fix="run it once into files and list those")
met("url", "a URL in place of a path", fix="download the file and list it")
met("segment-fields", "a line of segments that is not 'UTTERANCE RECORDING START END'", fix="write these four")
met("bad-time", "a time that is not a number of seconds, 0 or more, or a duration of 0", fix="correct or remove it")
met("segment-order", "a segment that ends before it has begun", fix="correct or remove it")
met("unknown-recording", "a segment of a recording that wav.scp lacks", fix="add the recording, or remove the segment")
met("speaker-fields", "a line of utt2spk that is not 'UTTERANCE SPEAKER'", fix="give each utterance one speaker",
    severity="warning")  # fmt: skip


@warning("unsorted", "a line out of order", fix="LC_ALL=C sort -o FILE FILE", written=True)
def unsorted(part: Part) -> Iterator[Finding]:
    for table in part.tables.values():
        if table.keys == sorted(table.keys):  # as C orders the bytes of UTF-8
            continue
        for i in range(1, len(table.keys)):
            if table.keys[i] < table.keys[i - 1]:
                came = f"{show(table.keys[i])} behind {show(table.keys[i - 1])}"
                yield Finding(table.path, table.lines[i], table.keys[i], came)


def _missing(name: str, part: Part) -> Iterator[Finding]:
    """The utterances that the table `name`, which is there, does not have."""
    if name not in part.tables:
        return
    table, owner = part.tables[name], _owner(part)
    known = set(table.keys)
    for key, line in zip(owner.keys, owner.lines, strict=True):
        if key not in known:
            yield Finding(owner.path, line, key, f"not in {table.path}")


def _orphans(name: str, part: Part) -> Iterator[Finding]:
    """The lines of the table `name` that no utterance has."""
    if name not in part.tables:
        return
    table, owner = part.tables[name], _owner(part)
    known = set(owner.keys)
    for key, line in zip(table.keys, table.lines, strict=True):
        if key not in known:
            yield Finding(table.path, line, key, f"not in {owner.path}")


def _owner(part: Part):
    return next(table for table in part.tables.values() if table.path == part.owner)


def _timed(part: Part) -> bool:
    """Whether utt2dur counts."""
    return bool(part.tables) and not part.owner.endswith("segments")


def _listed(part: Part) -> bool:
    return any(table.path == part.owner for table in part.tables.values())


@error("no-text", "an utterance without a line in text", fix="add its transcript, or remove the utterance")
def no_text(part: Part) -> Iterator[Finding]:
    return _missing("text", part) if _listed(part) else iter(())


@error("orphan-text", "a transcript without an utterance", fix="add the utterance, or remove the line")
def orphan_text(part: Part) -> Iterator[Finding]:
    return _orphans("text", part) if _listed(part) else iter(())


@error("no-speaker", "an utterance without a line in utt2spk", fix="add its speaker, or remove utt2spk")
def no_speaker(part: Part) -> Iterator[Finding]:
    return _missing("utt2spk", part) if _listed(part) else iter(())


@error("orphan-speaker", "a speaker of no utterance", fix="remove the line of utt2spk")
def orphan_speaker(part: Part) -> Iterator[Finding]:
    return _orphans("utt2spk", part) if _listed(part) else iter(())


@error("no-duration", "an utterance without a line in utt2dur", fix="add its duration, or remove utt2dur")
def no_duration(part: Part) -> Iterator[Finding]:
    return _missing("utt2dur", part) if _listed(part) and _timed(part) else iter(())


@error("orphan-duration", "a duration of no utterance", fix="remove the line of utt2dur")
def orphan_duration(part: Part) -> Iterator[Finding]:
    return _orphans("utt2dur", part) if _listed(part) and _timed(part) else iter(())


@info("unused-recording", "a recording without segments", fix="remove it from wav.scp, or cut it into segments")
def unused_recording(part: Part) -> Iterator[Finding]:
    if part.owner.endswith("segments") and "wav.scp" in part.tables:
        used = {value.split()[0] for value in part.tables["segments"].values if value}
        table = part.tables["wav.scp"]
        for key, line in zip(table.keys, table.lines, strict=True):
            if key not in used:
                yield Finding(table.path, line, key, "in no segment")


@warning("spk2utt", "a speaker's utterances that are not those of utt2spk", fix="write spk2utt anew", written=True)
def spk2utt(part: Part) -> Iterator[Finding]:
    if not {"spk2utt", "utt2spk"} <= part.tables.keys():
        return
    listed, wanted = part.tables["spk2utt"], {}
    for key, speaker in zip(part.tables["utt2spk"].keys, part.tables["utt2spk"].values, strict=True):
        wanted.setdefault(speaker, set()).add(key)
    for key, value, line in zip(listed.keys, listed.values, listed.lines, strict=True):
        if odd := wanted.pop(key, set()) ^ set(value.split()):
            yield Finding(listed.path, line, key, f"{few(sorted(odd))} in one of spk2utt and utt2spk")
    yield from (Finding(listed.path, 0, speaker, "not in spk2utt") for speaker in wanted)


@info("speaker-prefix", "an id that does not begin with its speaker's, which Kaldi's tools sort by", fix="rename it")
def speaker_prefix(part: Part) -> Iterator[Finding]:
    if part.form == "kaldi":
        odd = (row for row in part.rows if row.speaker and not row.id.startswith(row.speaker))
        yield from (part.at(row, f"speaker {show(row.speaker)}") for row in odd)
