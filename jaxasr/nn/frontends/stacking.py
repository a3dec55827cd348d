"""Low frame rate: neighbouring frames side by side."""

import abc
import dataclasses
from typing import Self

import jax.numpy as jnp

from jaxasr.errors import ConfigError
from jaxasr.nn.frontends.base import Frontend
from jaxasr.nn.masking import length_mask, zero_padding
from jaxasr.typing import Array, Float, Int, LengthsT

LARGEST = {
    "hop_ms": 1000.0,
    "lfr_m": 100,
    "lfr_n": 100,
    "num_mels": 1000,
    "window_ms": 1000.0,
    "fft_size": 2**16,
    "window": 2**16,
    "width": 2**16,
}
"""Of a frontend's options, far above any use: a model whose options say more would be traced for hours."""


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
        for name, most in LARGEST.items():
            if isinstance(value := getattr(self, name, None), int | float) and value > most:
                raise ConfigError(f"--frontend.{name}={value}: at most {most} was expected; choose less.")
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


def stack_frames(
    x: Float[Array, "B T F"], lengths: Int[Array, "B"], m: int, n: int
) -> tuple[Float[Array, "B T2 F2"], Int[Array, "B"]]:
    """Low frame rate: every n-th frame with its neighbours, m frames side by side.

    ``out[i] = concat(x[clip(i*n + j - (m-1)//2, 0, length-1)] for j in range(m))``, ceil(length / n) frames.

    >>> from jax import jit
    >>> x = jnp.array([[[0], [1], [2], [3]]])
    >>> jit(stack_frames, static_argnums=(2, 3))(x, jnp.array([4]), 3, 2)[0].tolist()
    [[[0, 0, 1], [1, 2, 3]]]
    """
    if m == 1 and n == 1:
        return x, lengths
    T = -(-x.shape[1] // n)
    last = jnp.take_along_axis(x, jnp.maximum(lengths - 1, 0)[:, None, None], axis=1)  # (B, 1, F)
    x = jnp.where(length_mask(lengths, x.shape[1])[..., None], x, last)
    left = (m - 1) // 2
    x = jnp.concatenate([jnp.repeat(x[:, :1], left, axis=1), x, jnp.repeat(last, m + n, axis=1)], axis=1)
    return jnp.concatenate([x[:, j : j + (T - 1) * n + 1 : n] for j in range(m)], axis=-1), -(-lengths // n)


def stack_stretch(
    x: Float[Array, "B R F"], first: Int[Array, "B"], last: Int[Array, "B"], m: int, n: int
) -> Float[Array, "B T2 F2"]:
    """What `stack_frames` makes of a stretch of frames: every whole stack, the first from the stretch's first frame.

    Args:
      first: where in the stretch the sound's first frame stands; what lies before is not read. Below 0 it is not there.
      last: the same of its last frame.

    >>> from jax import jit
    >>> x = jnp.array([[[0], [1], [2], [3], [4], [5]]])
    >>> jit(stack_stretch, static_argnums=(3, 4))(x, jnp.array([1]), jnp.array([5]), 3, 3).tolist()
    [[[1, 1, 2], [3, 4, 5]]]
    """
    stacks = jnp.arange((x.shape[1] - m) // n + 1)[:, None] * n + jnp.arange(m)[None]  # (T2, m)
    read = jnp.clip(stacks.reshape(1, -1), first[:, None], jnp.minimum(last, x.shape[1] - 1)[:, None])
    return jnp.take_along_axis(x, read[:, :, None], axis=1).reshape(x.shape[0], len(stacks), -1)
