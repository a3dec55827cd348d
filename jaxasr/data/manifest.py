"""Utterances from Kaldi folders, JSON lines and tables; every fault names its file and line."""

import dataclasses
import os
from collections.abc import Iterable, Iterator

from jaxasr.data import kaldi, tables
from jaxasr.data.textfile import claim
from jaxasr.data.utterance import Kind
from jaxasr.data.utterance import Utterance as Utterance
from jaxasr.errors import DataError

PathLike = str | os.PathLike[str]


def read(path: PathLike, *, need_text: bool = True, kind: Kind | None = "sound") -> list[Utterance]:
    """The utterances of one manifest, in its order.

    A folder with a `wav.scp` is a Kaldi folder (with a `feats.scp` where features are read); a `.jsonl` or `.json`
    file has one object a line, a `.csv` or `.tsv` file a header and one row an utterance, with the fields that
    `tables` knows; `.gz` may stand behind each. Relative audio paths start at the manifest's folder.

    Args:
      need_text: without it a missing transcript is an empty one.
      kind: what the paths may name; None for sound as well as features.
    """
    return [utterance for _, utterance in _located(os.fspath(path), need_text, kind)]


def read_all(paths: Iterable[PathLike], *, need_text: bool = True, kind: Kind | None = "sound") -> list[Utterance]:
    """The utterances of several manifests, one after the other, each with its manifest's number as `corpus`.

    An id may stand in one of them only.
    """
    seen: dict[str, str] = {}
    utterances = []
    for corpus, path in enumerate(paths):
        for where, utterance in _located(os.fspath(path), need_text, kind):
            claim(seen, utterance.id, where)
            utterances.append(dataclasses.replace(utterance, corpus=corpus) if corpus else utterance)
    return utterances


def _located(path: str, need_text: bool, kind: Kind | None) -> Iterator[tuple[str, Utterance]]:
    """Each utterance with the `file:line` it came from."""
    if os.path.isdir(path):
        return kaldi.read(path, need_text, kind)
    if not os.path.exists(path):
        raise DataError(f"{path}: no such file or folder; a manifest was expected; check the path.")
    if not tables.is_table(path):
        raise DataError(
            f"{path}: neither a folder nor a {' or '.join(tables.SUFFIXES)} file; a manifest is one of these, and "
            ".gz may stand behind; convert it, or rename it."
        )
    return tables.read(path, need_text, kind)
