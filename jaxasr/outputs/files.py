"""The files of hypotheses in an output folder, and beside them what they were made with."""

import dataclasses
import hashlib
import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

import rich.console
import yaml

from jaxasr import checkpoint
from jaxasr.data.textfile import few
from jaxasr.errors import ConfigError, DataError
from jaxasr.hypothesis import Hypothesis
from jaxasr.outputs.formats import FORMATS, USUAL
from jaxasr.versions import versions


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
        for said in hypotheses:
            checkpoint.write_atomically(file_of(folder, said.id, name), form.of(said).encode())


def file_of(folder: pathlib.Path, utterance_id: str, form: str) -> pathlib.Path:
    """`ID.FORMAT` in the folder, or below it where the id has slashes."""
    parts = utterance_id.split("/")
    if not all(parts) or ".." in parts or "\0" in utterance_id:
        raise DataError(
            f"{utterance_id!r}: an id that names no file in {folder}; one without .. or / at its ends was expected, "
            f"since --formats={form} writes a file for every id; change it, or take text, jsonl or ctm."
        )
    return folder / f"{utterance_id}.{form}"


def make_folder(path: str) -> None:
    """Makes the folder of `--output`, so that what is wrong with it shows before anything is computed."""
    try:
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--output={path}: {error.strerror}; a folder to write in was expected; give another."
        ) from error


def write_options(file: pathlib.Path, options: Any, model: str, **more: Mapping[str, Any]) -> None:
    """Writes every option (a dataclass), which model it was, by folder and SHA-256, and the versions."""
    folder = checkpoint.model_folder(model)
    with (folder / checkpoint.PARAMS_FILE).open("rb") as params:
        digest = hashlib.file_digest(params, "sha256").hexdigest()
    content = {
        "options": _flat(dataclasses.asdict(options)),
        **more,
        "model": {"folder": str(folder.resolve()), "sha256": digest},
        "versions": versions(),
    }
    checkpoint.write_atomically(file, yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode())


def _flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as they stand on the command line, those of a section among the others."""
    sections = [value if isinstance(value, Mapping) else {name: value} for name, value in options.items()]
    return {name: value for section in sections for name, value in section.items()}


def tell(hypotheses: Sequence[Hypothesis], took: float, console: rich.console.Console) -> None:
    """Says how fast they were found (audio seconds a second, and its inverse), and which of them have no times."""
    sound = sum(said.seconds or 0.0 for said in hypotheses)
    speed = f": {sound / took:.1f} audio seconds per second, real-time factor {took / sound:.4f}" if sound else ""
    lines = [f"{len(hypotheses)} utterances, {sound:.1f} s of sound in {took:.1f} s, compiling included{speed}"]
    ids = [said.id for said in hypotheses if said.times is None]
    if 0 < len(ids) < len(hypotheses):
        lines.append(f"{len(ids)} of them without times, for CTC has no path of their tokens: {few(ids)}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
