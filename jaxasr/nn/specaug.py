"""SpecAugment: features warped in time, bands and stretches of them hidden, while training."""

import abc
import dataclasses
from typing import NamedTuple

import jax.numpy as jnp

from jaxasr.errors import ConfigError
from jaxasr.nn.masking import length_mask
from jaxasr.nn.noise import row_uniforms
from jaxasr.nn.rows import repeat_rows
from jaxasr.registry import Registry
from jaxasr.typing import Array, Bool, Float, Int, Key


@dataclasses.dataclass(frozen=True)
class SpecAugmenter(abc.ABC):
    """Features in, features with parts hidden out; used only while training."""

    def check(self) -> None:  # noqa: B027 (some have nothing to check)
        """Raises ConfigError where an option means nothing."""

    @abc.abstractmethod
    def __call__(
        self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, num_bands: int, key: Key, views: int = 1
    ) -> Float[Array, "B2 T F"]:
        """`x` (B, T, F) changed on real frames only; F is `num_bands` times the frames stacked into one.

        Args:
          views: how many rows to make of each, side by side, whose frames correspond to each other.
        """


SPECAUGS: Registry[SpecAugmenter] = Registry("specaug", SpecAugmenter, ("__call__",))


class Masks(NamedTuple):
    """Masks along one axis: how many, and how wide at least and at most; None sets no limit."""

    number: int
    min_width: int
    max_width: int | None
    min_share: float
    max_share: float | None
    per_position: float | None = None

    def hidden(self, uniforms: Float[Array, "B N"], lengths: Int[Array, "B"], size: int) -> Bool[Array, "B T"]:
        """True inside `number` spans, each whole within the first `lengths` positions of `size`.

        Every width between the limits is equally likely, and so is every place for a span of that width; where
        a row is too short for the least width the greatest is taken. `uniforms` has 2 numbers for a span.
        """
        width, start = jnp.split(uniforms, 2, axis=1)  # (B, N)
        low, high = self._widths(lengths)
        width = low[:, None] + _below((high - low + 1)[:, None], width)
        if self.per_position is not None:
            number = _share(self.per_position, lengths)
            width = jnp.where(jnp.arange(self.number)[None] < number[:, None], width, 0)
        start = _below(lengths[:, None] - width + 1, start)
        position = jnp.arange(size)[None, None]
        start, end = start[:, :, None], (start + width)[:, :, None]
        return jnp.any((position >= start) & (position < end), axis=1)

    def _widths(self, lengths: Int[Array, "B"]) -> tuple[Int[Array, "B"], Int[Array, "B"]]:
        high = lengths if self.max_width is None else jnp.minimum(lengths, self.max_width)
        high = high if self.max_share is None else jnp.minimum(high, _share(self.max_share, lengths))
        low = jnp.maximum(self.min_width, _share(self.min_share, lengths))
        return jnp.minimum(low, high), high

    def check(self, axis: str) -> None:
        """Raises ConfigError, naming SpecAugment's options of this axis, where limits contradict each other."""
        width, share = (self.min_width, self.max_width), (self.min_share, self.max_share)
        came = f"--specaug: num_{axis}_masks={self.number}, min_{axis}_width={width[0]}, max_{axis}_width={width[1]}"
        if self.number < 0 or not _ordered(width, float("inf")):
            raise ConfigError(f"{came}; whole numbers from 0 were expected, min not above max; change them.")
        if not _ordered(share, 1.0):
            raise ConfigError(
                f"--specaug: min_{axis}_share={share[0]}, max_{axis}_share={share[1]}; shares from 0 to 1 were "
                "expected, min not above max; change them."
            )
        if self.number > 0 and width[1] is None and share[1] is None:
            raise ConfigError(
                f"{came}, max_{axis}_share=None; nothing limits a mask, and one could hide everything; give "
                f"--specaug.max_{axis}_width or --specaug.max_{axis}_share, or --specaug.num_{axis}_masks=0."
            )


