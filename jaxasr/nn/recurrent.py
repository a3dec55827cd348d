"""Recurrent layers over time, with torch's gates and its two biases: of what comes in, and of what was."""

from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.nn.layers import Dense
from jaxasr.typing import Array, Float, Int

CellName: TypeAlias = Literal["lstm", "gru"]


class Lstm(nn.Module):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997) with forget gates; in torch's order i, f, g, o."""

    d_hidden: int

    @nn.compact
    def __call__(self, carry: tuple[Array, Array], gates: Float[Array, "B 4H"]) -> tuple[tuple[Array, Array], Array]:
        """Hidden and cell state (B, H) and what the input says to the gates, to the new states and the hidden one."""
        hidden, cell = carry
        gates = gates + Dense(4 * self.d_hidden, name="recurrent")(hidden)
        i, f, g, o = jnp.split(gates.astype(jnp.float32), 4, axis=-1)
        cell = jax.nn.sigmoid(f) * cell + jax.nn.sigmoid(i) * jnp.tanh(g)
        hidden = (jax.nn.sigmoid(o) * jnp.tanh(cell)).astype(hidden.dtype)
        return (hidden, cell), hidden


class Gru(nn.Module):
    """Gated recurrent unit (Cho et al., 2014), the reset after the product as torch has it; gates r, z, n."""

    d_hidden: int

    @nn.compact
    def __call__(self, carry: tuple[Array, Array], gates: Float[Array, "B 3H"]) -> tuple[tuple[Array, Array], Array]:
        hidden, unused = carry
        said = Dense(3 * self.d_hidden, name="recurrent")(hidden)
        (r, z, n), (of_r, of_z, of_n) = (jnp.split(x.astype(jnp.float32), 3, axis=-1) for x in (gates, said))
        n = jnp.tanh(n + jax.nn.sigmoid(r + of_r) * of_n)
        z = jax.nn.sigmoid(z + of_z)
        hidden = ((1.0 - z) * n + z * hidden.astype(jnp.float32)).astype(hidden.dtype)
        return (hidden, unused), hidden


CELLS: dict[str, tuple[Any, int]] = {"lstm": (Lstm, 4), "gru": (Gru, 3)}
"""By name, the cell and how many gates it has."""


def zero_carry(rows: int, d_hidden: int, dtype: Any) -> tuple[Array, Array]:
    """The states before the first frame, (B, D) of zeros; the cell state is float32.

    >>> [x.dtype.name for x in zero_carry(2, 8, jnp.bfloat16)]
    ['bfloat16', 'float32']
    """
    return jnp.zeros((rows, d_hidden), dtype), jnp.zeros((rows, d_hidden), jnp.float32)


class RecurrentLayer(nn.Module):
    """The hidden states of one cell over time, or of one in either direction side by side.

    The backward one begins at each row's own end, so that padding changes nothing.
    """

    cell: CellName
    d_hidden: int
    bidirectional: bool

    @nn.compact
    def __call__(self, x: Float[Array, "B T F"], lengths: Int[Array, "B"]) -> Float[Array, "B T H"]:
        forward = self._run(x, "forward")
        if not self.bidirectional:
            return forward
        backward = reversed_rows(self._run(reversed_rows(x, lengths), "backward"), lengths)
        return jnp.concatenate([forward, backward], axis=-1)

    def _run(self, x: Array, name: str) -> Array:
        cell, num_gates = CELLS[self.cell]
        gates = Dense(num_gates * self.d_hidden, name=f"{name}_in")(x)  # of all frames in one product
        scan = nn.scan(cell, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)
        return scan(self.d_hidden, name=name)(zero_carry(x.shape[0], self.d_hidden, x.dtype), gates)[1]


def reversed_rows(x: Float[Array, "B T D"], lengths: Int[Array, "B"]) -> Float[Array, "B T D"]:
    """Each row's own frames last to first; the padding stays where it is.

    >>> jax.jit(reversed_rows)(jnp.array([[[1], [2], [0]]]), jnp.array([2])).tolist()
    [[[2], [1], [0]]]
    """
    time = jnp.arange(x.shape[1])[None, :]
    index = jnp.where(time < lengths[:, None], lengths[:, None] - 1 - time, time)
    return jnp.take_along_axis(x, index[..., None], axis=1)
