"""Labelled edges from state to state, as automata of tokens have them, in tables that a compiled search looks up."""

from typing import Any

import flax.struct
import jax.numpy as jnp
import numpy as np
from jax import lax

from jaxasr.typing import Array, Int


@flax.struct.dataclass
class Edges:
    """The edges of state s are those from `starts[s]` to before `starts[s + 1]`, in the order of their labels."""

    starts: Int[Array, "S+1"]
    labels: Int[Array, "E"]
    steps: int = flax.struct.field(pytree_node=False)
    """Halvings that find any edge among the most that a state has."""

    @classmethod
    def of(cls, states: np.ndarray, labels: np.ndarray, num_states: int) -> "Edges":
        """Of (state, label) pairs, two of (E,), in their order."""
        starts = np.searchsorted(states, np.arange(num_states + 1)).astype(np.int32)
        most = int(np.max(np.diff(starts)))
        labels = labels if len(labels) else np.full(1, -1)  # none, but something to look up
        return cls(jnp.asarray(starts), jnp.asarray(labels, jnp.int32), most.bit_length())

    def find(self, states: Int[Array, "*R"], labels: Int[Array, "*R"]) -> Int[Array, "*R"]:
        """Which edge each state has with each label; -1 for none."""

        def halved(_: Any, bounds: tuple[Array, Array]) -> tuple[Array, Array]:
            low, high = bounds
            middle = (low + high) // 2
            before = (low < high) & (self.labels[middle] < labels)
            return jnp.where(before, middle + 1, low), jnp.where(before, high, middle)

        begin, end = self.starts[states], self.starts[states + 1]
        # a loop: written out, XLA's fusion copies each halving into the next, and compiling takes 2 ** steps as long
        low, _ = lax.fori_loop(0, self.steps, halved, (begin, end))
        return jnp.where((low < end) & (self.labels[low] == labels), low, -1)
