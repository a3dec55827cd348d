"""What a run says before its first step and after its last: what will happen, and what can be done next."""

import math
import pathlib
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from jaxasr.commands import command
from jaxasr.data.textfile import few
from jaxasr.inputs import Inputs
from jaxasr.memory import bytes_on_device
from jaxasr.parallel import Devices
from jaxasr.paths import leaves
from jaxasr.prepare import Prepared, amount
from jaxasr.schedules import SCHEDULES, Schedule, WarmupRsqrt
from jaxasr.session import machine
from jaxasr.state import TrainState
from jaxasr.stopping import DEFAULT_EPOCHS
from jaxasr.train_config import TrainConfig
from jaxasr.typing import Params

MOST_PARTS = 6
"""Of a network that are told one by one, the largest."""


class Next(NamedTuple):
    """A command that makes sense after a run."""

    what: str
    command: str


def plan(
    cfg: TrainConfig, data: Prepared, devices: Devices, abstract: TrainState, step: int, total: int | None
) -> list[str]:
    """Lines on what a run at `step` will do, beside what `prepare` has said of its training data.

    Args:
      abstract: shapes, types and places of its state.
      total: its steps; None while minutes are not yet turned into them.
    """
    unit, _ = data.task.source.of_corpora
    sets = {"valid": data.valid} | {f"test {path}": one for path, one in zip(cfg.test, data.tests, strict=True)}
    held_out = [
        f"{name} {len(one.selection.utterances)} utterances, {amount(one.size, unit)}" for name, one in sets.items()
    ]
    return [
        "held out: " + "; ".join([*held_out[:3], *[f"and {len(sets) - 3} more"] * (len(sets) > 3)]),
        *beyond_tokens(sets),
        f"parameters: {by_part(abstract.params)}; the state takes {bytes_on_device(abstract) / 1e6:.1f} MB a device",
        f"devices: {_devices(devices)}",
        f"plan: {_steps(cfg, data, step, total)}; workdir {cfg.workdir}",
        *short_of_warmup(cfg.schedule, total),
    ]


def beyond_tokens(sets: Mapping[str, Inputs]) -> Iterator[str]:
    """A line where held-out texts have tokens that are not on the list, so that no model can get them right."""
    found = []
    for name, inputs in sets.items():
        texts = [unknown for u in inputs.selection.utterances if (unknown := inputs.task.unknown(u.text))]
        if texts:
            lacking = few(dict.fromkeys(token for unknown in texts for token in unknown))
            found.append(f"{name} {len(texts)} of {len(inputs.selection.utterances)} texts ({lacking})")
    if found:
        yield (
            f"warning: tokens that the list lacks, so that they count as errors: {'; '.join(found)}; smaller tokens "
            "(--tokenizer), or more training text, help"
        )


def short_of_warmup(schedule: Schedule, total: int | None) -> Iterator[str]:
    """A line where the run ends before its learning rate has risen.

    >>> [*short_of_warmup(WarmupRsqrt(warmup_steps=500), 20)]
    ['warning: --schedule=warmup_rsqrt: warm-up takes 500 steps, the run 20; take warmup_linear, or fewer']
    """
    if isinstance(schedule, WarmupRsqrt) and total is not None and total < schedule.warmup_steps:
        name, steps = SCHEDULES.name_of(type(schedule)), schedule.warmup_steps
        yield f"warning: --schedule={name}: warm-up takes {steps} steps, the run {total}; take warmup_linear, or fewer"


def by_part(params: Params) -> str:
    """`12,345 (encoder 10,000, decoder 2,000, ctc 345)`: numbers of a tree of parameters, the largest parts first.

    >>> from numpy import ones
    >>> by_part({"encoder": {"kernel": ones((80, 256))}, "ctc": {"bias": ones(12)}})
    '20,492 (encoder 20,480, ctc 12)'
    """
    sizes: dict[str, int] = {}
    for path, leaf in leaves(params):
        part = path.removeprefix("params/").partition("/")[0]
        sizes[part] = sizes.get(part, 0) + math.prod(leaf.shape)
    largest = sorted(sizes.items(), key=lambda item: -item[1])
    told = [f"{name} {size:,}" for name, size in largest[:MOST_PARTS]]
    rest = [f"others {sum(size for _, size in largest[MOST_PARTS:]):,}"] * (len(largest) > MOST_PARTS)
    return f"{sum(sizes.values()):,} ({', '.join(told + rest)})"


def _devices(devices: Devices) -> str:
    """`8 x TPU v5 lite (mesh data 8), 2 processes`."""
    here = machine()
    found, processes = here["devices"], here["processes"]
    kind = f"cpu ({here['cpu']}, {here['cores']} cores)" if found["platform"] == "cpu" else found["kind"]
    mesh = " x ".join(f"{name} {size}" for name, size in devices.mesh.shape.items())
    return f"{devices.mesh.size} x {kind}, mesh {mesh}" + f", {processes} processes" * (processes > 1)


def _steps(cfg: TrainConfig, data: Prepared, step: int, total: int | None) -> str:
    """From which step to which, how often it is validated, and until when."""
    every = f"every {cfg.valid_steps} steps" if cfg.valid_steps else "after every epoch"
    epoch = -(-data.train.num_batches(0) // cfg.accumulate)
    begun = f"from step {step} " if step else ""
    if total is None:
        return f"{begun}about {cfg.minutes:g} minutes, {epoch} steps an epoch, validated {every}"
    if step >= total:
        return f"at step {step} of {total}, nothing is left to train"
    time = "how long that takes is told with the first steps" if cfg.minutes is None else f"{cfg.minutes:g} minutes"
    return f"{begun}to step {total}, {epoch} an epoch, validated {every}; {time}"


def next_commands(cfg: TrainConfig, workdir: pathlib.Path, *, search: str | None) -> list[Next]:
    """Commands on the run that has ended, to be copied as they stand.

    Args:
      search: what its test sets were decoded by first; None for a task that decodes nothing.
    """
    folder, imports, found = str(workdir), cfg.imports, []
    if search is None:
        found.append(Next("ask it", command("decode", ["--model=DIR", f"--lm={folder}", "SOUND.wav"], imports)))
    else:
        sound = (*cfg.test, *cfg.valid, *cfg.train)[0]
        found.append(Next("decode", command("decode", [f"--model={folder}", sound], imports)))
    if search is not None and cfg.test:
        said = workdir / ("test" if len(cfg.test) == 1 else "test0") / search
        found.append(Next("evaluate", command("evaluate", [cfg.test[0], str(said), f"--model={folder}"], imports)))
    found.append(Next("report", command("report", [folder], imports)))
    found.append(Next("go on", command("train", [f"--config={workdir / 'config.yaml'}", *_further(cfg)], imports)))
    return found


def _further(cfg: TrainConfig) -> list[str]:
    """Options for as much again; whatever ended the run, it will not end it there."""
    ends = {"epochs": cfg.epochs, "steps": cfg.steps, "minutes": cfg.minutes, "patience": cfg.patience}
    if cfg.epochs is None and cfg.steps is None and cfg.minutes is None:
        ends["epochs"] = DEFAULT_EPOCHS
    return [f"--workdir={cfg.workdir}", *(f"--{name}={2 * end}" for name, end in ends.items() if end is not None)]
