"""Recurrent encoder: LSTMs or GRUs over time, with or without a projection behind each (Chan et al., 2016)."""

from typing import Any

import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.encoders.base import ENCODERS, Encoder, Taps
from jaxasr.nn.layers import Dense
from jaxasr.nn.masking import zero_padding
from jaxasr.nn.options import check_unread
from jaxasr.nn.recurrent import CellName, RecurrentLayer
from jaxasr.typing import Array, Float, Int, LengthsT


@ENCODERS.register("rnn")
class RnnEncoder(Encoder):
    """Recurrent encoder; FunASR's and ESPnet's `rnn` (BLSTM with projection and subsampling by default)."""

    cell: CellName = "lstm"
    """What runs over time."""
    bidirectional: bool = True
    """Let one run from the end to the beginning too."""
    projection: bool = True
    """A dense layer behind every layer, and subsampling; false: one behind the last, and none."""
    subsample: tuple[int, ...] = (2, 2)
    """Of the outputs of the first layers, every so manyth frame goes on; needs the projection."""
    num_layers: int = 4
    """Number of recurrent layers."""
    d_hidden: int = 320
    """Width of a layer's state, in each direction."""
    d_model: int = 320
    """Width of an encoded frame."""
    dropout: float = 0.0
    """Dropout probability of what goes from layer to layer."""

    @property
    def output_width(self) -> int:
        return self.d_model

    def output_lengths(self, lengths: LengthsT) -> LengthsT:
        for step in self._steps():
            lengths = (lengths + 1) // step if step > 1 else lengths
        return lengths

    def _steps(self) -> tuple[int, ...]:
        """By what each layer divides the frame rate."""
        given = self.subsample[: self.num_layers] if self.projection else ()
        return given + (1,) * (self.num_layers - len(given))

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, train: bool, taps: Taps | None = None
    ) -> tuple[Float[Array, "B T2 D"], Int[Array, "B"]]:
        self._check(taps)
        x = zero_padding(x, lengths)
        drop = Dropout(self.dropout)
        for layer, step in enumerate(self._steps(), start=1):
            x = RecurrentLayer(self.cell, self.d_hidden, self.bidirectional, name=f"layer{layer - 1}")(x, lengths)
            last = layer == self.num_layers
            if step > 1:
                x, lengths = x[:, ::step], (lengths + 1) // step
            if self.projection:
                x = Dense(self.d_model, name=f"projection{layer - 1}")(x)
                x = taps.after(layer, x, lambda y: y) if taps else x
                x = x if last else jnp.tanh(drop(x, train=train))
            elif not last:
                x = drop(x, train=train)
            x = zero_padding(x, lengths)
        if not self.projection:
            x = jnp.tanh(Dense(self.d_model, name="projection")(x))
        return x, lengths

    def _check(self, taps: Taps | None) -> None:
        sizes: dict[str, Any] = {name: getattr(self, name) for name in ("num_layers", "d_hidden", "d_model")}
        room = max(self.num_layers, len(type(self).subsample))
        if min(*sizes.values(), *self.subsample, 1) < 1 or len(self.subsample) > room:
            raise ConfigError(
                f"--encoder: {', '.join(f'{name}={size}' for name, size in sizes.items())}, "
                f"subsample={list(self.subsample)}; 1 or more of each, and no more steps than layers, were expected; "
                "change them."
            )
        if not self.projection:
            check_unread("encoder", self, "projection", "subsample")
        if self.num_layers == 1:
            check_unread("encoder", self, "num_layers", "dropout")
        if taps is None:
            return
        taps.check(self.num_layers)
        first = max((n for n, step in enumerate(self._steps(), start=1) if step > 1), default=1)
        if not self.projection or taps.layers[0] < first:
            raise ConfigError(
                f"--interctc_layers={list(taps.layers)} with --encoder=rnn: layers from {first} on, with "
                "--encoder.projection, were expected: those before have another frame rate or width; change them."
            )
