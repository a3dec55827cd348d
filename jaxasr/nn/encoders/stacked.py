"""What encoders made of blocks share."""

import abc
from typing import ClassVar, Literal, TypeAlias

import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.attention import MultiHeadAttention, RelativeAttention, check_stack
from jaxasr.nn.batch_norm import leave_moments
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.encoders.base import Encoder, Taps
from jaxasr.nn.encoders.stack import Remat, run_blocks
from jaxasr.nn.layers import Dense, LayerNorm
from jaxasr.nn.masking import length_mask, zero_padding
from jaxasr.nn.options import check_known, check_unread
from jaxasr.nn.positions import sinusoids_interleaved
from jaxasr.nn.subsampling import CONVOLUTIONS, Convolutions, ConvSubsampling, output_lengths
from jaxasr.typing import Array, Float, Int, LengthsT

Subsampling: TypeAlias = Literal["conv2d", "conv2d2", "conv2d6", "conv2d8", "linear", "embed", "none"]
Positions: TypeAlias = Literal["relative", "relative_legacy", "absolute", "scaled"]


class BlockEncoder(Encoder):
    """Frames, behind convolutions that may divide their rate, through blocks of one width. Abstract."""

    subsampling: Literal["conv2d", "conv2d2", "conv2d6", "conv2d8", "none"] = "none"
    """Convolutions before the blocks that divide the frame rate by 4, 2, 6 or 8."""
    subsampling_channels: int | None = None
    """Channels of those convolutions, most of their cost; None for d_model, as FunASR and ESPnet."""
    num_layers: int = 6
    """Number of blocks."""
    d_model: int = 256
    """Width of a frame between blocks."""
    num_heads: int = 4
    """Attention heads; must divide d_model."""
    dropout: float = 0.1
    """Dropout probability of what each part of a block adds, and inside feed-forward parts."""
    attention_dropout: float = 0.0
    """Dropout probability of attention weights."""
    remat: Remat = False
    """Compute each block's inside anew in the backward pass: less memory, about a third more time; dots: all of it
    but the products with kernels, which are kept."""

    @property
    def output_width(self) -> int:
        return self.d_model

    def output_lengths(self, lengths: LengthsT) -> LengthsT:
        return output_lengths(lengths, self._convolutions())

    def _convolutions(self) -> Convolutions:
        check_known("encoder", self, "subsampling")
        return CONVOLUTIONS.get(self.subsampling, ())

    def convolved(
        self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], taps: Taps | None
    ) -> tuple[Float[Array, "B T2 F2"], Int[Array, "B"]]:
        """What the convolutions, if there are any, make of frames; raises ConfigError where options cannot be."""
        check_stack(self, "--encoder")
        if taps:
            taps.check(self.num_layers)
        x = zero_padding(x, lengths)  # a weight of 0 does not stop a NaN there
        if not (convolutions := self._convolutions()):
            check_unread("encoder", self, "subsampling", "subsampling_channels")
            return x, lengths
        convolve = ConvSubsampling(self.d_model, convolutions, self.subsampling_channels, name="subsampling")
        return convolve(x, lengths)


