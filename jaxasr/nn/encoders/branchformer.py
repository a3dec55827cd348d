"""Branchformer (Peng et al., 2022) and E-Branchformer (Kim et al., 2022) encoders: attention beside a gated MLP.

https://arxiv.org/abs/2207.02971 and https://arxiv.org/abs/2210.00077.
"""

from typing import Literal

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.activations import Activation
from jaxasr.nn.convolution import ConvolutionalGatingMlp, DepthwiseConv, GateActivation
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.encoders.base import ENCODERS
from jaxasr.nn.encoders.stacked import Positions, StackedEncoder, self_attention
from jaxasr.nn.feedforward import FeedForward
from jaxasr.nn.layers import Dense, LayerNorm
from jaxasr.nn.masking import length_mask
from jaxasr.nn.options import check_unread
from jaxasr.typing import Array, Float, Int


class Branches(nn.Module):
    """What attention and a convolutional gating MLP, each behind a norm of its own, say of the same frames."""

    num_heads: int
    d_gate: int
    kernel_size: int
    dropout: float
    attention_dropout: float
    positions: Positions
    gate_activation: GateActivation
    gate_linear: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], lengths: Int[Array, "B"], *, train: bool
    ) -> tuple[Float[Array, "B T D"], Float[Array, "B T D"]]:
        drop = Dropout(self.dropout)
        options = {"positions": self.positions, "num_heads": self.num_heads, "dropout": self.attention_dropout}
        attended = self_attention(LayerNorm(name="attention_norm")(x), lengths, train=train, **options)
        gating = ConvolutionalGatingMlp(
            self.d_gate, self.kernel_size, self.dropout, self.gate_activation, self.gate_linear, name="gating"
        )
        gated = gating(LayerNorm(name="gating_norm")(x), lengths, train=train)
        return drop(attended, train=train), drop(gated, train=train)


class AverageOfBranches(nn.Module):
    """The branches' mean, each weighed by what its frames, pooled over time, say of it (Peng et al., section 3.4)."""

    @nn.compact
    def __call__(
        self, branches: tuple[Float[Array, "B T D"], Float[Array, "B T D"]], lengths: Int[Array, "B"]
    ) -> Float[Array, "B T D"]:
        attended, gated = branches
        weights = [self._weight(*named, lengths) for named in (("attention", attended), ("gating", gated))]
        of_attended, of_gated = jnp.split(jax.nn.softmax(jnp.concatenate(weights, axis=-1)), 2, axis=-1)  # (B, 1) each
        return (of_attended.astype(gated.dtype)[..., None] * attended) + of_gated.astype(gated.dtype)[..., None] * gated

    def _weight(self, name: str, x: Array, lengths: Array) -> Float[Array, "B 1"]:
        scores = Dense(1, name=f"{name}_pooling")(x).astype(jnp.float32) * x.shape[-1] ** -0.5
        mask = length_mask(lengths, x.shape[1])[..., None]
        shares = jax.nn.softmax(jnp.where(mask, scores, jnp.finfo(jnp.float32).min), axis=1)
        pooled = jnp.sum(jnp.where(mask, shares * x.astype(jnp.float32), 0.0), axis=1)
        return Dense(1, name=f"{name}_weight")(pooled)


class BranchformerBlock(nn.Module):
    """Two branches, merged, beside a residual."""

    branches: tuple
    dropout: float
    merge: Literal["concat", "learned_average", "fixed_average"]
    gate_share: float

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], lengths: Int[Array, "B"], train: bool) -> tuple[Array, None]:
        attended, gated = Branches(*self.branches, name="branches")(x, lengths, train=train)
        if self.merge == "concat":
            y = jnp.concatenate([attended, gated], axis=-1)
        elif self.merge == "learned_average":
            y = AverageOfBranches(name="average")((attended, gated), lengths)
        else:
            y = (1.0 - self.gate_share) * attended + self.gate_share * gated
        x = x + Dropout(self.dropout)(Dense(x.shape[-1], name="merge")(y), train=train)
        return LayerNorm(name="norm")(x), None


