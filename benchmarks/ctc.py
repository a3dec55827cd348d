"""Time of the CTC loss with its gradient, beside optax: `python benchmarks/ctc.py [--output=FILE.json]`."""

import dataclasses
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from timing import medians_ms, show

from jaxasr.nn.ctc import ctc_loss
from jaxasr.nn.masking import length_mask


class Shape(NamedTuple):
    """Rows, frames, symbols and tokens."""

    B: int
    T: int
    V: int
    U: int


SHAPES = (Shape(16, 400, 500, 60), Shape(16, 250, 4233, 30), Shape(16, 400, 5000, 60))


@dataclasses.dataclass(frozen=True)
class Options:
    """Medians in milliseconds; the implementations take turns, so that a busy machine slows all of them."""

    rounds: int = 15
    """How often each is timed."""
    output: pathlib.Path | None = None
    """A JSON file for the same numbers."""


def optax_loss(logits: jax.Array, lengths: jax.Array, tokens: jax.Array, token_lengths: jax.Array) -> jax.Array:
    padding = 1.0 - length_mask(lengths, logits.shape[1])
    return optax.ctc_loss(logits, padding, tokens, 1.0 - length_mask(token_lengths, tokens.shape[1]))


LOSSES = {"jaxasr": ctc_loss, "optax": optax_loss}


def random_batch(shape: Shape) -> tuple[jax.Array, ...]:
    rng = np.random.default_rng(0)
    B, T, V, U = shape
    lengths, token_lengths = rng.integers(T // 2 + U // 2, T + 1, B), rng.integers(U // 2, U + 1, B)
    logits = rng.normal(size=(B, T, V)).astype(np.float32)
    return tuple(jnp.asarray(x) for x in (logits, lengths, rng.integers(1, V, (B, U)), token_lengths))


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    batch = random_batch(shape)
    forward = {f"{name} forward": jax.jit(loss) for name, loss in LOSSES.items()}
    both = {name: jax.jit(jax.value_and_grad(lambda *x, f=loss: f(*x).sum())) for name, loss in LOSSES.items()}
    return {"shape": shape._asdict(), "ms": medians_ms(both | forward, batch, rounds)}


def main() -> None:
    options = tyro.cli(Options)
    results = [measure(shape, options.rounds) for shape in SHAPES]
    show("CTC", results, options.output)


if __name__ == "__main__":
    main()
