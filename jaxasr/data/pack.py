"""Sharded copies of corpora, made once and read at random: `python -m jaxasr.data.pack MANIFEST... FOLDER`."""

import concurrent.futures
import contextlib
import dataclasses
import hashlib
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, NamedTuple

import numpy as np
import rich.console
import rich.progress
import tyro

from jaxasr import consoles
from jaxasr.command_line import options_of
from jaxasr.data import audio, manifest, packs
from jaxasr.data.packs import Index
from jaxasr.data.probe import headers
from jaxasr.data.selection import why_unreadable
from jaxasr.data.source import Header, segment
from jaxasr.data.utterance import Utterance
from jaxasr.errors import ConfigError, DataError, exit_with_message

PLAN, LEFT_OUT = "plan.json", "left_out.jsonl"
FORMAT = 1
_MIB = 2**20
_AT_ONCE = 256
"""Utterances in memory."""


@dataclasses.dataclass(frozen=True)
class PackOptions:
    """A copy of corpora in a few large files, which training reads as any manifest, to the same batches.

    The last path is the folder to make; the others are manifests (Kaldi folders, .jsonl, .csv, .tsv files). Sound of
    whole numbers becomes FLAC, other sound stays as it is. Files that cannot be read are left out and counted. The same
    command goes on where it stopped.

    python -m jaxasr.data.pack data/train packed/train
    """

    paths: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MANIFEST ... FOLDER")]
    """Manifests, and the folder to make."""
    shard_mib: int = 512
    """Sound in a file of the copy, before it is compressed."""
    workers: int = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    """Threads."""


class Packed(NamedTuple):
    """What became of the utterances."""

    utterances: int
    shards: int
    faults: dict[str, str]
    """Id of an utterance that cannot be read to what is wrong with it."""


class _Part(NamedTuple):
    """A shard that is written: its index, and what could not be read."""

    columns: Index
    faults: dict[str, str]


def pack(options: PackOptions, console: rich.console.Console | None = None) -> Packed:
    """Writes the folder; its index comes last, and without one it is no pack yet.

    Raises:
      DataError: the folder is there and is not the beginning of the same copy, or nothing can be read.
    """
    *paths, folder = _checked(options)
    source = audio.SoundSource(16000)  # at any rate: what is measured here is whether a file can be read
    utterances = manifest.read_all(paths)
    infos = headers(utterances, source)
    faults = {u.id: why for u in utterances if (why := why_unreadable(u, infos, source))}
    readable = [u for u in utterances if u.id not in faults]
    if not readable:
        raise _none(folder, utterances, faults)
    shards = list(_shards(readable, infos, options.shard_mib * _MIB))
    with _writing(folder):
        _begin(folder, shards)
        parts = list(_parts(folder, shards, options.workers, console))
        for part in parts:
            faults |= part.faults
        if not any(part.columns.ids for part in parts):
            raise _none(folder, utterances, faults)
        _finish(folder, parts, faults)
    return Packed(len(utterances) - len(faults), len(parts), faults)


def _none(folder: str, utterances: Sequence[Utterance], faults: Mapping[str, str]) -> DataError:
    return DataError(
        f"{folder}: none of {len(utterances)} utterances can be read; at least one was expected; correct the data. "
        + next(iter(faults.values()))
    )


def _checked(options: PackOptions) -> tuple[str, ...]:
    if len(options.paths) < 2:
        raise ConfigError(
            f"pack {' '.join(options.paths)}: {len(options.paths)} paths; MANIFEST... FOLDER was expected; name what "
            "to pack, and then the folder to make."
        )
    for name in ("shard_mib", "workers"):
        if (value := getattr(options, name)) <= 0:
            raise ConfigError(f"--{name}={value}: a positive number was expected; change it.")
    return options.paths


def _shards(
    utterances: Sequence[Utterance], infos: Mapping[str, Header | DataError], size: int
) -> Iterator[list[Utterance]]:
    """The utterances in their order, by so many bytes of 16-bit sound."""
    members: list[Utterance] = []
    filled = 0
    for utterance in utterances:
        header = infos[utterance.audio]
        assert isinstance(header, Header)
        filled += 2 * header.channels * segment(utterance, header.frames, header.rate)[1]
        members.append(utterance)
        if filled >= size:
            yield members
            members, filled = [], 0
    if members:
        yield members


# The folder --------------------------------------------------------------------------------------------------


def _parts(
    folder: str, shards: Sequence[Sequence[Utterance]], workers: int, console: rich.console.Console | None
) -> Iterator[_Part]:
    """All shards: those that are not there are written."""
    numbered = list(enumerate(shards))
    shown = numbered if console is None else rich.progress.track(numbered, "Packing", console=console, transient=True)
    with concurrent.futures.ThreadPoolExecutor(workers) as threads:
        for number, members in shown:
            yield _kept_part(folder, number) or _write_part(folder, number, members, threads)