class EBranchformerBlock(nn.Module):
    """Feed-forward, two branches merged through a filter over time, feed-forward, each beside a residual."""

    branches: tuple
    dropout: float
    d_ff: int | None
    macaron: bool
    activation: Activation
    merge_kernel_size: int

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], lengths: Int[Array, "B"], train: bool) -> tuple[Array, None]:
        drop = Dropout(self.dropout)
        share = 0.5 if self.macaron else 1.0  # of each of two feed-forward parts
        if self.d_ff is not None and self.macaron:
            ff = FeedForward(self.d_ff, self.dropout, self.activation, name="macaron")
            x = x + share * drop(ff(LayerNorm(name="macaron_norm")(x), train=train), train=train)
        y = jnp.concatenate(Branches(*self.branches, name="branches")(x, lengths, train=train), axis=-1)
        y = y + DepthwiseConv(self.merge_kernel_size, name="merge_filter")(y, lengths)
        x = x + drop(Dense(x.shape[-1], name="merge")(y), train=train)
        if self.d_ff is not None:
            ff = FeedForward(self.d_ff, self.dropout, self.activation, name="ff")
            x = x + share * drop(ff(LayerNorm(name="ff_norm")(x), train=train), train=train)
        return LayerNorm(name="norm")(x), None


class BranchedEncoder(StackedEncoder):
    """What the two have in common. Abstract."""

    d_gate: int = 1024
    """Width inside the convolutional gating MLP; even."""
    kernel_size: int = 31
    """Frames that its filter sees; odd."""
    gate_activation: GateActivation = "identity"
    """What its gate goes through."""
    gate_linear: bool = False
    """A dense layer behind its filter."""

    def branches(self) -> tuple:
        """The fields of `Branches`."""
        return (
            self.num_heads,
            self.d_gate,
            self.kernel_size,
            self.dropout,
            self.attention_dropout,
            self.positions,
            self.gate_activation,
            self.gate_linear,
        )


@ENCODERS.register("branchformer")
class BranchformerEncoder(BranchedEncoder):
    """Branchformer encoder; FunASR's and ESPnet's `branchformer`, whose subsampling is their `input_layer`."""

    merge: Literal["concat", "learned_average", "fixed_average"] = "concat"
    """How the branches become one: side by side through a dense layer, or their mean with learnt or fixed weights."""
    gate_share: float = 0.5
    """Weight of the gating MLP in the mean with fixed weights."""

    def block(self) -> nn.Module:
        if not 0.0 < self.gate_share < 1.0:
            raise ConfigError(
                f"--encoder.gate_share={self.gate_share}: a share between 0 and 1 was expected, or one of the branches "
                "would be idle; change it."
            )
        if self.merge != "fixed_average":
            check_unread("encoder", self, "merge", "gate_share")
        return BranchformerBlock(self.branches(), self.dropout, self.merge, self.gate_share, name="blocks")


@ENCODERS.register("e_branchformer")
class EBranchformerEncoder(BranchedEncoder):
    """E-Branchformer encoder; FunASR's and ESPnet's `e_branchformer`, whose subsampling is their `input_layer`.

    Their own defaults have no feed-forward networks; their recipes have these ones.
    """

    feed_forward: bool = True
    """Whether blocks have feed-forward networks."""
    macaron: bool = True
    """Half a feed-forward network before the branches too, not a whole one behind them alone."""
    d_ff: int = 1024
    """Width inside the feed-forward networks."""
    activation: Activation = "swish"
    """Between the layers of the feed-forward networks."""
    merge_kernel_size: int = 3
    """Frames that the filter over the merged branches sees; odd."""

    def block(self) -> nn.Module:
        if not self.feed_forward:
            check_unread("encoder", self, "feed_forward", "macaron", "d_ff", "activation")
        return EBranchformerBlock(
            self.branches(),
            self.dropout,
            self.d_ff if self.feed_forward else None,
            self.feed_forward and self.macaron,
            self.activation,
            self.merge_kernel_size,
            name="blocks",
        )
