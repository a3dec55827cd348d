"""Mel filterbanks."""

import numpy as np

from jaxasr.errors import ConfigError
from jaxasr.typing import Float


def mel_filterbank(
    num_mels: int, fft_size: int, sample_rate: int, low_hz: float, high_hz: float
) -> Float[np.ndarray, "K F"]:
    """Kaldi's triangles, linear in mel, over the first fft_size / 2 bins of a power spectrum (no Nyquist bin).

    >>> mel_filterbank(80, 512, 16000, 20.0, 8000.0).shape
    (256, 80)
    """
    nyquist = sample_rate / 2
    high_hz = high_hz if high_hz > 0 else nyquist + high_hz
    _check_band(low_hz, high_hz, sample_rate)

    def mel(hz):
        return 1127.0 * np.log(1.0 + hz / 700.0)

    edges = np.linspace(mel(low_hz), mel(high_hz), num_mels + 2)
    bins = mel(np.arange(fft_size // 2) * sample_rate / fft_size)[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return np.maximum(np.minimum(rise, fall), 0.0).astype(np.float32)


def slaney_filterbank(
    num_mels: int, fft_size: int, sample_rate: int, low_hz: float, high_hz: float, *, htk: bool
) -> Float[np.ndarray, "K F"]:
    """librosa's triangles, linear in Hz and each of the same area, over all bins of a power spectrum.

    >>> slaney_filterbank(3, 16, 8000, 0.0, 4000.0, htk=False).argmax(axis=0).tolist()
    [1, 3, 5]
    """
    nyquist = sample_rate / 2
    high_hz = high_hz if high_hz > 0 else nyquist + high_hz
    _check_band(low_hz, high_hz, sample_rate)
    step = np.log(6.4) / 27.0  # of Slaney's scale, from 1 kHz, his 15th mel, on

    def mel(hz: float) -> float:
        if htk:
            return 2595.0 * float(np.log10(1.0 + hz / 700.0))
        return hz * 3.0 / 200.0 if hz < 1000.0 else 15.0 + float(np.log(hz / 1000.0)) / step

    mels = np.linspace(mel(low_hz), mel(high_hz), num_mels + 2)
    linear, curved = mels * 200.0 / 3.0, 1000.0 * np.exp(step * (mels - 15.0))
    edges = 700.0 * (10.0 ** (mels / 2595.0) - 1.0) if htk else np.where(mels < 15.0, linear, curved)
    bins = np.fft.rfftfreq(fft_size, 1.0 / sample_rate)[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return (np.maximum(np.minimum(rise, fall), 0.0) * 2.0 / (edges[2:] - edges[:-2])).astype(np.float32)


def _check_band(low_hz: float, high_hz: float, sample_rate: int) -> None:
    if not 0 <= low_hz < high_hz <= sample_rate / 2:
        raise ConfigError(
            f"--frontend: low_hz={low_hz}, high_hz={high_hz} at {sample_rate} Hz; "
            f"0 <= low_hz < high_hz <= {sample_rate / 2:g} was expected; change --frontend.low_hz or "
            "--frontend.high_hz."
        )
