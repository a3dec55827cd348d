"""Losses over tokens."""

import math

import jax
import jax.numpy as jnp

from jaxasr.nn.masking import length_mask, zero_padding
from jaxasr.typing import Array, Float, Int


def label_smoothing_loss(
    logits: Float[Array, "B U V"], targets: Int[Array, "B U"], target_lengths: Int[Array, "B"], smoothing: float
) -> Float[Array, "B"]:
    """Divergence of the network's distribution from the smoothed targets, summed over each row's tokens.

    KL(p || softmax(logits)) in nats, float32, with p = 1 - smoothing on the target and smoothing / (V - 1)
    elsewhere (Szegedy et al., 2016, https://arxiv.org/abs/1512.00567, section 7). As in FunASR the entropy of p
    is taken off, so the minimum is 0.

    >>> logits, targets = jnp.array([[[0.0, 0.0]]]), jnp.array([[1]])
    >>> loss = jax.jit(label_smoothing_loss, static_argnums=3)(logits, targets, jnp.array([1]), 0.0)
    >>> round(loss.item(), 3)
    0.693
    """
    real = length_mask(target_lengths, targets.shape[1])
    # Padding is cleared before the softmax: masked after it alone, a NaN there would come back in the gradient.
    log_probs = jax.nn.log_softmax(zero_padding(logits, target_lengths).astype(jnp.float32))
    on_target = jnp.take_along_axis(log_probs, jnp.where(real, targets, 0)[:, :, None], axis=2)[:, :, 0]
    loss = -on_target
    if smoothing > 0.0:
        others = logits.shape[2] - 1
        share = smoothing / others
        negative_entropy = _x_log_x(1.0 - smoothing) + others * _x_log_x(share)
        loss = negative_entropy - (1.0 - smoothing - share) * on_target - share * jnp.sum(log_probs, axis=2)
    return jnp.sum(jnp.where(real, loss, 0.0), axis=1)


def _x_log_x(x: float) -> float:
    return x * math.log(x) if x > 0.0 else 0.0


def consistency_loss(logits: Float[Array, "B2 T V"], lengths: Int[Array, "B"]) -> Float[Array, "B"]:
    """How far two views of an utterance, rows 2b and 2b + 1, are from saying the same, summed over frames.

    The mean of KL(p || q) and KL(q || p) in nats, float32; each view learns from the other as it is, for no gradient
    flows through the first argument of either (Yao et al., 2025, https://arxiv.org/abs/2410.05101, section 3.1).

    >>> views = jnp.array([[[0.0, 1.0]], [[1.0, 0.0]]])
    >>> round(jax.jit(consistency_loss)(views, jnp.array([1])).item(), 3)
    0.462
    """
    pairs = logits.reshape(-1, 2, *logits.shape[1:]).astype(jnp.float32)
    real = length_mask(lengths, logits.shape[1])[:, None, :, None]
    log_probs = jax.nn.log_softmax(jnp.where(real, pairs, 0.0))  # padding cleared first: a NaN would come back
    target = jax.lax.stop_gradient(log_probs)[:, ::-1]
    return 0.5 * jnp.sum(jnp.exp(target) * (target - log_probs), axis=(1, 2, 3), where=real)


def count_loss(counts: Float[Array, "B"], target_lengths: Int[Array, "B"]) -> Float[Array, "B"]:
    """By how many tokens a predictor is off, ``|counts - target_lengths|``.

    Gao et al., 2022, https://arxiv.org/abs/2206.08317, section 2. FunASR's `mae_loss` is its mean over rows, or its
    sum by that of the lengths.

    >>> count_loss(jnp.array([2.5]), jnp.array([4])).tolist()
    [1.5]
    """
    return jnp.abs(counts - target_lengths)


def token_accuracy(
    logits: Float[Array, "B U V"], targets: Int[Array, "B U"], target_lengths: Int[Array, "B"]
) -> tuple[Float[Array, "B"], Float[Array, "B"]]:
    """How many tokens of each row have the highest score, and how many there are.

    >>> logits, targets = jnp.array([[[1.0, 0.0], [1.0, 0.0]]]), jnp.array([[0, 1]])
    >>> [x.tolist() for x in jax.jit(token_accuracy)(logits, targets, jnp.array([2]))]
    [[1.0], [2.0]]
    """
    real = length_mask(target_lengths, targets.shape[1])
    correct = (jnp.argmax(logits, axis=2) == targets) & real
    return jnp.sum(correct, axis=1, dtype=jnp.float32), jnp.asarray(target_lengths, jnp.float32)
