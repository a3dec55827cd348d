"""Recurrent language model (Mikolov et al., 2010, https://doi.org/10.21437/Interspeech.2010-343)."""

from typing import NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.layers import Dense, Head
from jaxasr.nn.lms.base import LMS, Cache, LanguageModel
from jaxasr.nn.recurrent import CELLS, CellName
from jaxasr.typing import Array, Float, Int


class RnnStates(NamedTuple):
    """Of each cell, (B, L, H)."""

    hidden: Array
    cell: Array


@LMS.register("seq_rnn")
class SeqRnnLm(LanguageModel):
    """Recurrent cells from token to token; FunASR's and ESPnet's `seq_rnn`."""

    cell: CellName = "lstm"
    """What runs from token to token."""
    num_layers: int = 2
    """Number of cells, one behind the other."""
    d_hidden: int = 650
    """Width of a token and of a cell's state."""
    dropout: float = 0.0
    """Dropout probability of embeddings and of what goes from cell to cell and out."""

    def empty_cache(self, rows: int, max_tokens: int) -> Cache:
        del max_tokens
        zeros = jnp.zeros((rows, self.num_layers, self.d_hidden))
        return RnnStates(zeros, zeros)

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B U"], *, vocab_size: int, train: bool, cache: Cache = None
    ) -> tuple[Float[Array, "B U V"], Cache]:
        if min(self.num_layers, self.d_hidden) < 1:
            raise ConfigError(
                f"--lm: num_layers={self.num_layers}, d_hidden={self.d_hidden}; 1 or more of each was expected; change "
                "them."
            )
        drop = Dropout(self.dropout)
        x = drop(nn.Embed(vocab_size, self.d_hidden, name="embed")(tokens), train=train)
        states = self.empty_cache(tokens.shape[0], 0) if cache is None else cache
        cell, gates = CELLS[self.cell]
        scan = nn.scan(cell, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)
        after = []
        for layer in range(self.num_layers):
            given = Dense(gates * self.d_hidden, name=f"layer{layer}_in")(x)  # of all tokens in one product
            before = states.hidden[:, layer], states.cell[:, layer]
            state, x = scan(self.d_hidden, name=f"layer{layer}")(before, given)
            after.append(state)
            x = drop(x, train=train)
        stacked = RnnStates(*(jnp.stack(same, axis=1) for same in zip(*after, strict=True)))
        return Head(vocab_size, name="output")(x), None if cache is None else stacked
