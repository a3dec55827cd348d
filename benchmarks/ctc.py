"""The CTC loss, alone and with its gradient, beside optax's."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np
import optax

from benchmarks.measure import Case, PeerOptions, Row, measured
from benchmarks.sizes import Size
from jaxasr.nn.ctc import ctc_loss
from jaxasr.nn.masking import length_mask


def optax_loss(logits: jax.Array, lengths: jax.Array, tokens: jax.Array, token_lengths: jax.Array) -> jax.Array:
    padding = 1.0 - length_mask(lengths, logits.shape[1])
    return optax.ctc_loss(logits, padding, tokens, 1.0 - length_mask(token_lengths, tokens.shape[1]))


def with_gradient(loss: Callable[..., jax.Array]) -> Callable[..., Any]:
    return jax.value_and_grad(lambda *x: loss(*x).sum())


def random_batch(size: Size) -> tuple[np.ndarray, ...]:
    """Logits (B, T, V) of 40 frames a second, up to 6 tokens in it, and the lengths of both."""
    rng = np.random.default_rng(0)
    B, T, V, U = size.rows, int(40 * size.seconds), size.symbols, int(6 * size.seconds)
    lengths, token_lengths = rng.integers(T - T // 5, T + 1, B), rng.integers(U - U // 3, U + 1, B)
    arrays = rng.normal(size=(B, T, V)), lengths, rng.integers(1, V, (B, U)), token_lengths
    return tuple(a.astype(np.float32 if a.dtype == np.float64 else np.int32) for a in arrays)


def groups(options: PeerOptions) -> Iterator[list[Case]]:
    for size in options.sizes():
        batch = random_batch(size)
        name = ",".join(map(str, (*batch[0].shape, batch[2].shape[1])))
        work = {"arguments": batch, "amount": size.rows, "unit": "utterances"}
        cases = [
            Case(name, with_gradient(ctc_loss), **work),
            Case(name, with_gradient(optax_loss), **work, side="optax"),
            Case(f"{name} forward", ctc_loss, **work),
        ]
        if options.peer:
            from benchmarks import torch_peer

            cases.append(torch_peer.ctc(name, batch, size))
        yield cases


def measure(options: PeerOptions) -> list[Row]:
    return measured(groups(options), options)
