"""Activation functions by the names that FunASR and ESPnet give them; `gelu_tanh` approximates `gelu` by a tanh."""

import functools
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import jax

from jaxasr.typing import Array

Activation: TypeAlias = Literal["relu", "swish", "gelu", "gelu_tanh", "selu", "tanh", "hardtanh"]

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "swish": jax.nn.silu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "gelu_tanh": functools.partial(jax.nn.gelu, approximate=True),
    "selu": jax.nn.selu,
    "tanh": jax.numpy.tanh,
    "hardtanh": jax.nn.hard_tanh,
}
