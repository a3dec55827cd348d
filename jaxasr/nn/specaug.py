"""SpecAugment: bands and stretches of the features hidden while training."""

import abc
import dataclasses

import jax
import jax.numpy as jnp

from jaxasr.nn.masking import length_mask
from jaxasr.nn.rows import row_keys
from jaxasr.registry import Registry
from jaxasr.typing import Array, Bool, Float, Int, Key


@dataclasses.dataclass(frozen=True)
class SpecAugmenter(abc.ABC):
    """Features in, features with parts hidden out; used only while training."""

    @abc.abstractmethod
    def __call__(
        self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, num_bands: int, key: Key
    ) -> Float[Array, "B T F"]:
        """`x` (B, T, F) changed on real frames only; F is `num_bands` times the frames stacked into one."""


SPECAUGS: Registry[SpecAugmenter] = Registry("specaug", SpecAugmenter, ("__call__",))


@SPECAUGS.register("specaug")
@dataclasses.dataclass(frozen=True)
class SpecAugment(SpecAugmenter):
    """Frequency and time masks (Park et al., 2019, https://arxiv.org/abs/1904.08779), filled with zeros.

    Each row's masks are drawn from the key and the row's place in the batch; a band is hidden in every
    frame that was stacked; a time mask lies within the row's own frames.
    """

    num_freq_masks: int = 2
    """Frequency masks on every utterance."""
    max_freq_width: int = 27
    """Widest frequency mask, in mel bands."""
    num_time_masks: int = 2
    """Time masks on every utterance."""
    max_time_width: int = 40
    """Widest time mask, in frames as the encoder sees them."""
    max_time_share: float = 0.2
    """Widest time mask, as a share of the utterance's own frames."""

    def __call__(
        self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, num_bands: int, key: Key
    ) -> Float[Array, "B T F"]:
        B, T, F = x.shape
        hidden = jax.vmap(self._masks, in_axes=(0, 0, None, None))(row_keys(key, B), lengths, T, num_bands)
        time, freq = hidden
        freq = jnp.tile(freq, (1, F // num_bands))  # (B, F)
        hide = (time[:, :, None] | freq[:, None, :]) & length_mask(lengths, T)[:, :, None]
        return jnp.where(hide, jnp.zeros((), x.dtype), x)

    def _masks(self, key: Key, length: Int[Array, ""], T: int, F: int) -> tuple[Bool[Array, "T"], Bool[Array, "F"]]:
        time_key, freq_key = jax.random.split(key)
        widest = jnp.minimum(self.max_time_width, (length * self.max_time_share).astype(jnp.int32))
        time = spans(time_key, self.num_time_masks, widest, length, T)
        freq = spans(freq_key, self.num_freq_masks, jnp.asarray(self.max_freq_width), jnp.asarray(F), F)
        return time, freq


def spans(key: Key, count: int, widest: Int[Array, ""], length: Int[Array, ""], size: int) -> Bool[Array, "T"]:
    """True inside `count` spans of 0 to `widest` positions, each whole within the first `length` of `size`."""
    width_key, start_key = jax.random.split(key)
    widest = jnp.minimum(widest, length)
    width = jnp.floor(jax.random.uniform(width_key, (count,)) * (widest + 1)).astype(jnp.int32)
    start = jnp.floor(jax.random.uniform(start_key, (count,)) * (length - width + 1)).astype(jnp.int32)
    position = jnp.arange(size)[:, None]
    return jnp.any((position >= start[None]) & (position < (start + width)[None]), axis=1)
