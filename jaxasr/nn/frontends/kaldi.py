"""Kaldi's log-mel filterbank."""

import dataclasses
import functools
from typing import Literal, Self

import jax.numpy as jnp
import numpy as np

from jaxasr.errors import ConfigError
from jaxasr.nn.frontends.base import FRONTENDS
from jaxasr.nn.frontends.framing import INT16_SCALE, as_float, few_rows_at_a_time, hops, joined, power_spectrum
from jaxasr.nn.frontends.mel import mel_filterbank
from jaxasr.nn.frontends.stacking import StackingFrontend
from jaxasr.nn.noise import row_normals
from jaxasr.typing import Array, Float, Int, Key, LengthsT


@FRONTENDS.register("wav_frontend")
@dataclasses.dataclass(frozen=True)
class WavFrontend(StackingFrontend):
    """Kaldi's log-mel filterbank with low frame rate stacking; FunASR's `wav_frontend`.

    Equal to kaldi.fbank(energy_floor=0, snip_edges, remove_dc_offset, round_to_power_of_two) on int16 samples.
    """

    num_mels: int = 80
    """Mel bands."""
    window: Literal["hamming", "povey", "hanning", "blackman", "rectangular"] = "hamming"
    """Window of a frame, as Kaldi calls it: FunASR's is hamming, Kaldi's povey."""
    window_ms: float = 25.0
    """Length of a frame's window, in milliseconds."""
    low_hz: float = 20.0
    """Lower edge of the first mel band, in Hz."""
    high_hz: float = 0.0
    """Upper edge of the last mel band, in Hz; 0 or less counts from half the sample rate."""
    preemphasis: float = 0.97
    """Coefficient of the pre-emphasis filter."""
    dither: float = 0.0
    """Standard deviation of the noise added while training, in steps of 16-bit sound."""
    snip_edges: bool = True
    """Whole windows only; False centres a window on every hop and reflects the sound at its ends."""

    @property
    def num_bands(self) -> int:
        return self.num_mels

    def for_encoder(self, subsampling: int) -> Self:
        if self.num_mels < 1 or not self.dither >= 0.0:
            raise ConfigError(
                f"--frontend: num_mels={self.num_mels}, dither={self.dither}; 1 or more mel bands and a deviation of 0 "
                "(none) or more were expected; change them."
            )
        return super().for_encoder(subsampling)

    def __call__(
        self,
        inputs: Array,
        lengths: Int[Array, "B"],
        *,
        sample_rate: int,
        key: Key | None = None,
    ) -> tuple[Float[Array, "B T F"], Int[Array, "B"]]:
        audio = as_float(inputs, lengths) * INT16_SCALE
        if key is not None and self.dither > 0.0:
            audio = audio + self.dither * row_normals(key, audio.shape)
        return self.stacked(self.log_mel(audio, lengths, sample_rate), self.num_frames(lengths, sample_rate))

    def log_mel(self, audio: Float[Array, "B S"], lengths: Int[Array, "B"], sample_rate: int) -> Float[Array, "B T F"]:
        """Natural logarithm of mel energies of the 16-bit scaled `audio`, one frame a hop."""
        window, hop = self.window_and_hop(sample_rate)
        if not self.snip_edges:
            audio = _reflect_ends(audio, lengths, window, hop)
        return few_rows_at_a_time(functools.partial(self._log_mel, window=window, hop=hop, rate=sample_rate), audio)

    def _log_mel(self, audio: Float[Array, "B S"], window: int, hop: int, rate: int) -> Float[Array, "B T F"]:
        now, before = hops(audio, window, hop), hops(jnp.pad(audio, ((0, 0), (1, 0)))[:, :-1], window, hop)
        before[0] = jnp.where(jnp.arange(before[0].shape[-1])[None, None] == 0, now[0], before[0])
        mean = sum(jnp.sum(x, axis=-1, keepdims=True) for x in now) / window
        shape = jnp.split(_window(self.window, window)[None, None], list(range(hop, window, hop)), axis=-1)
        pieces = [
            ((x - mean) - self.preemphasis * (y - mean)) * weights
            for x, y, weights in zip(now, before, shape, strict=True)
        ]
        size = 1 << (window - 1).bit_length()
        power = power_spectrum(joined(pieces, size))[..., : size // 2]
        bank = mel_filterbank(self.num_mels, size, rate, self.low_hz, self.high_hz)
        # bfloat16 passes, a TPU's default, would cost up to five units of the logarithm
        energies = jnp.einsum("btk,kf->btf", power, bank, precision="highest")
        return jnp.log(jnp.maximum(energies, np.finfo(np.float32).eps))

    def window_and_hop(self, sample_rate: int) -> tuple[int, int]:
        """Samples of a frame's window, and from one to the next.

        Raises:
          ConfigError: the window is shorter than 2 samples, or there is no hop.
        """
        window, hop = int(sample_rate * self.window_ms * 0.001), int(sample_rate * self.hop_ms * 0.001)
        if window < 2 or hop < 1:
            raise ConfigError(
                f"--frontend: window_ms={self.window_ms}, hop_ms={self.hop_ms} at {sample_rate} Hz give windows of "
                f"{window} samples every {hop}; at least 2 and 1 are needed; choose longer ones."
            )
        return window, hop

    def num_frames(self, lengths: LengthsT, sample_rate: int) -> LengthsT:
        window, hop = self.window_and_hop(sample_rate)
        frames = (lengths - window) // hop + 1 if self.snip_edges else (lengths + hop // 2) // hop
        return frames * (frames > 0)


def _reflect_ends(audio: Float[Array, "B S"], lengths: Int[Array, "B"], window: int, hop: int) -> Array:
    """`audio` shifted and extended so that frame t's window starts at sample t * hop (Kaldi, snip_edges=false)."""
    before = window // 2 - hop // 2
    position = jnp.arange(audio.shape[1] + window) - before
    end = jnp.maximum(lengths, 1)[:, None]
    inside = position[None, :] % (2 * end)  # the sound and its mirror image, over and over
    index = jnp.where(inside < end, inside, 2 * end - 1 - inside)
    return jnp.take_along_axis(audio, index, axis=1)


def _window(name: str, size: int) -> Float[np.ndarray, "W"]:
    phase = 2 * np.pi * np.arange(size) / (size - 1)
    hanning = 0.5 - 0.5 * np.cos(phase)
    shapes = {
        "hamming": 0.54 - 0.46 * np.cos(phase),
        "povey": hanning**0.85,
        "hanning": hanning,
        "blackman": 0.42 - 0.5 * np.cos(phase) + 0.08 * np.cos(2 * phase),
        "rectangular": np.ones(size),
    }
    return shapes[name].astype(np.float32)
