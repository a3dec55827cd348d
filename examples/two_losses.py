"""A loss of one's own beside CTC: two views of an utterance, masked differently, should say the same.

That is the consistency of CR-CTC (Yao et al., 2025, https://arxiv.org/abs/2410.05101), written out by hand; jaxasr has
it as `--cr_weight`, and both are the same number. The loop around it is that of train_loop_by_hand.py. It trains the
same model without and with the second loss.

    python examples/two_losses.py --epochs=20 --weight=0.2
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import tyro
from train_loop_by_hand import digits, digits_task, fit, inputs_of

from jaxasr import AsrTask, Vocabulary
from jaxasr.nn.ctc import ctc_loss


def consistency(logits: jax.Array, lengths: jax.Array) -> jax.Array:
    """(B,) how far rows 2b and 2b + 1 of logits (2 B, T, V) are from saying the same, in nats, summed over frames.

    The mean of KL(p || q) and KL(q || p), in which each learns from the other as it is.
    """
    log_probs = jax.nn.log_softmax(logits).reshape(-1, 2, *logits.shape[1:])  # (B, 2, T, V)
    other = jax.lax.stop_gradient(log_probs)[:, ::-1]
    divergence = jnp.sum(jnp.exp(other) * (other - log_probs), axis=-1)  # (B, 2, T)
    real = jnp.arange(logits.shape[1])[None, None] < lengths[::2, None, None]
    return jnp.sum(jnp.where(real, divergence, 0.0), axis=(1, 2)) / 2


def two_losses(task: AsrTask, weight: float) -> Callable[..., tuple[jax.Array, dict[str, jax.Array]]]:
    """(params, batch, key) to the CTC loss plus `weight` times the consistency, and both by themselves."""
    apply = task.model().apply

    def loss_fn(params: Any, batch: Any, key: jax.Array) -> tuple[jax.Array, dict[str, jax.Array]]:
        out = apply(params, batch, key=key, views=2)  # rows 2b and 2b + 1 are two views of utterance b
        tokens, token_lengths = (jnp.repeat(x, 2, axis=0) for x in (batch.tokens, batch.token_lengths))
        ctc = ctc_loss(out.ctc_logits, out.lengths, tokens, token_lengths, blank_id=Vocabulary.BLANK)
        rows = jnp.sum(batch.weights)  # filler rows have weight 0
        parts = {
            "ctc": jnp.sum(ctc.reshape(-1, 2).mean(axis=1) * batch.weights) / rows,
            "consistency": jnp.sum(consistency(out.ctc_logits, out.lengths) * batch.weights) / rows,
        }
        return parts["ctc"] + weight * parts["consistency"], parts

    return loss_fn


def main(epochs: int = 20, weight: float = 0.2) -> None:
    train, valid = inputs_of(digits_task(), *digits())
    print("CTC alone")
    fit(train, valid, epochs)
    print(f"CTC + {weight:g} x consistency")
    fit(train, valid, epochs, two_losses(train.task, weight))


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
