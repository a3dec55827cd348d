"""What a decoder that says all tokens at once is shown of them while it learns."""

import jax.numpy as jnp

from jaxasr.nn.losses import token_accuracy
from jaxasr.nn.masking import length_mask
from jaxasr.nn.noise import row_uniforms
from jaxasr.typing import Array, Bool, Float, Int, Key


def glanced(
    key: Key, logits: Float[Array, "B U V"], targets: Int[Array, "B U"], target_lengths: Int[Array, "B"], ratio: float
) -> Bool[Array, "B U"]:
    """True at the tokens that the decoder is to be given, in the place of what was heard of them.

    In each row they are as many as `ratio` of the number that `logits`, said without any, have wrong, rounded down;
    which ones is drawn from all of the row's tokens, those that are right among them (Gao et al., 2022,
    https://arxiv.org/abs/2206.08317, section 2; after Qian et al., 2021, https://arxiv.org/abs/2008.07905).

    >>> from jax import jit, random
    >>> logits, targets = jnp.array([[[1.0, 0.0]] * 4]), jnp.array([[0, 1, 1, 1]])
    >>> int(jit(glanced)(random.key(0), logits, targets, jnp.array([4]), 0.7).sum())
    2
    """
    correct, count = token_accuracy(logits, targets, target_lengths)
    number = jnp.floor(jnp.float32(ratio) * (count - correct))
    real = length_mask(target_lengths, targets.shape[1])
    draws = jnp.where(real, row_uniforms(key, targets.shape), jnp.inf)
    ranks = jnp.argsort(jnp.argsort(draws, axis=1), axis=1)
    return real & (ranks < number[:, None])
