"""Convolutions over time and frequency that divide the frame rate."""

from collections.abc import Mapping
from typing import TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxasr.errors import ConfigError
from jaxasr.nn.layers import Dense
from jaxasr.typing import Array, Float, Int, LengthsT

Convolutions: TypeAlias = tuple[tuple[int, int], ...]
"""(kernel size, stride) of each, the same over time and frequency."""

CONVOLUTIONS: Mapping[str, Convolutions] = {
    "conv2d2": ((3, 2), (3, 1)),
    "conv2d": ((3, 2), (3, 2)),
    "conv2d6": ((3, 2), (5, 3)),
    "conv2d8": ((3, 2), (3, 2), (3, 2)),
}


def output_lengths(lengths: LengthsT, convolutions: Convolutions) -> LengthsT:
    """Frames that come out for so many going in: those whose windows hold no padding.

    >>> output_lengths(100, CONVOLUTIONS["conv2d"])
    24
    """
    for size, stride in convolutions:
        lengths = (lengths - size) // stride + 1
    return lengths * (lengths > 0)


def shortest(convolutions: Convolutions) -> int:
    """The fewest frames that one comes out for.

    >>> shortest(CONVOLUTIONS["conv2d"])
    7
    """
    frames = 1
    for size, stride in reversed(convolutions):
        frames = (frames - 1) * stride + size
    return frames


def conv2d(x: Float[Array, "B T F C"], kernel: Float[Array, "K K C D"], stride: int) -> Float[Array, "B T2 F2 D"]:
    """A convolution over time and frequency, without padding, lowered as is fastest where it runs.

    `conv2d_by_taps` on a CPU, unless there are 25 taps over few channels or a single channel
    (benchmarks/results/conv2d_2core.json); XLA's own elsewhere.

    >>> conv2d(jnp.ones((1, 5, 5, 1)), jnp.ones((3, 3, 1, 2)), 2).shape
    (1, 2, 2, 2)
    """
    few_channels = x.shape[3] == 1 or (kernel.shape[0] > 3 and x.shape[3] <= 128)
    lowered = conv2d_by_xla if jax.default_backend() != "cpu" or few_channels else conv2d_by_taps
    return lowered(x, kernel, stride)


def conv2d_by_xla(
    x: Float[Array, "B T F C"], kernel: Float[Array, "K K C D"], stride: int
) -> Float[Array, "B T2 F2 D"]:
    """The convolution by XLA's own operation.

    >>> conv2d_by_xla(jnp.ones((1, 3, 5, 1)), jnp.ones((3, 3, 1, 1)), 2).tolist()
    [[[[9.0], [9.0]]]]
    """
    layout = ("NHWC", "HWIO", "NHWC")
    inputs = jnp.asarray(x), jnp.asarray(kernel)
    return lax.conv_general_dilated(*inputs, (stride, stride), "VALID", dimension_numbers=layout)


def conv2d_by_taps(
    x: Float[Array, "B T F C"], kernel: Float[Array, "K K C D"], stride: int
) -> Float[Array, "B T2 F2 D"]:
    """The convolution as the sum of one product for each place in the window.

    >>> jax.jit(conv2d_by_taps, static_argnums=2)(jnp.ones((1, 3, 5, 1)), jnp.ones((3, 3, 1, 1)), 2).tolist()
    [[[[9.0], [9.0]]]]
    """
    B, T, F, C = x.shape
    size = kernel.shape[0]
    time, freq = ((n - size) // stride * stride + 1 for n in (T, F))  # from the first window's tap to the last one's
    taps = [(i, j) for i in range(size) for j in range(size)]

    def product(i: int, j: int) -> Array:
        seen = lax.slice(x, (0, i, j, 0), (B, i + time, j + freq, C), (1, stride, stride, 1))
        return jnp.matmul(seen, kernel[i, j], preferred_element_type=jnp.float32)

    first, *others = (product(i, j) for i, j in taps)
    return sum(others, first).astype(x.dtype)


class Conv2d(nn.Module):
    """A square window over time and frequency, with a bias, in its input's dtype."""

    channels: int
    size: int
    stride: int

    @nn.compact
    def __call__(self, x: Float[Array, "B T F C"]) -> Float[Array, "B T2 F2 D"]:
        shape = (self.size, self.size, x.shape[3], self.channels)
        kernel = self.param("kernel", nn.initializers.lecun_normal(), shape)
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        return conv2d(x, kernel.astype(x.dtype), self.stride) + bias.astype(x.dtype)[None, None, None]


class ConvSubsampling(nn.Module):
    """Convolutions with ReLUs, then one dense layer over frequency and channels; FunASR's and ESPnet's `conv2d`.

    They count up to two frames more for an utterance that is padded than for the same one alone, and those see the
    padding. Here a row's frames are those that it has alone. What stands in the padding of `x` must be finite.
    """

    d_model: int
    convolutions: Convolutions
    channels: int | None = None
    """What each convolution gives; None for `d_model`, as theirs."""

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T F"], lengths: Int[Array, "B"]
    ) -> tuple[Float[Array, "B T2 D"], Int[Array, "B"]]:
        if x.shape[2] < shortest(self.convolutions):
            raise ConfigError(
                f"ConvSubsampling: features of width {x.shape[2]}; {shortest(self.convolutions)} or more were expected "
                "by its convolutions; give more --frontend.num_mels, or another --encoder.subsampling."
            )
        channels = self.d_model if self.channels is None else self.channels
        if channels < 1:
            raise ConfigError(
                f"ConvSubsampling: {channels} channels; 1 or more were expected; change --encoder.subsampling_channels."
            )
        missing = max(shortest(self.convolutions) - x.shape[1], 0)
        y = jnp.pad(x, ((0, 0), (0, missing), (0, 0)))[..., None]  # (B, T, F, 1)
        for number, (size, stride) in enumerate(self.convolutions):
            y = nn.relu(Conv2d(channels, size, stride, name=f"conv{number}")(y))
        y = y.reshape(*y.shape[:2], -1)  # (B, T2, F2 * channels)
        return Dense(self.d_model, name="out")(y), output_lengths(lengths, self.convolutions)
