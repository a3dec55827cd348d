"""Where known tokens are in the sound: the best path of CTC that says them (forced alignment, by Viterbi's algorithm).

The 2U + 1 states of a row are a blank, its first token, a blank, its second token and so on; a path through the frames
stays, steps on, or skips the blank between two different tokens (Graves et al., 2006,
https://doi.org/10.1145/1143844.1143891, section 4.1, with the best path in place of the sum over all).
"""

import jax
import jax.numpy as jnp
from jax import lax

from jaxasr.nn.masking import length_mask
from jaxasr.search.greedy import of_frames
from jaxasr.search.hypotheses import Hypotheses
from jaxasr.typing import Array, Bool, Float, Int


def ctc_align(
    logits: Float[Array, "B T V"],
    lengths: Int[Array, "B"],
    tokens: Int[Array, "B U"],
    token_lengths: Int[Array, "B"],
    *,
    blank_id: int = 0,
) -> Hypotheses:
    """The same tokens with the frames that say them, scored by the log-probability of the best path.

    As in `ctc_greedy`, a token spans its frames of that path and its log-probability is that of the surest among them.

    A row that no path can say, for it has too few frames or logits of -inf or NaN, has the score -inf,
    log-probabilities of -inf and spans of NaN. No tokens fit in any number of frames.

    >>> logits = jnp.array([[[9.0, 0.0], [0.0, 9.0], [0.0, 9.0], [9.0, 0.0]]])
    >>> jax.jit(ctc_align)(logits, jnp.array([4]), jnp.array([[1]]), jnp.array([1])).spans.tolist()
    [[[1.0, 3.0]]]
    """
    said = length_mask(token_lengths, tokens.shape[1])
    labels = _labels(jnp.where(said, tokens, blank_id), blank_id)
    log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
    real = length_mask(lengths, logits.shape[1])
    path, scores = _best_path(log_probs, real, labels, token_lengths)  # (B, T)
    at_frames = jnp.take_along_axis(labels, path, axis=1)
    surest = jnp.take_along_axis(log_probs, at_frames[:, :, None], axis=2)[:, :, 0]
    place = jnp.where(path % 2 == 1, path // 2, tokens.shape[1])  # blanks are no token's
    begins = jnp.broadcast_to(jnp.arange(path.shape[1], dtype=jnp.float32), path.shape)
    of_tokens, spans = of_frames(place, said, surest, jnp.stack([begins, begins + 1.0], axis=-1))
    assert spans is not None
    possible = scores > -jnp.inf
    lost = said & ~possible[:, None]
    return Hypotheses(
        jnp.where(said, tokens, -1),
        token_lengths,
        jnp.where(possible, scores, -jnp.inf),
        jnp.where(lost, -jnp.inf, of_tokens),
        jnp.where(lost[:, :, None], jnp.nan, spans),
    )


def with_spans(
    found: Hypotheses, logits: Float[Array, "B T V"], lengths: Int[Array, "B"], *, blank_id: int = 0
) -> Hypotheses:
    """What a search found that cannot tell where tokens are, with the spans of `ctc_align`.

    Log-probabilities are those of the search where it has some.
    """
    if found.spans is not None:
        return found
    aligned = ctc_align(logits, lengths, found.tokens, found.lengths, blank_id=blank_id)
    log_probs = aligned.log_probs if found.log_probs is None else found.log_probs
    return found._replace(log_probs=log_probs, spans=aligned.spans)


def _labels(tokens: Int[Array, "B U"], blank_id: int) -> Int[Array, "B S"]:
    """What each state says."""
    labels = jnp.full((tokens.shape[0], 2 * tokens.shape[1] + 1), blank_id, jnp.int32)
    return labels.at[:, 1::2].set(tokens)


def _best_path(
    log_probs: Float[Array, "B T V"],
    real: Bool[Array, "B T"],
    labels: Int[Array, "B S"],
    token_lengths: Int[Array, "B"],
) -> tuple[Int[Array, "B T"], Float[Array, "B"]]:
    """The state of each frame on the best path, and its log-probability.

    In padding only a blank can be said, with probability 1: that ends a path at no cost.
    """
    states = jnp.arange(labels.shape[1])[None]
    of_token = states % 2 == 1
    skips = of_token & (labels != _later(labels, 2, -1))
    in_padding = jnp.where(of_token, -jnp.inf, 0.0)

    def step(scores: Array, frame: tuple[Array, Array]) -> tuple[Array, Array]:
        said, real = frame
        skipped = jnp.where(skips, _later(scores, 2, -jnp.inf), -jnp.inf)
        ways = jnp.stack([scores, _later(scores, 1, -jnp.inf), skipped])  # (3, B, S)
        emitted = jnp.where(real[:, None], jnp.take_along_axis(said, labels, axis=1), in_padding)
        return jnp.max(ways, axis=0) + emitted, jnp.argmax(ways, axis=0).astype(jnp.uint8)

    start = jnp.where(states == 0, 0.0, -jnp.inf)
    frames = log_probs.transpose(1, 0, 2), real.T
    scores, came = lax.scan(step, jnp.broadcast_to(start, labels.shape), frames)
    last = 2 * token_lengths[:, None]
    ends = jnp.stack([last, jnp.maximum(last - 1, 0)])[:, :, 0]  # (2, B)
    at_ends = jnp.take_along_axis(scores, ends.T, axis=1)
    state = jnp.where(at_ends[:, 0] >= at_ends[:, 1], ends[0], ends[1])

    def back(state: Array, came: Array) -> tuple[Array, Array]:
        return state - jnp.take_along_axis(came, state[:, None], axis=1)[:, 0], state

    _, path = lax.scan(back, state, came, reverse=True)
    return path.T, jnp.max(at_ends, axis=1)


def _later(x: Array, places: int, first: float) -> Array:
    """`x` moved so many places on along its last axis, to stand after `first`."""
    return jnp.pad(x, [(0, 0), (places, 0)], constant_values=first)[:, : x.shape[1]]
