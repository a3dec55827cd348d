"""Flax's dense and normalisation layers, made to keep the dtype of their input.

Parameters stay float32; what a network computes in is decided once, by the dtype of what is fed to it.
"""

import functools
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxasr.typing import Array


def _to_dtype_of_input(x, *others, dtype=None, inexact=True):
    """Flax's `promote_dtype` for a layer that follows its first argument."""
    del dtype, inexact
    return [x] + [None if y is None else y.astype(x.dtype) for y in others]


class Dense(nn.Dense):
    """A linear map computed in its input's dtype."""

    promote_dtype: type = _to_dtype_of_input  # type: ignore[assignment]


class Head(Dense):
    """A linear map to logits: its products are those of its input's dtype, their sums and what comes out float32.

    In bfloat16, logits of 16 would differ by 0.125 or not at all.
    """

    dot_general: Any = functools.partial(lax.dot_general, preferred_element_type=jnp.float32)


class LayerNorm(nn.LayerNorm):
    """Layer normalisation with FunASR's epsilon; statistics in float32, output in the input's dtype."""

    epsilon: float = 1e-12
    use_fast_variance: bool = False  # E[x^2] - E[x]^2 loses digits where the mean is large

    def __call__(self, x: Array) -> Array:  # type: ignore[override]
        return super().__call__(x).astype(x.dtype)
