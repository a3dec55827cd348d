"""Continuous integrate-and-fire (Dong and Xu, 2020, https://arxiv.org/abs/1905.11235), as one matrix product."""

import jax
import jax.numpy as jnp
from jax import lax

from jaxasr.typing import Array, Float, Int


def integrate_and_fire(
    x: Float[Array, "B T D"], alphas: Float[Array, "B T"], num_tokens: int, begun: Float[Array, "B"] | None = None
) -> Float[Array, "B U D"]:
    """The frames of each of the first `num_tokens` tokens, weighed and added up.

    Frames are cut where the running sum S of the weights reaches 1, 2, 3, ...: token k, from 0, gets of frame t the
    part of its weight that lies in [k, k + 1), ``clip(S_t - k, 0, 1) - clip(S_{t-1} - k, 0, 1)``. What FunASR does
    frame by frame is the same where no weight exceeds 1; where one does, its loop fires once for the frame and carries
    more than 1 on, and here as many tokens end in the frame as its weight is worth, which is right. Where a frame is
    cut at its very end, the gradient is that of a little more weight, as FunASR's is.

    Args:
      begun: what the first token had of weight before the first frame; None for nothing.

    >>> x, alphas = jnp.array([[[1.0], [2.0], [4.0]]]), jnp.array([[0.5, 1.0, 0.5]])
    >>> jax.jit(integrate_and_fire, static_argnums=2)(x, alphas, 2).tolist()
    [[[1.5], [3.0]]]
    """
    total = running_sum(alphas, begun)[:, None]  # (B, 1, T + 1)
    token = jnp.arange(num_tokens, dtype=jnp.float32)[None, :, None]
    shares = _filled(total[..., 1:] - token) - _filled(total[..., :-1] - token)  # (B, U, T)
    return jnp.einsum("but,btd->bud", shares.astype(x.dtype), x)


def ends(alphas: Float[Array, "B T"], lengths: Int[Array, "B"], num_tokens: int) -> Int[Array, "B U"]:
    """The frame in which each of the first `num_tokens` tokens ends; a row's last one for those that end behind it.

    >>> jax.jit(ends, static_argnums=2)(jnp.array([[0.5, 0.5, 0.5, 0.5]]), jnp.array([4]), 2).tolist()
    [[1, 3]]
    """
    token = jnp.arange(1, num_tokens + 1, dtype=jnp.float32)[None, :, None]
    frames = jnp.sum(running_sum(alphas)[:, None, 1:] < token, axis=2, dtype=jnp.int32)
    return jnp.minimum(frames, jnp.maximum(lengths - 1, 0)[:, None])


def fires(alphas: Float[Array, "B T"], counts: Float[Array, "B"] | Int[Array, "B"]) -> Float[Array, "B T"]:
    """What has been integrated since the last token when frame t is added, before it fires.

    From 1 on it does; as many tokens end in the frame as the whole part says.

    Args:
      counts: how many tokens the weights are worth. A sum that rounding leaves below it, by less than a thousandth of a
        token, is taken for it, so that the last token fires.

    >>> jax.jit(fires)(jnp.array([[0.5, 0.75, 0.75]]), jnp.array([2])).tolist()
    [[0.5, 1.25, 1.0]]
    """
    total = lax.cummax(running_sum(alphas), axis=1)  # XLA adds in pairs: rounding may let a sum fall
    counts = counts[:, None].astype(jnp.float32)
    total = jnp.where(total > counts - 1e-3, jnp.maximum(total, counts), total)
    return total[:, 1:] - jnp.floor(total[:, :-1])


def running_sum(alphas: Float[Array, "B T"], begun: Float[Array, "B"] | None = None) -> Float[jax.Array, "B T+1"]:
    """In float32, before the first frame, where it is 0 or `begun`, and after each.

    >>> jax.jit(running_sum)(jnp.array([[0.5, 0.25]])).tolist()
    [[0.0, 0.5, 0.75]]
    """
    total = jnp.pad(jnp.cumsum(alphas.astype(jnp.float32), axis=1), ((0, 0), (1, 0)))
    return total if begun is None else total + begun[:, None]


def scaled_to(alphas: Float[Array, "B T"], counts: Float[Array, "B"] | Int[Array, "B"]) -> Float[Array, "B T"]:
    """The weights, so scaled that they add up to `counts`; those of a row that has none stay 0.

    >>> jax.jit(scaled_to)(jnp.array([[0.5, 0.5]]), jnp.array([2.0])).tolist()
    [[1.0, 1.0]]
    """
    total = jnp.sum(alphas, axis=1)
    return alphas * (counts / jnp.where(total > 0.0, total, 1.0))[:, None]


def with_tail(
    x: Float[Array, "B T D"], alphas: Float[Array, "B T"], lengths: Int[Array, "B"], tail: float | Float[Array, "B 1"]
) -> tuple[Float[Array, "B T+1 D"], Float[Array, "B T+1"]]:
    """One frame of zeros more, of weight `tail` where the row ends, so that a last token that is nearly whole fires.

    >>> x, alphas = jnp.array([[[1.0], [2.0]]]), jnp.array([[0.5, 0.0]])
    >>> [y.tolist() for y in jax.jit(with_tail)(x, alphas, jnp.array([1]), 0.25)]
    [[[[1.0], [2.0], [0.0]]], [[0.5, 0.25, 0.0]]]
    """
    ends = jnp.arange(alphas.shape[1] + 1)[None, :] == lengths[:, None]
    alphas = jnp.pad(alphas, ((0, 0), (0, 1))) + jnp.where(ends, jnp.asarray(tail, alphas.dtype), 0.0)
    return jnp.pad(x, ((0, 0), (0, 1), (0, 0))), alphas


def _filled(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """``clip(x, 0, 1)`` with a gradient of 1 at 0 and of 0 at 1; JAX's own is a half at either."""
    return jnp.where((x >= 0.0) & (x < 1.0), x, (x >= 1.0).astype(x.dtype))
