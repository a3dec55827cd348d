"""FunASR's predictors: how a frame's weight is made of the encoder's frames."""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.encoders.attention_block import AttentionBlock
from jaxasr.nn.fsmn import depthwise_filter
from jaxasr.nn.layers import Dense, Head
from jaxasr.nn.masking import zero_padding
from jaxasr.nn.predictors.base import PREDICTORS, Predictor, weights
from jaxasr.nn.recurrent import RecurrentLayer
from jaxasr.typing import Array, Float, Int


@PREDICTORS.register("cif")
class CifPredictor(Predictor):
    """A filter of each channel over time, beside a residual; FunASR's `cif_predictor`."""

    dropout: float = 0.1
    """Dropout probability of what weights are made of."""

    def context(self, x: Float[Array, "B T D"], *, train: bool) -> Float[Array, "B T D"]:
        size = self.left + 1 + self.right
        kernel = self.param("filter", nn.initializers.normal(size**-0.5), (size, x.shape[-1]))
        bias = self.param("filter_bias", nn.initializers.zeros, (x.shape[-1],))
        y = depthwise_filter(x, kernel, self.left) + bias.astype(x.dtype)[None, None] + x
        return Dropout(self.dropout, relu=True)(y, train=train)


def windows(x: Float[Array, "B T D"], left: int, right: int) -> Float[Array, "B T K*D"]:
    """Each frame with those around it, from the first on; zeros outside.

    >>> windows(jnp.array([[[1.0], [2.0], [3.0]]]), 1, 1).tolist()
    [[[0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 0.0]]]
    """
    padded = jnp.pad(x, ((0, 0), (left, right), (0, 0)))
    return jnp.concatenate([padded[:, k : k + x.shape[1]] for k in range(left + 1 + right)], axis=-1)


class ConvolvedPredictor(Predictor):
    """A convolution over time makes the weights. Abstract."""

    def context(self, x: Float[Array, "B T D"], *, train: bool) -> Float[Array, "B T D"]:
        del train
        return jax.nn.relu(Dense(x.shape[-1], name="conv")(windows(x, self.left, self.right)))


@PREDICTORS.register("cif_v2")
class CifPredictorV2(ConvolvedPredictor):
    """A convolution over time; FunASR's `cif_predictor_v2`."""


HEADS = 4
"""Of the attention in `CifPredictorV3`, as in FunASR's."""


@PREDICTORS.register("cif_v3")
class CifPredictorV3(ConvolvedPredictor):
    """`cif_v2` with a second head that weighs finer frames, for timestamps; FunASR's `cif_predictor_v3`.

    In a batch their LSTM begins in the padding, and their attention fails; here a row's values are those it has alone.
    """

    upsample: int = 3
    """Fine frames in one encoded frame."""
    upsample_type: Literal["cnn", "cnn_blstm", "cnn_attn"] = "cnn_blstm"
    """What weighs them: a dense layer, an LSTM in both directions before it, or an attention block."""
    from_context: bool = True
    """Make fine frames of what the first head's weights are made of, not of the encoder's frames."""
    smooth_factor2: float = 1.0
    """As smooth_factor, of the second head."""
    noise_threshold2: float = 0.0
    """As noise_threshold, of the second head."""

    def fine_alphas(
        self, x: Float[Array, "B T D"], context: Float[Array, "B T D"], lengths: Int[Array, "B"], *, train: bool
    ) -> Float[Array, "B T*n"]:
        if self.upsample < 1:
            raise ConfigError(
                f"CifPredictorV3: upsample={self.upsample}; 1 fine frame or more in an encoded one was expected; "
                "change it."
            )
        B, T, D = x.shape
        if self.upsample_type == "cnn_attn" and D % HEADS:
            raise ConfigError(
                f"CifPredictorV3: upsample_type=cnn_attn, frames of width {D}; a width that its {HEADS} attention "
                "heads divide was expected; change the encoder's d_model or upsample_type."
            )
        y = Dense(self.upsample * D, use_bias=False, name="upsample")(context if self.from_context else x)
        y = y.reshape(B, T * self.upsample, D)
        y = y + self.param("upsample_bias", nn.initializers.zeros, (D,)).astype(x.dtype)[None, None]
        lengths = lengths * self.upsample
        y = zero_padding(y, lengths)
        if self.upsample_type == "cnn_blstm":
            y = RecurrentLayer("lstm", D, bidirectional=True, name="blstm")(y, lengths)
        elif self.upsample_type == "cnn_attn":
            block = AttentionBlock(
                HEADS, 2 * D, 0.1, 0.1, "absolute", norm_first=True, concat_after=False, name="attention"
            )
            y, _ = block(y, lengths, train)
        return weights(Head(1, name="output2")(y), lengths, self.smooth_factor2, self.noise_threshold2)
