"""What stands between the features and the encoder, with parameters."""

import abc
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax import lax

from jaxasr.errors import ConfigError
from jaxasr.nn.batch_norm import BatchNorm, Moments, leave_moments
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.layers import Dense
from jaxasr.nn.masking import zero_padding
from jaxasr.registry import Registry
from jaxasr.typing import Array, Float, Int


class PreEncoder(nn.Module):
    """Feature frames in, as many frames of another width out."""

    @abc.abstractmethod
    def __call__(self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, train: bool) -> Float[Array, "B T F2"]:
        """What stands in the padding of `x` reaches no real frame."""
        raise NotImplementedError


PREENCODERS: Registry[PreEncoder] = Registry("preencoder", PreEncoder, ("__call__",))


@PREENCODERS.register("linear")
class LinearPreEncoder(PreEncoder):
    """A dense layer; FunASR's and ESPnet's `linear`."""

    width: int = 80
    """Width of the frames that come out."""

    @nn.compact
    def __call__(self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, train: bool) -> Float[Array, "B T F2"]:
        if self.width < 1:
            raise ConfigError(f"--preencoder.width={self.width}: a width of 1 or more was expected; change it.")
        return Dense(self.width, name="out")(zero_padding(x, lengths))


@PREENCODERS.register("sinc")
class SincPreEncoder(PreEncoder):
    """Band passes that are learnt, then light convolutions, within each window of samples; for `sliding_window`.

    FunASR's and ESPnet's `sinc` (Kürzinger et al., 2020, https://arxiv.org/abs/2010.07597). Windows of 400 samples
    become one frame each. The batch norms count the windows of real frames alone.
    """

    width: int = 256
    """Width of the frames that come out; a multiple of 128."""
    sample_rate: int = 16_000
    """Samples per second, by which the bands are laid out in the beginning."""
    scale: Literal["mel", "bark"] = "mel"
    """How they are laid out."""
    window: Literal["hamming", "none"] = "hamming"
    """What shapes the band passes."""
    activation: Literal["leakyrelu", "relu"] = "leakyrelu"
    """Behind each convolution."""
    first_dropout: float = 0.1
    """Dropout probability behind the first convolution."""
    dropout: float = 0.15
    """Dropout probability behind the others."""

    @nn.compact
    def __call__(self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, train: bool) -> Float[Array, "B T F2"]:
        B, T, size = x.shape
        if size != WINDOW or self.width < BANDS or self.width % BANDS:
            raise ConfigError(
                f"--preencoder=sinc: frames of width {size}, --preencoder.width={self.width}; windows of {WINDOW} "
                f"samples and a multiple of {BANDS} were expected; give --frontend=sliding_window "
                f"--frontend.window={WINDOW}, or another width."
            )
        moments: dict[str, Moments | None] = {}

        def normalised(name: str, y: Array) -> Array:
            """Batch norm over all that is inside the windows (B * T, S, C) of real frames."""
            inside = y.shape[1]
            flat, moments[name] = BatchNorm(name=name)(y.reshape(B, T * inside, -1), lengths * inside, train=train)
            return flat.reshape(y.shape)

        def dropped(rate: float, y: Array) -> Array:
            return Dropout(rate)(y.reshape(B, -1, y.shape[-1]), train=train).reshape(y.shape)

        activation = jax.nn.leaky_relu if self.activation == "leakyrelu" else jax.nn.relu
        y = zero_padding(x, lengths).reshape(B * T, size, 1)
        y = jnp.log1p(jnp.abs(self._band_passed(y)))
        y = _halved(normalised("norm0", y))  # (B * T, 150, 128)
        widths = (BANDS, *(self.width,) * 4)
        for number, (taps, width) in enumerate(zip((25, 9, 9, 9, 7), widths, strict=True), start=1):
            y = GroupedConv(width, taps, 2 if number == 1 else 1, name=f"conv{number}")(y)
            y = normalised(f"norm{number}", activation(y))
            y = dropped(self.first_dropout, _halved(y)) if number == 1 else dropped(self.dropout, y)
        if train:
            found = {name: said for name, said in moments.items() if said is not None}
            total, count = ({name: said[part] for name, said in found.items()} for part in (0, 1))
            leave_moments(self, Moments(total, count))
        return y.reshape(B, T, self.width)

    def _band_passed(self, x: Float[Array, "N S 1"]) -> Float[Array, "N S2 C"]:
        edges = self.param("bands", lambda key: jnp.asarray(band_edges(self.scale, self.sample_rate)))
        low = jnp.abs(edges[:, 0])
        high = low + jnp.abs(edges[:, 1] - edges[:, 0])
        half = TAPS // 2
        time = 2 * np.pi * np.arange(1, half + 1, dtype=np.float32)
        window = np.ones(half, np.float32)
        if self.window == "hamming":
            window = np.float32(0.54 - 0.46 * np.cos(2 * np.pi * np.arange(half, 0, -1) / (2 * half + 1)))
        side = (jnp.sin(high[:, None] * time[None]) - jnp.sin(low[:, None] * time[None])) * (window / (0.5 * time))[
            None
        ]
        filters = jnp.concatenate([side[:, ::-1], 2.0 * (high - low)[:, None], side], axis=1)  # (C, TAPS)
        layout = ("NWC", "WIO", "NWC")
        return lax.conv_general_dilated(
            jnp.asarray(x), filters.T[:, None].astype(x.dtype), (1,), "VALID", dimension_numbers=layout
        )


