"""Rooms, noise and volume; a change of speed is part of `audio.read`. Sounds are float32 (S,)."""

import numpy as np

_FRAME, _SHIFT = 1024, 512
_SILENT = 0.01


def speech_power(sound: np.ndarray) -> float:
    """The mean square over the samples that are not silent, as FunASR and ESPnet measure it.

    Silent is what stands in frames (1024 samples every 512) below 1 % of the frames' mean power; a sound shorter than
    a frame is measured whole. 0 only where every sample is 0.

    >>> speech_power(np.array([0.5, -0.5]))
    0.25
    """
    if not sound.any():
        return 0.0
    if len(sound) < _FRAME:
        return float(np.mean(np.square(sound, dtype=np.float64)))
    starts = np.arange(0, len(sound), _SHIFT)
    energy = np.add.reduceat(np.square(sound, dtype=np.float64), starts)
    frames = energy[:-1] + energy[1:]  # the last one padded with zeros
    loud = frames > _SILENT * frames.mean()
    loud = np.append(loud, loud[-1])  # a frame speaks for its first half, the last one for all that is left
    sizes = np.diff(starts, append=len(sound))
    return float(energy[loud].sum() / sizes[loud].sum())


def reverberate(sound: np.ndarray, response: np.ndarray) -> np.ndarray:
    """The sound in the room of this impulse response (K,), as long and with the same `speech_power`.

    The strongest tap, the direct path, is taken as no delay, as by Kaldi's --shift-output: the sound stays where its
    words were, and its end is not pushed out.

    >>> reverberate(np.array([1.0, 0.0, 0.0]), np.array([1.0])).round(3).tolist()
    [1.0, 0.0, 0.0]
    """
    direct = int(np.argmax(np.abs(response)))
    response = response[: direct + len(sound)]
    size = _fft_size(len(sound) + len(response))
    spectrum = np.fft.rfft(sound, size) * np.fft.rfft(response, size)
    wet = np.fft.irfft(spectrum, size)[direct : direct + len(sound)]
    power = speech_power(wet)
    return wet * np.float32((speech_power(sound) / power) ** 0.5) if power else wet


def _fft_size(at_least: int) -> int:
    """A size of small prime factors, for which a transform is fast."""
    return min(odd << (-(-at_least // odd) - 1).bit_length() for odd in (1, 3, 5, 9, 15))


def add_noise(sound: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """The sound (S,) with noise (S,), the sound's `speech_power` so many decibels over the noise's mean square.

    Silence stays silence; noise that is silent adds nothing.

    >>> add_noise(np.ones(4), np.array([1.0, -1.0, 1.0, -1.0]), 20.0).round(3).tolist()
    [1.1, 0.9, 1.1, 0.9]
    """
    power = float(np.mean(np.square(noise, dtype=np.float64))) if len(noise) else 0.0
    if not power:
        return sound
    return sound + noise * np.float32((speech_power(sound) / power) ** 0.5 * 10.0 ** (-snr_db / 20.0))


def volume(audio: np.ndarray, gain_db: float) -> np.ndarray:
    """The sound (S,), `gain_db` decibels louder, in its dtype; nothing is clipped.

    >>> volume(np.array([1.0, 2.0]), 20.0).tolist()
    [10.0, 20.0]
    """
    return audio * audio.dtype.type(10.0 ** (gain_db / 20.0))


def random_volume(audio: np.ndarray, rng: np.random.Generator, low_db: float, high_db: float) -> np.ndarray:
    """The sound (S,) with a gain drawn evenly from `low_db` to `high_db` decibels."""
    return volume(audio, rng.uniform(low_db, high_db))


def within_full_scale(sound: np.ndarray) -> np.ndarray:
    """The sound, float (S,), made quieter where it would pass full scale.

    >>> within_full_scale(np.array([0.5, -2.0])).tolist()
    [0.25, -1.0]
    """
    peak = np.max(np.abs(sound), initial=0.0)
    return sound / peak if peak > 1.0 else sound
