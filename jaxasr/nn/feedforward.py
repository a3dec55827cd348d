"""Position-wise feed-forward network."""

from flax import linen as nn

from jaxasr.nn.activations import ACTIVATIONS, Activation
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.layers import Dense
from jaxasr.typing import Array, Float


class FeedForward(nn.Module):
    """Two dense layers with an activation between (Vaswani et al., 2017, equation 2)."""

    d_ff: int
    dropout: float
    activation: Activation = "relu"

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], *, train: bool) -> Float[Array, "B T D"]:
        y = Dense(self.d_ff, name="in")(x)
        if self.activation == "relu":
            y = Dropout(self.dropout, relu=True)(y, train=train)
        else:
            y = Dropout(self.dropout)(ACTIVATIONS[self.activation](y), train=train)
        return Dense(x.shape[-1], name="out")(y)
