"""Waveform, or features that are given, to feature frames; on the device."""

import abc
import dataclasses
import math
from typing import Literal, NamedTuple, Self

import jax.numpy as jnp
import numpy as np

from jaxasr.errors import ConfigError
from jaxasr.nn.masking import length_mask, zero_padding
from jaxasr.nn.noise import row_normals
from jaxasr.registry import Registry
from jaxasr.typing import Array, Float, Int, Key, LengthsT

INT16_SCALE = 32768.0


class Frames(NamedTuple):
    """Features as they come in."""

    width: int
    """F."""
    hop_ms: float
    """From one frame to the next, in milliseconds."""


@dataclasses.dataclass(frozen=True)
class Frontend(abc.ABC):
    """Waveforms, or features (B, T, F) that are given, in; feature frames out; no parameters."""

    @property
    def input_frames(self) -> Frames | None:
        """What comes in instead of sound; None for sound."""
        return None

    @property
    @abc.abstractmethod
    def output_width(self) -> int:
        """F, the width of a feature frame."""

    @property
    @abc.abstractmethod
    def num_bands(self) -> int:
        """Frequency bands of one frame before frames are stacked; divides `output_width`."""

    @abc.abstractmethod
    def output_lengths(self, lengths: LengthsT, sample_rate: int) -> LengthsT:
        """Frames that so many samples, or frames that come in, give; works on an int and on an array."""

    @abc.abstractmethod
    def frame_ms(self) -> float:
        """Milliseconds from one frame to the next."""

    @abc.abstractmethod
    def for_encoder(self, subsampling: int) -> "Frontend":
        """This frontend with what was left open chosen to suit an encoder that divides the rate by so much."""

    @abc.abstractmethod
    def __call__(
        self,
        inputs: Array,
        lengths: Int[Array, "B"],
        *,
        sample_rate: int,
        key: Key | None = None,
    ) -> tuple[Float[Array, "B T F"], Int[Array, "B"]]:
        """Float32 features and their lengths; zeros in the padding.

        Sound (B, S) is int16, or float in [-1, 1]. A key turns on what is random.
        """


FRONTENDS: Registry[Frontend] = Registry(
    "frontend", Frontend, ("__call__", "output_width", "num_bands", "output_lengths", "frame_ms", "for_encoder")
)


