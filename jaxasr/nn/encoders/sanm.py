"""SAN-M encoder: self-attention with an FSMN memory (Gao et al., 2020, https://arxiv.org/abs/2006.01713)."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxasr.nn.attention import DotProductAttention, check_stack, merge_heads, split_heads
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.encoders.base import ENCODERS, Encoder, Taps
from jaxasr.nn.encoders.stack import run_block, run_blocks
from jaxasr.nn.feedforward import FeedForward
from jaxasr.nn.fsmn import FsmnMemory
from jaxasr.nn.layers import Dense, LayerNorm
from jaxasr.nn.masking import length_mask, zero_padding
from jaxasr.nn.positions import sinusoids_halves
from jaxasr.nn.subsampling import CONVOLUTIONS, ConvSubsampling, check_subsampling, output_lengths
from jaxasr.typing import Array, Float, Int, LengthsT


class SanmAttention(nn.Module):
    """Multi-head self-attention plus an FSMN memory over the values (equations 6 to 8)."""

    d_model: int
    num_heads: int
    kernel_size: int
    shift: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, train: bool) -> Float[Array, "B T D"]:
        q, k, v = jnp.split(Dense(3 * self.d_model, name="qkv")(x), 3, axis=-1)
        mask = length_mask(lengths, x.shape[1])[:, None, :]  # every frame may look at every real frame
        qh, kh, vh = (split_heads(y, self.num_heads) for y in (q, k, v))
        y = merge_heads(DotProductAttention(self.dropout)(qh, kh, vh, mask, train=train))
        memory = FsmnMemory(self.kernel_size, self.shift, name="memory")(v, lengths)
        return Dense(self.d_model, name="out")(y) + Dropout(self.dropout)(memory, train=train)


class SanmBlock(nn.Module):
    """Attention and feed-forward, each behind a norm and beside a residual; may change the width."""

    d_model: int
    num_heads: int
    d_ff: int
    kernel_size: int
    shift: int
    dropout: float
    attention_dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], train: bool) -> tuple[Array, None]:
        attention = SanmAttention(
            self.d_model, self.num_heads, self.kernel_size, self.shift, self.attention_dropout, name="attention"
        )
        y = attention(LayerNorm(name="attention_norm")(x), lengths, train=train)
        y = Dropout(self.dropout)(y, train=train)
        x = x + y if x.shape[-1] == self.d_model else y  # no residual where the width changes
        y = FeedForward(self.d_ff, self.dropout, name="ff")(LayerNorm(name="ff_norm")(x), train=train)
        return x + Dropout(self.dropout)(y, train=train), None


@ENCODERS.register("sanm")
class SanmEncoder(Encoder):
    """SAN-M encoder; FunASR's `sanm`, whose `input_layer=pe` is no subsampling.

    The first block maps the width of a (stacked) feature frame, or of what the convolutions make of frames, to
    `d_model`; the others are one compiled block scanned over the layers.
    """

    subsampling: Literal["conv2d", "conv2d2", "conv2d6", "conv2d8", "none"] = "none"
    """Convolutions before the blocks that divide the frame rate by 4, 2, 6 or 8."""
    subsampling_channels: int | None = None
    """Channels of those convolutions, most of their cost; None for d_model."""
    num_layers: int = 6
    """Number of blocks, the first one included."""
    d_model: int = 256
    """Width of a frame between blocks."""
    num_heads: int = 4
    """Attention heads; must divide d_model."""
    d_ff: int = 1024
    """Width inside the feed-forward networks."""
    kernel_size: int = 11
    """Taps of the FSMN memory, in frames."""
    shift: int = 0
    """Frames by which the FSMN memory looks further back; kernel_size // 2 makes it causal."""
    dropout: float = 0.1
    """Dropout probability of every block's two outputs and inside the feed-forward network."""
    attention_dropout: float = 0.0
    """Dropout probability of attention weights and of the FSMN memory."""
    remat: bool = False
    """Compute each block's inside anew in the backward pass: less memory, about a third more time."""

    @property
    def output_width(self) -> int:
        return self.d_model

    def output_lengths(self, lengths: LengthsT) -> LengthsT:
        return output_lengths(lengths, CONVOLUTIONS.get(self.subsampling, ()))

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, train: bool, taps: Taps | None = None
    ) -> tuple[Float[Array, "B T2 D"], Int[Array, "B"]]:
        check_stack(self, "--encoder")
        check_subsampling(self)
        if taps:
            taps.check(self.num_layers)
        options = (
            self.d_model,
            self.num_heads,
            self.d_ff,
            self.kernel_size,
            self.shift,
            self.dropout,
            self.attention_dropout,
        )
        norm = LayerNorm(name="norm")
        x = zero_padding(x, lengths)  # a weight of 0 does not stop a NaN there
        if self.subsampling != "none":
            convolutions = CONVOLUTIONS[self.subsampling]
            convolve = ConvSubsampling(self.d_model, convolutions, self.subsampling_channels, name="subsampling")
            x, lengths = convolve(x, lengths)
        positions = jnp.asarray(sinusoids_halves(x.shape[1], x.shape[2]), x.dtype)
        x = x * jnp.asarray(self.d_model**0.5, x.dtype) + positions[None]
        x, _ = run_block(SanmBlock(*options, name="first"), x, lengths, train, remat=self.remat)  # (B, T2, D)
        x = taps.after(1, x, norm) if taps else x
        if self.num_layers > 1:
            layers = range(2, self.num_layers + 1)
            blocks = SanmBlock(*options, name="blocks")
            x, _ = run_blocks(blocks, x, lengths, train, layers=layers, remat=self.remat, taps=taps, norm=norm)
        return norm(x), lengths
