"""What every attention decoder promises."""

import abc
from typing import Any

from flax import linen as nn

from jaxasr.registry import Registry
from jaxasr.typing import Array, Float, Int

Cache = Any
"""What a decoder remembers of the tokens it has seen; a tree of arrays, each with the rows at axis 1."""


class Decoder(nn.Module):
    """Tokens so far and encoded frames in, scores of each next token out."""

    @abc.abstractmethod
    def empty_cache(self, rows: int, max_tokens: int, dtype: Any) -> Cache:
        """The memory of a decoder that has seen nothing, with room for `max_tokens` tokens."""
        raise NotImplementedError

    @abc.abstractmethod
    def __call__(
        self,
        tokens: Int[Array, "B U"],
        memory: Float[Array, "B T D"],
        memory_lengths: Int[Array, "B"],
        *,
        vocab_size: int,
        train: bool,
        cache: Cache = None,
        position: Int[Array, ""] | int = 0,
    ) -> tuple[Float[Array, "B U V"], Cache]:
        """Logits, in float32, of the token after each of `tokens`, and the cache.

        Without a cache `tokens` is the whole sequence from sos. With one, `tokens` stands at `position` and
        what came before is in the cache; the first call fills the projections of `memory`. Every id must
        lie in [0, vocab_size).
        """
        raise NotImplementedError


DECODERS: Registry[Decoder] = Registry("decoder", Decoder, ("__call__", "empty_cache"))
