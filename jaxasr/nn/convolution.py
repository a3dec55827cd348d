"""Convolutions over time inside encoder blocks."""

from typing import Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.activations import ACTIVATIONS, Activation
from jaxasr.nn.batch_norm import BatchNorm, Moments
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.fsmn import depthwise_filter
from jaxasr.nn.layers import Dense, LayerNorm
from jaxasr.nn.masking import zero_padding
from jaxasr.typing import Array, Float, Int

GateActivation: TypeAlias = Literal["identity"] | Activation


class DepthwiseConv(nn.Module):
    """Each channel filtered over time, as many frames back as ahead, plus a bias; padding is read as zeros."""

    kernel_size: int
    kernel_init: nn.initializers.Initializer | None = None
    bias_init: nn.initializers.Initializer = nn.initializers.zeros

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], lengths: Int[Array, "B"]) -> Float[Array, "B T D"]:
        if self.kernel_size < 1 or self.kernel_size % 2 == 0:
            raise ConfigError(
                f"DepthwiseConv: kernel_size={self.kernel_size}; an odd number of frames was expected, as many on "
                "either side; change it."
            )
        init = self.kernel_init or nn.initializers.normal(self.kernel_size**-0.5)
        kernel = self.param("kernel", init, (self.kernel_size, x.shape[-1]))
        bias = self.param("bias", self.bias_init, (x.shape[-1],))
        y = depthwise_filter(zero_padding(x, lengths), kernel, self.kernel_size // 2)
        return y + bias.astype(x.dtype)[None, None]


class ConvolutionModule(nn.Module):
    """A gated, a depthwise and a dense map, with a norm between (Gulati et al., 2020, section 2.2).

    https://arxiv.org/abs/2005.08100. FunASR's and ESPnet's filter reads what stands in the padding, and their norm
    counts it; here a row's values are those that it has alone.
    """

    kernel_size: int
    norm: Literal["batch", "layer"]
    activation: Activation

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], lengths: Int[Array, "B"], *, train: bool
    ) -> tuple[Float[Array, "B T D"], Moments | None]:
        """Frames, and what the batch norm's running statistics, if it has one, are to learn."""
        D = x.shape[-1]
        y, gate = jnp.split(Dense(2 * D, name="in")(x), 2, axis=-1)
        y = DepthwiseConv(self.kernel_size, name="filter")(y * jax.nn.sigmoid(gate), lengths)
        moments = None
        if self.norm == "batch":
            y, moments = BatchNorm(name="norm")(y, lengths, train=train)
        else:
            y = LayerNorm(name="norm")(y)
        return Dense(D, name="out")(ACTIVATIONS[self.activation](y)), moments


class ConvolutionalGatingMlp(nn.Module):
    """Half of the hidden channels, filtered over time, gate the other half (Sakuma et al., 2021).

    https://openreview.net/forum?id=RA-zVvZLYIy. At first the gate is open: it is 1 for every frame.
    """

    d_gate: int
    kernel_size: int
    dropout: float
    activation: GateActivation = "identity"
    linear: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], lengths: Int[Array, "B"], *, train: bool) -> Float[Array, "B T D"]:
        if self.d_gate % 2:
            raise ConfigError(
                f"ConvolutionalGatingMlp: d_gate={self.d_gate}; an even number was expected, half of which gates the "
                "other half; change it."
            )
        closed, ones = nn.initializers.normal(1e-6), nn.initializers.ones
        y, gate = jnp.split(jax.nn.gelu(Dense(self.d_gate, name="in")(x), approximate=False), 2, axis=-1)
        gate = LayerNorm(name="gate_norm")(gate)
        gate = DepthwiseConv(self.kernel_size, closed, ones, name="filter")(gate, lengths)
        if self.linear:
            gate = Dense(gate.shape[-1], kernel_init=closed, bias_init=ones, name="gate")(gate)
        gate = gate if self.activation == "identity" else ACTIVATIONS[self.activation](gate)
        return Dense(x.shape[-1], name="out")(Dropout(self.dropout)(y * gate, train=train))
