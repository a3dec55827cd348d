"""Utterances from Kaldi folders, JSON lines, tables and text files; every fault names its file and line."""

import contextlib
import dataclasses
import gc
import itertools
import os
from collections.abc import Iterable, Iterator

from jaxasr.data import kaldi, packs, tables
from jaxasr.data.textfile import claim, each_physical_line
from jaxasr.data.utterance import Kind, plain_id
from jaxasr.data.utterance import Utterance as Utterance
from jaxasr.errors import DataError

PathLike = str | os.PathLike[str]


def read(path: PathLike, *, need_text: bool = True, kind: Kind | None = "sound") -> list[Utterance]:
    """The utterances of one manifest, in its order.

    A folder that `jaxasr.data.pack` made is a pack; one with a `wav.scp` is a Kaldi folder (with a `feats.scp` where
    features are read); a `.jsonl` or `.json` file has one object a line, a `.csv` or `.tsv` file a header and one row
    an utterance, with the fields that `tables` knows; `.gz` may stand behind each. Relative audio paths start at the
    manifest's folder. Where text is read, their transcripts count alone, and a `.txt` file has one sentence a line.

    Args:
      need_text: without it a missing transcript is an empty one.
      kind: what the paths may name; None for sound as well as features.
    """
    return read_all([path], need_text=need_text, kind=kind)


def read_all(paths: Iterable[PathLike], *, need_text: bool = True, kind: Kind | None = "sound") -> list[Utterance]:
    """The utterances of several manifests, one after the other, each with its manifest's number as `corpus`.

    An id may stand in one of them only.
    """
    with _without_collections():
        found = with_ids(_located(os.fspath(path), need_text, kind) for path in paths)
    return [dataclasses.replace(u, corpus=i) if i else u for i, us in enumerate(found) for u in us]


@contextlib.contextmanager
def _without_collections() -> Iterator[None]:
    """Nothing that a manifest is read into refers to itself; to look for that takes a fifth of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def with_ids(manifests: Iterable[Iterable[tuple[str, Utterance]]]) -> list[list[Utterance]]:
    """The utterances of each, of which one without an id gets its file's name; every id stands once in all of them.

    >>> with_ids([[("text:1", Utterance("", "audio/zero.flac", "ZERO"))]])[0][0].id
    'zero'
    """
    seen: dict[str, str] = {}
    found = [[_claimed(seen, where, utterance) for where, utterance in manifest] for manifest in manifests]
    return [[u if u.id else _with_id(u, number, seen) for number, u in enumerate(us, 1)] for us in found]


def _claimed(seen: dict[str, str], where: str, utterance: Utterance) -> Utterance:
    if utterance.id:
        claim(seen, utterance.id, where)
    return utterance


def _with_id(utterance: Utterance, number: int, seen: dict[str, str]) -> Utterance:
    name = next(name for name in _names(utterance, number) if name not in seen)
    seen[name] = utterance.audio
    return dataclasses.replace(utterance, id=name)


def _names(utterance: Utterance, number: int) -> Iterator[str]:
    """Ids for an utterance that has none, the plainest first; written ids have been taken before."""
    stem = plain_id(utterance.audio, utterance.start)
    yield stem
    yield from (f"{stem}-{again}" for again in itertools.count(number))


def _located(path: str, need_text: bool, kind: Kind | None) -> Iterator[tuple[str, Utterance]]:
    """Each utterance with the `file:line` it came from; its id is empty where none is written."""
    if packs.is_pack(path):
        return packs.read(path, kind)
    if os.path.isdir(path):
        return kaldi.read_texts(path) if kind == "text" else kaldi.read(path, need_text, kind)
    if not os.path.exists(path):
        raise DataError(f"{path}: no such file or folder; a manifest was expected; check the path.")
    if kind == "text" and path.removesuffix(".gz").endswith(TEXT):
        return _sentences(path)
    if not tables.is_table(path):
        suffixes = (*tables.SUFFIXES, TEXT) if kind == "text" else tables.SUFFIXES
        raise DataError(
            f"{path}: neither a folder nor a {' or '.join(suffixes)} file; a manifest is one of these, and "
            ".gz may stand behind; convert it, or rename it."
        )
    return tables.read_lines(path) if kind == "text" else tables.read(path, need_text, kind)


TEXT = ".txt"
"""What the name of a file ends in that has one sentence a line, and no ids."""


def _sentences(path: str) -> Iterator[tuple[str, Utterance]]:
    """The lines; an empty one is an utterance without text, so that training counts it."""
    for number, line in enumerate(each_physical_line(path), 1):
        yield f"{path}:{number}", Utterance("", path, line.strip())
