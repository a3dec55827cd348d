"""What judges tokens beside the model's own heads, as a search asks it: language models, n-grams, hot words."""

import abc
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxasr.typing import Array, Bool, Float, Int, PyTree

State = PyTree
"""What a scorer remembers of the tokens of each row's hypothesis."""


class Scorer(abc.ABC):
    """A left-to-right judge of tokens, a row a hypothesis.

    Every concrete scorer is a `flax.struct.dataclass`: its arrays (tables, parameters) are arguments of the compiled
    search, what else it is made of is static. Ids are the model's own.
    """

    @abc.abstractmethod
    def start(self, rows: int, max_tokens: int) -> State:
        """Of hypotheses without a token, none of which will have more than `max_tokens`."""

    @abc.abstractmethod
    def score(self, state: State, tokens: Int[Array, "R C"]) -> Float[Array, "R C"]:
        """In nats, each of these next tokens; eos is the end. For a row that has ended it means nothing."""

    @abc.abstractmethod
    def advance(self, state: State, tokens: Int[Array, "R"]) -> State:
        """After one more token each, which eos never is."""

    def cut_off(self, state: State) -> Float[Array, "R"] | float:
        """In nats, of hypotheses that end without eos, since they may have no more tokens; by default nothing."""
        del state
        return 0.0

    def take(self, state: State, rows: Int[Array, "R2"]) -> State:
        """The states of these rows; by default along the first axis of every array."""
        return jax.tree.map(lambda x: x[rows], state)

    def where(self, mask: Bool[Array, "R"], new: State, old: State) -> State:
        """The new states where the mask is true, else the old ones; laid out as in `take`."""
        return jax.tree.map(lambda x, y: jnp.where(mask.reshape(-1, *(1,) * (x.ndim - 1)), x, y), new, old)


class Weighted(NamedTuple):
    """A scorer and what its scores are multiplied by."""

    scorer: Any
    weight: Any


class Sum(Scorer):
    """Several weighted scorers as one, their scores added up."""

    def __init__(self, parts: tuple[Weighted, ...]):
        self.parts = parts

    def start(self, rows: int, max_tokens: int) -> State:
        return tuple(p.scorer.start(rows, max_tokens) for p in self.parts)

    def score(self, state: State, tokens: Int[Array, "R C"]) -> Float[Array, "R C"]:
        total = jnp.zeros(tokens.shape, jnp.float32)
        for part, its in zip(self.parts, state, strict=True):
            total = total + part.weight * part.scorer.score(its, tokens)
        return total

    def cut_off(self, state: State) -> Float[Array, "R"] | float:
        return sum(p.weight * p.scorer.cut_off(s) for p, s in zip(self.parts, state, strict=True))

    def advance(self, state: State, tokens: Int[Array, "R"]) -> State:
        return tuple(p.scorer.advance(s, tokens) for p, s in zip(self.parts, state, strict=True))

    def take(self, state: State, rows: Int[Array, "R2"]) -> State:
        return tuple(p.scorer.take(s, rows) for p, s in zip(self.parts, state, strict=True))

    def where(self, mask: Bool[Array, "R"], new: State, old: State) -> State:
        states = zip(self.parts, new, old, strict=True)
        return tuple(p.scorer.where(mask, its, before) for p, its, before in states)
