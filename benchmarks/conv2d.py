"""Time of the convolutions before an encoder, beside XLA's own: `python benchmarks/conv2d.py [--output=FILE.json]`."""

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

from jaxasr.nn.subsampling import conv2d


class Shape(NamedTuple):
    """Rows, frames, bands, channels in, channels out, kernel size, stride."""

    B: int
    T: int
    F: int
    C: int
    D: int
    size: int
    stride: int


SHAPES = (
    Shape(16, 99, 39, 16, 16, 3, 2),
    Shape(16, 99, 39, 16, 16, 5, 3),
    Shape(16, 99, 39, 144, 144, 3, 2),
    Shape(16, 99, 39, 144, 144, 5, 3),
    Shape(16, 99, 39, 256, 256, 3, 2),
    Shape(16, 99, 39, 256, 256, 5, 3),
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Medians in milliseconds; the implementations take turns, so that a busy machine slows all of them."""

    rounds: int = 7
    """How often each is timed."""
    output: pathlib.Path | None = None
    """A JSON file for the same numbers."""


def of_xla(x: jax.Array, kernel: jax.Array, stride: int) -> jax.Array:
    return lax.conv_general_dilated(x, kernel, (stride, stride), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    B, T, F, C, D, size, stride = shape
    x = jnp.asarray(rng.normal(size=(B, T, F, C)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, C, D)) / (size * C**0.5), jnp.float32)

    def both(convolve: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(jax.grad(lambda x, kernel: jnp.sum(jnp.sin(convolve(x, kernel, stride))), argnums=(0, 1)))

    functions = {"jaxasr": conv2d, "xla": of_xla}
    forward = {f"{name} forward": jax.jit(functools.partial(f, stride=stride)) for name, f in functions.items()}
    return {
        "shape": shape._asdict(),
        "ms": medians_ms({n: both(f) for n, f in functions.items()} | forward, (x, kernel), rounds),
    }


def main() -> None:
    options = tyro.cli(Options)
    show("conv2d", [measure(shape, options.rounds) for shape in SHAPES], options.output)


if __name__ == "__main__":
    main()
