"""Position-wise feed-forward network."""

from flax import linen as nn

from jaxasr.nn.dropout import Dropout
from jaxasr.nn.layers import Dense
from jaxasr.typing import Array, Float


class FeedForward(nn.Module):
    """Two dense layers with a ReLU between (Vaswani et al., 2017, equation 2)."""

    d_ff: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], *, train: bool) -> Float[Array, "B T D"]:
        y = Dropout(self.dropout, relu=True)(Dense(self.d_ff, name="in")(x), train=train)
        return Dense(x.shape[-1], name="out")(y)