@dataclasses.dataclass(frozen=True)
class StackingFrontend(Frontend):
    """A frontend that ends with low frame rate stacking."""

    hop_ms: float = 10.0
    """From one frame to the next before they are stacked, in milliseconds."""
    lfr_m: int | None = None
    """Frames stacked into one; None: 7 before an encoder that keeps the frame rate, 1 before one that divides it."""
    lfr_n: int | None = None
    """Frames from one stack to the next; None: 6 before an encoder that keeps the frame rate, else 1."""

    @property
    def output_width(self) -> int:
        return self.num_bands * (self.lfr_m or 1)

    def frame_ms(self) -> float:
        return self.hop_ms * (self.lfr_n or 1)

    def for_encoder(self, subsampling: int) -> Self:
        m, n = (7, 6) if subsampling == 1 else (1, 1)
        lfr_m = m if self.lfr_m is None else self.lfr_m
        lfr_n = n if self.lfr_n is None else self.lfr_n
        if lfr_m < 1 or lfr_n < 1:
            raise ConfigError(
                f"--frontend: lfr_m={lfr_m}, lfr_n={lfr_n}; both are at least 1; --frontend.lfr_m=7 "
                "--frontend.lfr_n=6 is FunASR's choice."
            )
        return dataclasses.replace(self, lfr_m=lfr_m, lfr_n=lfr_n)

    @abc.abstractmethod
    def num_frames(self, lengths: LengthsT, sample_rate: int) -> LengthsT:
        """Frames before they are stacked; works on an int and on an array."""

    def output_lengths(self, lengths: LengthsT, sample_rate: int) -> LengthsT:
        return -(-self.num_frames(lengths, sample_rate) // (self.lfr_n or 1))

    def stacked(
        self, features: Float[Array, "B T F"], lengths: Int[Array, "B"]
    ) -> tuple[Float[Array, "B T2 F2"], Int[Array, "B"]]:
        """The stacked frames and their lengths; zeros in the padding."""
        features, lengths = stack_frames(features, lengths, self.lfr_m or 1, self.lfr_n or 1)
        return zero_padding(features, lengths), lengths


@FRONTENDS.register("features")
@dataclasses.dataclass(frozen=True)
class GivenFeatures(StackingFrontend):
    """Features that were made elsewhere, given instead of sound (.npy files, Kaldi's archives)."""

    width: int = 80
    """Features of a frame."""

    @property
    def input_frames(self) -> Frames | None:
        return Frames(self.width, self.hop_ms)

    @property
    def num_bands(self) -> int:
        return self.width

    def num_frames(self, lengths: LengthsT, sample_rate: int) -> LengthsT:
        return lengths

    def for_encoder(self, subsampling: int) -> Self:
        if self.width < 1 or not self.hop_ms > 0.0:
            raise ConfigError(
                f"--frontend: width={self.width}, hop_ms={self.hop_ms}; both are above 0; give those of the features."
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
        return self.stacked(jnp.asarray(inputs, jnp.float32), lengths)


@FRONTENDS.register("wav_frontend")
@dataclasses.dataclass(frozen=True)
class WavFrontend(StackingFrontend):
    """Kaldi's log-mel filterbank with low frame rate stacking; FunASR's `wav_frontend`.

    Equal to kaldi.fbank(energy_floor=0, snip_edges, remove_dc_offset, round_to_power_of_two) on int16 samples.
    """

    num_mels: int = 80
    """Mel bands."""
    window: Literal["hamming", "povey"] = "hamming"
    """Window of a frame: FunASR's hamming or Kaldi's povey."""
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
        window, hop = self._samples(sample_rate)
        if not self.snip_edges:
            audio = _reflect_ends(audio, lengths, window, hop)
        frames = _windows(audio, window, hop)  # (B, T, window)
        frames = frames - jnp.mean(frames, axis=-1, keepdims=True)
        before = jnp.concatenate([frames[..., :1], frames[..., :-1]], axis=-1)
        frames = (frames - self.preemphasis * before) * _window(self.window, window)[None, None]
        size = 1 << (window - 1).bit_length()
        power = jnp.square(jnp.abs(jnp.fft.rfft(frames, n=size)))[..., : size // 2]
        bank = mel_filterbank(self.num_mels, size, sample_rate, self.low_hz, self.high_hz)
        # bfloat16 passes, a TPU's default, would cost up to five units of the logarithm
        energies = jnp.einsum("btk,kf->btf", power, bank, precision="highest")
        return jnp.log(jnp.maximum(energies, np.finfo(np.float32).eps))

    def _samples(self, sample_rate: int) -> tuple[int, int]:
        window, hop = int(sample_rate * self.window_ms * 0.001), int(sample_rate * self.hop_ms * 0.001)
        if window < 2 or hop < 1:
            raise ConfigError(
                f"--frontend: window_ms={self.window_ms}, hop_ms={self.hop_ms} at {sample_rate} Hz give windows of "
                f"{window} samples every {hop}; at least 2 and 1 are needed; choose longer ones."
            )
        return window, hop

    def num_frames(self, lengths: LengthsT, sample_rate: int) -> LengthsT:
        window, hop = self._samples(sample_rate)
        frames = (lengths - window) // hop + 1 if self.snip_edges else (lengths + hop // 2) // hop
        return frames * (frames > 0)


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
        _, hop = self._samples(sample_rate)
        return (lengths // hop + 1) * (lengths > 0)

    def __call__(
        self,
        inputs: Array,
        lengths: Int[Array, "B"],
        *,
        sample_rate: int,
        key: Key | None = None,
    ) -> tuple[Float[Array, "B T F"], Int[Array, "B"]]:
        window, hop = self._samples(sample_rate)
        audio = as_float(inputs, lengths)
        half = self.fft_size // 2
        frames = _windows(_mirrored(audio, lengths, half, audio.shape[1] + 2 * half), self.fft_size, hop)
        shape = np.zeros(self.fft_size, np.float32)
        left = (self.fft_size - window) // 2
        shape[left : left + window] = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(window) / window)
        power = jnp.square(jnp.abs(jnp.fft.rfft(frames * shape[None, None])))  # (B, T, K)
        bank = slaney_filterbank(self.num_mels, self.fft_size, sample_rate, self.low_hz, self.high_hz, htk=self.htk)
        energies = jnp.einsum("btk,kf->btf", power, bank, precision="highest")
        return self.stacked(jnp.log(jnp.maximum(energies, 1e-10)), self.num_frames(lengths, sample_rate))

    def _samples(self, sample_rate: int) -> tuple[int, int]:
        hop = int(sample_rate * self.hop_ms * 0.001)
        window = self.fft_size if self.window_ms is None else int(sample_rate * self.window_ms * 0.001)
        if hop < 1 or not 2 <= window <= self.fft_size:
            raise ConfigError(
                f"--frontend: window_ms={self.window_ms}, hop_ms={self.hop_ms} at {sample_rate} Hz give windows of "
                f"{window} samples every {hop}; 2 to fft_size={self.fft_size} and at least 1 are needed; change them."
            )
        return window, hop


@FRONTENDS.register("sliding_window")
@dataclasses.dataclass(frozen=True)
class SlidingWindow(StackingFrontend):
    """The samples of each window as they are, in [-1, 1]; FunASR's and ESPnet's `sliding_window`, for `sinc`."""

    window: int = 400
    """Samples of a frame."""

    @property
    def num_bands(self) -> int:
        return self.window

    def for_encoder(self, subsampling: int) -> Self:
        if self.window < 1:
            raise ConfigError(f"--frontend.window={self.window}: 1 sample or more was expected; change it.")
        left_open = {name: 1 for name in ("lfr_m", "lfr_n") if getattr(self, name) is None}
        return super(SlidingWindow, dataclasses.replace(self, **left_open)).for_encoder(subsampling)

    def num_frames(self, lengths: LengthsT, sample_rate: int) -> LengthsT:
        frames = (lengths - self.window) // self._hop(sample_rate) + 1
        return frames * (frames > 0)

    def _hop(self, sample_rate: int) -> int:
        hop = int(sample_rate * self.hop_ms * 0.001)
        if hop < 1:
            raise ConfigError(
                f"--frontend: hop_ms={self.hop_ms} at {sample_rate} Hz gives a frame every {hop} samples; at least 1 "
                "is needed; choose a longer one."
            )
        return hop

    def __call__(
        self,
        inputs: Array,
        lengths: Int[Array, "B"],
        *,
        sample_rate: int,
        key: Key | None = None,
    ) -> tuple[Float[Array, "B T F"], Int[Array, "B"]]:
        frames = _windows(as_float(inputs, lengths), self.window, self._hop(sample_rate))
        return self.stacked(frames, self.num_frames(lengths, sample_rate))


def as_float(inputs: Array, lengths: Int[Array, "B"]) -> Float[Array, "B S"]:
    """Sound as float32 in [-1, 1], zeros in the padding."""
    audio = jnp.asarray(inputs)
    scale = 1.0 if jnp.issubdtype(audio.dtype, jnp.floating) else 1.0 / INT16_SCALE
    return zero_padding(audio.astype(jnp.float32) * scale, lengths)


def _windows(audio: Float[Array, "B S"], window: int, hop: int) -> Float[Array, "B T W"]:
    """Every whole window, put together from strided slices: on every backend faster than a gather."""
    T = max((audio.shape[1] - window) // hop + 1, 1)
    step = math.gcd(window, hop)
    needed = (T - 1) * hop + window
    audio = jnp.pad(audio, ((0, 0), (0, max(needed - audio.shape[1], 0))))[:, :needed]
    pieces = audio.reshape(audio.shape[0], needed // step, step)  # (B, S / step, step)
    stride, last = hop // step, (T - 1) * (hop // step) + 1
    return jnp.concatenate([pieces[:, k : k + last : stride] for k in range(window // step)], axis=-1)


def _mirrored(audio: Float[Array, "B S"], lengths: Int[Array, "B"], before: int, size: int) -> Float[Array, "B S2"]:
    """`audio` from `before` samples before its beginning on, mirrored at its first and last samples, over and over."""
    last = jnp.maximum(lengths - 1, 1)[:, None]
    inside = jnp.abs(jnp.arange(size) - before)[None, :] % (2 * last)
    index = jnp.where(inside <= last, inside, 2 * last - inside)
    return jnp.take_along_axis(audio, jnp.minimum(index, audio.shape[1] - 1), axis=1)


def _reflect_ends(audio: Float[Array, "B S"], lengths: Int[Array, "B"], window: int, hop: int) -> Array:
    """`audio` shifted and extended so that frame t's window starts at sample t * hop (Kaldi, snip_edges=false)."""
    before = (window - hop) // 2 if window > hop else 0
    position = jnp.arange(audio.shape[1] + window) - before
    end = jnp.maximum(lengths, 1)[:, None]
    inside = position[None, :] % (2 * end)  # the sound and its mirror image, over and over
    index = jnp.where(inside < end, inside, 2 * end - 1 - inside)
    return jnp.take_along_axis(audio, index, axis=1)


def _window(name: str, size: int) -> Float[np.ndarray, "W"]:
    phase = np.cos(2 * np.pi * np.arange(size) / (size - 1))
    shape = 0.54 - 0.46 * phase if name == "hamming" else (0.5 - 0.5 * phase) ** 0.85
    return shape.astype(np.float32)


def _check_band(low_hz: float, high_hz: float, sample_rate: int) -> None:
    if not 0 <= low_hz < high_hz <= sample_rate / 2:
        raise ConfigError(
            f"--frontend: low_hz={low_hz}, high_hz={high_hz} at {sample_rate} Hz; "
            f"0 <= low_hz < high_hz <= {sample_rate / 2:g} was expected; change --frontend.low_hz or "
            "--frontend.high_hz."
        )


def mel_filterbank(
    num_mels: int, fft_size: int, sample_rate: int, low_hz: float, high_hz: float
) -> Float[np.ndarray, "K F"]:
    """Kaldi's triangles, linear in mel, over the first fft_size / 2 bins of a power spectrum (no Nyquist bin)."""
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
    """librosa's triangles, linear in Hz and each of the same area, over all bins of a power spectrum."""
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
    bins = np.linspace(0.0, nyquist, fft_size // 2 + 1)[:, None]
    rise = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    fall = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    return (np.maximum(np.minimum(rise, fall), 0.0) * 2.0 / (edges[2:] - edges[:-2])).astype(np.float32)


def stack_frames(
    x: Float[Array, "B T F"], lengths: Int[Array, "B"], m: int, n: int
) -> tuple[Float[Array, "B T2 F2"], Int[Array, "B"]]:
    """Low frame rate: every n-th frame with its neighbours, m frames side by side.

    ``out[i] = concat(x[clip(i*n + j - (m-1)//2, 0, length-1)] for j in range(m))``, ceil(length / n) frames.
    """
    if m == 1 and n == 1:
        return x, lengths
    T = -(-x.shape[1] // n)
    last = jnp.take_along_axis(x, jnp.maximum(lengths - 1, 0)[:, None, None], axis=1)  # (B, 1, F)
    x = jnp.where(length_mask(lengths, x.shape[1])[..., None], x, last)
    left = (m - 1) // 2
    x = jnp.concatenate([jnp.repeat(x[:, :1], left, axis=1), x, jnp.repeat(last, m + n, axis=1)], axis=1)
    return jnp.concatenate([x[:, j : j + (T - 1) * n + 1 : n] for j in range(m)], axis=-1), -(-lengths // n)
