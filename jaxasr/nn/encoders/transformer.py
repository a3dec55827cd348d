"""Transformer encoder (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762) behind a subsampling of the frames."""

from flax import linen as nn

from jaxasr.nn.encoders.attention_block import AttentionBlock
from jaxasr.nn.encoders.base import ENCODERS
from jaxasr.nn.encoders.stacked import Positions, StackedEncoder


@ENCODERS.register("transformer")
class TransformerEncoder(StackedEncoder):
    """Transformer encoder; FunASR's and ESPnet's `transformer`, whose subsampling is their `input_layer`.

    With subsampling `none` it adds no positions, as theirs.
    """

    relu_after_linear = True

    positions: Positions = "absolute"
    """Sinusoids added to frames, absolute or scaled by a learnt number, or distances in attention's scores, relative
    or in ESPnet's first form."""
    d_ff: int = 1024
    """Width inside the feed-forward networks."""
    norm_first: bool = True
    """Normalise what goes into each part of a block, not the sum that comes out."""
    concat_after: bool = False
    """Add a dense layer's view of attention's input and output, not the output."""

    def has_norm(self) -> bool:
        return self.norm_first

    def block(self) -> nn.Module:
        return AttentionBlock(
            self.num_heads,
            self.d_ff,
            self.dropout,
            self.attention_dropout,
            self.positions,
            self.norm_first,
            self.concat_after,
            name="blocks",
        )
