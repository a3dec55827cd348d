"""Hypotheses found by CTC, judged anew by a decoder and language models."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from jaxasr.nn.ctc import ctc_loss
from jaxasr.nn.masking import length_mask
from jaxasr.search.choices import Fusion
from jaxasr.search.hypotheses import Hypotheses, NBest
from jaxasr.search.joint import Speaker, best_of
from jaxasr.search.scorers import Sum
from jaxasr.typing import Array, Float, Int

BLOCK = 16
"""Tokens that the decoder reads at a time."""


def room_of(tokens: int) -> int:
    """Tokens, sos among them, that the decoder needs room for where hypotheses have so many.

    >>> room_of(5)
    17
    """
    return 1 + -(-tokens // BLOCK) * BLOCK


def rescore(
    nbest: NBest,
    speaker: Speaker,
    ctc_logits: Float[Array, "B T V"],
    lengths: Int[Array, "B"],
    fusion: Fusion,
    *,
    nbest_out: int,
    eos: int,
    blank_id: int = 0,
) -> Hypotheses:
    """The hypotheses by the score that `joint` would give them where they end with eos.

    CTC's share is their exact likelihood. The log-probabilities of tokens are those of the decoder.
    """
    N = nbest.tokens.shape[2]
    read = jnp.maximum(nbest.tokens, 0)
    ends = jnp.arange(N + 1)[None, None] == nbest.lengths[:, :, None]
    targets = jnp.where(ends, eos, jnp.pad(read, ((0, 0), (0, 0), (0, 1))))  # (B, K, N + 1)
    counts = jnp.arange(N + 1)[None, None] <= nbest.lengths[:, :, None]
    longest = jnp.max(nbest.lengths)
    said = jnp.where(counts, _said(speaker, read, targets, longest), 0.0)
    judged = jnp.sum(jnp.where(counts, _judged(Sum(fusion.scorers), targets, longest, eos), 0.0), axis=2)
    loss = jax.vmap(lambda *its: ctc_loss(ctc_logits, lengths, *its, blank_id=blank_id), in_axes=1, out_axes=1)
    scores = speaker.weight * jnp.sum(said, axis=2) - fusion.ctc_weight * loss(read, nbest.lengths)
    scores = scores + judged + fusion.length_bonus * (nbest.lengths + 1)
    scores, order = lax.top_k(jnp.where(nbest.scores == -jnp.inf, -jnp.inf, scores), nbest_out)
    tokens, log_probs = (jnp.take_along_axis(x, order[:, :, None], axis=1) for x in (nbest.tokens, said[:, :, :N]))
    counted = jnp.take_along_axis(nbest.lengths, order, axis=1)
    real = jax.vmap(length_mask, in_axes=(1, None), out_axes=1)(counted, N)
    return best_of(NBest(tokens, counted, scores), jnp.where(real, log_probs, 0.0))


def _said(speaker: Speaker, read: Int[Array, "B K N"], targets: Int[Array, "B K N+1"], longest: Any) -> Array:
    """The decoder's log-probability of each token, a block of them at a time, up to the longest."""
    K, N = read.shape[1:]
    room = room_of(N)
    read = jnp.pad(read, ((0, 0), (0, 0), (0, room - 1 - N)))
    targets = jnp.pad(targets, ((0, 0), (0, 0), (0, room - 1 - N)))
    say = jax.vmap(speaker.say, in_axes=(1, 1, None), out_axes=1)

    def of_targets(logits: Array, targets: Array) -> Array:
        log_probs = jax.nn.log_softmax(logits.astype(jnp.float32))
        return jnp.take_along_axis(log_probs, targets[..., None], axis=-1)[..., 0]

    def block(state: tuple[Array, Any, Array]) -> tuple[Array, Any, Array]:
        at, cache, said = state
        logits, cache = say(lax.dynamic_slice_in_dim(read, at, BLOCK, axis=2), cache, at + 1)
        new = of_targets(logits, lax.dynamic_slice_in_dim(targets, at + 1, BLOCK, axis=2))
        return at + BLOCK, cache, lax.dynamic_update_slice_in_dim(said, new, at + 1, axis=2)

    first = of_targets(jnp.repeat(speaker.first[:, None], K, axis=1), targets[:, :, 0])
    said = jnp.pad(first[:, :, None], ((0, 0), (0, 0), (0, room - 1)))
    cache = jax.tree.map(lambda x: jnp.repeat(x[:, None], K, axis=1), speaker.cache)
    state = jnp.zeros((), jnp.int32), cache, said
    _, _, said = lax.while_loop(lambda s: s[0] < longest, block, state)
    return said[:, :, : N + 1]


def _judged(judges: Sum, targets: Int[Array, "B K N+1"], longest: Any, eos: int) -> Float[Array, "B K N+1"]:
    """What the scorers say of each token, up to the longest."""
    B, K, N = targets.shape
    rows = targets.reshape(B * K, N)

    def token(state: tuple[Array, Any, Array]) -> tuple[Array, Any, Array]:
        at, its, judged = state
        one = lax.dynamic_slice_in_dim(rows, at, 1, axis=1)
        new = judges.score(its, one)
        its = judges.advance(its, jnp.where(one == eos, 0, one)[:, 0])
        return at + 1, its, lax.dynamic_update_slice_in_dim(judged, new, at, axis=1)

    state = jnp.zeros((), jnp.int32), judges.start(B * K, N), jnp.zeros(rows.shape, jnp.float32)
    _, _, judged = lax.while_loop(lambda s: s[0] <= longest, token, state)
    return judged.reshape(B, K, N)
