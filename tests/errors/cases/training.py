"""Options of a run, its folder and its states, and what stops it."""

import contextlib
import dataclasses
import errno
import json
import os
import pathlib
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any
from unittest import mock

import jax
import jax.numpy as jnp
import numpy as np
import rich.console

from jaxasr.adapters import Lora
from jaxasr.averages import Ema, Running
from jaxasr.checkpoint import claimed
from jaxasr.data.batch import BucketShape, Collate
from jaxasr.data.bucketing import PlannedBatch
from jaxasr.data.lexicon import PhoneTokenizer
from jaxasr.data.pipeline import HostBatch
from jaxasr.fit import check_fits, memory_of_device
from jaxasr.logs import RunLog, StepLog
from jaxasr.loop import check_same_data
from jaxasr.memory import full_is_told
from jaxasr.optim import AdamW, Sgd
from jaxasr.paths import check_patterns
from jaxasr.prepare import FILES, check_same_files, check_same_run, hashes_of_files
from jaxasr.replay import replay
from jaxasr.schedules import Noam, TriStage, WarmupLinear
from jaxasr.state import train_steps
from jaxasr.states import Checkpoints, Progress
from jaxasr.tasks import AsrTask
from jaxasr.tasks.base import Mean
from jaxasr.train_config import TrainConfig
from jaxasr.trainable import Trainable
from tests.errors.files import write


@dataclasses.dataclass(frozen=True)
class Fine(AsrTask):
    """A task whose own check takes no time, and whose loss knows no counts."""

    def check(self) -> None: ...

    def loss_fn(self) -> Any:
        return lambda params, batch, key=None: 0.0


def loss_without_counts() -> None:
    nothing: Any = None  # the loss is looked at first
    train_steps(TrainConfig(accumulate=2), Fine(), nothing, nothing)


def check(**options: Any) -> None:
    TrainConfig(task=Fine(), **options).check()


def two_runs_at_once() -> None:
    with claimed(pathlib.Path("run")), claimed(pathlib.Path("run")):
        pass


def other_options() -> None:
    write("run/checkpoints/1")
    write("run/config.yaml", "seed: 1\nbatch_seconds: 9.0\n")
    check_same_run(TrainConfig(), pathlib.Path("run"))


def other_lexicon() -> None:
    task = AsrTask(tokenizer=PhoneTokenizer(file=write("lexicon.txt", "A AH0\n")))
    write(f"run/{FILES}", json.dumps(hashes_of_files(task)))
    write("lexicon.txt", "A EY1\n")
    check_same_files(task, pathlib.Path("run"))


@contextlib.contextmanager
def states() -> Iterator[Checkpoints]:
    with contextlib.closing(Checkpoints(pathlib.Path("states"))) as checkpoints:
        yield checkpoints


def state_of_another_network() -> None:
    with states() as checkpoints:
        checkpoints.save(1, {"a": jnp.zeros(2)}, Progress())
        checkpoints.wait()
        checkpoints.restore({"b": jnp.zeros(3)}, print)


