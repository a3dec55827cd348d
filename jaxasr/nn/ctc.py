"""Connectionist temporal classification (Graves et al., 2006, https://doi.org/10.1145/1143844.1143891).

Between and around the U tokens of a row stand U + 1 blanks; a path through the frames stays, steps on, or skips
a blank between two different tokens. The recursions keep blanks and tokens in two arrays: all blanks share one
emission, and their posteriors go to one column of the gradient.
"""

from typing import TypeAlias

import jax
import jax.numpy as jnp

from jaxasr.nn.masking import length_mask
from jaxasr.typing import Array, Bool, Float, Int

_Pair: TypeAlias = tuple[Array, Array]


def ctc_feasible(
    lengths: Int[Array, "B"], tokens: Int[Array, "B U"], token_lengths: Int[Array, "B"]
) -> Bool[Array, "B"]:
    """True where the frames suffice: one for each token and one for the blank between two equal neighbours.

    Zero tokens fit in any number of frames, zero included: the likelihood of nothing in no time is 1.

    >>> jax.jit(ctc_feasible)(jnp.array([2, 3]), jnp.array([[5, 5], [5, 5]]), jnp.array([2, 2])).tolist()
    [False, True]
    """
    real = length_mask(token_lengths, tokens.shape[1])
    repeats = jnp.sum((tokens[:, 1:] == tokens[:, :-1]) & real[:, 1:], axis=1)
    return lengths >= token_lengths + repeats


def ctc_loss(
    logits: Float[Array, "B T V"],
    lengths: Int[Array, "B"],
    tokens: Int[Array, "B U"],
    token_lengths: Int[Array, "B"],
    *,
    blank_id: int = 0,
) -> Float[Array, "B"]:
    """Negative log-likelihood of each row's tokens in nats, float32; differentiable in `logits` alone.

    A row that is not `ctc_feasible` has loss 0 and gradient 0, so that the caller can leave it out of the mean.
    A feasible row that -inf logits forbid has loss inf and gradient 0.

    >>> logits = jnp.array([[[0.0, 0.0], [0.0, 0.0]]])  # of four paths three say it: -log(3/4)
    >>> loss = jax.jit(ctc_loss)(logits, jnp.array([2]), jnp.array([[1]]), jnp.array([1]))
    >>> round(loss.item(), 3)
    0.288
    """
    feasible = ctc_feasible(lengths, tokens, token_lengths)
    lengths = jnp.where(feasible, lengths, 0)
    tokens = jnp.where(length_mask(token_lengths, tokens.shape[1]), tokens, blank_id)
    return jnp.where(feasible, _loss(blank_id, logits, lengths, tokens, token_lengths), 0.0)


def _loss_alone(blank_id: int, logits: Array, lengths: Array, tokens: Array, token_lengths: Array) -> Array:
    emissions = _emissions(logits, _normalizer(logits), lengths, tokens, blank_id)
    alpha, _ = _alphas(emissions, tokens, jnp.zeros_like(token_lengths))
    return _final(alpha, token_lengths)


def _loss_forward(
    blank_id: int, logits: Array, lengths: Array, tokens: Array, token_lengths: Array
) -> tuple[Array, tuple[Array, ...]]:
    """The loss, and what its gradient needs; no residual but `logits` is of size V."""
    normalizer = _normalizer(logits)
    emissions = _emissions(logits, normalizer, lengths, tokens, blank_id)
    loss, blank, token = _loss_and_posteriors(emissions, tokens, token_lengths)
    learnable = length_mask(lengths, logits.shape[1]) & (loss != jnp.inf)[:, None]
    return loss, (logits, *normalizer, blank, token, tokens, learnable)


def _loss_backward(blank_id: int, residuals: tuple[Array, ...], cotangent: Array) -> tuple[Array | None, ...]:
    """Softmax less posteriors, times the cotangent; exactly 0 in padding and where no path is possible."""
    logits, peak, log_sum, blank, token, tokens, learnable = residuals

    def scaled(x: Array) -> jax.Array:
        return jnp.where(learnable[:, :, None], cotangent[:, None, None] * x, 0.0)

    gradient = scaled(jnp.exp(_log_probs(logits, (peak, log_sum))))
    gradient = gradient.at[:, :, blank_id, None].add(-scaled(blank))
    gradient = _scatter_subtract(gradient, tokens, scaled(token))
    return gradient.astype(logits.dtype), None, None, None


_loss = jax.custom_vjp(_loss_alone, nondiff_argnums=(0,))
_loss.defvjp(_loss_forward, _loss_backward)


@jax.vmap  # over rows: indexed by row, a gradient spread over devices would first be gathered on all of them
def _scatter_subtract(x: jax.Array, ids: Array, amounts: Array) -> Array:
    return x.at[jnp.arange(x.shape[0])[:, None], ids[None, :]].add(-amounts)


