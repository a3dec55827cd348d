"""Integrate-and-fire with its gradient, at once and frame by frame."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from benchmarks.measure import Case, Options, Row, measured
from benchmarks.sizes import Size
from jaxasr.nn.cif import integrate_and_fire, scaled_to


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


def with_gradient(fire: Callable[..., jax.Array], num_tokens: int) -> Callable[..., Any]:
    return jax.grad(lambda x, alphas: jnp.sum(jnp.sin(fire(x, alphas, num_tokens))), argnums=(0, 1))


def groups(options: Options) -> Iterator[list[Case]]:
    for size in options.sizes():
        yield list(cases(size))


def cases(size: Size) -> Iterator[Case]:
    """Frames of 60 ms, 5 tokens a second."""
    B, T, U, D = size.rows, round(size.seconds / 0.06), int(5 * size.seconds), size.width
    rng = np.random.default_rng(0)
    x = rng.normal(size=(B, T, D)).astype(np.float32)
    alphas = np.asarray(scaled_to(rng.random((B, T), np.float32), jnp.full(B, U - 0.5)), np.float32)
    for how, fire in {"as a product": integrate_and_fire, "frame by frame": by_scan}.items():
        yield Case(f"{B},{T},{U},{D} {how}", with_gradient(fire, U), (x, alphas), B, "utterances")


def measure(options: Options) -> list[Row]:
    return measured(groups(options), options)
