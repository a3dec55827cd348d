"""What every attention decoder promises."""

import abc
from collections.abc import Callable
from typing import Any

import jax
from flax import linen as nn

from jaxasr.registry import Registry
from jaxasr.typing import Array, Float, Int

Cache = Any
"""What a decoder remembers of the tokens it has seen; a tree of arrays, each with the rows at axis 1.

Arrays with the names in `OF_FRAMES` are of the encoded frames alone: all hypotheses of an utterance share them.
"""
OF_FRAMES = ("memory_keys", "memory_values")


def parted(cache: Cache) -> tuple[Cache, Callable[[Cache], Cache]]:
    """What is of tokens in a cache that a decoder has used, and what makes a whole cache of the like of it."""
    named, tree = jax.tree_util.tree_flatten_with_path(cache)
    shared = [getattr(path[-1], "name", None) in OF_FRAMES for path, _ in named]
    own = [x for (_, x), of_frames in zip(named, shared, strict=True) if not of_frames]

    def whole(own: Cache) -> Cache:
        left = iter(own)
        return tree.unflatten([x if of_frames else next(left) for (_, x), of_frames in zip(named, shared, strict=True)])

    return own, whole


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
