"""Conformer encoder (Gulati et al., 2020, https://arxiv.org/abs/2005.08100)."""

from typing import Literal

from flax import linen as nn

from jaxasr.nn.activations import Activation
from jaxasr.nn.encoders.attention_block import AttentionBlock
from jaxasr.nn.encoders.base import ENCODERS
from jaxasr.nn.encoders.stacked import StackedEncoder
from jaxasr.nn.options import check_unread


@ENCODERS.register("conformer")
class ConformerEncoder(StackedEncoder):
    """Conformer encoder; FunASR's and ESPnet's `conformer`, whose subsampling is their `input_layer`.

    Their own defaults have no `macaron` and the positions of ESPnet's first form; their recipes have these ones.
    """

    bare_without_subsampling = False

    d_ff: int = 1024
    """Width inside the feed-forward networks."""
    kernel_size: int = 31
    """Frames that the convolution of a block sees; odd."""
    macaron: bool = True
    """Half a feed-forward network before attention too, not a whole one behind it alone."""
    convolution: bool = True
    """Whether blocks have their convolution."""
    conv_norm: Literal["batch", "layer"] = "batch"
    """What normalises inside the convolution: each channel over the batch's real frames, or each frame by itself."""
    activation: Activation = "swish"
    """Between the layers of the feed-forward networks, and inside the convolution."""
    norm_first: bool = True
    """Normalise what goes into each part of a block, not the sum that comes out."""
    concat_after: bool = False
    """Add a dense layer's view of attention's input and output, not the output."""

    def has_norm(self) -> bool:
        return self.norm_first

    def block(self) -> nn.Module:
        if not self.convolution:
            check_unread("encoder", self, "convolution", "kernel_size", "conv_norm")
        return AttentionBlock(
            self.num_heads,
            self.d_ff,
            self.dropout,
            self.attention_dropout,
            self.positions,
            self.norm_first,
            self.concat_after,
            self.activation,
            self.macaron,
            self.kernel_size if self.convolution else None,
            self.conv_norm,
            name="blocks",
        )
