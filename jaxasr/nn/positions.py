"""Sinusoidal position encodings; constants, computed once in float64."""

import numpy as np

from jaxasr.errors import ConfigError
from jaxasr.typing import Float, Int


def sinusoids_interleaved(length: int, width: int) -> Float[np.ndarray, "T D"]:
    """Positions from 0; sines in the even columns, cosines in the odd ones (Vaswani et al., 2017, 3.5)."""
    return sinusoids_of(np.arange(length), width)


def sinusoids_of(positions: Int[np.ndarray, "T"], width: int) -> Float[np.ndarray, "T D"]:
    """The same for any positions, negative ones too."""
    angle = positions[:, None] * np.exp(np.arange(0, width, 2) * -(np.log(10_000.0) / width))
    table = np.zeros((len(positions), width))
    table[:, 0::2] = np.sin(angle)
    table[:, 1::2] = np.cos(angle)[:, : width // 2]
    return table.astype(np.float32)


def sinusoids_halves(length: int, width: int) -> Float[np.ndarray, "T D"]:
    """Positions from 1; sines in the first half, cosines in the second (FunASR's `pe` input layer)."""
    if width % 2 or width < 4:
        raise ConfigError(
            f"sinusoids_halves: width {width}; an even number of at least 4 was expected; choose num_mels x lfr_m even."
        )
    rate = np.exp(np.arange(width // 2) * -(np.log(10_000.0) / (width // 2 - 1)))
    angle = np.arange(1, length + 1)[:, None] * rate
    return np.concatenate([np.sin(angle), np.cos(angle)], axis=1).astype(np.float32)
