"""Where a batch's rows stand, on one device or on many, computed at once or in parts."""

import contextlib
import contextvars
from collections.abc import Callable, Iterator

import jax
import jax.numpy as jnp
from jax import lax
from jax.sharding import NamedSharding

from jaxasr.typing import Array, UInt32

DATA_AXIS = "data"
"""The mesh axis over which a batch's rows are spread."""


def inside_pmapped() -> bool:
    """Whether the code being traced is one device's share (`parallel.pmapped`), not the whole batch."""
    try:
        lax.axis_index(DATA_AXIS)
    except NameError:  # JAX's way of saying that no such axis is bound here
        return False
    return True


def row_index(rows: int) -> UInt32[Array, "B"]:
    """Each row's place in the global batch.

    Noise drawn from (key, this index) is the same however many devices share the batch, and in however many parts they
    compute it. What is traced apart from the code around it (`jax.jit`, `jax.custom_vjp`) must be given it.

    >>> row_index(3).tolist()
    [0, 1, 2]
    """
    if (part := _PART.get()) is not None:
        views = rows // len(part)  # of each row, side by side
        return (part[:, None] * views + jnp.arange(views, dtype=jnp.uint32)[None]).reshape(rows)
    index = jnp.arange(rows, dtype=jnp.uint32)
    if inside_pmapped():
        index = index + lax.axis_index(DATA_AXIS).astype(jnp.uint32) * jnp.uint32(rows)
    return index


_PART: contextvars.ContextVar[UInt32[Array, "B"] | None] = contextvars.ContextVar("part", default=None)


@contextlib.contextmanager
def rows_at(index: UInt32[Array, "B"]) -> Iterator[None]:
    """What is traced inside computes a part of a batch: the rows that stand at `index` in the whole."""
    token = _PART.set(index)
    try:
        yield
    finally:
        _PART.reset(token)


def every_nth(x: Array, parts: int) -> Array:
    """`x` (B, ...) as (parts, B / parts, ...): part i has the rows i, i + parts, ...

    So each device divides the rows that it has, and the parts are the same on any number of devices.

    >>> every_nth(jnp.arange(6), 2).tolist()
    [[0, 2, 4], [1, 3, 5]]
    """
    return jnp.moveaxis(x.reshape(-1, parts, *x.shape[1:]), 1, 0)


_PLACES: contextvars.ContextVar[NamedSharding | None] = contextvars.ContextVar("places", default=None)


@contextlib.contextmanager
def rows_spread(places: NamedSharding) -> Iterator[None]:
    """What is traced inside has the rows of a batch in these places, and XLA divides it."""
    token = _PLACES.set(places)
    try:
        yield
    finally:
        _PLACES.reset(token)


def on_own_rows(fn: Callable[..., Array], *xs: Array) -> Array:
    """``fn(*xs)`` of (B, ...), by each device for its rows; of what XLA cannot divide, as an FFT, each would do all."""
    places = _PLACES.get()
    if places is None or places.mesh.size == 1:
        return fn(*xs)
    return jax.shard_map(fn, mesh=places.mesh, in_specs=places.spec, out_specs=places.spec, check_vma=False)(*xs)


def repeat_rows(x: Array, views: int) -> Array:
    """`x` (B, ...) with every row `views` times, side by side, so that each device can do it to its own share.

    >>> repeat_rows(jnp.arange(2), 2).tolist()
    [0, 0, 1, 1]
    """
    return jnp.repeat(x, views, axis=0)


def sum_over_devices(x: Array) -> Array:
    """`x` of any shape, added up over the devices inside `parallel.pmapped`; elsewhere it is the whole already.

    >>> sum_over_devices(jnp.array([1, 2])).tolist()
    [1, 2]
    """
    return lax.psum(x, DATA_AXIS) if inside_pmapped() else x
