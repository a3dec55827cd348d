"""Where tokens are in the sound, by the weights that frames have of them (`nn.cif`).

Spans are in frames: the first goes from 0 to 1. They are those of a row alone, whatever its padding.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from jaxasr.nn import cif
from jaxasr.nn.masking import length_mask, zero_padding
from jaxasr.typing import Array, Float, Int

SHIFT_MS, SILENCE_MS, LONGEST_MS = 30.0, 100.0, 240.0
"""FunASR's force_time_shift, START_END_THRESHOLD and MAX_TOKEN_DURATION, there in frames of 20 ms."""
NEARLY = 1.0 - 1e-4
"""Weight that FunASR takes for a whole token of timestamps."""


def spans_of_weights(alphas: Float[Array, "B T"], lengths: Int[Array, "B"], num_tokens: int) -> Float[Array, "B U 2"]:
    """The frames that each token is made of: from where the weights add up to k to where they do to k + 1.

    Within a frame the sum grows evenly, so that tokens which end in one frame share it. What has no weight at all is no
    token's. Of the first tokens of a row, as many as its weights are worth, each has a span of its own, the next not
    before its end; what stands behind them means nothing.

    Args:
      alphas: as in `Predicted`, the frame of the tail included.
      lengths: the real frames, where the last token ends at the latest.

    >>> alphas = jnp.array([[0.5, 0.5, 0.5, 0.5]])
    >>> jax.jit(spans_of_weights, static_argnums=2)(alphas, jnp.array([4]), 2).tolist()
    [[[0.0, 2.0], [2.0, 4.0]]]
    """
    total, tokens = _rising_sum(alphas), jnp.arange(num_tokens, dtype=jnp.float32)
    spans = jnp.stack([_where(total, tokens, "right"), _where(total, tokens + 1.0, "left")], axis=-1)
    return jnp.minimum(spans, lengths[:, None, None].astype(jnp.float32))


def spans_of_fires(
    alphas: Float[Array, "B T"], lengths: Int[Array, "B"], counts: Int[Array, "B"], num_tokens: int, frame_ms: float
) -> Float[Array, "B U 2"]:
    """The spans of `counts` tokens by weights that were learnt for it: FunASR's `ts_prediction_lfr6_standard`.

    Weights are scaled to one token more than there are, and each token goes from the frame where it fires, less 30 ms,
    to where the next does: for 240 ms at most, of which what follows is silence. The last one goes half of the way to
    the sound's end if that is over 100 ms off, else all of it.

    Where several tokens fire in one frame they share it evenly; FunASR has the others fire in the frames that follow,
    and leaves out tokens where the sound has none. Theirs may begin before the sound; what would lie there, or in its
    first 10 ms, is pressed together behind its start. Zeros behind the last token.

    Args:
      alphas: 0 in the padding.
      counts: tokens without an end, at most `num_tokens`.
      frame_ms: milliseconds from one frame to the next.

    >>> alphas = jnp.array([[0.5, 0.5, 0.5, 0.5, 0.5, 0.5]])
    >>> spans = jax.jit(spans_of_fires, static_argnums=(3, 4))(alphas, jnp.array([6]), jnp.array([2]), 2, 60.0)
    >>> spans.tolist()
    [[[0.5, 2.5], [2.5, 6.0]]]
    """
    shift, silence, longest = (ms / frame_ms for ms in (SHIFT_MS, SILENCE_MS, LONGEST_MS))
    place = _fires(cif.scaled_to(alphas, counts + 1), lengths, counts + 1, num_tokens + 1)
    begins, ends, sound = place[:, :-1] - shift, place[:, 1:] - shift, lengths[:, None].astype(jnp.float32)
    to_the_end = jnp.where(sound - ends > silence, (sound + ends) / 2.0, sound)
    last = jnp.arange(num_tokens)[None] == counts[:, None] - 1
    ends = jnp.where(ends - begins > longest, begins + longest, jnp.where(last, to_the_end, ends))
    spans = jnp.stack([begins, ends], axis=-1)
    return zero_padding(jnp.maximum(spans, (spans + shift) / 4.0), counts)


def _fires(
    alphas: Float[Array, "B T"], lengths: Int[Array, "B"], counts: Int[Array, "B"], num_fires: int
) -> Float[Array, "B N"]:
    """The frame where each of the first `counts` tokens is full; a part of a frame later where others were before."""
    levels = NEARLY * jnp.arange(1, num_fires + 1, dtype=jnp.float32)
    frame = _first(_rising_sum(alphas)[:, 1:], levels, "left")
    frame = jnp.clip(frame, 0, jnp.maximum(lengths[:, None] - 1, 0))
    same = (frame[:, :, None] == frame[:, None, :]) & length_mask(counts, num_fires)[:, None, :]
    earlier = jnp.tril(jnp.ones((1, num_fires, num_fires), bool), -1)
    return frame + jnp.sum(same & earlier, axis=2) / jnp.maximum(jnp.sum(same, axis=2), 1)


def _where(total: Float[Array, "B T+1"], levels: Float[Array, "N"], side: str) -> Float[jax.Array, "B N"]:
    """How many frames, the last in part, it takes to reach each level (left), or to pass it (right)."""
    frame = jnp.minimum(_first(total[:, 1:], levels, side), total.shape[1] - 2)
    before, after = (jnp.take_along_axis(total, frame + k, axis=1) for k in (0, 1))
    part = (levels[None] - before) / jnp.where(after > before, after - before, 1.0)
    return frame + jnp.where(after > before, jnp.clip(part, 0.0, 1.0), 1.0)


def _first(sums: Float[Array, "B T"], levels: Float[Array, "N"], side: str) -> Int[jax.Array, "B N"]:
    """The first frame whose sum reaches each level (left), or passes it (right); T where none does."""
    return jax.vmap(functools.partial(jnp.searchsorted, side=side), (0, None))(sums, levels)


def _rising_sum(alphas: Float[Array, "B T"]) -> Float[jax.Array, "B T+1"]:
    """`cif.running_sum`, which rounding does not let fall."""
    return lax.cummax(cif.running_sum(alphas), axis=1)