WINDOW, BANDS, TAPS = 400, 128, 101
"""Samples of a window, band passes, and samples that each of them sees."""


class GroupedConv(nn.Module):
    """Each channel that comes out is one channel that comes in, filtered; no padding, with a bias."""

    width: int
    taps: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "N S C"]) -> Float[Array, "N S2 D"]:
        kernel = self.param("filter", nn.initializers.normal(self.taps**-0.5), (self.taps, self.width))
        bias = self.param("bias", nn.initializers.zeros, (self.width,)).astype(x.dtype)
        x = jnp.repeat(x, self.width // x.shape[-1], axis=-1)
        last = (x.shape[1] - self.taps) // self.stride * self.stride + 1
        taps = kernel.astype(x.dtype)[:, None, None]
        return sum(x[:, k : k + last : self.stride] * taps[k] for k in range(self.taps)) + bias[None, None]


def _halved(x: Float[Array, "N S C"]) -> Float[Array, "N S2 C"]:
    """Means of two neighbours each; an odd one at the end is left out."""
    whole = x[:, : x.shape[1] // 2 * 2]
    return jnp.mean(whole.reshape(x.shape[0], -1, 2, x.shape[2]), axis=2)


def band_edges(scale: str, sample_rate: int) -> Float[np.ndarray, "C 2"]:
    """Lower and upper edge of each band pass, as shares of the sample rate.

    >>> (16000 * band_edges("mel", 16000)[[0, -1]]).round().tolist()
    [[30.0, 59.0], [7672.0, 8000.0]]
    """
    if scale == "mel":
        mels = np.linspace(1125.0 * np.log(30.0 / 700.0 + 1.0), 1125.0 * np.log(sample_rate / 1400.0 + 1.0), BANDS + 2)
        hz = 700.0 * (np.exp(mels / 1125.0) - 1.0)
        low, high = hz[:-2], hz[2:]
    else:

        def bark(hz):
            return 75.0 * ((hz / 1000.0) ** 2 * 1.4 + 1.0) ** 0.69 + 25.0

        barks = np.linspace(bark(70.0), bark(0.45 * sample_rate), BANDS)
        centre = 1000.0 * ((((barks - 25.0) / 75.0) ** (1.0 / 0.69) - 1.0) / 1.4) ** 0.5
        low, high = centre - bark(centre) / 2, centre + bark(centre) / 2
    return (np.stack([low, high], axis=1) / sample_rate).astype(np.float32)
