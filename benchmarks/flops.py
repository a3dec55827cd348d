"""What a training step computes for each second of sound, counted in the compiled program.

  python -m benchmarks.flops [--size=large] [--seconds=12]

Nothing is run, and no parameter made: the count is that of any machine. Rows are full, so padding is not in it.
"""

import dataclasses
import math
from typing import Any, Literal

import jax
import tyro

from benchmarks.hlo import parsed
from jaxasr.data.batch import BucketShape
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.nn.decoders import ParaformerSanmDecoder, TransformerDecoder
from jaxasr.nn.encoders import SanmEncoder
from jaxasr.parallel import Devices
from jaxasr.state import abstract_state, make_train_step, state_creator
from jaxasr.tasks import AsrTask, ParaformerTask, Task
from jaxasr.train_config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Options:
    """Counts a training step's arithmetic."""

    size: Literal["small", "base", "large"] = "large"
    """small: SAN-M of 4 blocks of width 144; base: of 12 of 256; large: FunASR's Paraformer-large."""
    rows: int = 4
    seconds: float = 12.0
    """Of sound in a row."""
    tokens_per_second: float = 4.0


def task_of(size: str) -> Task:
    """Without data: a vocabulary of numbers, and no feature statistics."""
    layers, width, d_ff, vocabulary = {
        "small": (4, 144, 576, 500),
        "base": (12, 256, 2048, 5000),
        "large": (50, 512, 2048, 8404),
    }[size]
    words = Vocabulary(("<blank>", "<s>", "</s>", *map(str, range(vocabulary - 4)), "<unk>"))
    sizes = {"d_model": width, "num_heads": 4, "d_ff": d_ff}
    encoder = SanmEncoder(num_layers=layers, **sizes)
    if size == "large":
        decoder = ParaformerSanmDecoder(num_layers=16, **sizes)
        return ParaformerTask(encoder=encoder, decoder=decoder, vocabulary=words, normalizer=None)
    decoder = TransformerDecoder(num_layers=layers // 2, **sizes)
    return AsrTask(encoder=encoder, decoder=decoder, vocabulary=words, normalizer=None)


def measure(options: Options) -> dict[str, Any]:
    """Parameters, and GFLOP for a second of sound."""
    task, devices = task_of(options.size), Devices.first()
    cfg = TrainConfig(task=task)
    rate = int(task.input_rate)
    shape = BucketShape(options.rows, int(rate * options.seconds), int(options.tokens_per_second * options.seconds))
    abstract = abstract_state(state_creator(cfg, task, devices), devices)
    step = make_train_step(task.loss_fn(), cfg.optimizer, cfg.schedule)
    places = devices.replicated, devices.by_row
    jitted = devices.compiled_for(step, places, devices.replicated, donate=(0,))
    compiled = jitted.lower(abstract, devices.spec(task.batch_spec(shape))).compile()
    flops = parsed(compiled.as_text()).flops()
    return {
        "parameters": sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(abstract.params)),
        "gflop_per_second": flops / options.rows / options.seconds / 1e9,
    }


def main() -> None:
    options = tyro.cli(Options)
    found = measure(options)
    print(
        f"{options.size}: {found['parameters'] / 1e6:.1f} million parameters; a training step computes "
        f"{found['gflop_per_second']:.2f} GFLOP for a second of sound, in rows of {options.seconds:g} s"
    )


if __name__ == "__main__":
    main()
