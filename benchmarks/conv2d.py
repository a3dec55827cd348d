"""Time of convolutions before an encoder, by taps and by XLA: `python benchmarks/conv2d.py [--output=FILE.json]`."""

import dataclasses
import functools
import pathlib
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from timing import medians_ms, show

from jaxasr.nn.subsampling import conv2d_by_taps, conv2d_by_xla


class Shape(NamedTuple):
    """Rows, frames, bands, channels in, channels out, kernel size, stride."""

    B: int
    T: int
    F: int
    C: int
    D: int
    size: int
    stride: int


CHANNELS = (16, 64, 128, 144, 256)
SHAPES = (
    Shape(16, 200, 80, 1, 144, 3, 2),
    *(Shape(16, 99, 39, C, C, 3, 2) for C in CHANNELS),
    *(Shape(16, 99, 39, C, C, 5, 3) for C in CHANNELS),
)


@dataclasses.dataclass(frozen=True)
class Options:
    """Medians in milliseconds; the implementations take turns, so that a busy machine slows all of them."""

    rounds: int = 7
    """How often each is timed."""
    output: pathlib.Path | None = None
    """A JSON file for the same numbers."""


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    B, T, F, C, D, size, stride = shape
    x = jnp.asarray(rng.normal(size=(B, T, F, C)), jnp.float32)
    kernel = jnp.asarray(rng.normal(size=(size, size, C, D)) / (size * C**0.5), jnp.float32)

    def both(convolve: Callable[..., Any]) -> Callable[..., Any]:
        return jax.jit(jax.grad(lambda x, kernel: jnp.sum(jnp.sin(convolve(x, kernel, stride))), argnums=(0, 1)))

    functions = {"taps": conv2d_by_taps, "xla": conv2d_by_xla}
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
