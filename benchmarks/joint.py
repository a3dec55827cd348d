"""Time of the joint beam search from sound to text: `python benchmarks/joint.py [--output=FILE.json]`.

A model of SAN-M (4 blocks, width 144) and a Transformer decoder (2 blocks) with random weights, 10 s of noise an
utterance, beam 10, as many steps as told: what FunASR's and ESPnet's beam searches were timed with.
"""

import dataclasses
import pathlib
from typing import Any

import jax
import numpy as np
import tyro
from timing import medians_ms, show

from jaxasr.data.batch import AsrBatch
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.nn.decoders import TransformerDecoder
from jaxasr.nn.encoders import SanmEncoder
from jaxasr.search.choices import Search
from jaxasr.tasks import AsrTask

SECONDS, SYMBOLS = 10, 500


@dataclasses.dataclass(frozen=True)
class Options:
    """Medians in milliseconds of a batch, and of each of its utterances."""

    rows: tuple[int, ...] = (1, 8, 16, 32)
    """Utterances in a batch."""
    beam: int = 10
    """Hypotheses of each."""
    steps: int = 40
    """Tokens of each."""
    rounds: int = 7
    """How often each is timed."""
    output: pathlib.Path | None = None
    """A JSON file for the same numbers."""


def model() -> AsrTask:
    sizes: dict[str, Any] = {"d_model": 144, "num_heads": 4, "d_ff": 576}
    return AsrTask(
        normalizer=None,
        encoder=SanmEncoder(num_layers=4, **sizes),
        decoder=TransformerDecoder(num_layers=2, **sizes),
        vocabulary=Vocabulary((*Vocabulary.FIRST, *map(str, range(4, SYMBOLS)), Vocabulary.LAST)),
    )


def batch_of(task: AsrTask, rows: int) -> AsrBatch:
    samples = SECONDS * task.sample_rate
    sound = np.random.default_rng(0).integers(-3000, 3000, (rows, samples), np.int16)
    tokens = np.full((rows, 1), -1, np.int32)
    return AsrBatch(
        sound, np.full(rows, samples, np.int32), tokens, np.zeros(rows, np.int32), np.ones(rows, np.float32)
    )


def measure(task: AsrTask, params: Any, rows: int, options: Options) -> dict[str, Any]:
    forced = Search("joint", options.beam, maxlenratio=-options.steps, minlenratio=-options.steps)
    searches = {"ctc_greedy": Search("ctc_greedy"), "joint": forced}
    run = {name: jax.jit(task.decode_fn(search)) for name, search in searches.items()}
    ms = medians_ms(run, (params, jax.device_put(batch_of(task, rows))), options.rounds)
    return {"shape": {"rows": rows}, "ms": ms | {"joint, an utterance": ms["joint"] / rows}}


def main() -> None:
    options = tyro.cli(Options)
    task = model()
    params = jax.jit(task.model().init)(jax.random.key(0), batch_of(task, 1))
    results = [measure(task, params, rows, options) for rows in options.rows]
    show(f"Joint beam search, {options.steps} tokens", results, options.output)


if __name__ == "__main__":
    main()
