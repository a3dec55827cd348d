"""A stack of equal blocks: one compiled body, scanned over the layers' parameters."""

import functools
import itertools
from collections.abc import Callable
from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.nn.batch_norm import STATS, Moments
from jaxasr.nn.encoders.base import Taps
from jaxasr.typing import Array, Float, PyTree

STREAM = "stream"
"""The collection in which layers keep what they need of the frames before, where a row comes part by part."""


Remat: TypeAlias = bool | Literal["dots"]
"""What of a block's inside is computed anew in the backward pass: nothing, all, or all but products with kernels."""


def run_block(
    block: nn.Module,
    x: Float[Array, "B T F"],
    frames: PyTree,
    train: bool,
    *,
    remat: Remat,
    prevent_cse: bool = True,
) -> tuple[Float[Array, "B T D"], Moments | None]:
    """``block(x, frames, train)``, of whose inside `remat` computes anew in the backward pass."""

    def body(block: nn.Module, x: Array, frames: PyTree) -> tuple[Array, Moments | None]:
        return block(x, frames, train)

    if not remat:
        return body(block, x, frames)
    kept = jax.checkpoint_policies.dots_with_no_batch_dims_saveable if remat == "dots" else None
    return nn.remat(body, prevent_cse=prevent_cse, policy=kept)(block, x, frames)


def run_blocks(
    block: nn.Module,
    x: Float[Array, "B T D"],
    frames: PyTree,
    train: bool,
    *,
    layers: range,
    remat: Remat,
    taps: Taps | None,
    norm: Callable[[Array], Array],
) -> tuple[Float[Array, "B T D"], Moments | None]:
    """`x` after one run of `block` for each of `layers`, which are numbers as `taps` counts them.

    The layers' parameters lie side by side in those of `block`. From tap to tap runs one scan, so that what a tap is
    shown is kept once, not for every layer.

    Args:
      block: called as `block(x, frames, train)`; keeps the shape, and returns frames and what its batch norms' running
        statistics are to learn, or None. All layers' come back side by side.
      frames: what blocks must know of the frames, the same for all of them: the rows' lengths, or more.
      remat: what of a block's inside to compute anew in the backward pass, where it would be kept.
      norm: what the taps see the frames through.
    """
    if not layers:
        return x, None
    moments = []
    ends = sorted({*(taps.layers if taps else ()), layers[-1]} & {*layers})
    for before, last in itertools.pairwise([layers[0] - 1, *ends]):
        part = range(before + 1 - layers[0], last + 1 - layers[0])
        x, of_part = _scanned(block, x, frames, train, part=part, num_layers=len(layers), remat=remat)
        x = taps.after(last, x, norm) if taps else x
        moments.append(of_part)
    return x, jax.tree.map(lambda *parts: jnp.concatenate(parts), *moments)


def _scanned(
    block: nn.Module, x: Array, frames: PyTree, train: bool, *, part: range, num_layers: int, remat: Remat
) -> tuple[Array, Moments | None]:
    """`x` after the blocks of `part`; while parameters are made, the first part makes those of all blocks.

    Where one scan runs over all of them, what they sow of themselves (`capture_intermediates`) lies side by side.
    """
    if block.is_initializing():
        if part.start > 0:
            return x, None
        part = range(num_layers)

    looped = len(part) > 1  # inside a loop XLA cannot merge the two computations that remat makes

    def body(block: nn.Module, x: Array, frames: PyTree) -> tuple[Array, Moments | None]:
        return run_block(block, x, frames, train, remat=remat, prevent_cse=not looped)

    whole = len(part) == num_layers
    scan = nn.scan(
        body,
        variable_axes={"params": 0, STATS: 0, STREAM: 0, **({"intermediates": 0} if whole else {})},
        split_rngs={"params": True, "dropout": True},
        in_axes=nn.broadcast,  # pyright: ignore[reportArgumentType]
        length=len(part),
    )
    if not whole:
        of_part = functools.partial(jax.tree.map, lambda leaf: leaf[part.start : part.stop])
        scan = nn.map_variables(scan, ["params", STATS], of_part)
    return scan(block, x, frames)
