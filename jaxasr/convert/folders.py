"""Model folders: another toolkit's as one of ours, and ours as one of FunASR's."""

import contextlib
import os
import pathlib
import shutil
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import yaml

from jaxasr import checkpoint
from jaxasr.convert import espnet, funasr, torch_file
from jaxasr.convert.foreign import Foreign
from jaxasr.convert.funasr_texts import Texts, write_texts
from jaxasr.convert.model_options import FUNASR, write_model
from jaxasr.convert.models import rules_of
from jaxasr.convert.names import Rule, convert_params, left_out, theirs_of
from jaxasr.errors import CheckpointError, JaxasrError
from jaxasr.nn.normalize import write_kaldi_mvn
from jaxasr.typing import Params


def read(folder: pathlib.Path, say: Callable[[str], None], *, model_file: str | None = None) -> Foreign:
    """The model in a folder of another toolkit's.

    Raises:
      CheckpointError: there is none, or its files cannot be read or do not belong together.
      ConfigError: it is not one that ours can be.
    """
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder}: no folder; that of a model was expected, on this machine; download it first, or give another."
        )
    if (folder / checkpoint.PARAMS_FILE).exists() or (folder / "model" / checkpoint.PARAMS_FILE).exists():
        raise CheckpointError(
            f"{folder}: a model of jaxasr's already; another toolkit's was expected; add --to=funasr for the way back."
        )
    for reader in (funasr, espnet):
        if reader.is_model(folder):
            return reader.read(folder, say, model_file=model_file)
    raise CheckpointError(
        f"{folder}: {funasr.listed(folder)}; config.yaml with model.pt or model.pb (FunASR), or with a .pth (ESPnet), "
        "was expected among them; give the folder of a model."
    )


def params_of(foreign: Foreign) -> Params:
    """The parameters of its task's network.

    Raises:
      CheckpointError: the tensors are not those of the task.
      ConfigError: theirs has no such part.
    """
    shapes = {
        name: jax.ShapeDtypeStruct(shape, np.float32) for name, shape in checkpoint.flatten_shapes(foreign.task).items()
    }
    return convert_params(foreign.tensors, _rules(foreign), checkpoint.unflatten(shapes))


def _rules(foreign: Foreign) -> list[Rule]:
    return rules_of(foreign.task, "espnet" if foreign.toolkit.startswith("ESPnet") else "funasr")


def lost(foreign: Foreign) -> list[str]:
    """Names of tensors that a task has no use for."""
    return left_out(foreign.tensors, _rules(foreign))


@contextlib.contextmanager
def new_folder(path: pathlib.Path) -> Iterator[pathlib.Path]:
    """A folder that becomes `path` in the end, and is gone after an error.

    Raises:
      CheckpointError: there is something at `path`, or it cannot be written.
    """
    if path.exists() and not (path.is_dir() and not any(path.iterdir())):
        raise CheckpointError(
            f"{path}: there already, and not empty; a new folder was expected, so that no model is written over; "
            "give another, or remove it."
        )
    target = path.resolve()
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        temporary.rename(target)
    except OSError as error:
        raise CheckpointError(
            f"{path}: {error.strerror}; a folder to write in was expected, and room for it; free some, or choose "
            "another."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def to_jaxasr(
    source: str | pathlib.Path, folder: str | pathlib.Path, say: Callable[[str], None], *, model_file: str | None = None
) -> Foreign:
    """Writes a model of another toolkit as one of ours; returns what it was.

    Raises:
      CheckpointError, ConfigError: as `read`, `params_of` and `new_folder`.
    """
    with new_folder(pathlib.Path(folder)) as temporary:
        foreign = read(pathlib.Path(source), say, model_file=model_file)
        with _naming(source):
            params = params_of(foreign)
        checkpoint.save_model(temporary, foreign.task, params)
    return foreign


def to_funasr(source: str | pathlib.Path, folder: str | pathlib.Path) -> list[str]:
    """Writes a model of ours as a folder of FunASR's 1.x; returns what that has no words for.

    Raises:
      CheckpointError: there is no model, or it cannot be written.
      ConfigError: FunASR has no such task, part or option.
    """
    said: list[str] = []
    with new_folder(pathlib.Path(folder)) as temporary:
        task, params = checkpoint.load_model(source)
        with _naming(source):
            write_funasr(temporary, task, params, said)
    return said


def write_funasr(folder: pathlib.Path, task: Any, params: Params, said: list[str]) -> None:
    """model.pt, config.yaml, tokens.json, am.mvn and the tokenizer's files, as FunASR 1.x has them."""
    options = write_model(FUNASR, task, said)
    options |= write_texts(folder, Texts(task.vocabulary, task.tokenizer))
    if task.cmvn is not None:
        write_kaldi_mvn(folder / funasr.STATISTICS, task.cmvn)
    torch_file.write(folder / "model.pt", theirs_of(params, rules_of(task)))
    written = yaml.safe_dump(options, sort_keys=False, allow_unicode=True)
    (folder / "config.yaml").write_text(written, encoding="utf-8")


@contextlib.contextmanager
def _naming(source: str | pathlib.Path) -> Iterator[None]:
    """Errors inside begin with the folder."""
    try:
        yield
    except JaxasrError as error:
        raise type(error)(f"{source}: {error}") from error