def _normalizer(logits: Array) -> _Pair:
    """The two summands of log_softmax (B, T, 1), which is never stored: V is large."""
    peak = jnp.max(logits, axis=2, keepdims=True).astype(jnp.float32)
    return peak, jnp.log(jnp.sum(jnp.exp(logits.astype(jnp.float32) - peak), axis=2, keepdims=True))


def _log_probs(logits: Array, normalizer: _Pair) -> Array:
    peak, log_sum = normalizer
    return logits.astype(jnp.float32) - peak - log_sum


def _emissions(logits: Array, normalizer: _Pair, lengths: Array, tokens: Array, blank_id: int) -> _Pair:
    """Log-probabilities of the blank (T, B, 1) and of each row's tokens (T, B, U).

    In padding only a blank can be emitted, with probability 1: that ends or delays a path, at no cost.
    """
    real = length_mask(lengths, logits.shape[1])[:, :, None]
    blank = _log_probs(logits[:, :, blank_id, None], normalizer)
    token = _log_probs(jnp.take_along_axis(logits, tokens[:, None, :], axis=2), normalizer)  # (B, T, U)
    blank, token = jnp.where(real, blank, 0.0), jnp.where(real, token, -jnp.inf)
    return blank.transpose(1, 0, 2), token.transpose(1, 0, 2)


def _loss_and_posteriors(emissions: _Pair, tokens: Array, token_lengths: Array) -> tuple[Array, Array, Array]:
    """The loss (B,) and the probability that a frame emits the blank (B, T, 1) or a token (B, T, U)."""
    blank, token = emissions
    num_tokens = tokens.shape[1]
    # Beta is alpha of the reversed problem: frames and tokens flipped, padding first. The two lie along an axis
    # of their own, so that rows spread over devices stay where they are.
    both = (
        jnp.stack([blank, blank[::-1]], axis=1),
        jnp.stack([token, token[::-1, :, ::-1]], axis=1),  # (T, 2, B, U)
    )
    starts = jnp.stack([jnp.zeros_like(token_lengths), num_tokens - token_lengths])
    last, (to_blank, to_token) = _alphas(both, jnp.stack([tokens, tokens[:, ::-1]]), starts)
    blank = to_blank[:, 0] + blank + to_blank[::-1, 1, :, ::-1]  # (T, B, U + 1)
    token = to_token[:, 0] + token + to_token[::-1, 1, :, ::-1]
    # Normalised per frame: the rounding that both sums gathered along the way cancels.
    posteriors = jax.nn.softmax(jnp.concatenate([blank, token], axis=2)).transpose(1, 0, 2)  # (B, T, 2U + 1)
    blank, token = jnp.split(posteriors, [num_tokens + 1], axis=2)
    return _final((last[0][0], last[1][0]), token_lengths), jnp.sum(blank, axis=2, keepdims=True), token


def _alphas(emissions: _Pair, tokens: Array, starts: Array) -> tuple[_Pair, _Pair]:
    """Log-sums over all paths: at the end and, stacked, on entry to every frame before it has emitted.

    `starts` (..., B) says before which blank the paths of a row of `tokens` (..., B, U) begin.
    """
    repeat = _after(tokens[..., :-1], -1)[..., : tokens.shape[-1]] == tokens

    def step(alpha: _Pair, emission: _Pair) -> tuple[_Pair, _Pair]:
        blank, token = alpha
        to_blank = jnp.logaddexp(blank, _after(token, -jnp.inf))
        # A token is reached from itself and the blank before it and, unless it repeats it, the token before that.
        to_token = jnp.logaddexp(token, jnp.where(repeat, blank[..., :-1], to_blank[..., :-1]))
        return (to_blank + emission[0], to_token + emission[1]), (to_blank, to_token)

    blank = jnp.log(jax.nn.one_hot(starts, tokens.shape[-1] + 1, dtype=jnp.float32))
    return jax.lax.scan(step, (blank, jnp.full(tokens.shape, -jnp.inf, jnp.float32)), emissions)


def _after(x: Array, first: float) -> Array:
    """`x` moved one place on along its last axis, to stand after `first`."""
    return jnp.pad(x, [(0, 0)] * (x.ndim - 1) + [(1, 0)], constant_values=first)


def _final(alpha: _Pair, token_lengths: Array) -> Array:
    """Negative log-sum of the paths that end on the last token or the blank after it."""
    blank, token = alpha
    ends = jnp.logaddexp(blank, _after(token, -jnp.inf))
    log_likelihood = jnp.take_along_axis(ends, token_lengths[:, None], axis=1)[:, 0]
    # Rounding must not turn the loss of a certain row negative.
    return jnp.maximum(-log_likelihood, 0.0)
