"""Continuous integrate-and-fire (Dong and Xu, 2020, https://arxiv.org/abs/1905.11235), as one matrix product."""

import jax
import jax.numpy as jnp

from jaxasr.typing import Array, Float, Int


def integrate_and_fire(x: Float[Array, "B T D"], alphas: Float[Array, "B T"], num_tokens: int) -> Float[Array, "B U D"]:
    """The frames of each of the first `num_tokens` tokens, weighed and added up.

    Frames are cut where the running sum S of the weights reaches 1, 2, 3, ...: token k, from 0, gets of frame t the
    part of its weight that lies in [k, k + 1), ``relu(min(S_t, k + 1) - max(S_{t-1}, k))``. What FunASR does frame by
    frame is the same where no weight exceeds 1; where one does, its loop fires once for the frame and carries more
    than 1 on, and here as many tokens end in the frame as its weight is worth, which is right.
    """
    total = jnp.cumsum(alphas.astype(jnp.float32), axis=1)[:, None]  # (B, 1, T)
    before = total - alphas.astype(jnp.float32)[:, None]
    token = jnp.arange(num_tokens, dtype=jnp.float32)[None, :, None]
    shares = jax.nn.relu(jnp.minimum(total, token + 1.0) - jnp.maximum(before, token))  # (B, U, T)
    return jnp.einsum("but,btd->bud", shares.astype(x.dtype), x)


def fires(alphas: Float[Array, "B T"]) -> Float[Array, "B T"]:
    """What has been integrated since the last token when frame t is added, before it fires: from 1 on it does."""
    alphas = alphas.astype(jnp.float32)
    total = jnp.cumsum(alphas, axis=1)
    return total - jnp.floor(total - alphas)


def scaled_to(alphas: Float[Array, "B T"], counts: Int[Array, "B"]) -> Float[Array, "B T"]:
    """The weights, so scaled that they add up to `counts`; those of a row that has none stay 0."""
    total = jnp.sum(alphas, axis=1)
    return alphas * (counts / jnp.where(total > 0.0, total, 1.0))[:, None]


def with_tail(
    x: Float[Array, "B T D"], alphas: Float[Array, "B T"], lengths: Int[Array, "B"], tail: float
) -> tuple[Float[Array, "B T+1 D"], Float[Array, "B T+1"]]:
    """One frame of zeros more, of weight `tail` where the row ends, so that a last token that is nearly whole fires."""
    ends = jnp.arange(alphas.shape[1] + 1)[None, :] == lengths[:, None]
    alphas = jnp.pad(alphas, ((0, 0), (0, 1))) + jnp.where(ends, jnp.asarray(tail, alphas.dtype), 0.0)
    return jnp.pad(x, ((0, 0), (0, 1), (0, 0))), alphas