def _begin(folder: str, shards: Sequence[Sequence[Utterance]]) -> None:
    """Makes the folder, or finds in it the beginning of the same copy."""
    plan = json.dumps({"format": FORMAT, "shards": [_fingerprint(members) for members in shards]}, indent=1)
    path = os.path.join(folder, PLAN)
    if os.path.exists(path):
        with open(path) as file:
            same = file.read() == plan
        if not same:
            raise DataError(
                f"{folder}: the beginning of a copy of other utterances, or in other shards; the same ones were "
                "expected, to go on with; give the options that it was begun with, or another folder."
            )
        return
    if os.path.exists(folder) and not (os.path.isdir(folder) and not os.listdir(folder)):
        raise DataError(
            f"{folder}: there already; a folder to make was expected, so that nothing is lost; give another."
        )
    os.makedirs(folder, exist_ok=True)
    packs.write_atomically(path, plan.encode())


@contextlib.contextmanager
def _writing(path: str) -> Iterator[None]:
    """Says what a disk refuses; array_record raises RuntimeError for it."""
    try:
        yield
    except (OSError, RuntimeError) as error:
        raise DataError(
            f"{path}: cannot be written ({error}); a disk with room was expected; make room, or see to the "
            "permissions, and give the command again, which goes on where it stopped."
        ) from error


def _fingerprint(utterances: Sequence[Utterance]) -> str:
    return hashlib.sha256("\n".join(map(repr, utterances)).encode()).hexdigest()


def _finish(folder: str, parts: Sequence[_Part], faults: dict[str, str]) -> None:
    rows = [json.dumps({"id": name, "fault": fault}, ensure_ascii=False) + "\n" for name, fault in faults.items()]
    if rows:
        packs.write_atomically(os.path.join(folder, LEFT_OUT), "".join(rows).encode())
    Index.of_parts([part.columns for part in parts]).save(os.path.join(folder, packs.INDEX))
    for name in (*(f"{packs.shard(number)}{suffix}" for number in range(len(parts)) for suffix in _NOTES), PLAN):
        os.remove(os.path.join(folder, name))


_NOTES = (".npz", ".json")
"""What stands beside a finished shard until all are: its index, and its faults."""


def _kept_part(folder: str, number: int) -> _Part | None:
    """A shard that was finished before; its index is written last."""
    path = os.path.join(folder, packs.shard(number))
    if not os.path.exists(f"{path}.npz"):
        return None
    with open(f"{path}.json") as file:
        return _Part(Index.load(f"{path}.npz"), json.load(file))


def _write_part(
    folder: str, number: int, members: Sequence[Utterance], threads: concurrent.futures.ThreadPoolExecutor
) -> _Part:
    path = os.path.join(folder, packs.shard(number))
    writer = packs.array_record(path).ArrayRecordWriter(f"{path}.part", "group_size:1,uncompressed")
    faults: dict[str, str] = {}
    kept: list[tuple[Utterance, Header, bytes]] = []
    for first in range(0, len(members), _AT_ONCE):
        chunk = members[first : first + _AT_ONCE]
        for utterance, found in zip(chunk, threads.map(_cut, chunk), strict=True):
            if isinstance(found, DataError):
                faults[utterance.id] = str(found)
                continue
            content, header = found
            record = packs.record(utterance, content)
            writer.write(record)
            kept.append((utterance, header, hashlib.sha256(record).digest()))
    writer.close()
    _verify(f"{path}.part", [digest for _, _, digest in kept])
    os.replace(f"{path}.part", path)
    frames, rates, channels = np.array([(h.frames, h.rate, h.channels) for _, h, _ in kept], int).reshape(-1, 3).T
    index = Index(
        ids=[u.id for u, _, _ in kept],
        texts=[u.text for u, _, _ in kept],
        speakers=[u.speaker for u, _, _ in kept],
        frames=frames,
        rates=rates,
        channels=channels,
        records=np.array([len(kept)]),
        sizes=np.array([os.path.getsize(path)]),
    )
    packs.write_atomically(f"{path}.json", json.dumps(faults).encode())
    index.save(f"{path}.npz")
    return _Part(index, faults)


def _cut(utterance: Utterance) -> tuple[bytes, Header] | DataError:
    try:
        return audio.cut_out(utterance)
    except DataError as error:
        return error


def _verify(path: str, digests: Sequence[bytes]) -> None:
    """Reads a shard once more: a disk that is full, or broken, shows now."""
    reader = packs.array_record(path).ArrayRecordReader(path)
    found = reader.num_records()
    for first in range(0, len(digests), _AT_ONCE):
        numbers = range(first, min(first + _AT_ONCE, len(digests)))
        records = reader.read(list(numbers)) if found == len(digests) else []
        if [hashlib.sha256(r).digest() for r in records] != [digests[n] for n in numbers]:
            raise DataError(
                f"{path}: not what was written to it; a disk that keeps what it is given was expected; check it, and "
                "give the command again."
            )
    reader.close()


# Command line ------------------------------------------------------------------------------------------------


@exit_with_message
def main(argv: Sequence[str] | None = None) -> None:
    """The command line: `argv`, or else the program's own arguments."""
    options = options_of(PackOptions, argv, "data.pack")
    errors = consoles.console(stderr=True)
    done = pack(options, errors if errors.is_terminal else None)
    console, folder = consoles.console(markup=False, highlight=False, soft_wrap=True), options.paths[-1]
    console.print(f"{folder}: {done.utterances} utterances in {done.shards} shards")
    if done.faults:
        console.print(f"  {len(done.faults)} unreadable: {os.path.join(folder, LEFT_OUT)}")


if __name__ == "__main__":
    main(sys.argv[1:])
