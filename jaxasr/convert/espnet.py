"""ESPnet2's models of the task `asr`: the `exp/asr_train_...` of a recipe, or a folder of the model zoo."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxasr import config
from jaxasr.convert import torch_file
from jaxasr.convert.espnet_options import CTC, ESPNET, PREPROCESSOR, TEXT
from jaxasr.convert.espnet_tokens import in_our_order, read_tokens
from jaxasr.convert.model_options import read_model
from jaxasr.convert.options import Option, read_options
from jaxasr.data import subwords, textfile
from jaxasr.errors import CheckpointError
from jaxasr.nn.normalize import Cmvn
from jaxasr.tasks.asr import AsrTask

PARAMETERS = ("valid.acc.ave.pth", "valid.acc.ave_*.pth", "*.ave*.pth", "*.pth")
"""The files that parameters are looked for in, one kind after the other; recipes decode with the first."""


def is_model(folder: pathlib.Path) -> bool:
    """Whether the folder, or one in it, has a model's config.yaml as ESPnet writes it."""
    return bool(_configs(folder))


def read(folder: pathlib.Path, say: Callable[[str], None]) -> tuple[AsrTask, dict[str, np.ndarray]]:
    """The task of a folder, with its vocabulary and statistics, and its tensors with our tokens.

    Raises:
      CheckpointError: files are missing, or do not belong together.
      ConfigError: the model is not one that ours can be.
    """
    file = _config(folder)
    theirs = config.read_yaml(file)
    tokens = read_tokens(theirs["token_list"], str(file))
    parameters = _parameters(file.parent)
    tensors = in_our_order(torch_file.read(parameters, say), tokens, str(parameters))
    fields = fields_of(theirs, f"{file}: ", say)
    tokenizer = fields["tokenizer"]["type"]
    if tokenizer == "char" and (symbols := theirs.get("non_linguistic_symbols")):
        listed = _found(symbols, "non_linguistic_symbols", folder, file)
        fields["non_linguistic_symbols"] = textfile.lines(listed)
    task = config.from_mapping(AsrTask, fields, where=str(file))
    if tokenizer == "bpe":
        content = subwords.read(_found(theirs.get("bpemodel"), "bpemodel", folder, file))
        task = dataclasses.replace(task, tokenizer=dataclasses.replace(task.tokenizer, content=content))
    cmvn = _statistics(tensors, str(parameters)) if task.normalizer and task.normalizer.needs_statistics else None
    return task.with_resources(vocabulary=tokens.vocabulary, cmvn=cmvn), tensors


def fields_of(theirs: Mapping[str, Any], where: str, say: Callable[[str], None]) -> dict[str, Any]:
    """The fields of our task that their configuration gives, of which an error begins with `where`.

    Raises:
      ConfigError: it has an option that is unknown, or that is not what ours does.
    """
    left_out: list[str] = []
    fields = read_model(ESPNET, theirs, left_out, where=where, statistics=False)
    fields.pop("task")
    if fields.get("interctc_weight") == 0.0 and not fields.get("interctc_conditioning"):
        left_out.append(f"interctc_layer_idx={fields.pop('interctc_layers')} of weight {fields.pop('interctc_weight')}")
    names = {key for option in TEXT for key in option.theirs}
    fields |= read_options(TEXT, {key: theirs[key] for key in names & theirs.keys()}, where, left_out)
    sound = read_options(PREPROCESSOR, theirs.get("preprocessor_conf") or {}, f"{where}preprocessor_conf.", left_out)
    fields |= sound if fields["frontend"]["type"] != "features" else {}
    read_options(CTC, theirs.get("ctc_conf") or {}, f"{where}ctc_conf.", left_out)
    if left_out:
        say(f"{where}left out, since it changes nothing that is trained: {', '.join(left_out)}")
    parts = {"model", "decoder", *ESPNET.slots}
    read = names | parts | {f"{part}_conf" for part in (*parts, "preprocessor", "ctc")}
    read |= {"token_list", "bpemodel", "non_linguistic_symbols", "input_size"}
    say(f"{where}left out, since it is for training: {', '.join(key for key in theirs if key not in read)}")
    return fields


def _statistics(tensors: Mapping[str, np.ndarray], where: str) -> Cmvn:
    """Those of feats_stats.npz, which the network has among its tensors."""
    names = ("normalize.mean", "normalize.std")
    if not tensors.keys() >= {*names}:
        raise CheckpointError(
            f"{where}: no {' and '.join(names)}; the statistics of global_mvn were expected, which ESPnet saves with "
            "the parameters; give the file that ESPnet wrote."
        )
    mean, std = (np.asarray(tensors[name], np.float64) for name in names)
    return Cmvn((-mean).astype(np.float32), (1.0 / np.maximum(std, 1e-5)).astype(np.float32))


# --- files -------------------------------------------------------------------------------------------------------


def _configs(folder: pathlib.Path) -> list[pathlib.Path]:
    """The config.yaml of the folder, or those beneath, of models that read sound and say tokens."""
    at_top = folder / "config.yaml"
    files = [at_top] if at_top.is_file() else sorted(folder.rglob("config.yaml"))
    return [file for file in files if {"token_list", "encoder", "ctc_conf"} <= config.read_yaml(file).keys()]


def _config(folder: pathlib.Path) -> pathlib.Path:
    files = _configs(folder)
    if len(files) != 1:
        raise CheckpointError(
            f"{folder}: {len(files)} config.yaml of ESPnet's task asr {' '.join(map(str, files))}; one was expected, in "
            "the folder or beneath it; give the folder of one model."
        )
    return files[0]


def _parameters(folder: pathlib.Path) -> pathlib.Path:
    """The file of parameters: an average of the best, if there is one."""
    for pattern in PARAMETERS:
        found = sorted({path.resolve() for path in folder.glob(pattern)} - {(folder / "checkpoint.pth").resolve()})
        if len(found) == 1:
            return found[0]
        if found:
            raise CheckpointError(
                f"{folder}: {', '.join(path.name for path in found)}; one {pattern} was expected; put the one to "
                "convert, with config.yaml, into a folder of its own."
            )
    raise CheckpointError(
        f"{folder}: no .pth file; parameters as ESPnet writes them, such as {PARAMETERS[0]}, were expected beside "
        "config.yaml; put them there."
    )


def _found(name: Any, key: str, folder: pathlib.Path, file: pathlib.Path) -> pathlib.Path:
    """The file that config.yaml names, from where the recipe was run, or the folder on, or of that name beneath it."""
    path = pathlib.Path(str(name))
    for base in (file.parent, folder, *file.parent.resolve().parents[1:2]):
        if (base / path).is_file():
            return base / path
    found = sorted(folder.rglob(path.name))
    if len(found) != 1:
        raise CheckpointError(
            f"{file}: {key}={name}: {len(found)} files {path.name} in {folder}; one was expected there; copy it beside "
            "config.yaml."
        )
    return found[0]
