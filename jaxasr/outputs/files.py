"""The files of hypotheses in an output folder, and beside them what they were made with."""

import dataclasses
import hashlib
import pathlib
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import rich.console
import yaml

from jaxasr import checkpoint
from jaxasr.data.textfile import few
from jaxasr.errors import ConfigError, DataError
from jaxasr.hypothesis import Hypothesis
from jaxasr.outputs.formats import FORMATS, USUAL
from jaxasr.versions import versions

LONGEST_NAME = 200
"""Bytes; file systems take 255, with the suffix and what a file is called before it is whole."""
LONGEST_PATH = 2000
"""Bytes of an id with its slashes; systems take 4096, or 1024, with the folder."""


def write(folder: pathlib.Path, hypotheses: Sequence[Hypothesis], formats: Sequence[str] = USUAL) -> None:
    """Writes hypotheses (with their words, where a format has them) in each of the `FORMATS`.

    Raises:
      DataError: an id cannot name a file in the folder.
      CheckpointError: a file cannot be written.
    """
    for name in formats:
        form = FORMATS[name]
        if form.name is not None:
            checkpoint.write_atomically(folder / form.name, "".join(map(form.of, hypotheses)).encode())
            continue
        for said in hypotheses:  # of which there may be very many, each a wait for the disk if synced
            checkpoint.write_atomically(file_of(folder, said.id, name), form.of(said).encode(), synced=False)


def file_of(folder: pathlib.Path, utterance_id: str, form: str) -> pathlib.Path:
    """`ID.FORMAT` in the folder, or below it where the id has slashes.

    Raises:
      DataError: the id names no file in the folder.
    """
    parts = utterance_id.split("/")
    name = utterance_id.encode(errors="surrogatepass")
    too_long = max(map(len, name.split(b"/"))) > LONGEST_NAME or len(name) > LONGEST_PATH
    no_names = {"", ".", ".."} & {*parts} or utterance_id != name.decode(errors="replace") or "\0" in utterance_id
    file = folder / f"{utterance_id}.{form}"
    if too_long or no_names or _leads_away(folder, file):
        raise DataError(
            f"{utterance_id!r}: an id that names no file in {folder}; one without . or .. between its slashes, none at "
            f"its ends and at most {LONGEST_NAME} bytes between them was expected, since --formats={form} writes a "
            "file for every id; change it, or take text, jsonl or ctm."
        )
    return file


def _leads_away(folder: pathlib.Path, file: pathlib.Path) -> bool:
    """Whether links in the folder lead out of it, or the id is a path by the rules of another system."""
    return not file.parent.resolve().is_relative_to(folder.resolve())


def check_ids(folder: pathlib.Path, ids: Iterable[str], formats: Sequence[str]) -> None:
    """Raises DataError where an id cannot name the files that these formats need, before anything is computed."""
    if each := [name for name in formats if FORMATS[name].name is None]:
        for utterance_id in ids:
            file_of(folder, utterance_id, each[0])


def make_folder(path: str) -> None:
    """Makes the folder of `--output`, so that what is wrong with it shows before anything is computed.

    Raises:
      ConfigError: it cannot be made, or not be written in.
    """
    try:
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=path).close()
    except OSError as error:
        raise ConfigError(
            f"--output={path}: {error.strerror}; a folder to write in was expected; give another."
        ) from error


def write_options(file: pathlib.Path, options: Any) -> None:
    """Writes every option (a dataclass), the versions, and which models and files were asked, by path and SHA-256."""
    given = flat(dataclasses.asdict(options))
    models = {name: _model(given[name]) for name in ("model", "lm") if given.get(name) is not None}
    asked = {name: _file(given[name]) for name in ("ngram", "hotwords") if given.get(name) is not None}
    content = {"options": given, **models, **asked, "versions": versions()}
    checkpoint.write_atomically(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())


def _model(path: str) -> dict[str, str]:
    folder = checkpoint.model_folder(path)
    return {"folder": str(folder.resolve()), "sha256": _file(folder / checkpoint.PARAMS_FILE)["sha256"]}


def _file(path: str | pathlib.Path) -> dict[str, str]:
    with open(path, "rb") as file:
        return {"file": str(pathlib.Path(path).resolve()), "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as they stand on the command line, those of a section among the others.

    >>> flat({"model": "exp/mine", "search": {"beam": 10}})
    {'model': 'exp/mine', 'beam': 10}
    """
    sections = [value if isinstance(value, Mapping) else {name: value} for name, value in options.items()]
    return {name: value for section in sections for name, value in section.items()}


def shown_on(console: rich.console.Console) -> rich.console.Console | None:
    """The console, where it is a terminal that may show a progress bar."""
    return console if console.is_terminal and not console.quiet else None


def tell(hypotheses: Sequence[Hypothesis], took: float, console: rich.console.Console) -> None:
    """Says how fast they were found (audio seconds a second, and its inverse), and what is to be known of single ones.

    That is which have no times, and how much of sound that was cut into segments was not listened to.
    """
    sound = sum(said.seconds or 0.0 for said in hypotheses)
    speed = f": {sound / took:.1f} audio seconds per second, real-time factor {took / sound:.4f}" if sound else ""
    lines = [f"{len(hypotheses)} utterances, {sound:.1f} s of sound in {took:.1f} s, compiling included{speed}"]
    ids = [said.id for said in hypotheses if said.times is None]
    if 0 < len(ids) < len(hypotheses):
        lines.append(f"{len(ids)} of them without times, for CTC has no path of their tokens: {few(ids)}")
    for said in hypotheses:
        if said.silence is not None:
            lines.append(f"{said.id}: {100 * said.silence:.1f} % of the sound was taken for silence")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
