"""The largest of many numbers."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxasr.typing import Array, Float, Int

GROUP = 16


def largest(x: Float[Array, "*B V"], count: int) -> tuple[Float[jax.Array, "*B C"], Int[jax.Array, "*B C"]]:
    """`lax.top_k`, of equal numbers any: whole groups of them are passed over by their maxima.

    On CPU `lax.top_k` takes numbers one by one, maxima are had many at a time.
    """
    if x.shape[-1] < 1 * GROUP * count:
        return lax.top_k(x, count)
    ends = [(0, 0)] * (x.ndim - 1) + [(0, -x.shape[-1] % GROUP)]
    groups = jnp.pad(x, ends, constant_values=-jnp.inf).reshape(*x.shape[:-1], -1, GROUP)
    _, chosen = lax.top_k(jnp.max(groups, axis=-1), count)  # no other group has one of the largest
    members = jnp.take_along_axis(groups, chosen[..., None], axis=-2)
    values, place = lax.top_k(members.reshape(*x.shape[:-1], -1), count)
    group = jnp.take_along_axis(chosen, place // GROUP, axis=-1)
    return values, group * GROUP + place % GROUP
