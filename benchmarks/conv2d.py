"""Convolutions before an encoder with their gradient, by taps and by XLA."""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.measure import Case, Options, Row, measured
from benchmarks.sizes import SIZES
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


def shapes(options: Options) -> Iterator[Shape]:
    """Of so many channels, or of the width of a size."""
    size = SIZES[options.size or "small"]
    yield Shape(size.rows, 200, 80, 1, size.width, 3, 2)
    for channels in (size.width,) if options.size else CHANNELS:
        yield Shape(size.rows, 99, 39, channels, channels, 3, 2)
        yield Shape(size.rows, 99, 39, channels, channels, 5, 3)


def with_gradient(convolve: Callable[..., jax.Array], stride: int) -> Callable[..., Any]:
    return jax.grad(lambda x, kernel: jnp.sum(jnp.sin(convolve(x, kernel, stride))), argnums=(0, 1))


def groups(options: Options) -> Iterator[list[Case]]:
    for shape in shapes(options):
        yield list(cases(shape))


def cases(shape: Shape) -> Iterator[Case]:
    rng = np.random.default_rng(0)
    B, T, F, C, D, size, stride = shape
    x = rng.normal(size=(B, T, F, C)).astype(np.float32)
    kernel = (rng.normal(size=(size, size, C, D)) / (size * C**0.5)).astype(np.float32)
    name = f"{B},{T},{F},{C} to {D}, {size}x{size} every {stride}"
    for how, convolve in {"by taps": conv2d_by_taps, "by XLA": conv2d_by_xla}.items():
        yield Case(f"{name}, {how}", with_gradient(convolve, stride), (x, kernel), B, "utterances")


def measure(options: Options) -> list[Row]:
    return measured(groups(options), options)
