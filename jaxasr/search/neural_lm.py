"""A neural language model as a search asks it, one token after the other."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from jaxasr.data.tokenizer import Vocabulary
from jaxasr.nn.lms import LanguageModel
from jaxasr.search.scorers import Scorer
from jaxasr.typing import Array, Float, Int, Params


class LmState(NamedTuple):
    """What the model remembers of the tokens, and what it says of the next one."""

    cache: Any
    log_probs: Float[Array, "R V"]


@struct.dataclass
class NeuralLm(Scorer):
    """Log-probabilities of the next token by a trained network; the ids are those it was trained with."""

    params: Params
    network: LanguageModel = struct.field(pytree_node=False)
    vocab_size: int = struct.field(pytree_node=False)

    def start(self, rows: int, max_tokens: int) -> LmState:
        cache = self.network.empty_cache(rows, max_tokens + 1)
        return self._after(cache, jnp.full(rows, Vocabulary.SOS, jnp.int32))

    def score(self, state: LmState, tokens: Int[Array, "R C"]) -> Float[Array, "R C"]:
        return jnp.take_along_axis(state.log_probs, tokens, axis=1)

    def advance(self, state: LmState, tokens: Int[Array, "R"]) -> LmState:
        return self._after(state.cache, tokens)

    def _after(self, cache: Any, last: Int[Array, "R"]) -> LmState:
        options: Any = {"vocab_size": self.vocab_size, "train": False, "cache": cache}
        logits, cache = self.network.apply({"params": self.params}, last[:, None], **options)
        return LmState(cache, jax.nn.log_softmax(logits[:, 0]))
