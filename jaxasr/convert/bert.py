"""The blocks of BERT-like encoders as Hugging Face keeps them: `model.safetensors` with `config.json` beside it."""

import json
import pathlib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import jax
import numpy as np
import safetensors
from safetensors import SafetensorError

from jaxasr.convert.layers import dense, norm
from jaxasr.convert.names import convert_params
from jaxasr.errors import CheckpointError, ConfigError
from jaxasr.nn.postencoders import TransformerPostEncoder
from jaxasr.typing import Params

BERT_BLOCKS = [
    *dense("layer.{i}.attention.self.query", "blocks/attention/q/*[i]"),
    *dense("layer.{i}.attention.self.key", "blocks/attention/k/*[i]"),
    *dense("layer.{i}.attention.self.value", "blocks/attention/v/*[i]"),
    *dense("layer.{i}.attention.output.dense", "blocks/attention/out/*[i]"),
    *norm("layer.{i}.attention.output.LayerNorm", "blocks/attention_norm/*[i]"),
    *dense("layer.{i}.intermediate.dense", "blocks/ff/in/*[i]"),
    *dense("layer.{i}.output.dense", "blocks/ff/out/*[i]"),
    *norm("layer.{i}.output.LayerNorm", "blocks/ff_norm/*[i]"),
    *norm("LayerNorm", "norm/*"),
]
"""Of an encoder; the last norm is one of models that have their norms first."""

OLD_NAMES = ("LayerNorm.gamma=LayerNorm.weight", "LayerNorm.beta=LayerNorm.bias")
ENCODER = re.compile(r"(.*\.)?encoder\.(?=layer\.\d+\.)")
"""What the names of an encoder's tensors begin with, whatever it stands in (`bert.`, `roberta.`)."""

SAID = {
    "num_heads": ("num_attention_heads", "n_heads"),
    "activation": ("hidden_act", "activation"),
    "norm_epsilon": ("layer_norm_eps",),
}
"""What no tensor says of a post-encoder's options, and Hugging Face's names for it."""
ACTIVATIONS = {"silu": "swish"}


def renamed(name: str, names_map: Sequence[str]) -> str:
    """A tensor's name after every ``THEIRS=BERT'S`` of the map, each a part of a name between two dots."""
    for pair in names_map:
        theirs, _, bert = pair.partition("=")
        name = re.sub(rf"(?<![^.]){re.escape(theirs)}(?![^.])", bert, name)
    return name


def read_blocks(postencoder: TransformerPostEncoder, shapes: Params, say: Callable[[str], None]) -> Params:
    """The parameters that `postencoder.weights` has for it, in float32; `say` is told what of the file is left out.

    Args:
      shapes: of the post-encoder's parameters.

    Raises:
      CheckpointError: the file cannot be read, is of other blocks, or lacks some of theirs.
      ConfigError: `config.json` beside it says otherwise than the options, or `weights_map` is none.
    """
    assert postencoder.weights is not None
    if bad := [pair for pair in postencoder.weights_map if not re.fullmatch("[^=]+=[^=]+", pair)]:
        raise ConfigError(
            f"--postencoder.weights_map: {bad[0]!r}; THEIRS=BERTS was expected, two names of the same tensors; such as "
            "transformer.layer=encoder.layer."
        )
    file = pathlib.Path(postencoder.weights)
    file = file / "model.safetensors" if file.is_dir() else file
    _check_options(file.with_name("config.json"), postencoder)
    opened = _open(file)
    names = {name: renamed(name, (*postencoder.weights_map, *OLD_NAMES)) for name in opened.keys()}  # noqa: SIM118
    prefix = _prefix(file, names.values())
    inside = {name: new.removeprefix(prefix) for name, new in names.items() if new.startswith(prefix)}
    _check_names(file, prefix, set(inside.values()), postencoder)
    tensors = {new: np.asarray(opened.get_tensor(name), np.float32) for name, new in inside.items()}
    params = convert_params(tensors, BERT_BLOCKS)
    _check_shapes(file, params, {name: shapes[name] for name in params})
    left_out = sorted({name.rsplit(".", 1)[0] for name in names.keys() - inside.keys()})
    say(f"{file}: {len(inside)} tensors of {postencoder.num_layers} blocks; left out: {', '.join(left_out) or 'none'}")
    return params


def _open(file: pathlib.Path) -> Any:
    try:
        return safetensors.safe_open(file, framework="numpy")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"--postencoder.weights={file}: {error}; a safetensors file of a BERT-like model, or a folder with "
            "model.safetensors, was expected; give another path."
        ) from error


def _check_options(file: pathlib.Path, postencoder: TransformerPostEncoder) -> None:
    """Raises where `file`, if it is there, says of the blocks what their tensors do not, and the options otherwise."""
    if not file.exists():
        return
    try:
        said = json.loads(file.read_text())
    except ValueError as error:
        raise CheckpointError(
            f"{file}: {error}; a model's configuration in JSON was expected; copy the model anew."
        ) from error
    for option, keys in SAID.items():
        expected = [ACTIVATIONS.get(said[key], said[key]) for key in keys if key in said]
        if expected and (found := getattr(postencoder, option)) != expected[0]:
            raise ConfigError(
                f"--postencoder.{option}={found}: {file} has {expected[0]}; the same was expected; give "
                f"--postencoder.{option}={expected[0]}."
            )


def _prefix(file: pathlib.Path, names: Iterable[str]) -> str:
    """What the names of the file's one encoder begin with."""
    prefixes = sorted({match[0] for name in names if (match := ENCODER.match(name))})
    if len(prefixes) != 1:
        raise CheckpointError(
            f"{file}: {' and '.join(prefixes) or 'no encoder.layer.0.'} in its tensors' names; those of one encoder "
            "were expected; map the names to BERT's with --postencoder.weights_map."
        )
    return prefixes[0]


def _check_names(file: pathlib.Path, prefix: str, found: set[str], postencoder: TransformerPostEncoder) -> None:
    """Raises unless the file has all tensors of the encoder's blocks and no others of theirs."""
    norms = () if postencoder.norm_first else ("LayerNorm.",)
    expected = {
        rule.theirs.replace("{i}", str(layer))
        for rule in BERT_BLOCKS
        if not rule.theirs.startswith(norms)
        for layer in range(postencoder.num_layers)
    }
    if missing := sorted(expected - found):
        raise CheckpointError(
            f"{file}: no {prefix}{missing[0]} ({len(missing)} tensors are missing); all of "
            f"{postencoder.num_layers} blocks were expected; change --postencoder.num_layers, or map their names with "
            "--postencoder.weights_map."
        )
    if others := sorted(found - expected):
        raise CheckpointError(
            f"{file}: {prefix}{others[0]} ({len(others)} tensors have no place); only those of "
            f"{postencoder.num_layers} blocks as BERT's were expected; change --postencoder.num_layers, or choose "
            "another model."
        )


def _check_shapes(file: pathlib.Path, params: Params, shapes: Params) -> None:
    expected = {path: leaf.shape for path, leaf in jax.tree_util.tree_leaves_with_path(shapes)}
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if leaf.shape != expected[path]:
            raise CheckpointError(
                f"{file}: {jax.tree_util.keystr(path, simple=True, separator='/')} is {leaf.shape}, layers first; "
                f"{expected[path]} was expected; change --postencoder.d_model or --postencoder.d_ff."
            )
