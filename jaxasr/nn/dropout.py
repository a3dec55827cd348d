"""Dropout whose mask is a function of the key and of where an element stands, and of nothing else."""

import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.noise import row_bits
from jaxasr.typing import Array, Bool, Key


def keep_mask(key: Key, shape: tuple[int, ...], rate: float) -> Bool[Array, "B ..."]:
    """True with probability 1 - `rate`, independently of every other element (`nn.noise`)."""
    return row_bits(key, shape) >= jnp.uint32(round(rate * 2**32))


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
