"""What every predictor promises: how many tokens an utterance has, and what was heard of each."""

import abc
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn import cif
from jaxasr.nn.encoders.chunks import Chunked
from jaxasr.nn.layers import Head
from jaxasr.nn.masking import length_mask, zero_padding
from jaxasr.registry import Registry
from jaxasr.typing import Array, Bool, Float, Int


class Predicted(NamedTuple):
    """What a predictor says of a batch."""

    embeddings: Float[Array, "B U D"]
    """What was heard of each token."""
    counts: Float[Array, "B"]
    """Tokens: the sum of the weights as they are while the number is given; else, with the tail, whole numbers."""
    alphas: Float[Array, "B T"]
    """Each frame's weight: what it has of tokens. One more frame than there were, unless the number was given."""
    fine_alphas: Float[Array, "B T*n"] | None = None
    """Weights of `n` times as many frames for timestamps, if the predictor has them; they add up to tokens as well."""


class Begun(NamedTuple):
    """What of a token has been heard before it ends."""

    weight: Float[Array, "B"]
    frames: Float[Array, "B D"]
    """Weighed and added up."""


class Predictor(nn.Module):
    """Encoded frames in, tokens out, by the weight of each frame (continuous integrate-and-fire). Abstract."""

    left: int = 1
    """Frames before it that a frame's weight depends on."""
    right: int = 1
    """Frames after it that a frame's weight depends on."""
    smooth_factor: float = 1.0
    """Multiplies weights, which lie between 0 and 1 without it."""
    noise_threshold: float = 0.0
    """Taken off them; what falls below 0 is 0."""
    tail_threshold: float = 0.45
    """What the last token may lack and still be one, where the number of tokens is not given; with 0 that is half of
    it, and a token that lacks anything is shown as zeros."""
    scaled: bool = False
    """Where the number of tokens is not given, scale the weights to it, as training does, so that tokens end where they
    would there; FunASR does not. It takes the whole sound."""

    @abc.abstractmethod
    def context(self, x: Float[Array, "B T D"], *, train: bool) -> Float[Array, "B T D"]:
        """What a frame's weight is made of; `x` is 0 in its padding."""

    def room(self, frames: int) -> int:
        """The most tokens that so many frames can hold where the number is not given, at least 1."""
        return max(1, math.ceil(frames * (self.smooth_factor - self.noise_threshold) + self.tail_threshold))

    def fine_alphas(
        self, x: Float[Array, "B T D"], context: Float[Array, "B T D"], lengths: Int[Array, "B"], *, train: bool
    ) -> Float[Array, "B T*n"] | None:
        """See `Predicted.fine_alphas`.

        Raises:
          ConfigError: options mean nothing.
        """
        del x, context, lengths, train
        return None

    def __call__(
        self,
        x: Float[Array, "B T D"],
        lengths: Int[Array, "B"],
        *,
        num_tokens: int,
        token_lengths: Int[Array, "B"] | None = None,
        chunked: Chunked | None = None,
        train: bool,
    ) -> Predicted:
        """What is said of `x`, for at most `num_tokens` tokens a row.

        Args:
          num_tokens: U, the room; of a row that has more, `counts` says how many.
          token_lengths: the number of tokens where it is known; weights are scaled to it. None leaves it to them.
          chunked: `x` in its chunks, of which a frame's weight is then made; None for the frames around it.
        """
        x = zero_padding(x, lengths)
        alphas, fine = self.weigh(x, lengths, chunked, train=train)
        if token_lengths is not None:
            counts, alphas = jnp.sum(alphas, axis=1), cif.scaled_to(alphas, token_lengths)
        else:
            found = alphas
            x, alphas = cif.with_tail(x, alphas, lengths, self.tail_threshold)
            total = jnp.sum(alphas, axis=1)
            token_lengths = jnp.floor(total).astype(jnp.int32)
            counts = jnp.floor(total) if self.tail_threshold > 0.0 else jnp.round(total)
            if self.scaled:
                token_lengths = counts.astype(jnp.int32)
                alphas = jnp.pad(cif.scaled_to(found, counts), ((0, 0), (0, 1)))
        embeddings = zero_padding(cif.integrate_and_fire(x, alphas, num_tokens), token_lengths)
        return Predicted(embeddings, counts, alphas, fine)

    def step(
        self, lengths: Int[Array, "B"], chunked: Chunked, begun: Begun, last: Bool[Array, "B"]
    ) -> tuple[Float[Array, "B U D"], Int[Array, "B"], Begun]:
        """Tokens that end in one chunk, behind those before it, how many they are, and the one that has begun.

        Args:
          last: whether it is the row's last chunk, so that a token that is nearly whole ends.
        """
        x = zero_padding(chunked.come_out(chunked.frames), lengths)
        alphas, _ = self.weigh(x, lengths, chunked, train=False, fine=False)
        x, alphas = cif.with_tail(x, alphas, lengths, jnp.where(last, self.tail_threshold, 0.0)[:, None])
        room = self.room(x.shape[1]) + 1  # with the one that had begun
        embeddings = cif.integrate_and_fire(x, alphas, room + 1, begun.weight)
        embeddings = jnp.asarray(embeddings).at[:, 0].add(begun.frames)
        total = cif.running_sum(alphas, begun.weight)[:, -1]
        counts = jnp.floor(total).astype(jnp.int32)
        next_one = jnp.take_along_axis(embeddings, counts[:, None, None], axis=1)[:, 0]
        return zero_padding(embeddings[:, :room], counts), counts, Begun(total - counts, next_one)

    @nn.compact
    def weigh(
        self,
        x: Float[Array, "B T D"],
        lengths: Int[Array, "B"],
        chunked: Chunked | None,
        *,
        train: bool,
        fine: bool = True,
    ) -> tuple[Float[Array, "B T"], Float[Array, "B T*n"] | None]:
        """The weights of frames, and with `fine` those for timestamps; `x` is 0 in its padding.

        Raises:
          ConfigError: options mean nothing.
        """
        if min(self.left, self.right) < 0 or not 0.0 <= self.tail_threshold < 1.0:
            raise ConfigError(
                f"Predictor: left={self.left}, right={self.right}, tail_threshold={self.tail_threshold}; frames "
                "from 0 on, and a share from 0 to below 1, were expected; change them."
            )
        if chunked is None:
            context = self.context(x, train=train)
        else:
            context = chunked.come_out(self.context(chunked.frames, train=train))
        alphas = weights(Head(1, name="output")(context), lengths, self.smooth_factor, self.noise_threshold)
        return alphas, self.fine_alphas(x, context, lengths, train=train) if fine else None


def weights(
    logits: Float[Array, "B T 1"], lengths: Int[Array, "B"], smooth_factor: float, noise_threshold: float
) -> Float[Array, "B T"]:
    """Weights of frames, 0 in the padding: ``relu(sigmoid(logits) * smooth_factor - noise_threshold)``.

    Raises:
      ConfigError: no weight could be above 0.

    >>> logits = jnp.array([[[0.0], [0.0], [0.0]]])
    >>> jax.jit(weights, static_argnums=(2, 3))(logits, jnp.array([2]), 1.0, 0.25).tolist()
    [[0.25, 0.25, 0.0]]
    """
    if not 0.0 <= noise_threshold < smooth_factor:  # else every weight is 0, and so is its gradient
        raise ConfigError(
            f"Predictor: smooth_factor={smooth_factor}, noise_threshold={noise_threshold}; a factor above a "
            "threshold from 0 on was expected; change them."
        )
    alphas = jax.nn.relu(jax.nn.sigmoid(logits[..., 0]) * smooth_factor - noise_threshold)
    return jnp.where(length_mask(lengths, alphas.shape[1]), alphas, 0.0)


PREDICTORS: Registry[Predictor] = Registry("predictor", Predictor, ("context",))
