"""An encoder of one's own, in one file; `--import` makes it a choice like any other.

docs/new-encoder.md says what it has to promise. Run by itself, the file says what comes out and whether padding leaks.

    python examples/new_encoder.py
    PYTHONPATH=examples python -m jaxasr.train --import=new_encoder --encoder=gated_conv --encoder.num_layers=3 \
        --workdir=exp/gated_conv
    PYTHONPATH=examples python -m jaxasr.decode --import=new_encoder --model=exp/gated_conv a.wav
"""

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.nn.encoders import ENCODERS, Encoder, Taps
from jaxasr.nn.layers import Dense, LayerNorm
from jaxasr.nn.masking import zero_padding


@ENCODERS.register("gated_conv")
class GatedConvEncoder(Encoder):
    """Gated convolutions with residuals (Dauphin et al., 2017, https://arxiv.org/abs/1612.08083)."""

    num_layers: int = 4
    """Number of blocks."""
    d_model: int = 128
    """Width of a frame."""
    kernel_size: int = 7
    """Taps of each convolution, in frames."""

    @property
    def output_width(self):
        return self.d_model

    def output_lengths(self, lengths):
        return lengths

    @nn.compact
    def __call__(self, x, lengths, *, train: bool, taps: Taps | None = None):
        if taps:
            taps.check(self.num_layers)
        norm = LayerNorm(name="norm")
        x = Dense(self.d_model, name="input")(zero_padding(x, lengths))  # of NaN the gradient would be NaN
        for layer in range(1, self.num_layers + 1):
            y = LayerNorm(name=f"norm_{layer}")(x)
            y = zero_padding(y, lengths)  # what stands in the padding must not reach a real frame
            x = x + nn.glu(nn.Conv(2 * self.d_model, (self.kernel_size,), dtype=x.dtype, name=f"conv_{layer}")(y))
            x = taps.after(layer, x, norm) if taps else x  # for --interctc_layers
        return norm(x), lengths


def leak(encoder: Encoder, width: int = 80, frames: int = 50) -> float:
    """How far real frames move when what stands behind them changes; more than rounding is a fault."""
    x, lengths = jax.random.normal(jax.random.key(0), (1, frames, width)), jnp.array([frames])
    params = encoder.init(jax.random.key(1), x, lengths, train=False)
    beside = jnp.pad(x, ((0, 0), (0, 30), (0, 0)), constant_values=1e4)
    (alone, found), (padded, _) = (encoder.apply(params, y, lengths, train=False) for y in (x, beside))
    print(f"{frames} frames of {width} come out as {found[0]} of {alone.shape[-1]}")
    return float(jnp.max(jnp.abs(alone - padded[:, : alone.shape[1]])))


if __name__ == "__main__":
    print(f"what stands in the padding moves them by {leak(GatedConvEncoder()):.1e}")
