"""Lengths and masks: the one place where padding is defined."""

import jax.numpy as jnp

from jaxasr.typing import Array, Bool, Int


def length_mask(lengths: Int[Array, "B"], size: int) -> Bool[Array, "B T"]:
    """True where a position holds data, False where it is padding; `size` is T.

    >>> length_mask(jnp.array([1, 3]), 3).tolist()
    [[True, False, False], [True, True, True]]
    """
    return jnp.arange(size)[None, :] < lengths[:, None]


def zero_padding(x: Array, lengths: Int[Array, "B"]) -> Array:
    """`x` (B, T, ...) with everything after each row's length set to 0, whatever stood there (NaN too).

    >>> zero_padding(jnp.array([[5, 6], [7, 8]]), jnp.array([1, 2])).tolist()
    [[5, 0], [7, 8]]
    """
    return zero_where_not(x, length_mask(lengths, x.shape[1]))


def zero_where_not(x: Array, mask: Bool[Array, "B T"]) -> Array:
    """`x` (B, T, ...) with everything set to 0 that is not in the mask.

    >>> zero_where_not(jnp.array([[5, 6], [7, 8]]), jnp.array([[True, False], [False, True]])).tolist()
    [[5, 0], [0, 8]]
    """
    return jnp.where(mask.reshape(x.shape[:2] + (1,) * (x.ndim - 2)), x, jnp.zeros((), x.dtype))
