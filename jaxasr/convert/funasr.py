"""FunASR's model folders: those of 0.x (model.pb, with the token list in config.yaml) and of 1.x (model.pt)."""

import json
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxasr import checkpoint, config
from jaxasr.convert import torch_file
from jaxasr.convert.feature_options import WAV_FRONTENDS
from jaxasr.convert.foreign import Foreign, file_inside
from jaxasr.convert.funasr_texts import TEXT_KEYS, found_file, read_texts
from jaxasr.convert.model_options import CTC, FUNASR, read_model
from jaxasr.convert.options import read_options, section
from jaxasr.errors import CheckpointError
from jaxasr.nn.normalize import read_mvn
from jaxasr.tasks.base import TASKS

CONFIGS = ("config.yaml", "decoding.yaml")
MODELS = ("model.pt", "model.pb")
OTHER_MODELS = ("model.pt.*", "*.pb", "*.pt", "*.pth")
"""Files that training leaves beside them: of epochs, of the best ones, and their means."""
STATISTICS = "am.mvn"
CONFIGURATION = "configuration.json"
"""What the hubs of models keep beside it; of 1.x it says which files there are."""
MOST_NAMED = 20
"""Files of a folder that an error names."""

PARTS = {"model", "decoder", "ctc", *FUNASR.slots}
MODEL_KEYS = {*PARTS, *(f"{part}_conf" for part in PARTS), "input_size", "cmvn_file", *TEXT_KEYS}
"""Keys of a configuration that say what the model is."""


def is_model(folder: pathlib.Path) -> bool:
    """Whether the folder has files as FunASR names them, or a configuration as it writes them."""
    if {"config", "init_param"} <= _files(folder).keys():
        return True
    if any((folder / name).is_file() for name in MODELS) or any(folder.glob("model.pt.*")) or any(folder.glob("*.pb")):
        return True
    files = [folder / name for name in CONFIGS if (folder / name).is_file()]
    return any({"tokenizer", "split_with_space"} & config.read_yaml(file).keys() for file in files)


def read(folder: pathlib.Path, say: Callable[[str], None], *, model_file: str | None = None) -> Foreign:
    """The model in a folder.

    Args:
      say: is told what is read and what is left out.
      model_file: the file of tensors, in the folder, where it is not `MODELS`.

    Raises:
      CheckpointError: files are missing, there are several to choose from, or they cannot be read.
      ConfigError: the configuration has a part, an option or a value that jaxasr has not.
    """
    checkpoint.check_members(folder)
    files = _files(folder)
    file = folder / files.pop("config") if "config" in files else _config(folder)
    tensors = _tensors(folder, model_file or files.pop("init_param", None))
    theirs, where = config.read_yaml(file), f"{file}: "
    for name, named in files.items():
        if isinstance(named, dict):
            theirs[name] = {**section(theirs, name.removesuffix("_conf"), where), **named}
    left_out: list[str] = []
    texts = read_texts(folder, theirs, where, left_out)
    named = _named_statistics(theirs, where)
    statistics = _statistics(folder, named)
    mapping = read_model(
        FUNASR, theirs, left_out, where=where, statistics=statistics is not None and _has_sound(theirs)
    )
    read_options(CTC, section(theirs, "ctc", where), f"{where}ctc_conf.", left_out)
    task: Any = config.from_mapping(TASKS[mapping.pop("task")], mapping, where=str(file))
    needed = task.normalizer is not None and task.normalizer.needs_statistics
    if statistics is None and (needed or (named and _has_sound(theirs))):
        raise CheckpointError(
            f"{folder}: no statistics of features; {STATISTICS}, or the file that {file.name} names, was expected; "
            "copy it beside the model."
        )
    task = texts.given_to(task).with_resources(cmvn=read_mvn(statistics) if needed and statistics else None)
    task.check()
    if training := [str(key) for key in theirs if key not in MODEL_KEYS]:
        left_out.append(f"{where}options of training: {', '.join(training)}")
    version = "1.x" if "tokenizer" in theirs else "0.x"
    return Foreign(task, torch_file.read(tensors, say), f"FunASR {version}", tuple(left_out))


def _has_sound(theirs: Mapping[str, Any]) -> bool:
    """Whether the frontend is the one that normalises by itself."""
    return any(part.is_called(str(theirs.get("frontend"))) for part in WAV_FRONTENDS)


# --- files -------------------------------------------------------------------------------------------------------


def listed(folder: pathlib.Path) -> str:
    """What is in a folder, for an error."""
    names = sorted(path.name for path in folder.iterdir())
    return ", ".join(names[:MOST_NAMED]) + (" ..." if len(names) > MOST_NAMED else "") if names else "nothing"


def _files(folder: pathlib.Path) -> dict[str, Any]:
    """The files of the folder that its configuration.json names, by options of 1.x's config.yaml, in sections."""
    file = folder / CONFIGURATION
    if not file.is_file():
        return {}
    try:
        listed = json.loads(file.read_text(encoding="utf-8")).get("file_path_metas", {})
        sections = {key: _there(folder, named) for key, named in listed.items() if isinstance(named, dict)}
        return _there(folder, listed) | {key: named for key, named in sections.items() if named}
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise CheckpointError(
            f"{file}: {error}; a JSON object, with names of files under file_path_metas, was expected; remove it, if "
            "the files have their usual names."
        ) from error


def _there(folder: pathlib.Path, named: Mapping[str, Any]) -> dict[str, str]:
    return {key: name for key, name in named.items() if isinstance(name, str) and file_inside(folder, name)}


def _config(folder: pathlib.Path) -> pathlib.Path:
    for name in CONFIGS:
        if (folder / name).is_file():
            return folder / name
    raise CheckpointError(
        f"{folder}: {listed(folder)}; {' or '.join(CONFIGS)} was expected among them, which says what the model is; "
        "give the folder of a FunASR model."
    )


def _tensors(folder: pathlib.Path, model_file: str | None) -> pathlib.Path:
    """The file of tensors."""
    if model_file is not None:
        if not (folder / model_file).is_file():
            raise CheckpointError(
                f"--model_file={model_file}: {folder} has {listed(folder)}; one of these files was expected; choose "
                "one of them."
            )
        return folder / model_file
    usual = [name for name in MODELS if (folder / name).is_file()]
    others = sorted({path.name for pattern in OTHER_MODELS for path in folder.glob(pattern)})
    if len(usual) != 1:
        raise CheckpointError(
            f"{folder}: {' and '.join(usual) or listed(folder)}; either {' or '.join(MODELS)} was expected"
            f"{', beside ' + ', '.join(others) if others and not usual else ''}; name one with --model_file=NAME."
        )
    return folder / usual[0]


def _named_statistics(theirs: Mapping[str, Any], where: str) -> list[str]:
    """The files of statistics that a configuration names."""
    inside = [
        section(theirs, part, where).get(key) for part, key in (("frontend", "cmvn_file"), ("normalize", "stats_file"))
    ]
    return [str(name) for name in (theirs.get("cmvn_file"), *inside) if name]


def _statistics(folder: pathlib.Path, named: Sequence[str]) -> pathlib.Path | None:
    """The file of statistics in the folder: one of those named, or the one of the usual name."""
    found = (found_file(folder, name) for name in (*named, STATISTICS))
    return next((file for file in found if file is not None), None)
