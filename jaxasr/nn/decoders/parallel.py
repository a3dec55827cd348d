"""What every decoder promises that says all tokens of an utterance at once."""

import abc

from flax import linen as nn

from jaxasr.registry import Registry
from jaxasr.typing import Array, Float, Int


class ParallelDecoder(nn.Module):
    """One embedding a token, and encoded frames, in; scores of each token out. No token sees the text of another."""

    d_model: int
    """Width of the frames and of the embeddings."""

    @abc.abstractmethod
    def __call__(
        self,
        x: Float[Array, "B U D"],
        lengths: Int[Array, "B"],
        memory: Float[Array, "B T D"],
        memory_lengths: Int[Array, "B"],
        *,
        vocab_size: int,
        train: bool,
    ) -> Float[Array, "B U V"]:
        """Logits, in float32; what stands in the padding of `x` and `memory` changes none of a real token."""
        raise NotImplementedError


PARALLEL_DECODERS: Registry[ParallelDecoder] = Registry("parallel decoder", ParallelDecoder, ("__call__",))
