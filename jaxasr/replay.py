"""Repeats a step without finite loss and gradient: `python -m jaxasr.replay exp/mine/nonfinite/step_00000120.json`."""

import contextlib
import dataclasses
import functools
import json
import pathlib
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import rich.console
import tyro

from jaxasr import checkpoint, config
from jaxasr.command_line import Imports, options_of
from jaxasr.compiled import use_persistent_cache
from jaxasr.data.pipeline import HostBatch
from jaxasr.errors import CheckpointError, exit_with_message
from jaxasr.finetune import given_params
from jaxasr.gradients import GradientFn, make_gradient
from jaxasr.inputs import groups
from jaxasr.parallel import Devices
from jaxasr.paths import leaves
from jaxasr.prepare import Prepared, fingerprint_of_options, prepare, resumed
from jaxasr.state import TrainState, abstract_state, copy_of, gone_back, state_creator, train_steps, with_total
from jaxasr.states import Checkpoints, Progress
from jaxasr.tasks.base import Task
from jaxasr.train_config import TrainConfig
from jaxasr.typing import Array, Key, Params

Say = Callable[[str], None]


@dataclasses.dataclass(frozen=True)
class Found:
    """What a step came to when it was done again."""

    step: int
    loss: float
    grad_norm: float
    utterances: dict[str, tuple[float, float]]
    """By id, the loss and the gradient's norm of a batch with this utterance alone, by the same noise."""
    parameters: list[str]
    """Those whose gradient is not finite."""

    def lines(self) -> Iterator[str]:
        """For the terminal."""
        yield f"step {self.step}: loss {self.loss:g}, gradient's norm {self.grad_norm:g}"
        for name, (loss, norm) in self.utterances.items():
            bad = "" if np.isfinite(loss) and np.isfinite(norm) else "   not finite"
            yield f"  {name}: loss {loss:g}, gradient's norm {norm:g}{bad}"
        yield f"parameters whose gradient is not finite: {len(self.parameters)}"
        yield from (f"  {path}" for path in self.parameters)


def replay(file: str | pathlib.Path, *, collate_fn: Callable[..., Any] | None = None, say: Say = print) -> Found:
    """Goes from the last state before the step, or from the beginning, to the step, and looks at its batches.

    The run's folder is left as it is.

    Args:
      file: as training writes it for such a step.
      collate_fn: the run's own, as `train` takes it.

    Raises:
      CheckpointError: the file is none, or the run is still at work.
    """
    file = pathlib.Path(file)
    record, workdir = _read(file), file.absolute().parent.parent
    cfg = config.from_mapping(TrainConfig, checkpoint.read_options(workdir), where=str(workdir / "config.yaml"))
    cfg = resumed(dataclasses.replace(cfg, workdir=str(workdir)))
    use_persistent_cache()
    fsdp = cfg.fsdp if cfg.fsdp is not None and jax.device_count() % cfg.fsdp.devices == 0 else None  # there were more
    console, devices = rich.console.Console(quiet=True), Devices.all(fsdp)
    with checkpoint.claimed(workdir), tempfile.TemporaryDirectory() as scratch:
        data = prepare(cfg, pathlib.Path(scratch), devices, console, collate_fn)
        state, hosts = _before(cfg, data, devices, workdir, record, say)
    return _found(cfg, data.task, devices, state, hosts, record["step"])


def _read(file: pathlib.Path) -> dict[str, Any]:
    try:
        record = json.loads(file.read_bytes())
        return {name: record[name] for name in ("step", "total", "rollbacks")}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{file}: {type(error).__name__}: {error}; the file of a step was expected, as training writes it into "
            "WORKDIR/nonfinite when a loss or gradient is not finite; give one of those."
        ) from error


def _before(
    cfg: TrainConfig, data: Prepared, devices: Devices, workdir: pathlib.Path, record: dict[str, Any], say: Say
) -> tuple[TrainState, list[HostBatch]]:
    """The state before the step, and the step's batches."""
    create = state_creator(cfg, data.task, devices)
    abstract = abstract_state(create, devices)
    with contextlib.closing(Checkpoints(workdir / "checkpoints", run=fingerprint_of_options(workdir))) as checkpoints:
        restored = checkpoints.restore(abstract, say, before=record["step"])
    if restored is None:
        state, progress = create(jax.random.key(cfg.seed), given_params(cfg, data.task, say)), Progress()
    else:
        state, progress = restored
    if record["total"] is not None:
        state = with_total(state, record["total"], devices)
    state = gone_back(state, record["rollbacks"], devices)
    say(f"from step {int(state.step)} to step {record['step']}")
    with contextlib.closing(train_steps(cfg, data.task, devices, abstract)) as steps:
        updates = groups(data.train, progress.epoch, progress.batch, cfg.workers, cfg.accumulate)
        for _ in range(int(state.step) + 1, record["step"]):
            _, hosts, _ = next(updates)
            state, _ = steps(state, hosts)
        _, hosts, _ = next(updates)
        return state, hosts


def _found(
    cfg: TrainConfig, task: Task, devices: Devices, state: TrainState, hosts: Sequence[HostBatch], step: int
) -> Found:
    """What the whole step comes to, then each of its utterances alone, and each parameter."""
    with contextlib.closing(train_steps(cfg, task, devices, devices.abstract(state))) as steps:
        _, metrics = steps(copy_of(state), hosts)
    values = task.values(jax.device_get(metrics))
    every = devices.replicated
    alone = devices.compiled_for(
        functools.partial(_alone, make_gradient(task.loss_fn(), cfg.trainable)),
        (devices.places(state.params), devices.by_row, devices.by_row, every, every),
        every,
    )
    utterances: dict[str, tuple[float, float]] = {}
    bad: set[str] = set()
    for number, host in enumerate(hosts):
        key = jax.random.fold_in(state.key, state.step)
        key = key if cfg.accumulate == 1 else jax.random.fold_in(key, number)
        batch, empty = devices.put((host.batch, task.collate_fn()([], host.planned.shape)))
        for row, name in enumerate(host.ids):
            (loss, norm), finite = alone(state.params, batch, empty, np.int32(row), key)
            utterances[name] = float(loss), float(norm)
            bad |= {path for path, good in leaves(finite) if not good}
    return Found(step, values["loss"], values["grad_norm"], utterances, sorted(bad))


def _alone(gradient: GradientFn, params: Params, batch: Any, empty: Any, row: Any, key: Key) -> Any:
    """Of one row, the others being filler: ((loss, gradient's norm), whether each parameter's gradient is finite)."""

    def of_row(x: Array, filler: Array) -> Array:
        here = jnp.arange(len(x)) == row
        return jnp.where(here.reshape(-1, *(1,) * (x.ndim - 1)), x, filler)

    found = gradient(params, jax.tree.map(of_row, batch, empty), key)
    return (found.loss, optax.tree.norm(found.grads)), jax.tree.map(lambda g: jnp.all(jnp.isfinite(g)), found.grads)


# --- command line ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ReplayOptions:
    """Repeats a step of a run that had no finite loss and gradient, and says of which utterances and parameters."""

    file: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")]
    """WORKDIR/nonfinite/step_N.json, as training writes it."""
    imports: Imports = ()


@exit_with_message
def main(argv: Sequence[str] | None = None) -> None:
    """The command line: `argv`, or else the program's own arguments."""
    options = options_of(ReplayOptions, argv, "replay")
    config.import_modules(options.imports, "--import")
    print("\n".join(replay(options.file).lines()))


if __name__ == "__main__":
    main(sys.argv[1:])
