"""Louder and quieter sound; a change of speed is part of `audio.read`."""

import numpy as np


def volume(audio: np.ndarray, gain_db: float) -> np.ndarray:
    """The sound `gain_db` decibels louder, in its dtype; nothing is clipped."""
    return audio * audio.dtype.type(10.0 ** (gain_db / 20.0))


def random_volume(audio: np.ndarray, rng: np.random.Generator, low_db: float, high_db: float) -> np.ndarray:
    """The sound with a gain drawn evenly from `low_db` to `high_db` decibels."""
    return volume(audio, rng.uniform(low_db, high_db))
