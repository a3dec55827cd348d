"""What a training step computes for each second of sound, counted in the compiled program.

  python -m benchmarks.flops [--size=large] [--seconds=12]

Nothing is run, and no parameter made: the count is that of any machine. Rows are full, so padding is not in it.
"""

import dataclasses
import math
from typing import Any, Literal

import jax
import tyro

from benchmarks import sizes
from benchmarks.hlo import parsed
from benchmarks.sizes import SIZES, Size
from jaxasr.data.batch import BucketShape
from jaxasr.nn.decoders import ParaformerSanmDecoder
from jaxasr.parallel import Devices
from jaxasr.state import abstract_state, make_train_step, state_creator
from jaxasr.tasks import ParaformerTask, Task
from jaxasr.train_config import TrainConfig


@dataclasses.dataclass(frozen=True)
class Options:
    """Counts a training step's arithmetic."""

    size: Literal["small", "base", "large"] = "large"
    """Of the network; large is FunASR's Paraformer-large."""
    rows: int = 4
    seconds: float = 12.0
    """Of sound in a row."""
    tokens_per_second: float = 4.0


def task_of(size: Size) -> Task:
    """Without data; `large` is a Paraformer, the others have CTC and attention."""
    task = sizes.task(size, sizes.sanm(size), sound=True)
    if size.name != "large":
        return task
    decoder = ParaformerSanmDecoder(
        num_layers=size.decoder_layers, d_model=size.width, num_heads=size.heads, d_ff=size.inner
    )
    return ParaformerTask(encoder=task.encoder, decoder=decoder, vocabulary=task.vocabulary, normalizer=None)


def measure(options: Options) -> dict[str, Any]:
    """Parameters, and GFLOP for a second of sound."""
    task, devices = task_of(SIZES[options.size]), Devices.first()
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
