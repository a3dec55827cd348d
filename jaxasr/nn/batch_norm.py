"""Batch normalisation over real frames, and the running statistics that it leaves to the state of training."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.nn.masking import length_mask, zero_padding
from jaxasr.nn.rows import sum_over_devices
from jaxasr.typing import Array, Float, Int, Params, PyTree

STATS = "batch_stats"
"""The branch of a network's parameters that holds running statistics, which no gradient moves."""
MOMENTS = "moments"
"""The collection in which a network leaves what a batch says of them."""
MOMENTUM = 0.1
"""Weight of the newest batch in a running statistic, as torch's."""


class Moments(NamedTuple):
    """What a batch says of a running statistic: sums that add up over devices and batches, and what divides them."""

    total: PyTree
    count: PyTree

    def within(self, *path: str) -> "Moments":
        """The same as a module says it of its submodule at `path`.

        >>> Moments(3.0, 2.0).within("conv", "norm").total
        {'conv': {'norm': 3.0}}
        """
        total, count = self
        for name in reversed(path):
            total, count = {name: total}, {name: count}
        return Moments(total, count)


class BatchNorm(nn.Module):
    """Each channel brought to mean 0 and variance 1, then scaled and moved (Ioffe and Szegedy, 2015, algorithm 1).

    https://arxiv.org/abs/1502.03167. Training takes mean and variance of the batch's real frames, over all devices;
    otherwise those that ran along are taken, so that a row's result depends on no other row.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], lengths: Int[Array, "B"], *, train: bool
    ) -> tuple[Float[Array, "B T D"], Moments | None]:
        """Normalised frames, and while training what the running statistics are to learn from this batch."""
        D = x.shape[-1]
        scale = self.param("scale", nn.initializers.ones, (D,))
        bias = self.param("bias", nn.initializers.zeros, (D,))
        moments = None
        if train:
            mean, var, moments = _moments(x.astype(jnp.float32), lengths)
        else:
            mean = self.variable(STATS, "mean", jnp.zeros, (D,)).value
            var = self.variable(STATS, "var", jnp.ones, (D,)).value
        slope = scale * jax.lax.rsqrt(var + self.epsilon)
        y = (x.astype(jnp.float32) - mean[None, None]) * slope[None, None] + bias[None, None]
        return y.astype(x.dtype), moments


def _moments(x: Float[Array, "B T D"], lengths: Int[Array, "B"]) -> tuple[Array, Array, Moments]:
    """Mean and variance of the real frames, and their sums on this device."""
    mask = length_mask(lengths, x.shape[1])
    count = jnp.sum(mask, dtype=jnp.float32)
    whole = jnp.maximum(sum_over_devices(count), 1.0)
    total = jnp.sum(zero_padding(x, lengths), axis=(0, 1))
    mean = sum_over_devices(total) / whole
    squares = jnp.sum(zero_padding(jnp.square(x - mean[None, None]), lengths), axis=(0, 1))
    var = sum_over_devices(squares) / whole
    unbiased = count * (1.0 - 1.0 / whole)  # adds up to one frame less: what runs along is the unbiased variance
    moments = Moments({"mean": total, "var": squares}, {"mean": count, "var": unbiased})
    return mean, var, jax.lax.stop_gradient(moments)


def leave_moments(module: nn.Module, moments: Moments | None) -> None:
    """Leaves what `module`'s submodules said of their running statistics for `gathered`, in the collection MOMENTS."""
    if moments is not None:
        module.sow(MOMENTS, "of_submodules", moments, reduce_fn=lambda _, new: new, init_fn=lambda: moments)


def gathered(left: Mapping[str, Any]) -> Moments | None:
    """All that was left in these variables, as trees like that of the running statistics.

    >>> gathered({"moments": {"norm": {"of_submodules": ({"mean": 3.0}, {"mean": 2.0})}}})
    Moments(total={'norm': {'mean': 3.0}}, count={'norm': {'mean': 2.0}})
    """

    def of(branch: Mapping[str, Any], part: int) -> PyTree:
        found = dict(branch["of_submodules"][part]) if "of_submodules" in branch else {}
        return found | {name: of(child, part) for name, child in branch.items() if name != "of_submodules"}

    return Moments(of(left[MOMENTS], 0), of(left[MOMENTS], 1)) if MOMENTS in left else None


def running(stats: PyTree, totals: PyTree, counts: PyTree) -> PyTree:
    """Running statistics after a batch of these `Moments`; those of a layer that saw no frame stay.

    >>> stats, total, count = {"mean": jnp.array([8.0])}, {"mean": jnp.array([6.0])}, {"mean": jnp.array(2.0)}
    >>> jax.jit(running)(stats, total, count)["mean"].tolist()
    [7.5]
    """

    def after(old: Array, total: Array, count: Array) -> Array:
        mean = total / jnp.maximum(count, 1e-9)[..., None]
        return jnp.where(count[..., None] > 0, old + MOMENTUM * (mean - old), old)

    return jax.tree.map(after, stats, totals, counts)


def split_stats(params: Params) -> tuple[Params, PyTree | None]:
    """What gradients move, and the running statistics; None where a network has none.

    >>> split_stats({"encoder": 1, "batch_stats": 2})
    ({'encoder': 1}, 2)
    """
    return {name: branch for name, branch in params.items() if name != STATS}, params.get(STATS)


def with_stats(params: Params, stats: PyTree | None) -> Params:
    """The parameters and running statistics as one tree, which is what a network is saved as.

    >>> with_stats({"encoder": 1}, 2)
    {'encoder': 1, 'batch_stats': 2}
    """
    return params if stats is None else {**params, STATS: stats}


def variables_of(params: Params) -> Mapping[str, Any]:
    """Flax's variables of such a tree.

    >>> variables_of({"encoder": 1, "batch_stats": 2})
    {'params': {'encoder': 1}, 'batch_stats': 2}
    """
    params, stats = split_stats(params)
    return {"params": params} if stats is None else {"params": params, STATS: stats}
