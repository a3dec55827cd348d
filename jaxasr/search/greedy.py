"""Greedy search: the best token of every frame, of every step, or of all tokens at once."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxasr.nn.masking import length_mask
from jaxasr.search.hypotheses import Hypotheses
from jaxasr.typing import Array, Bool, Float, Int

StepFn = Callable[[Int[Array, "B"], Any, Int[Array, ""]], tuple[Float[Array, "B V"], Any]]
"""(last tokens, cache, position) to (logits of the next tokens, cache)."""


def ctc_greedy(logits: Float[Array, "B T V"], lengths: Int[Array, "B"], *, blank_id: int = 0) -> Hypotheses:
    """The best path, repeats merged and blanks dropped; scored by that path's log-probability.

    A token spans the frames that say it; its log-probability is that of the surest among them.

    >>> logits = jnp.array([[[0.0, 9.0], [0.0, 9.0], [9.0, 0.0], [0.0, 9.0]]])
    >>> found = jax.jit(ctc_greedy)(logits, jnp.array([4]))
    >>> found.tokens.tolist(), found.spans.tolist()
    ([[1, 1, -1, -1]], [[[0.0, 2.0], [3.0, 4.0], [0.0, 0.0], [0.0, 0.0]]])
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    mask = length_mask(lengths, logits.shape[1])
    best = jnp.where(mask, jnp.argmax(log_probs, axis=-1), blank_id)  # (B, T)
    before = jnp.pad(best, ((0, 0), (1, 0)), constant_values=blank_id)[:, :-1]
    begins = jnp.broadcast_to(jnp.arange(best.shape[1], dtype=jnp.float32), best.shape)
    spans = jnp.stack([begins, begins + 1.0], axis=-1)
    return _of_best(best, best != blank_id, (best != blank_id) & (best != before), log_probs, mask, spans)


def parallel_greedy(
    logits: Float[Array, "B U V"],
    lengths: Int[Array, "B"],
    spans: Float[Array, "B U 2"] | None = None,
    *,
    left_out: tuple[int, ...] = (),
) -> Hypotheses:
    """The best of each of a row's tokens without those that are `left_out`; scored by all their log-probabilities.

    Args:
      spans: where each token was heard, in encoded frames; None where that is not known.

    >>> logits = jnp.array([[[0.0, 9.0, 0.0], [0.0, 0.0, 9.0]]])
    >>> found = jax.jit(parallel_greedy, static_argnames="left_out")(logits, jnp.array([2]), left_out=(2,))
    >>> found.tokens.tolist()
    [[1, -1]]
    """
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    mask = length_mask(lengths, logits.shape[1])
    best = jnp.argmax(log_probs, axis=-1)
    keep = mask & ~jnp.isin(best, jnp.asarray(left_out, best.dtype))
    return _of_best(best, keep, keep, log_probs, mask, spans)


def _of_best(
    best: Int[Array, "B N"],
    keep: Bool[Array, "B N"],
    first: Bool[Array, "B N"],
    log_probs: Float[Array, "B N V"],
    mask: Bool[Array, "B N"],
    spans: Float[Array, "B N 2"] | None,
) -> Hypotheses:
    """What is kept, a token from each `first` to the next; scored by the sum of what is best within the mask."""
    place = jnp.where(keep, jnp.cumsum(first, axis=1) - 1, best.shape[1])  # dropped where not kept
    rows, surest = jnp.arange(best.shape[0])[:, None], jnp.max(log_probs, axis=-1)
    tokens = jnp.full_like(best, -1).at[rows, place].max(best, mode="drop")  # one token's are alike
    said = tokens >= 0
    of_tokens, spans = of_frames(place, said, surest, spans)
    return Hypotheses(
        tokens.astype(jnp.int32),
        said.sum(axis=1, dtype=jnp.int32),
        jnp.sum(jnp.where(mask, surest, 0.0), axis=1),
        of_tokens,
        spans,
    )


def of_frames(
    place: Int[Array, "B N"],
    said: Bool[Array, "B U"],
    log_probs: Float[Array, "B N"],
    spans: Float[Array, "B N 2"] | None,
) -> tuple[Float[Array, "B U"], Float[Array, "B U 2"] | None]:
    """Of tokens the surest log-probability, and the span from first to last, of what stands at their places.

    Args:
      place: the token that each frame is of; beyond the last one for none.
      said: the tokens that there are.

    >>> place, said, x = jnp.array([[0, 0, 1]]), jnp.array([[True, True]]), jnp.array([[-3.0, -1.0, -2.0]])
    >>> jax.jit(of_frames)(place, said, x, None)[0].tolist()
    [[-1.0, -2.0]]
    """
    rows = jnp.arange(place.shape[0])[:, None]
    empty = jnp.full(said.shape, jnp.inf, jnp.float32)
    of_tokens = jnp.where(said, (-empty).at[rows, place].max(log_probs, mode="drop"), 0.0)
    if spans is None:
        return of_tokens, None
    begins = empty.at[rows, place].min(spans[..., 0], mode="drop")
    ends = (-empty).at[rows, place].max(spans[..., 1], mode="drop")
    return of_tokens, jnp.where(said[:, :, None], jnp.stack([begins, ends], axis=-1), 0.0)


def attention_greedy(
    step: StepFn,
    cache: Any,
    max_lengths: Int[Array, "B"],
    *,
    max_tokens: int,
    sos: int,
    eos: int,
    forbidden: tuple[int, ...] = (),
) -> Hypotheses:
    """The best token at every step until eos, or until a row's own `max_lengths`.

    Scored by the sum of the tokens' log-probabilities, eos included. The first step runs before the loop,
    so that it may add to the cache what the others find there.
    """
    rows = max_lengths.shape[0]

    def advance(position, last, cache, done, scores, tokens, said):
        logits, cache = step(last, cache, position)
        log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
        log_probs = log_probs.at[:, jnp.asarray(forbidden, jnp.int32)].set(-jnp.inf)
        best = jnp.argmax(log_probs, axis=-1).astype(jnp.int32)
        done = done | (position >= max_lengths)  # no room for another token
        surest = jnp.max(log_probs, axis=-1)
        scores = scores + jnp.where(done, 0.0, surest)
        done = done | (best == eos)
        tokens, said = (
            lax.dynamic_update_slice_in_dim(all_, new[:, None], position, axis=1)
            for all_, new in ((tokens, jnp.where(done, -1, best)), (said, jnp.where(done, 0.0, surest)))
        )
        return position + 1, jnp.where(done, eos, best), cache, done, scores, tokens, said

    start = (
        jnp.zeros((), jnp.int32),
        jnp.full(rows, sos, jnp.int32),
        cache,
        jnp.zeros(rows, bool),
        jnp.zeros(rows, jnp.float32),
        jnp.full((rows, max_tokens), -1, jnp.int32),
        jnp.zeros((rows, max_tokens), jnp.float32),
    )
    state = lax.while_loop(lambda s: (s[0] < max_tokens) & ~jnp.all(s[3]), lambda s: advance(*s), advance(*start))
    *_, scores, tokens, said = state
    return Hypotheses(tokens, jnp.sum(tokens >= 0, axis=1, dtype=jnp.int32), scores, said)
