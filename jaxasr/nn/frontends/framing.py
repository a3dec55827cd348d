"""Sound as float32, cut into windows."""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from jaxasr.nn.masking import zero_padding
from jaxasr.nn.rows import on_own_rows
from jaxasr.typing import Array, Float, Int

INT16_SCALE = 32768.0


def as_float(inputs: Array, lengths: Int[Array, "B"]) -> Float[Array, "B S"]:
    """Sound, int16 or float (B, S), as float32 in [-1, 1], zeros in the padding.

    >>> sound = jnp.array([[16384, -32768, 5]], jnp.int16)
    >>> jax.jit(as_float)(sound, jnp.array([2])).tolist()
    [[0.5, -1.0, 0.0]]
    """
    audio = jnp.asarray(inputs)
    scale = 1.0 if jnp.issubdtype(audio.dtype, jnp.floating) else 1.0 / INT16_SCALE
    return zero_padding(audio.astype(jnp.float32) * scale, lengths)


def hops(audio: Float[Array, "B S"], window: int, hop: int) -> list[Float[Array, "B T H"]]:
    """Every whole window, cut where the windows after it begin: side by side the pieces are the windows.

    >>> [x.tolist() for x in hops(jnp.array([[0, 1, 2, 3, 4, 5]]), window=4, hop=2)]
    [[[[0, 1], [2, 3]]], [[[2, 3], [4, 5]]]]
    """
    parts = -(-window // hop)
    T = max((audio.shape[1] - window) // hop + 1, 1)
    needed = (T - 1 + parts) * hop
    audio = jnp.pad(audio, ((0, 0), (0, max(needed - audio.shape[1], 0))))[:, :needed]
    pieces = audio.reshape(audio.shape[0], T - 1 + parts, hop)
    return [pieces[:, k : k + T, : window - k * hop] for k in range(parts)]


def joined(pieces: Sequence[Float[Array, "B T H"]], size: int) -> Float[Array, "B T W"]:
    """Pieces of windows side by side, with zeros behind them up to `size`.

    >>> jax.jit(joined, static_argnums=1)([jnp.array([[[0, 1]]]), jnp.array([[[2]]])], 4).tolist()
    [[[0, 1, 2, 0]]]
    """
    rest = size - sum(piece.shape[-1] for piece in pieces)
    return jnp.concatenate([*pieces, jnp.zeros((*pieces[0].shape[:-1], rest), pieces[0].dtype)], axis=-1)


def power_spectrum(frames: Float[Array, "B T W"]) -> Float[Array, "B T K"]:
    """Squared magnitudes of a Fourier transform.

    >>> jax.jit(power_spectrum)(jnp.array([[[1.0, 0.0, -1.0, 0.0]]])).tolist()
    [[[0.0, 4.0, 0.0]]]
    """
    spectrum = jnp.fft.rfft(frames)
    return jnp.square(spectrum.real) + jnp.square(spectrum.imag)


FRAMES_IN_CACHE = 4096
"""Frames that a CPU takes from sound to features at a time; 1,200 to 4,800 were about as fast on two cores."""


def few_rows_at_a_time(
    features: Callable[[Float[Array, "B S"]], Float[Array, "B T F"]], audio: Float[Array, "B S"]
) -> Float[Array, "B T F"]:
    """``features(audio)``, each device for its own rows (XLA cannot divide an FFT: all would do all).

    What lies between sound and features is ten times as large as either. On a CPU it stays in the cache if some rows
    are taken after the others: 16 rows of 10 s in less than half the time.
    """

    def of_own_rows(audio: Float[Array, "B S"]) -> Float[Array, "B T F"]:
        rows, T = audio.shape[0], jax.eval_shape(features, audio).shape[1]
        at_once = max((n for n in range(1, rows + 1) if rows % n == 0 and n * T <= FRAMES_IN_CACHE), default=1)
        if jax.default_backend() != "cpu" or at_once == rows:
            return features(audio)
        found = lax.map(features, audio.reshape(rows // at_once, at_once, -1))
        return found.reshape(rows, *found.shape[2:])

    return on_own_rows(of_own_rows, audio)
