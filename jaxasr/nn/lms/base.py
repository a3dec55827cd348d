"""What every neural language model promises."""

import abc
from typing import Any

from flax import linen as nn

from jaxasr.registry import Registry
from jaxasr.typing import Array, Float, Int

Cache = Any
"""What a language model remembers of the tokens it has seen; a tree of arrays, each with the rows in front.

Rows need not have seen equally many.
"""


class LanguageModel(nn.Module):
    """Tokens so far in, scores of each next token out."""

    @abc.abstractmethod
    def empty_cache(self, rows: int, max_tokens: int) -> Cache:
        """The memory of a model that has seen nothing, with room for `max_tokens` tokens, sos among them."""
        raise NotImplementedError

    @abc.abstractmethod
    def __call__(
        self, tokens: Int[Array, "B U"], *, vocab_size: int, train: bool, cache: Cache = None
    ) -> tuple[Float[Array, "B U V"], Cache]:
        """Logits, in float32, of the token after each of `tokens`, and the cache.

        Without a cache `tokens` is the whole sequence from sos. With one it is one token a row, and what came before is
        in the cache. Every id must lie in [0, vocab_size).
        """
        raise NotImplementedError


LMS: Registry[LanguageModel] = Registry("lm", LanguageModel, ("__call__", "empty_cache"))