class FullDisk:
    """Orbax as it is on a full disk."""

    def save_checkpointables_async(self, *_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def no_room_for_a_state() -> None:
    with states() as checkpoints:
        checkpoints._orbax = FullDisk()
        checkpoints.save(1, {"a": jnp.zeros(2)}, Progress())


def saved(**patches: Any) -> None:
    """A state, saved where functions of the module `states` do what these do."""
    with states() as checkpoints, contextlib.ExitStack() as patched:
        for name, function in patches.items():
            patched.enter_context(mock.patch(f"jaxasr.states.{name}", function))
        checkpoints.save(1, {"a": jnp.zeros(2)}, Progress())
        checkpoints.wait()


def no_room_for_the_log() -> None:
    with contextlib.closing(RunLog(pathlib.Path(), rich.console.Console())) as log:
        log._file.close()
        log._file = open("/dev/full", "w")  # noqa: SIM115 (the log closes it)
        log.event(split="train")


def too_much_for_a_device() -> None:
    with full_is_told():
        jax.jit(lambda: jnp.zeros(2**50, jnp.int8))()


def no_finite_step() -> None:
    shape = BucketShape(1, 4, 1)
    host = HostBatch(PlannedBatch(shape, np.zeros(1, int)), ["u"], Collate()([], shape))
    steps = StepLog(RunLog(pathlib.Path(), rich.console.Console(), active=False), AsrTask(), 1, nonfinite_limit=1)
    steps.add(1, None, 0.0, [host], {"skipped": Mean(1, 1), "skipped_in_a_row": Mean(1, 1)}, 0.0)
    steps.flush()


KERNEL = {"ctc": {"kernel": jnp.zeros((4, 4)), "bias": jnp.zeros(4)}}

CASES = {
    "no steps at all": lambda: check(steps=0),
    "a seed below 0": lambda: check(seed=-1),
    "percent for a share": lambda: check(max_infeasible=2.0),
    "an utterance too long for the memory": lambda: check_fits(1.0, "8 rows x 40.00 s", 2**30, 2**29, "u"),
    "a processor asked for its memory": lambda: memory_of_device("device"),
    "a device that is full": too_much_for_a_device,
    "no buckets": lambda: check(max_buckets=0),
    "a search that the model does not have": lambda: check(search="beam"),
    "a data root and no data": lambda: TrainConfig(data_root="corpora").rooted(),
    "a weight for no manifest": lambda: check(train_weights=(1.0,)),
    "a learning rate below 0": lambda: AdamW(learning_rate=-1.0).check(),
    "a warm-up below 0": lambda: WarmupLinear(warmup_steps=-1).check(),
    "a weight decay below 0": lambda: AdamW(weight_decay=-1.0).check(),
    "momentum of Nesterov's without momentum": lambda: Sgd(momentum=0.0, nesterov=True).check(),
    "all that there is frozen": lambda: Trainable(("ctc",)).check_params(KERNEL),
    "an adapter in a frozen network": lambda: Trainable(("kernel",), Lora()).check(),
    "an adapter of rank 0": lambda: Lora(rank=0).check(),
    "an adapter for no kernel": lambda: Trainable(adapter=Lora(targets=("bias",))).check_params(KERNEL),
    "an adapter as large as its kernel": lambda: Trainable(adapter=Lora(targets=("ctc",))).check_params(KERNEL),
    "an adapter beside a part of its name": lambda: Trainable(adapter=Lora()).check_params({"adapter": KERNEL}),
    "a pattern that matches nothing": lambda: check_patterns(KERNEL, ("scale",), "--freeze"),
    "a model without width": lambda: Noam(d_model=0).check(),
    "parts of a run that are more than it": lambda: TriStage(phase_ratios=(1.0, 1.0, 1.0)).check(),
    "an average that keeps everything": lambda: Ema(decay=1.0).check(),
    "an average over nothing": lambda: Running(share=0.0).check(),
    "a loss without counts": loss_without_counts,
    "a share above 1": lambda: WarmupLinear(final_share=2.0).check(),
    "a workdir that is a file": lambda: claimed(pathlib.Path(write("run"))).__enter__(),
    "two runs in one workdir": two_runs_at_once,
    "options of another run": other_options,
    "a lexicon that was changed": other_lexicon,
    "hashes that are none": lambda: check_same_files(AsrTask(), pathlib.Path(write(f"run/{FILES}", "[")).parent),
    "the data of another run": lambda: check_same_data(Progress(data_hash="a"), "b", pathlib.Path("run")),
    "the state of another network": state_of_another_network,
    "no room for a state": no_room_for_a_state,
    "a disk that reads other bytes": lambda: saved(checksums=SimpleNamespace(seal=lambda folder: "a: other bytes")),
    "a process that cannot write its part": lambda: saved(all_processes=lambda flag: False),
    "no room for the log": no_room_for_the_log,
    "no finite step": no_finite_step,
    "no step to repeat": lambda: replay(write("step.json", "{}")),
}
