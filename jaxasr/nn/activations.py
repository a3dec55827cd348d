"""Activation functions by the names that FunASR and ESPnet give them."""

import functools
from collections.abc import Callable, Mapping
from typing import Literal, TypeAlias

import jax

from jaxasr.typing import Array

Activation: TypeAlias = Literal["relu", "swish", "gelu", "selu", "tanh", "hardtanh"]

ACTIVATIONS: Mapping[str, Callable[[Array], Array]] = {
    "relu": jax.nn.relu,
    "swish": jax.nn.silu,
    "gelu": functools.partial(jax.nn.gelu, approximate=False),
    "selu": jax.nn.selu,
    "tanh": jax.numpy.tanh,
    "hardtanh": jax.nn.hard_tanh,
}
