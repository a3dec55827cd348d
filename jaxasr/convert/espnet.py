"""ESPnet2's models of the task `asr`: the `exp/asr_train_...` of a recipe, or a folder of the model zoo."""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxasr import checkpoint, config
from jaxasr.convert import torch_file
from jaxasr.convert.espnet_options import CTC, ESPNET, PREPROCESSOR, TEXT
from jaxasr.convert.espnet_tokens import in_our_order, read_tokens
from jaxasr.convert.foreign import Foreign, file_inside
from jaxasr.convert.model_options import read_model
from jaxasr.convert.options import read_options
from jaxasr.data import subwords, textfile
from jaxasr.data.tokenizer import BpeTokenizer
from jaxasr.errors import CheckpointError
from jaxasr.nn.normalize import Cmvn
from jaxasr.tasks.asr import AsrTask

PARAMETERS = ("valid.acc.ave.pth", "valid.acc.ave_*.pth", "*.ave*.pth", "*.pth")
"""The files that parameters are looked for in, one kind after the other; recipes decode with the first."""
STATE = "checkpoint.pth"
"""What training goes on from; its parameters are not those of the best models."""


def is_model(folder: pathlib.Path) -> bool:
    """Whether the folder, or one in it, has files as ESPnet names them."""
    return bool(_configs(folder))


def read(folder: pathlib.Path, say: Callable[[str], None], *, model_file: str | None = None) -> Foreign:
    """The model in a folder, its tensors with our tokens.

    Args:
      say: is told what is read and what is left out.
      model_file: the file of parameters, beside config.yaml, where it is not the first of `PARAMETERS`.

    Raises:
      CheckpointError: files are missing, there are several to choose from, or they do not belong together.
      ConfigError: the configuration has a part, an option or a value that jaxasr has not.
    """
    file, theirs = _config(folder)
    checkpoint.check_members(file.parent)
    tokens = read_tokens(theirs["token_list"], str(file))
    fields, left_out = fields_of(theirs, f"{file}: ")
    parameters = _parameters(file.parent, model_file)
    tensors = in_our_order(torch_file.read(parameters, say), tokens, str(parameters))
    tokenizer = fields["tokenizer"]["type"]
    if tokenizer == "char" and (symbols := theirs.get("non_linguistic_symbols")):
        listed = _found(symbols, "non_linguistic_symbols", folder, file)
        fields["non_linguistic_symbols"] = textfile.lines(listed)
    task = config.from_mapping(AsrTask, fields, where=str(file))
    if tokenizer == "bpe":
        content = subwords.read(_found(theirs.get("bpemodel"), "bpemodel", folder, file))
        task = dataclasses.replace(task, tokenizer=BpeTokenizer(content=content))
    cmvn = _statistics(tensors, str(parameters)) if task.normalizer and task.normalizer.needs_statistics else None
    task = task.with_resources(vocabulary=tokens.vocabulary, cmvn=cmvn)
    task.check()
    return Foreign(task, tensors, f"ESPnet {theirs.get('version', '2')}", left_out)


