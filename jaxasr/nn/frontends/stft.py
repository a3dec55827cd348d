"""ESPnet's log-mel features."""

import dataclasses
import functools
from typing import Self

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxasr.errors import ConfigError
from jaxasr.nn.frontends.base import FRONTENDS
from jaxasr.nn.frontends.framing import as_float, few_rows_at_a_time, hops, joined, power_spectrum
from jaxasr.nn.frontends.mel import slaney_filterbank
from jaxasr.nn.frontends.stacking import StackingFrontend
from jaxasr.typing import Array, Float, Int, Key, LengthsT


@FRONTENDS.register("default")
@dataclasses.dataclass(frozen=True)
class StftFrontend(StackingFrontend):
    """Log-mel energies of a centred Fourier transform; FunASR's and ESPnet's `default`, with librosa's mel bands.

    The sound is mirrored at its ends. In a batch theirs mirrors it at the end of the longest row; here a row's frames
    are those that it has alone.
    """

    hop_ms: float = 8.0
    """From one frame to the next before they are stacked, in milliseconds."""
    num_mels: int = 80
    """Mel bands."""
    fft_size: int = 512
    """Samples of a Fourier transform."""
    window_ms: float | None = None
    """Length of the Hann window in the middle of it, in milliseconds; None for all of it."""
    low_hz: float = 0.0
    """Lower edge of the first mel band, in Hz."""
    high_hz: float = 0.0
    """Upper edge of the last mel band, in Hz; 0 or less counts from half the sample rate."""
    htk: bool = False
    """Mel by HTK's formula, not Slaney's, which is linear below 1 kHz."""

    @property
    def num_bands(self) -> int:
        return self.num_mels

    def for_encoder(self, subsampling: int) -> Self:
        if self.num_mels < 1 or self.fft_size < 2:
            raise ConfigError(
                f"--frontend: num_mels={self.num_mels}, fft_size={self.fft_size}; 1 or more mel bands and a transform "
                "of 2 samples or more were expected; change them."
            )
        return super().for_encoder(subsampling)

    def num_frames(self, lengths: LengthsT, sample_rate: int) -> LengthsT:
        _, hop = self.window_and_hop(sample_rate)
        rest = 2 * (self.fft_size // 2) - self.fft_size  # -1 of an odd transform: half of it is less on either side
        return ((lengths + rest) // hop + 1) * (lengths > 0)

    def __call__(
        self,
        inputs: Array,
        lengths: Int[Array, "B"],
        *,
        sample_rate: int,
        key: Key | None = None,
    ) -> tuple[Float[Array, "B T F"], Int[Array, "B"]]:
        audio = _mirrored(as_float(inputs, lengths), lengths, self.fft_size // 2)
        log_mel = few_rows_at_a_time(functools.partial(self._log_mel, rate=sample_rate), audio)
        return self.stacked(log_mel, self.num_frames(lengths, sample_rate))

    def _log_mel(self, audio: Float[Array, "B S"], rate: int) -> Float[Array, "B T F"]:
        window, hop = self.window_and_hop(rate)
        shape = np.zeros((1, 1, self.fft_size), np.float32)
        left = (self.fft_size - window) // 2
        shape[..., left : left + window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
        power = power_spectrum(joined(hops(audio, self.fft_size, hop), self.fft_size) * shape)  # (B, T, K)
        bank = slaney_filterbank(self.num_mels, self.fft_size, rate, self.low_hz, self.high_hz, htk=self.htk)
        energies = jnp.einsum("btk,kf->btf", power, bank, precision="highest")
        return jnp.log(jnp.maximum(energies, 1e-10))

    def window_and_hop(self, sample_rate: int) -> tuple[int, int]:
        """Samples of a frame's window, and from one to the next.

        Raises:
          ConfigError: a window is longer than the transform, or there is no hop.
        """
        hop = int(sample_rate * self.hop_ms * 0.001)
        window = self.fft_size if self.window_ms is None else int(sample_rate * self.window_ms * 0.001)
        if hop < 1 or not 2 <= window <= self.fft_size:
            raise ConfigError(
                f"--frontend: window_ms={self.window_ms}, hop_ms={self.hop_ms} at {sample_rate} Hz give windows of "
                f"{window} samples every {hop}; 2 to fft_size={self.fft_size} and at least 1 are needed; change them."
            )
        return window, hop


def _mirrored(audio: Float[Array, "B S"], lengths: Int[Array, "B"], more: int) -> Float[Array, "B S2"]:
    """`audio` with `more` samples before and after each sound: mirrored at its ends, over and over."""
    last = jnp.maximum(lengths - 1, 1)[:, None]

    def at(position: Int[Array, "B N"]) -> Float[Array, "B N"]:
        inside = jnp.abs(position) % (2 * last)
        index = jnp.where(inside <= last, inside, 2 * last - inside)
        return jnp.take_along_axis(audio, jnp.minimum(index, audio.shape[1] - 1), axis=1)

    count = jnp.arange(more)[None]
    sound = jnp.concatenate([at(count - more), audio, jnp.zeros((audio.shape[0], more), audio.dtype)], axis=1)
    behind = at(count + lengths[:, None])  # what is mirrored alone is gathered, since a gather is slow on a CPU
    return jax.vmap(lambda row, tail, end: lax.dynamic_update_slice(row, tail, (end,)))(sound, behind, lengths + more)
