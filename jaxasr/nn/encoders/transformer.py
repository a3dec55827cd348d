"""Transformer encoder (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762) behind a subsampling of the frames."""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxasr.nn.attention import MultiHeadAttention, check_stack
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.encoders.base import ENCODERS, Encoder, Taps
from jaxasr.nn.encoders.stack import run_blocks
from jaxasr.nn.feedforward import FeedForward
from jaxasr.nn.layers import Dense, LayerNorm
from jaxasr.nn.masking import length_mask, zero_padding
from jaxasr.nn.positions import sinusoids_interleaved
from jaxasr.nn.subsampling import CONVOLUTIONS, ConvSubsampling, check_subsampling, output_lengths
from jaxasr.typing import Array, Float, Int, LengthsT


class TransformerBlock(nn.Module):
    """Self-attention and feed-forward, each beside a residual, with a norm before it or after the sum."""

    d_model: int
    num_heads: int
    d_ff: int
    dropout: float
    attention_dropout: float
    norm_first: bool
    concat_after: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], lengths: Int[Array, "B"], train: bool) -> Float[Array, "B T D"]:
        drop = Dropout(self.dropout)
        attention = MultiHeadAttention(self.num_heads, self.d_model, self.attention_dropout, name="attention")
        norm, ff_norm = LayerNorm(name="attention_norm"), LayerNorm(name="ff_norm")

        y = norm(x) if self.norm_first else x
        mask = length_mask(lengths, x.shape[1])[:, None, :]  # every frame may look at every real frame
        attended = attention(y, y, mask, train=train)
        if self.concat_after:
            x = x + Dense(self.d_model, name="concat")(jnp.concatenate([y, attended], axis=-1))
        else:
            x = x + drop(attended, train=train)
        x = x if self.norm_first else norm(x)

        y = FeedForward(self.d_ff, self.dropout, name="ff")(ff_norm(x) if self.norm_first else x, train=train)
        x = x + drop(y, train=train)
        return x if self.norm_first else ff_norm(x)


@ENCODERS.register("transformer")
class TransformerEncoder(Encoder):
    """Transformer encoder; FunASR's and ESPnet's `transformer`, whose subsampling is their `input_layer`."""

    subsampling: Literal["conv2d", "conv2d2", "conv2d6", "conv2d8", "linear", "none"] = "conv2d"
    """Convolutions that divide the frame rate by 4, 2, 6 or 8; linear keeps it; none too, and adds no positions."""
    subsampling_channels: int | None = None
    """Channels of those convolutions, most of their cost; None for d_model, as FunASR and ESPnet."""
    num_layers: int = 6
    """Number of blocks."""
    d_model: int = 256
    """Width of a frame between blocks."""
    num_heads: int = 4
    """Attention heads; must divide d_model."""
    d_ff: int = 1024
    """Width inside the feed-forward networks."""
    dropout: float = 0.1
    """Dropout probability of the embedded frames, of every block's two outputs and inside the feed-forward network."""
    attention_dropout: float = 0.0
    """Dropout probability of attention weights."""
    norm_first: bool = True
    """Norms before attention and feed-forward network, and one at the end; false: after each sum."""
    concat_after: bool = False
    """Let a dense layer join what attention read and found, instead of its output alone."""
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
        # a weight of 0 does not stop a NaN in the padding
        x, lengths = self._embed(zero_padding(x, lengths), lengths, train)
        norm = LayerNorm(name="norm") if self.norm_first else lambda y: y
        block = TransformerBlock(
            self.d_model,
            self.num_heads,
            self.d_ff,
            self.dropout,
            self.attention_dropout,
            self.norm_first,
            self.concat_after,
            name="blocks",
        )
        layers = range(1, self.num_layers + 1)
        x = run_blocks(block, x, lengths, train, layers=layers, remat=self.remat, taps=taps, norm=norm)
        return norm(x), lengths

    def _embed(self, x: Array, lengths: Array, train: bool) -> tuple[Array, Array]:
        """Frames of width D, with their positions, and how many of each row are real."""
        if self.subsampling == "none":
            if x.shape[2] != self.d_model:
                # no positions are added: a frame of zeros, as SpecAugment makes, would stay one without a bias, and
                # through a norm's epsilon its gradient would be a million times the others'
                bias = nn.initializers.normal(x.shape[2] ** -0.5)
                x = Dense(self.d_model, bias_init=bias, name="input")(x)
            return x, lengths
        drop = Dropout(self.dropout)
        if self.subsampling == "linear":
            # the epsilon is torch's: this norm of theirs, unlike all the others, has the default one
            x = LayerNorm(epsilon=1e-5, name="input_norm")(Dense(self.d_model, name="input")(x))
            x = nn.relu(drop(x, train=train))
        else:
            convolutions = CONVOLUTIONS[self.subsampling]
            convolve = ConvSubsampling(self.d_model, convolutions, self.subsampling_channels, name="subsampling")
            x, lengths = convolve(x, lengths)
        positions = jnp.asarray(sinusoids_interleaved(x.shape[1], self.d_model), x.dtype)
        x = x * jnp.asarray(self.d_model**0.5, x.dtype) + positions[None]
        return drop(x, train=train), lengths