def fields_of(theirs: Mapping[str, Any], where: str) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The fields of our task that their configuration gives, of which an error begins with `where`; what is left out.

    Raises:
      ConfigError: it has an option that is unknown, or that is not what ours does.
    """
    left_out: list[str] = []
    fields = read_model(ESPNET, theirs, left_out, where=where, statistics=False)
    fields.pop("task")
    if fields.get("interctc_weight") == 0.0 and not fields["interctc_conditioning"]:
        for name in ("interctc_conditioning", "interctc_weight", "interctc_layers"):
            value = fields.pop(name)
        left_out.append(f"{where}encoder_conf.interctc_layer_idx={value}, whose weight is 0")
    texts = {key: theirs[key] for option in TEXT for key in option.theirs if key in theirs}
    fields |= read_options(TEXT, texts, where, left_out)
    sound = read_options(PREPROCESSOR, theirs.get("preprocessor_conf") or {}, f"{where}preprocessor_conf.", left_out)
    fields |= sound if fields["frontend"]["type"] != "features" else {}
    read_options(CTC, theirs.get("ctc_conf") or {}, f"{where}ctc_conf.", left_out)
    parts = {"model", "decoder", "preprocessor", "ctc", *ESPNET.slots}
    known = {*texts, *parts, *(f"{part}_conf" for part in parts), "token_list", "input_size"}
    if training := [str(key) for key in theirs if key not in known]:
        left_out.append(f"{where}options of training: {', '.join(training)}")
    return fields, tuple(left_out)


def _statistics(tensors: Mapping[str, np.ndarray], where: str) -> Cmvn:
    """Those of feats_stats.npz, which the network has among its tensors."""
    names = ("normalize.mean", "normalize.std")
    if not tensors.keys() >= {*names}:
        raise CheckpointError(
            f"{where}: no normalize.mean and normalize.std; the statistics of global_mvn were expected, which ESPnet "
            "saves with the parameters; give the file that ESPnet wrote."
        )
    mean, std = (np.asarray(tensors[name], np.float64) for name in names)
    return Cmvn((-mean).astype(np.float32), (1.0 / np.maximum(std, 1e-5)).astype(np.float32))


# --- files -------------------------------------------------------------------------------------------------------


def _configs(folder: pathlib.Path) -> dict[pathlib.Path, dict[str, Any]]:
    """config.yaml of the folder, or those beneath, of models that read sound and say tokens, with what they say."""
    at_top = folder / "config.yaml"
    files = [at_top] if at_top.is_file() else sorted(folder.rglob("config.yaml"))
    found = {file: config.read_yaml(file) for file in files if any(file.parent.glob("*.pth"))}
    return {file: theirs for file, theirs in found.items() if {"token_list", "encoder", "ctc_conf"} <= theirs.keys()}


def _config(folder: pathlib.Path) -> tuple[pathlib.Path, dict[str, Any]]:
    found = _configs(folder)
    if len(found) != 1:
        files = ", ".join(map(str, found)) or "none"
        raise CheckpointError(
            f"{folder}: {len(found)} config.yaml of ESPnet's task asr with a .pth ({files}); one was expected, in the "
            "folder or beneath it; give the folder of one model."
        )
    return next(iter(found.items()))


def _parameters(folder: pathlib.Path, model_file: str | None) -> pathlib.Path:
    """The file of parameters: an average of the best, if there is one."""
    found: list[pathlib.Path] = []
    for pattern in PARAMETERS if model_file is None else (pathlib.Path(model_file).name,):
        links = [path for path in folder.glob(pattern) if path.name != STATE or model_file is not None]
        found = found or sorted({path.resolve() for path in links})
    if len(found) != 1:
        there = sorted(path.name for path in found or folder.glob("*.pth"))
        raise CheckpointError(
            f"{folder}: {', '.join(there)}; one file of parameters was expected, such as "
            "valid.acc.ave.pth, or the one that --model_file names; give --model_file=NAME."
        )
    return found[0]


def _found(name: Any, key: str, folder: pathlib.Path, file: pathlib.Path) -> pathlib.Path:
    """The file that config.yaml names, from where the recipe was run, or the folder on, or of that name beneath it.

    A recipe is run where its `exp` is. What leads out of these folders is not looked at.
    """
    path, exp = pathlib.Path(str(name)), file.resolve().parent.parent
    for base in (file.parent, folder, *([exp.parent] if exp.name == "exp" else [])):
        if (there := file_inside(base, path)) is not None:
            return there
    beneath = (other.relative_to(folder) for other in folder.rglob("*") if other.name == path.name)
    found = sorted(there for other in beneath if (there := file_inside(folder, other)) is not None)
    if len(found) != 1:
        raise CheckpointError(
            f"{file}: {key}={name}: {len(found)} files {path.name} in {folder}; one was expected there; copy it beside "
            "config.yaml."
        )
    return found[0]
