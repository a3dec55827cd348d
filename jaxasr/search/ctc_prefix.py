"""How likely CTC finds it that a text begins with given tokens: algorithm 2 of Watanabe et al., 2017.

https://doi.org/10.1109/JSTSP.2017.2763455. What a hypothesis needs of each frame is how likely the frames before it say
just its tokens. From that follows the score of any token behind them without a recursion over frames; the recursion is
done for the few hypotheses alone that a search goes on with.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxasr.nn.masking import length_mask
from jaxasr.typing import Array, Float, Int

LOG_ZERO = -1e10
"""Logarithm of what cannot be; finite, so that no difference of two is NaN."""


class Emissions(NamedTuple):
    """Log-probabilities of the frames; in padding blank alone can be said, at no cost."""

    blank: Float[Array, "B T"]
    tokens: Float[Array, "B V T"]


class Prefixes(NamedTuple):
    """Of each hypothesis, how likely the frames before each one, and in the end all of them, say just its tokens."""

    said: Float[Array, "B K T+1"]
    blank: Float[Array, "B K T+1"]
    """The same, with a blank in the last of these frames (or no frame at all)."""
    last: Int[Array, "B K"]
    """The last token; -1 where there is none."""


def emissions(logits: Float[Array, "B T V"], lengths: Int[Array, "B"], *, blank_id: int = 0) -> Emissions:
    """Log probabilities of frames for prefix scores; behind a row's end only blanks, which cost nothing.

    >>> emitted = jax.jit(emissions)(jnp.array([[[0.0, 0.0], [0.0, 0.0]]]), jnp.array([1]))
    >>> [round(x, 3) for x in emitted.blank.tolist()[0]]
    [-0.693, 0.0]
    """
    real = length_mask(lengths, logits.shape[1])
    log_probs = jnp.maximum(jax.nn.log_softmax(logits.astype(jnp.float32)), LOG_ZERO)
    tokens = jnp.where(real[:, :, None], log_probs, LOG_ZERO).swapaxes(1, 2)
    return Emissions(jnp.where(real, log_probs[:, :, blank_id], 0.0), tokens)


def no_tokens(emitted: Emissions, beam: int) -> Prefixes:
    """Hypotheses without a token: blanks alone."""
    before = jnp.pad(jnp.cumsum(emitted.blank, axis=1), ((0, 0), (1, 0)))
    before = jnp.repeat(before[:, None], beam, axis=1)
    return Prefixes(before, before, jnp.full(before.shape[:2], -1, jnp.int32))


def prefix_scores(
    prefixes: Prefixes, emitted: Emissions, tokens: Int[Array, "B K C"], *, eos: int
) -> Float[Array, "B K C"]:
    """Log-probability, in nats, that the text begins with a hypothesis and one of these tokens; eos ends it there.

    The sum over all frames that may be the first to say the token. Of blank it means nothing.
    """
    of_tokens = jax.vmap(lambda rows, ids: rows[ids])(emitted.tokens, tokens)  # (B, K, C, T)
    before = _before(prefixes, tokens)[..., :-1]
    starts = jnp.maximum(jax.nn.logsumexp(before + of_tokens, axis=-1), LOG_ZERO)
    return jnp.where(tokens == eos, prefixes.said[:, :, -1:], starts)


def extended(prefixes: Prefixes, emitted: Emissions, parents: Int[Array, "B K"], tokens: Int[Array, "B K"]) -> Prefixes:
    """One more token each behind hypotheses that are picked."""
    prefixes = Prefixes(*(jax.vmap(lambda of_row, ids: of_row[ids])(x, parents) for x in prefixes))
    of_tokens = jax.vmap(lambda rows, ids: rows[ids])(emitted.tokens, tokens)  # (B, K, T)
    before = _before(prefixes, tokens[:, :, None])[:, :, 0, :-1]
    of_blanks = jnp.broadcast_to(emitted.blank[:, None], before.shape)

    def frame(said: tuple[Array, Array], given: Any) -> tuple[Any, Any]:
        """From before a frame to behind it."""
        (by_token, by_blank), (before, token, blank) = said, given
        said = jnp.logaddexp(by_token, before) + token, jnp.logaddexp(by_token, by_blank) + blank
        return said, said

    nothing = jnp.full(tokens.shape, LOG_ZERO)
    given = tuple(jnp.moveaxis(x, 2, 0) for x in (before, of_tokens, of_blanks))
    _, said = jax.lax.scan(frame, (nothing, nothing), given)
    by_token, by_blank = (
        jnp.pad(jnp.moveaxis(x, 0, 2), ((0, 0), (0, 0), (1, 0)), constant_values=LOG_ZERO) for x in said
    )
    return Prefixes(jnp.logaddexp(by_token, by_blank), by_blank, tokens)


def _before(prefixes: Prefixes, tokens: Int[Array, "B K C"]) -> Float[Array, "B K C T+1"]:
    """From where a token may be said first: between two alike there is a blank."""
    repeats = (tokens == prefixes.last[:, :, None])[..., None]
    return jnp.where(repeats, prefixes.blank[:, :, None], prefixes.said[:, :, None])
