"""Dropout whose mask is a function of the key and of where an element stands, and of nothing else."""

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxasr.errors import ConfigError
from jaxasr.nn.rows import row_index
from jaxasr.typing import Array, Bool, Key, UInt32

_STRIDES = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)  # odd, far apart: one for each axis after the rows


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """An avalanche of 32 bits (Wellons' lowbias32, https://nullprogram.com/blog/2018/07/31/)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)


def keep_mask(key: Key, shape: tuple[int, ...], rate: float) -> Bool[Array, "B ..."]:
    """True with probability 1 - `rate`, from a counter hash of (key, global row, index along each axis).

    Wider padding, other rows and the number of devices change nothing. Threefry costs several times as
    much here on a CPU, and XLA fuses this hash into the product that uses it.
    """
    words = jax.random.key_data(key)  # hashed below; drawing bits from the key would cost more to compile
    seeds = words[0], words[-1]
    row = row_index(shape[0])
    per_row = (shape[0],) + (1,) * (len(shape) - 1)
    offset = _mix(row ^ seeds[0]).reshape(per_row)
    twist = _mix(row * jnp.uint32(_STRIDES[0]) + seeds[1]).reshape(per_row)
    position = offset
    for axis, stride in zip(range(1, len(shape)), _STRIDES, strict=False):
        position = position + lax.broadcasted_iota(jnp.uint32, shape, axis) * jnp.uint32(stride)
    return (_mix(position) ^ twist) * jnp.uint32(0x846CA68B) >= jnp.uint32(round(rate * 2**32))


class Dropout(nn.Module):
    """Elements zeroed with probability `rate` while training, the others scaled by 1 / (1 - rate)."""

    rate: float

    @nn.compact
    def __call__(self, x: Array, *, train: bool) -> Array:
        if not 0.0 <= self.rate < 1.0:
            raise ConfigError(f"dropout={self.rate}: a probability from 0 up to, but not, 1 was expected; change it.")
        if not train or self.rate == 0.0:
            return x
        keep = keep_mask(self.make_rng("dropout"), x.shape, self.rate)
        return jnp.where(keep, x / (1.0 - self.rate), jnp.zeros((), x.dtype))