@SPECAUGS.register("specaug")
@dataclasses.dataclass(frozen=True)
class SpecAugment(SpecAugmenter):
    """Time warp, frequency and time masks (Park et al., 2019, https://arxiv.org/abs/1904.08779), in this order.

    What is hidden becomes zero, which is the mean of normalised features. Everything is drawn from the key and
    the row's place in the batch, within the row's own frames; where frames were stacked, a band is hidden in
    each of them. Of two limits of a width the tighter one holds. Time masks that grow in number and width with
    the utterance are those of Park et al., 2020 (https://arxiv.org/abs/1912.05533).
    """

    time_warp_window: int = 0
    """Farthest that the time warp moves a frame, in frames as the encoder sees them; 0 for no warp, FunASR has 5."""
    num_freq_masks: int = 2
    """Frequency masks on every utterance."""
    min_freq_width: int = 0
    """Narrowest frequency mask, in mel bands."""
    max_freq_width: int | None = 27
    """Widest frequency mask, in mel bands; None for no such limit."""
    min_freq_share: float = 0.0
    """Narrowest frequency mask, as a share of the mel bands."""
    max_freq_share: float | None = None
    """Widest frequency mask, as a share of the mel bands; None for no such limit."""
    num_time_masks: int = 2
    """Time masks on every utterance."""
    time_masks_per_frame: float | None = None
    """Most time masks a frame of the utterance (Park et al., 2020: 0.04); None for no such limit."""
    min_time_width: int = 0
    """Narrowest time mask, in frames as the encoder sees them."""
    max_time_width: int | None = 40
    """Widest time mask, in frames as the encoder sees them; None for no such limit."""
    min_time_share: float = 0.0
    """Narrowest time mask, as a share of the utterance's own frames."""
    max_time_share: float | None = 0.2
    """Widest time mask, as a share of the utterance's own frames; None for no such limit."""

    @property
    def freq_masks(self) -> Masks:
        """Those along the features."""
        return Masks(
            self.num_freq_masks, self.min_freq_width, self.max_freq_width, self.min_freq_share, self.max_freq_share
        )

    @property
    def time_masks(self) -> Masks:
        """Those along the frames."""
        return Masks(
            self.num_time_masks,
            self.min_time_width,
            self.max_time_width,
            self.min_time_share,
            self.max_time_share,
            self.time_masks_per_frame,
        )

    def check(self) -> None:
        if self.time_warp_window < 0:
            raise ConfigError(
                f"--specaug.time_warp_window={self.time_warp_window}: a number of frames, or 0 for no time warp, "
                "was expected; change it."
            )
        if self.time_masks_per_frame is not None and not 0.0 <= self.time_masks_per_frame <= 1.0:
            raise ConfigError(
                f"--specaug.time_masks_per_frame={self.time_masks_per_frame}: from 0 to 1 was expected, or none; "
                "change it."
            )
        self.freq_masks.check("freq")
        self.time_masks.check("time")

    def __call__(
        self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, num_bands: int, key: Key, views: int = 1
    ) -> Float[Array, "B2 T F"]:
        freq_draws, time_draws = 2 * self.num_freq_masks, 2 * self.num_time_masks
        uniforms = row_uniforms(key, (views * x.shape[0], 2 + freq_draws + time_draws))
        warp, freq, time = jnp.split(uniforms, (2, 2 + freq_draws), axis=1)
        if self.time_warp_window > 0:  # all views of a row alike, by the draws of its first
            x = warped_in_time(x, lengths, *warp_points(warp[::views], lengths, self.time_warp_window))
        x, lengths = repeat_rows(x, views), repeat_rows(lengths, views)
        B, T, F = x.shape
        freq = self.freq_masks.hidden(freq, jnp.full(B, num_bands), num_bands)
        freq = jnp.tile(freq, (1, F // num_bands))  # (B, F)
        time = self.time_masks.hidden(time, lengths, T)
        hide = (time[:, :, None] | freq[:, None, :]) & length_mask(lengths, T)[:, :, None]
        return jnp.where(hide, jnp.zeros((), x.dtype), x)


@SPECAUGS.register("specaug_lfr")
@dataclasses.dataclass(frozen=True)
class SpecAugmentLfr(SpecAugment):
    """`specaug` with what FunASR's Paraformer recipes give their `specaug_lfr`, for frames stacked by 7.

    Those recipes have ranges 0-30 and 0-12 whose upper ends are never drawn. FunASR needs a name of its own for
    hiding a band in every stacked frame; here both do.
    """

    num_freq_masks: int = 1
    """Frequency masks on every utterance."""
    max_freq_width: int | None = 29
    """Widest frequency mask, in mel bands; None for no such limit."""
    num_time_masks: int = 1
    """Time masks on every utterance."""
    max_time_width: int | None = 11
    """Widest time mask, in frames as the encoder sees them; None for no such limit."""
    max_time_share: float | None = None
    """Widest time mask, as a share of the utterance's own frames; None for no such limit."""


def warp_points(
    uniforms: Float[Array, "B 2"], lengths: Int[Array, "B"], window: int
) -> tuple[Int[Array, "B"], Int[Array, "B"]]:
    """A frame of each row and where it moves, fewer than `window` frames back to `window` ahead, as in ESPnet.

    The frame is at least `window` from both ends; rows of 2 `window` frames or fewer have none and stay.

    >>> from jax import jit
    >>> uniforms, lengths = jnp.array([[0.5, 0.5], [0.5, 0.5]]), jnp.array([40, 10])
    >>> [x.tolist() for x in jit(warp_points, static_argnums=2)(uniforms, lengths, 5)]
    [[20, 0], [21, 0]]
    """
    center = window + _below(lengths - 2 * window, uniforms[:, 0])
    warped = center - window + 1 + _below(2 * window, uniforms[:, 1])
    enough = lengths > 2 * window
    return jnp.where(enough, center, 0), jnp.where(enough, warped, 0)


def warped_in_time(
    x: Float[Array, "B T F"], lengths: Int[Array, "B"], center: Int[Array, "B"], warped: Int[Array, "B"]
) -> Float[Array, "B T F"]:
    """`x` with its frames before `center` resampled to `warped` frames, and the rest to the rest.

    Each part is interpolated by cubic convolution (Keys, 1981, a = -0.75) with its end frames repeated beyond
    it, the centres of frames being what is placed: torch's `interpolate(mode="bicubic", align_corners=False)`.

    >>> from jax import jit
    >>> x = jnp.array([[[0.0], [0.0], [1.0], [1.0]]])
    >>> [round(*y, 2) for y in jit(warped_in_time)(x, *jnp.array([[4], [2], [3]])).tolist()[0]]
    [0.0, 0.0, 0.0, 1.0]
    """
    B, T, F = x.shape
    frame, center, warped, end = jnp.arange(T)[None], center[:, None], warped[:, None], lengths[:, None]
    left = frame < warped
    place = jnp.where(left, frame, frame - warped) + 0.5
    longer = jnp.where(left, center - warped, warped - center)  # of the source than of what it becomes
    # how far off its source is, not where: float32 would lose the fraction of a late frame's place
    shift = place * longer / jnp.maximum(jnp.where(left, warped, end - warped), 1)
    whole = jnp.floor(shift)
    nearest = frame - jnp.where(left, 0, warped - center) + whole.astype(jnp.int32)
    first, last = jnp.where(left, 0, center), jnp.where(left, center, end) - 1
    taps = jnp.clip(nearest[:, None] + jnp.arange(-1, 3)[None, :, None], first[:, None], last[:, None])  # (B, 4, T)
    frames = jnp.take_along_axis(x, taps.reshape(B, 4 * T, 1), axis=1, mode="clip").reshape(B, 4, T, F)
    y = jnp.sum(frames * _cubic(shift - whole)[..., None], axis=1).astype(x.dtype)
    return jnp.where(length_mask(lengths, T)[..., None], y, x)


def _cubic(t: Float[Array, "B T"], a: float = -0.75) -> Float[Array, "B 4 T"]:
    """Weights of the samples at -1, 0, 1 and 2 for the value at `t` in [0, 1)."""

    def far(d):
        return ((d - 5.0) * d + 8.0) * d * a - 4.0 * a

    def near(d):
        return ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0

    return jnp.stack([far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)], axis=1)


def _below(size: Int[Array, "..."] | int, uniform: Float[Array, "..."]) -> Int[Array, "..."]:
    """A whole number from 0 up to, but not, `size`, by a number in [0, 1)."""
    return jnp.floor(uniform * size).astype(jnp.int32)


def _share(share: float, lengths: Int[Array, "B"]) -> Int[Array, "B"]:
    return (lengths * share).astype(jnp.int32)


def _ordered(limits: tuple[float, float | None], highest: float) -> bool:
    """Whether 0 <= min <= max <= `highest`, where there is a max."""
    low, high = limits
    return 0 <= low <= (highest if high is None else high) <= highest
