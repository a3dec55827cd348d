"""One line of a manifest, whatever its form."""

import dataclasses
import os
import re
from typing import Literal

from jaxasr.data.textfile import show
from jaxasr.errors import DataError

Kind = Literal["sound", "features", "text"]
"""What a task reads."""

URL = re.compile(r"[A-Za-z]\w*://")
_FEATURES = re.compile(r".+\.(npy|ark:\d{1,18})", re.ASCII | re.DOTALL)


@dataclasses.dataclass(frozen=True, slots=True)
class Utterance:
    """One transcribed stretch of a sound file, or of features; `seconds` None means to the end of the file.

    `speed` is no part of a manifest: training draws a factor for every epoch (1.1: a tenth faster).
    """

    id: str
    """Without white space; once in all manifests."""
    audio: str
    """Path of the sound; of features a .npy file, or PATH.ark:OFFSET; of text the file that it is a line of."""
    text: str
    """The transcript; empty where there is none."""
    speaker: str = ""
    """Empty where it is not known."""
    start: float = 0.0
    """Seconds from the file's beginning."""
    seconds: float | None = None
    speed: float = 1.0
    corpus: int = 0
    """Which of several manifests it comes from."""


def plain_id(audio: str, start: float) -> str:
    """The id of an utterance that a manifest gives none: its file's name, and the milliseconds before it if there are.

    >>> plain_id("wavs/a talk.wav", 1.5)
    'a_talk-0001500'
    """
    stem = "_".join(os.path.splitext(os.path.basename(audio))[0].split()) or "utterance"
    return f"{stem}-{round(start * 1000):07d}" if start else stem


def audio_path(where: str, folder: str, value: str, kind: Kind | None) -> str:
    """The path that a manifest in `folder` names at `where`; `kind` None takes sound and features.

    Raises:
      DataError: it names a shell command, a URL, or a file of another kind.

    >>> audio_path("train.jsonl:3", "corpora/train", "../audio/zero.flac", "sound")
    'corpora/audio/zero.flac'
    """
    if value.endswith("|"):
        raise DataError(
            f"{where}: {show(value)} is a shell command; a file was expected, since a manifest must not "
            "run programs; run the pipe once into files and list those."
        )
    if URL.match(value):
        raise DataError(f"{where}: {show(value)} is a URL; a file on disk was expected; download it and list the file.")
    check_kind(where, value, kind)
    return check_name(os.path.normpath(os.path.join(folder, value)))


def check_name(path: str) -> str:
    """The path, which is printed and stored as text.

    Raises:
      DataError: it is not UTF-8.

    >>> check_name("audio/théo.flac")
    'audio/théo.flac'
    """
    try:
        path.encode()
    except UnicodeEncodeError as error:
        shown = path.encode(errors="backslashreplace").decode()
        raise DataError(f"{shown}: a name that is not UTF-8; UTF-8 was expected; rename the file or folder.") from error
    return path


def holds_features(path: str) -> bool:
    """Whether a path is that of features: a .npy file, or PATH.ark:OFFSET.

    >>> holds_features("feats.ark:17")
    True
    """
    return bool(_FEATURES.fullmatch(path))


def check_kind(where: str, path: str, kind: Kind | None) -> None:
    """Raises DataError where the path's form shows that it holds what the task does not read."""
    features = holds_features(path)
    if kind == "features" and not features:
        raise DataError(
            f"{where}: {show(path)}; --frontend=features reads .npy files and PATH.ark:OFFSET; list those, or choose "
            "--frontend=wav_frontend to train on sound."
        )
    if kind == "sound" and features:
        raise DataError(
            f"{where}: {show(path)} holds features; a sound file was expected; list sound files, or choose "
            "--frontend=features --preprocess=none to train on features."
        )


def folder_of(path: str) -> str:
    """The folder that a manifest's relative paths start at.

    >>> os.path.relpath(folder_of("data/../digits"))
    'digits'
    """
    # Resolved before "../" is taken away, so that a linked folder's "../audio" is beside what it links to.
    return os.path.realpath(path)