class StackedEncoder(BlockEncoder):
    """Frames brought to width `d_model`, with their positions, through equal blocks and a norm. Abstract."""

    relu_after_linear: ClassVar[bool] = False
    """Whether subsampling `linear` ends in a ReLU."""
    bare_without_subsampling: ClassVar[bool] = True
    """Whether subsampling `none` leaves frames without positions, unscaled, and without dropout."""

    subsampling: Subsampling = "conv2d"  # pyright: ignore[reportIncompatibleVariableOverride]
    """Convolutions that divide the frame rate by 4, 2, 6 or 8; linear, none and embed, of frames that are numbers of
    units, keep it."""
    num_units: int | None = None
    """How many units there are, with subsampling embed."""
    positions: Positions = "relative"
    """Distances in attention's scores, relative or in ESPnet's first form, or sinusoids added to frames, absolute or
    scaled by a learnt number."""
    dropout: float = 0.1
    """Dropout probability of the embedded frames, of what each part of a block adds, and inside feed-forward parts."""

    @abc.abstractmethod
    def block(self) -> nn.Module:
        """One block, named `blocks`; see `run_blocks`.

        Raises:
          ConfigError: options mean nothing.
        """

    def has_norm(self) -> bool:
        """Whether a norm stands behind the last block."""
        return True

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, train: bool, taps: Taps | None = None
    ) -> tuple[Float[Array, "B T2 D"], Int[Array, "B"]]:
        check_known("encoder", self, "positions")
        x, lengths = self.convolved(x, lengths, taps)
        x = self._widened(x, train)
        bare = self.subsampling == "none" and self.bare_without_subsampling
        if bare and self.positions == "scaled":
            check_unread("encoder", self, "subsampling", "positions")
        if not bare:
            x = Dropout(self.dropout)(self._positioned(x), train=train)
        norm = LayerNorm(name="norm") if self.has_norm() else lambda y: y
        layers = range(1, self.num_layers + 1)
        x, moments = run_blocks(self.block(), x, lengths, train, layers=layers, remat=self.remat, taps=taps, norm=norm)
        leave_moments(self, None if moments is None else moments.within("blocks"))
        return norm(x), lengths

    def _widened(self, x: Float[Array, "B T F"], train: bool) -> Float[Array, "B T D"]:
        """Frames of width D."""
        if self.subsampling == "embed":
            return self._embedded(x)
        check_unread("encoder", self, "subsampling", "num_units")
        if self.subsampling == "linear":
            # the epsilon is torch's: this norm of theirs, unlike all the others, has the default one
            x = LayerNorm(epsilon=1e-5, name="input_norm")(Dense(self.d_model, name="input")(x))
            x = Dropout(self.dropout)(x, train=train)
            return nn.relu(x) if self.relu_after_linear else x
        if x.shape[2] != self.d_model:
            # without positions a frame of zeros, as SpecAugment makes, would stay one without a bias, and through a
            # norm's epsilon its gradient would be a million times the others'
            bias = nn.initializers.normal(x.shape[2] ** -0.5)
            x = Dense(self.d_model, bias_init=bias, name="input")(x)
        return x

    def _embedded(self, x: Float[Array, "B T 1"]) -> Float[Array, "B T D"]:
        if self.num_units is None or self.num_units < 1 or x.shape[2] != 1 or x.dtype != jnp.float32:
            raise ConfigError(
                f"--encoder.subsampling=embed: num_units={self.num_units}, frames of width {x.shape[2]} in {x.dtype}; "
                "a number of units, and each frame the number of one in float32, were expected; give "
                "--encoder.num_units, --frontend=features --frontend.width=1 and no normalizer."
            )
        return nn.Embed(self.num_units, self.d_model, name="units")(x[..., 0].astype(jnp.int32))

    def _positioned(self, x: Array) -> Array:
        """`x` with what is added for positions; relative ones are attention's affair."""
        if self.positions == "scaled":
            scale = self.param("position_scale", nn.initializers.ones, ())
            return x + scale.astype(x.dtype) * jnp.asarray(sinusoids_interleaved(*x.shape[1:]), x.dtype)[None]
        x = x * jnp.asarray(self.d_model**0.5, x.dtype)
        if self.positions == "absolute":
            x = x + jnp.asarray(sinusoids_interleaved(*x.shape[1:]), x.dtype)[None]
        return x


def self_attention(
    x: Float[Array, "B T D"],
    lengths: Int[Array, "B"],
    *,
    positions: Positions,
    num_heads: int,
    dropout: float,
    train: bool,
) -> Float[Array, "B T D"]:
    """Attention of every frame to every real one; makes the submodule `attention` of the compact method it runs in."""
    D = x.shape[-1]
    if positions in ("relative", "relative_legacy"):
        attention = RelativeAttention(num_heads, D, dropout, positions == "relative_legacy", name="attention")
        return attention(x, lengths, train=train)
    mask = length_mask(lengths, x.shape[1])[:, None, :]
    return MultiHeadAttention(num_heads, D, dropout, name="attention")(x, x, mask, train=train)
