"""Labelled edges from state to state, as automata of tokens have them, in tables that a compiled search looks up."""

import flax.struct
import jax.numpy as jnp
import numpy as np

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
        """Of (state, label) pairs in their order."""
        starts = np.searchsorted(states, np.arange(num_states + 1)).astype(np.int32)
        most = int(np.max(np.diff(starts)))
        labels = labels if len(labels) else np.full(1, -1)  # none, but something to look up
        return cls(jnp.asarray(starts), jnp.asarray(labels, jnp.int32), most.bit_length())

    def find(self, states: Int[Array, "*R"], labels: Int[Array, "*R"]) -> Int[Array, "*R"]:
        """Which edge each state has with each label; -1 for none."""
        low, end = self.starts[states], self.starts[states + 1]
        high = end
        for _ in range(self.steps):
            middle = (low + high) // 2
            before = (low < high) & (self.labels[middle] < labels)
            low, high = jnp.where(before, middle + 1, low), jnp.where(before, high, middle)
        return jnp.where((low < end) & (self.labels[low] == labels), low, -1)
