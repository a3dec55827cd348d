"""Time of integrate-and-fire, at once and frame by frame: `python benchmarks/cif.py [--output=FILE.json]`."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from jax import lax
from timing import medians_ms, show

from jaxasr.nn.cif import integrate_and_fire, scaled_to


class Shape(NamedTuple):
    """Rows, frames, tokens and width."""

    B: int
    T: int
    U: int
    D: int


SHAPES = (Shape(16, 167, 50, 512), Shape(32, 167, 50, 512), Shape(8, 500, 150, 512))
"""10 or 30 s in frames of 60 ms, 5 tokens a second."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Medians in milliseconds; the implementations take turns, so that a busy machine slows all of them."""

    rounds: int = 15
    """How often each is timed."""
    output: pathlib.Path | None = None
    """A JSON file for the same numbers."""


def by_scan(x: jax.Array, alphas: jax.Array, num_tokens: int) -> jax.Array:
    """The same frame by frame; right where no weight exceeds 1."""
    B, T, D = x.shape

    def step(carry: Any, frame: Any) -> Any:
        (held, token), (vector, alpha) = carry, frame
        fired = held + alpha >= 1.0
        used = jnp.where(fired, 1.0 - held, alpha)
        token = token + used[:, None] * vector
        rest = (alpha - used)[:, None] * vector
        held = jnp.where(fired, alpha - used, held + alpha)
        return (held, jnp.where(fired[:, None], rest, token)), (token, fired)

    start = jnp.zeros(B), jnp.zeros((B, D))
    _, (tokens, fired) = lax.scan(step, start, (x.swapaxes(0, 1), alphas.T))
    place = jnp.where(fired, jnp.cumsum(fired, axis=0) - 1, num_tokens)  # (T, B); out of bounds is dropped
    rows = jnp.broadcast_to(jnp.arange(B), (T, B))
    return jnp.zeros((B, num_tokens, D)).at[rows, place].set(tokens, mode="drop")


def random_batch(shape: Shape) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=(shape.B, shape.T, shape.D)), jnp.float32)
    alphas = scaled_to(rng.random((shape.B, shape.T)), jnp.full(shape.B, shape.U - 0.5))
    return x, jnp.asarray(alphas, jnp.float32)


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    def both(fire: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(jax.grad(lambda x, alphas: jnp.sum(jnp.sin(fire(x, alphas, shape.U))), argnums=(0, 1)))

    functions = {"product": integrate_and_fire, "scan": by_scan}
    forward = {f"{name} forward": jax.jit(functools.partial(f, num_tokens=shape.U)) for name, f in functions.items()}
    timed = {name: both(f) for name, f in functions.items()} | forward
    return {"shape": shape._asdict(), "ms": medians_ms(timed, random_batch(shape), rounds)}


def main() -> None:
    options = tyro.cli(Options)
    show("integrate-and-fire", [measure(shape, options.rounds) for shape in SHAPES], options.output)


if __name__ == "__main__":
    main()
