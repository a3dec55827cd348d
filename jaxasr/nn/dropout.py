"""Dropout whose mask is a function of the key and of where an element stands, and of nothing else."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.noise import row_bits
from jaxasr.nn.rows import row_index
from jaxasr.typing import Array, Bool, Key, UInt32


def keep_mask(
    key: Key, shape: tuple[int, ...], rate: float, rows: UInt32[Array, "B"] | None = None
) -> Bool[Array, "B ..."]:
    """True with probability 1 - `rate`, independently of every other element; see `nn.noise.row_bits`.

    >>> jax.jit(keep_mask, static_argnums=(1, 2))(jax.random.key(0), (2, 4), 0.5).tolist()
    [[False, False, True, True], [False, True, False, True]]
    """
    return row_bits(key, shape, rows) >= jnp.uint32(round(rate * 2**32))


def dropped(x: Array, key: Key, rate: float, rows: UInt32[Array, "B"] | None = None) -> Array:
    """`x` with elements zeroed with probability `rate`, the others scaled by 1 / (1 - rate).

    The gradient draws the mask again, which on a CPU is cheaper than to keep it.

    >>> jax.jit(dropped, static_argnums=2)(jnp.array([[1.0, 2.0, 3.0, 4.0]]), jax.random.key(0), 0.5).tolist()
    [[0.0, 0.0, 6.0, 8.0]]
    """
    return _dropped(x, key, row_index(len(x)) if rows is None else rows, rate)


def relu_dropped(x: Array, key: Key, rate: float) -> Array:
    """``dropped(relu(x), key, rate)``, x of any shape (B, ...).

    Its gradient flows where what comes out is not 0, and needs nothing else.

    >>> jax.jit(relu_dropped, static_argnums=2)(jnp.array([[1.0, 2.0, -3.0, 4.0]]), jax.random.key(0), 0.5).tolist()
    [[0.0, 0.0, 0.0, 8.0]]
    """
    return _relu_dropped(x, key, row_index(len(x)), rate)


def _dropped_alone(x: Array, key: Key, rows: UInt32[Array, "B"], rate: float) -> Array:
    return jnp.where(keep_mask(key, x.shape, rate, rows), x / (1.0 - rate), jnp.zeros((), x.dtype))


def _relu_dropped_forward(x: Array, key: Key, rows: UInt32[Array, "B"], rate: float) -> tuple[Array, Array]:
    y = _dropped_alone(nn.relu(x), key, rows, rate)
    return y, y


_dropped: Any = jax.custom_vjp(_dropped_alone, nondiff_argnums=(3,))
_dropped.defvjp(
    lambda x, key, rows, rate: (_dropped_alone(x, key, rows, rate), (key, rows)),
    lambda rate, drawn, cotangent: (_dropped_alone(cotangent, drawn[0], drawn[1], rate), None, None),
)
_relu_dropped: Any = jax.custom_vjp(lambda *args: _relu_dropped_forward(*args)[0], nondiff_argnums=(3,))
_relu_dropped.defvjp(
    _relu_dropped_forward,
    lambda rate, y, cotangent: (jnp.where(y > 0, cotangent / (1.0 - rate), jnp.zeros((), y.dtype)), None, None),
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
