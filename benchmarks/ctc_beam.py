"""Time of CTC prefix beam search: `python benchmarks/ctc_beam.py [--output=FILE.json]`."""

import dataclasses
import functools
import pathlib
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import tyro
from timing import medians_ms, show

from jaxasr.search.choices import Fusion, Search
from jaxasr.search.ctc_beam import ctc_beam


class Shape(NamedTuple):
    """Rows, frames and symbols; how sure the network is."""

    B: int
    T: int
    V: int
    posteriors: str


SHAPES = (
    *(Shape(B, 400, 500, posteriors) for B in (1, 8, 32) for posteriors in ("peaked", "flat")),
    Shape(32, 400, 5000, "peaked"),
)
BEAM = 10
SEARCHES = {
    "all tokens": (Search("ctc_beam", BEAM), Fusion()),
    "10 tokens a frame": (Search("ctc_beam", BEAM, token_beam=10), Fusion()),
    "all tokens, blank_skip 0.99": (Search("ctc_beam", BEAM), Fusion(blank_skip=0.99)),
}


@dataclasses.dataclass(frozen=True)
class Options:
    """Medians in milliseconds an utterance; the searches take turns, so that a busy machine slows all of them."""

    rounds: int = 15
    """How often each is timed."""
    output: pathlib.Path | None = None
    """A JSON file for the same numbers."""


def random_logits(shape: Shape) -> jax.Array:
    """Noise; where it is peaked a token, in a fifth of the frames, or else blank stands out of it."""
    rng = np.random.default_rng(0)
    B, T, V, posteriors = shape
    logits = rng.normal(size=(B, T, V)).astype(np.float32)
    if posteriors == "peaked":
        said = np.where(rng.random((B, T)) < 0.2, rng.integers(1, V, (B, T)), 0)
        surest = 14.0 + 2.0 * rng.normal(size=(B, T, 1)).astype(np.float32)
        np.put_along_axis(logits, said[:, :, None], surest, axis=2)
    return jnp.asarray(logits)


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    batch = random_logits(shape), jnp.full(shape.B, shape.T)
    functions = {
        name: jax.jit(functools.partial(ctc_beam, search=search, fusion=fusion))
        for name, (search, fusion) in SEARCHES.items()
    }
    times = medians_ms(functions, batch, rounds)
    return {"shape": shape._asdict(), "ms": {name: ms / shape.B for name, ms in times.items()}}


def main() -> None:
    options = tyro.cli(Options)
    results = [measure(shape, options.rounds) for shape in SHAPES]
    show(f"CTC prefix beam search, beam {BEAM}, an utterance", results, options.output)


if __name__ == "__main__":
    main()
