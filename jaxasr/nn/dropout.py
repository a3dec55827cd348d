"""Dropout whose mask is a function of the key and of where an element stands, and of nothing else."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.noise import row_bits
from jaxasr.typing import Array, Bool, Key


def keep_mask(key: Key, shape: tuple[int, ...], rate: float) -> Bool[Array, "B ..."]:
    """True with probability 1 - `rate`, independently of every other element (`nn.noise`)."""
    return row_bits(key, shape) >= jnp.uint32(round(rate * 2**32))


def dropped(x: Array, key: Key, rate: float) -> Array:
    """`x` with elements zeroed with probability `rate`, the others scaled by 1 / (1 - rate).

    The gradient draws the mask again, which on a CPU is cheaper than to keep it.
    """
    return _dropped(x, key, rate)


def relu_dropped(x: Array, key: Key, rate: float) -> Array:
    """``dropped(relu(x), key, rate)``; its gradient flows where what comes out is not 0, and needs nothing else."""
    return _relu_dropped(x, key, rate)


def _dropped_alone(x: Array, key: Key, rate: float) -> Array:
    return jnp.where(keep_mask(key, x.shape, rate), x / (1.0 - rate), jnp.zeros((), x.dtype))


def _relu_dropped_forward(x: Array, key: Key, rate: float) -> tuple[Array, Array]:
    y = _dropped_alone(nn.relu(x), key, rate)
    return y, y


_dropped: Any = jax.custom_vjp(_dropped_alone, nondiff_argnums=(2,))
_dropped.defvjp(
    lambda x, key, rate: (_dropped_alone(x, key, rate), key),
    lambda rate, key, cotangent: (_dropped_alone(cotangent, key, rate), None),
)
_relu_dropped: Any = jax.custom_vjp(lambda *args: _relu_dropped_forward(*args)[0], nondiff_argnums=(2,))
_relu_dropped.defvjp(
    _relu_dropped_forward,
    lambda rate, y, cotangent: (jnp.where(y > 0, cotangent / (1.0 - rate), jnp.zeros((), y.dtype)), None),
)


class Dropout(nn.Module):
    """`dropped` while training, nothing otherwise."""

    rate: float
    relu: bool = False
    """Let a ReLU come before it."""

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        if not 0.0 <= self.rate < 1.0:
            raise ConfigError(f"dropout={self.rate}: a probability from 0 up to, but not, 1 was expected; change it.")
        if not train or self.rate == 0.0:
            return nn.relu(x) if self.relu else x
        return (relu_dropped if self.relu else dropped)(x, self.make_rng("dropout"), self.rate)
