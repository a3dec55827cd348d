"""Time of the CTC loss with its gradient, beside optax: `python benchmarks/ctc.py [--output=FILE.json]`."""

import dataclasses
import json
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich.console
import rich.table
import tyro

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


def medians_ms(
    functions: Mapping[str, Callable[..., Any]], batch: tuple[jax.Array, ...], rounds: int
) -> dict[str, float]:
    """Median milliseconds of each compiled function."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            began = time.perf_counter()
            jax.block_until_ready(function(*batch))
            if turn > 0:  # the first one compiles
                seconds[name].append(time.perf_counter() - began)
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    batch = random_batch(shape)
    forward = {f"{name} forward": jax.jit(loss) for name, loss in LOSSES.items()}
    both = {name: jax.jit(jax.value_and_grad(lambda *x, f=loss: f(*x).sum())) for name, loss in LOSSES.items()}
    return {"shape": shape._asdict(), "ms": medians_ms(both | forward, batch, rounds)}


def main() -> None:
    options = tyro.cli(Options)
    results = [measure(shape, options.rounds) for shape in SHAPES]
    device = jax.devices()[0].device_kind
    table = rich.table.Table(title=f"CTC on {device}, jax {jax.__version__}, optax {optax.__version__}: ms")
    columns = list(results[0]["ms"])
    for heading in ("B, T, V, U", *columns):
        table.add_column(heading, justify="right")
    for result in results:
        shape = ", ".join(map(str, result["shape"].values()))
        table.add_row(shape, *(f"{result['ms'][column]:.1f}" for column in columns))
    rich.console.Console().print(table)
    if options.output is not None:
        report = {"device": device, "jax": jax.__version__, "optax": optax.__version__, "results": results}
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
