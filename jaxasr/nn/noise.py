"""Random numbers that are functions of the key and of where they stand, and of nothing else.

Wider padding, other rows and the number of devices change nothing. Threefry costs several times as much on a
CPU, both to compile and to run, and XLA fuses this hash into what uses it.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax

from jaxasr.nn.rows import row_index
from jaxasr.typing import Array, Float, Key, UInt32

_STRIDES = (0x9E3779B1, 0x85EBCA77, 0xC2B2AE3D)  # odd, far apart: one for each axis after the rows


def row_bits(key: Key, shape: tuple[int, ...], rows: UInt32[Array, "B"] | None = None) -> UInt32[Array, "B ..."]:
    """32 random bits each, from a counter hash of (key, global row, index along each of up to three axes).

    The high bits are the better ones: compare or shift, do not mask.

    Args:
      rows: the global rows; None for `nn.rows.row_index`.

    >>> key, rows = jax.random.key(0), jnp.array([2], jnp.uint32)
    >>> row_bits(key, (1, 2), rows).tolist() == row_bits(key, (3, 2)).tolist()[2:]
    True
    """
    return _bits(key, shape, row_index(shape[0]) if rows is None else rows)


@functools.partial(jax.jit, static_argnames="shape")  # traced once a shape; XLA inlines it
def _bits(key: Key, shape: tuple[int, ...], row: UInt32[Array, "B"]) -> UInt32[Array, "B ..."]:
    words = jax.random.key_data(key)  # hashed below; drawing bits from the key would cost more to compile
    seeds = words[0], words[-1]
    per_row = (shape[0],) + (1,) * (len(shape) - 1)
    offset = _mix(row ^ seeds[0]).reshape(per_row)
    twist = _mix(row * jnp.uint32(_STRIDES[0]) + seeds[1]).reshape(per_row)
    position = offset
    for axis, stride in zip(range(1, len(shape)), _STRIDES[: len(shape) - 1], strict=True):
        steps = jnp.arange(shape[axis], dtype=jnp.uint32) * jnp.uint32(stride)
        position = position + jnp.expand_dims(steps, [other for other in range(len(shape)) if other != axis])
    return (_mix(position) ^ twist) * jnp.uint32(0x846CA68B)


def row_uniforms(key: Key, shape: tuple[int, ...]) -> Float[Array, "B ..."]:
    """Float32 numbers in [0, 1), all multiples of 2^-24 equally likely.

    >>> drawn = jax.jit(row_uniforms, static_argnums=1)(jax.random.key(1), (2, 3))
    >>> [[round(x, 3) for x in row] for row in drawn.tolist()]
    [[0.684, 0.441, 0.22], [0.612, 0.966, 0.707]]
    """
    bits = _mix(row_bits(key, shape))  # unmixed, neighbours depend on each other a little over keys 0, 1, 2, ...
    return (bits >> 8).astype(jnp.float32) * jnp.float32(2**-24)


def row_normals(key: Key, shape: tuple[int, ...]) -> Float[Array, "B ..."]:
    """Float32 numbers of mean 0 and variance 1, normally distributed; none beyond 5.5.

    >>> drawn = jax.jit(row_normals, static_argnums=1)(jax.random.key(1), (2, 3))
    >>> [[round(x, 3) for x in row] for row in drawn.tolist()]
    [[0.478, -0.15, -0.772], [0.284, 1.825, 0.545]]
    """
    centred = 2.0 * row_uniforms(key, shape) - (1.0 - 2**-24)  # symmetric, and never -1 or 1
    return math.sqrt(2.0) * lax.erf_inv(centred)


def _mix(x: UInt32[Array, "..."]) -> UInt32[Array, "..."]:
    """An avalanche of 32 bits (Wellons' lowbias32, https://nullprogram.com/blog/2018/07/31/)."""
    x = (x ^ (x >> 16)) * jnp.uint32(0x7FEB352D)
    x = (x ^ (x >> 15)) * jnp.uint32(0x846CA68B)
    return x ^ (x >> 16)
