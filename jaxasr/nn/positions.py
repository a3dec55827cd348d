"""Sinusoidal position encodings; constants, computed once in float64."""

import jax.numpy as jnp
import numpy as np

from jaxasr.errors import ConfigError
from jaxasr.typing import Array, Float, Int


def sinusoids_interleaved(length: int, width: int) -> Float[np.ndarray, "T D"]:
    """Positions from 0; sines in the even columns, cosines in the odd ones (Vaswani et al., 2017, 3.5).

    >>> sinusoids_interleaved(1, 4).tolist()
    [[0.0, 1.0, 0.0, 1.0]]
    """
    return sinusoids_of(np.arange(length), width)


def sinusoids_of(positions: Int[np.ndarray, "T"], width: int) -> Float[np.ndarray, "T D"]:
    """The same for any positions, negative ones too.

    >>> print(sinusoids_of(np.array([-1, 1]), 2).round(3))
    [[-0.841  0.54 ]
     [ 0.841  0.54 ]]
    """
    return np.stack(sines_and_cosines(positions, width), axis=-1).reshape(len(positions), -1)[:, :width]


def sines_and_cosines(
    positions: Int[np.ndarray, "T"], width: int
) -> tuple[Float[np.ndarray, "T D/2"], Float[np.ndarray, "T D/2"]]:
    """The same apart; of an odd width there is a cosine beside its last sine here.

    >>> print(*(x.round(3) for x in sines_and_cosines(np.array([1]), 4)))
    [[0.841 0.01 ]] [[0.54 1.  ]]
    """
    angle = positions[:, None] * np.exp(np.arange(0, width, 2) * -(np.log(10_000.0) / width))
    return np.sin(angle).astype(np.float32), np.cos(angle).astype(np.float32)


def sinusoids_halves(length: int, width: int) -> Float[np.ndarray, "T D"]:
    """Positions from 1; sines in the first half, cosines in the second (FunASR's `pe` input layer).

    Raises:
      ConfigError: the width is odd or below 4.

    >>> print(sinusoids_halves(1, 6).round(3))
    [[0.841 0.01  0.    0.54  1.    1.   ]]
    """
    if width % 2 or width < 4:
        raise ConfigError(
            f"sinusoids_halves: width {width}; an even number of at least 4 was expected; choose num_mels x lfr_m even."
        )
    sin, cos = _halves(np.arange(1, length + 1), width)
    return np.concatenate([sin, cos], axis=1)


def sinusoids_halves_from(first: Int[Array, ""], length: int, width: int) -> Float[Array, "T D"]:
    """Of `length` frames from number `first` on the rows that `sinusoids_halves` has; the number may be traced.

    By the angles' sum, over three digits to the base 256: float32 angles would be coarse. `first` lies between
    -`length` and 2**24 - `length`.

    >>> from jax import jit
    >>> rows = jit(sinusoids_halves_from, static_argnums=(1, 2))(3, 2, 4)
    >>> np.allclose(rows, sinusoids_halves(5, 4)[3:], atol=1e-6)
    True
    """
    digits = [(first + length) // 256**k % 256 for k in range(3)]
    parts = [_halves(np.arange(256) * 256**k, width) for k in range(3)]
    sin, cos = (jnp.asarray(x) for x in _halves(np.arange(1 - length, 1), width))
    for digit, part in zip(digits, parts, strict=True):
        far_sin, far_cos = (jnp.asarray(x)[digit][None] for x in part)
        sin, cos = sin * far_cos + cos * far_sin, cos * far_cos - sin * far_sin
    return jnp.concatenate([sin, cos], axis=1)


def _halves(positions: Int[np.ndarray, "T"], width: int) -> tuple[np.ndarray, np.ndarray]:
    """Sines and cosines of each position, half as wide."""
    rate = np.exp(np.arange(width // 2) * -(np.log(10_000.0) / (width // 2 - 1)))
    angle = positions[:, None] * rate
    return np.sin(angle).astype(np.float32), np.cos(angle).astype(np.float32)
