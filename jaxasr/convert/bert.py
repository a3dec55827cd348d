"""The blocks of BERT-like encoders as Hugging Face keeps them: `model.safetensors` with `config.json` beside it."""

import json
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import jax
import numpy as np
import safetensors
from safetensors import SafetensorError

from jaxasr.convert.layers import dense, norm
from jaxasr.convert.names import convert_params
from jaxasr.errors import CheckpointError, ConfigError
from jaxasr.nn.activations import ACTIVATIONS
from jaxasr.nn.postencoders import TransformerPostEncoder
from jaxasr.params import check_header
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
ACTIVATION_NAMES = {
    "silu": "swish",
    "gelu_python": "gelu",
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_accurate", "gelu_pytorch_tanh"), "gelu_tanh"),
}
"""Hugging Face's names for those that have others here."""


def renamed(name: str, names_map: Sequence[str]) -> str:
    """A tensor's name after every ``THEIRS=BERT'S`` of the map, each a part of a name between two dots.

    >>> renamed("text_encoder.layer.0", ["text_encoder=encoder"])
    'encoder.layer.0'
    """
    for pair in names_map:
        theirs, _, bert = pair.partition("=")
        name = re.sub(rf"(?<![^.]){re.escape(theirs)}(?![^.])", lambda _, bert=bert: bert, name)
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
    _check_once(file, prefix, inside)
    _check_names(file, prefix, set(inside.values()), postencoder)
    params = convert_params({new: _tensor(file, opened, name) for name, new in inside.items()}, BERT_BLOCKS)
    _check_shapes(file, params, {name: shapes[name] for name in params})
    left_out = sorted({name.rsplit(".", 1)[0] for name in names.keys() - inside.keys()})
    say(f"{file}: {len(inside)} tensors of {postencoder.num_layers} blocks; left out: {', '.join(left_out) or 'none'}")
    return params


def _open(file: pathlib.Path) -> Any:
    try:
        check_header(file)
        return safetensors.safe_open(file, framework="numpy")
    except (OSError, SafetensorError) as error:
        raise CheckpointError(
            f"--postencoder.weights={file}: {error}; a safetensors file of a BERT-like model, or a folder with "
            "model.safetensors, was expected; give another path."
        ) from error


def _tensor(file: pathlib.Path, opened: Any, name: str) -> np.ndarray:
    try:
        return opened.get_tensor(name)
    except (SafetensorError, AttributeError, TypeError) as error:  # NumPy has no dtype for some
        raise CheckpointError(
            f"{file}: {name}: {error}; numbers in float32 or half precision were expected; choose a model that is not "
            "quantized."
        ) from error


def _check_options(file: pathlib.Path, postencoder: TransformerPostEncoder) -> None:
    """Raises where `file`, if it is there, says of the blocks what their tensors do not, and the options otherwise."""
    if not file.exists():
        return
    said = _read_config(file)
    for option, keys in SAID.items():
        key = next((key for key in keys if key in said), None)
        if key is None:
            continue
        expected = _our_name(file, key, said[key]) if option == "activation" else said[key]
        if (found := getattr(postencoder, option)) != expected:
            raise ConfigError(
                f"--postencoder.{option}={found}: {file} has {expected}; the same was expected; give "
                f"--postencoder.{option}={expected}."
            )


def _read_config(file: pathlib.Path) -> dict[str, Any]:
    try:
        said = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{file}: {error}; a model's configuration in JSON was expected; copy the model anew."
        ) from error
    if not isinstance(said, dict):
        raise CheckpointError(
            f"{file}: a {type(said).__name__} in JSON; a model's configuration, a dictionary, was expected; copy the "
            "model anew."
        )
    return said


def _our_name(file: pathlib.Path, key: str, activation: Any) -> str:
    name = ACTIVATION_NAMES.get(str(activation), str(activation))
    if name not in ACTIVATIONS:
        raise CheckpointError(
            f"{file}: {key} is {activation}; one of {', '.join((*ACTIVATIONS, *ACTIVATION_NAMES))} was expected; "
            "choose another model."
        )
    return name


def _prefix(file: pathlib.Path, names: Iterable[str]) -> str:
    """What the names of the file's one encoder begin with."""
    prefixes = sorted({match[0] for name in names if (match := ENCODER.match(name))})
    if len(prefixes) != 1:
        raise CheckpointError(
            f"{file}: {' and '.join(prefixes) or 'no encoder.layer.0.'} in its tensors' names; those of one encoder "
            "were expected; map the names to BERT's with --postencoder.weights_map."
        )
    return prefixes[0]


def _check_once(file: pathlib.Path, prefix: str, names: Mapping[str, str]) -> None:
    """Raises where two tensors have come to one of BERT's names."""
    first: dict[str, str] = {}
    for name, new in names.items():
        if (other := first.setdefault(new, name)) != name:
            raise CheckpointError(
                f"{file}: {other} and {name} are both {prefix}{new}; one of them was expected; change "
                "--postencoder.weights_map, or remove one from the file."
            )


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
