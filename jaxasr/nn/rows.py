"""Where a batch's rows stand, on one device or on many."""

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

    Noise drawn from (key, this index) is the same however many devices share the batch.
    """
    index = jnp.arange(rows, dtype=jnp.uint32)
    if inside_pmapped():
        index = index + lax.axis_index(DATA_AXIS).astype(jnp.uint32) * jnp.uint32(rows)
    return index


_PLACES: contextvars.ContextVar[NamedSharding | None] = contextvars.ContextVar("places", default=None)


@contextlib.contextmanager
def rows_spread(places: NamedSharding) -> Iterator[None]:
    """What is traced inside has the rows of a batch in these places, and XLA divides it."""
    token = _PLACES.set(places)
    try:
        yield
    finally:
        _PLACES.reset(token)


def on_own_rows(fn: Callable[[Array], Array], x: Array) -> Array:
    """``fn(x)`` of (B, ...), by each device for its rows; of what XLA cannot divide, as an FFT, each would do all."""
    places = _PLACES.get()
    if places is None or places.mesh.size == 1:
        return fn(x)
    return jax.shard_map(fn, mesh=places.mesh, in_specs=places.spec, out_specs=places.spec, check_vma=False)(x)


def repeat_rows(x: Array, views: int) -> Array:
    """`x` (B, ...) with every row `views` times, side by side, so that each device can do it to its own share."""
    return jnp.repeat(x, views, axis=0)


def sum_over_devices(x: Array) -> Array:
    """`x` added up over the devices inside `parallel.pmapped`; elsewhere `x`, which is the whole already."""
    return lax.psum(x, DATA_AXIS) if inside_pmapped() else x
