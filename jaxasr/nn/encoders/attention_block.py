"""The block of Transformer and Conformer encoders."""

from collections.abc import Callable
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn

from jaxasr.nn.activations import Activation
from jaxasr.nn.batch_norm import Moments
from jaxasr.nn.convolution import ConvolutionModule
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.encoders.stacked import Positions, self_attention
from jaxasr.nn.feedforward import FeedForward
from jaxasr.nn.layers import Dense, LayerNorm
from jaxasr.typing import Array, Float, Int


class AttentionBlock(nn.Module):
    """Feed-forward, attention, convolution, feed-forward, each beside a residual; the first and the third are optional.

    Each has a norm of its own, before it or after its sum.
    """

    num_heads: int
    d_ff: int
    dropout: float
    attention_dropout: float
    positions: Positions
    norm_first: bool
    concat_after: bool
    activation: Activation = "relu"
    macaron: bool = False
    kernel_size: int | None = None
    conv_norm: Literal["batch", "layer"] = "batch"
    ff_dropout: float | None = None
    """Inside feed-forward parts; None for `dropout`."""
    norm_epsilon: float = 1e-12

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], lengths: Int[Array, "B"], train: bool
    ) -> tuple[Float[Array, "B T D"], Moments | None]:
        """Frames, and what the running statistics of the convolution's batch norm are to learn, if there is one."""
        drop = Dropout(self.dropout)
        ff_dropout = self.dropout if self.ff_dropout is None else self.ff_dropout
        share = 0.5 if self.macaron else 1.0  # of each of two feed-forward parts
        moments = None

        if self.macaron:
            before, after = self._norm("macaron")
            y = FeedForward(self.d_ff, ff_dropout, self.activation, name="macaron")(before(x), train=train)
            x = after(x + share * drop(y, train=train))

        before, after = self._norm("attention")
        y = before(x)
        options = {"positions": self.positions, "num_heads": self.num_heads, "dropout": self.attention_dropout}
        attended = self_attention(y, lengths, train=train, **options)
        if self.concat_after:
            x = after(x + Dense(x.shape[-1], name="concat")(jnp.concatenate([y, attended], axis=-1)))
        else:
            x = after(x + drop(attended, train=train))

        if self.kernel_size is not None:
            before, after = self._norm("conv")
            convolve = ConvolutionModule(self.kernel_size, self.conv_norm, self.activation, name="conv")
            y, moments = convolve(before(x), lengths, train=train)
            x = after(x + drop(y, train=train))

        before, after = self._norm("ff")
        y = FeedForward(self.d_ff, ff_dropout, self.activation, name="ff")(before(x), train=train)
        x = after(x + share * drop(y, train=train))
        if self.kernel_size is not None:
            x = LayerNorm(epsilon=self.norm_epsilon, name="norm")(x)
        return x, None if moments is None else moments.within("conv", "norm")

    def _norm(self, name: str) -> tuple[Callable[[Array], Array], Callable[[Array], Array]]:
        """What stands before a part and what stands after its sum: one of the two is its norm."""
        norm = LayerNorm(epsilon=self.norm_epsilon, name=f"{name}_norm")

        def nothing(x: Array) -> Array:
            return x

        return (norm, nothing) if self.norm_first else (nothing, norm)
