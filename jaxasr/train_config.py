"""The options of a training run."""

import dataclasses
import os
import pathlib
from typing import Annotated, Any, Literal, Self

import jax
import tyro

from jaxasr import adapters, averages, config, optim, recipes, schedules
from jaxasr.adapters import ADAPTERS
from jaxasr.averages import AVERAGES
from jaxasr.data.reading import STALL_SECONDS
from jaxasr.errors import ConfigError
from jaxasr.fsdp import Fsdp
from jaxasr.init import Init
from jaxasr.nn.batch_norm import split_stats
from jaxasr.optim import OPTIMIZERS
from jaxasr.schedules import SCHEDULES
from jaxasr.tasks import TASKS, AsrTask, Task
from jaxasr.trainable import Trainable

MOST = 2**31 - 1
"""What steps are counted to."""


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything a run is made of: the task, how it learns, from what, for how long."""

    task: Annotated[Task, tyro.conf.arg(name="")] = config.slot(TASKS, AsrTask(), flat=True)
    """What is learnt."""
    optimizer: optim.Optimizer = config.slot(OPTIMIZERS, optim.AdamW())
    """How gradients become updates."""
    schedule: schedules.Schedule = config.slot(SCHEDULES, schedules.WarmupRsqrt())
    """How the learning rate moves."""
    average: averages.Average | None = config.slot(AVERAGES, None)
    """Average of the parameters over the updates, to be validated and kept in their stead."""
    init: Init | None = config.section(Init, "folder")
    """The model that the run starts from (fine-tuning)."""
    adapter: adapters.Adapter | None = config.slot(ADAPTERS, None)
    """What learns in place of the network's parameters; it is merged into them in every model that is saved."""
    freeze: tuple[str, ...] = ()
    """Parameters that do not learn, by any part of their path, such as encoder or encoder/blocks/attention."""

    train: tuple[str, ...] = ()
    """Training manifests: Kaldi folders, .jsonl, .csv or .tsv files."""
    train_weights: tuple[float, ...] = ()
    """How the manifests of --train are mixed, a number for each: shares of an epoch's utterances; none: all, once."""
    valid: tuple[str, ...] = ()
    """Validation manifests; without any, 5 % of the training set."""
    test: tuple[str, ...] = ()
    """Manifests to decode and score at the end."""
    data_root: str = ""
    """Folder from which relative paths in --train, --valid and --test start; without it the current one."""
    workdir: str = "exp/asr"
    """Folder of the run; the same command on the same folder goes on where it stopped."""
    seed: int = 0
    """Seed of parameters, order, speeds, dropout and masks."""

    epochs: int | None = None
    """Stop after so many passes over the training set; without any of the three ends, 40. The first end counts."""
    steps: int | None = None
    """Stop after so many updates."""
    minutes: float | None = None
    """Stop after about so many minutes: turned into a number of steps once their speed is known."""
    patience: int | None = None
    """Stop after so many validations in a row without a better best_metric; None: at the other ends alone."""

    batch_seconds: float = 80.0
    """Seconds of sound in a batch, padding included, over all devices."""
    batch_tokens: int = 4000
    """Tokens in a batch, padding included, over all devices, of a task that reads text."""
    accumulate: int = 1
    """Batches to an update, which equals that of one batch with all their rows; an epoch's last may have fewer."""
    microbatches: int = 1
    """Parts of a batch, computed one after the other: less memory for the same update."""
    fit: float | Literal["device"] | None = None
    """Take the largest batches that fit into so many GiB on each device, or into what the device says it has.

    A run that goes on keeps what was found."""
    max_buckets: int = 5
    """Most batch shapes; one compilation each."""
    rows_multiple: int = 8
    """Rows of a batch come in multiples of it; the number of devices must divide it."""
    max_seconds: float = 40.0
    """Longer training utterances are left out and counted."""
    max_tokens: int = 1000
    """So are longer lines of a task that reads text."""
    max_infeasible: float = 0.01
    """Share of training utterances that may have fewer frames than CTC needs."""
    check_sound: bool = True
    """Read every sound file to its end before training, once: damaged training files are left out and counted. Without,
    the seconds that a manifest states are trusted."""

    valid_steps: int | None = None
    """Validate and save every so many steps; None: after every epoch."""
    search: str | None = None
    """How validation and test are decoded, such as ctc_greedy or attention_greedy; None: the task's usual way."""
    best_metric: Literal["wer", "cer", "loss"] | None = None
    """What the best models are chosen by, on the validation set; None: wer, or the loss of a task that decodes
    nothing."""
    keep_best: int = 5
    """Best models kept, and averaged into the final one."""
    log_steps: int = 20
    """Steps from one line of the log to the next."""
    report: bool = True
    """Write report.html at the end; `python -m jaxasr.report WORKDIR` makes it at any time."""

    parallel: Literal["jit", "pmap"] = "jit"
    """One program over all devices that XLA divides, or one program a device with explicit sums."""
    fsdp: Fsdp | None = config.section(Fsdp, "devices")
    """Divides the state between devices; none: each has all of it."""
    workers: int = 0
    """Processes that read data; 0 for threads."""
    stall_seconds: float | None = STALL_SECONDS
    """End the run, with the stacks of all threads, when it waits for data and nothing at all has been read for so many
    seconds, as when a disk has gone or a process hangs; none: wait for ever. Compiling and steps have no limit."""
    nonfinite_limit: int = 10
    """Stop after so many steps in a row without a finite loss and gradient."""
    rollbacks: int = 0
    """How often the run goes back to its last state, with half the learning rate, before such steps stop it."""
    coordinator: str | None = None
    """HOST:PORT of process 0, in a run of several processes; auto: as SLURM, a TPU pod, GKE or Open MPI says."""
    num_processes: int | None = None
    """Processes in the run."""
    process_id: int | None = None
    """This process's number, from 0."""
    imports: tuple[str, ...] = ()
    """Modules that register entries of their own; --import=MODULE."""

    @classmethod
    def from_yaml(cls, path: str | pathlib.Path, **changes: Any) -> Self:
        """The options in a YAML file, or in a recipe that comes with jaxasr by its name, and then the `changes`.

        Raises:
          ConfigError: there is no such file, or an option cannot be.
        """
        return dataclasses.replace(config.from_mapping(cls, recipes.read_yaml(path), where=str(path)), **changes)

    def rooted(self) -> Self:
        """With the manifests' paths as they are from here, and no `data_root`; a folder has no slash at its end.

        Raises:
          ConfigError: there is a `data_root`, and no relative path that could start there.
        """
        names = ("train", "valid", "test")
        if self.data_root and all(os.path.isabs(path) for name in names for path in getattr(self, name)):
            raise ConfigError(
                f"--data_root={self.data_root}: no relative path in --train, --valid or --test; at least one was "
                "expected; name the manifests from there, or remove it."
            )
        paths = {name: tuple(_plain(os.path.join(self.data_root, p)) for p in getattr(self, name)) for name in names}
        init = self.init and dataclasses.replace(self.init, folder=_plain(self.init.folder))
        return dataclasses.replace(self, data_root="", init=init, **paths)

    def check(self) -> None:
        """Raises ConfigError where the choices do not go together; reads no data."""
        self.task.check()
        self.optimizer.check()
        self.schedule.check()
        if self.average is not None:
            self.average.check()
        if self.fsdp is not None:
            self._check_fsdp(self.fsdp)
        self._check_patterns()
        self._check_weights()
        self._check_units()
        searches = self.task.searches()
        if self.search is not None and self.search not in searches:
            has = ", ".join(searches) or "none, since it decodes nothing"
            raise ConfigError(f"--search={self.search}: this model has {has}; choose one of them.")
        if not searches and self.metric != "loss":
            raise ConfigError(
                f"--best_metric={self.best_metric}: a {type(self.task).__name__} decodes nothing, so that it has no "
                "error rates; loss was expected; remove it."
            )
        for name in ("epochs", "steps", "minutes", "patience", "valid_steps", "fit", "stall_seconds"):
            if (value := getattr(self, name)) not in (None, "device") and not 0 < value <= MOST:
                raise ConfigError(
                    f"--{name}={value}: a positive number up to {MOST}, or none, was expected; change it."
                )
        if not 0.0 <= self.max_infeasible <= 1.0:
            raise ConfigError(f"--max_infeasible={self.max_infeasible}: a share from 0 to 1 was expected; change it.")
        for name in ("seed", "workers", "rollbacks"):
            if not 0 <= getattr(self, name) <= MOST:
                raise ConfigError(f"--{name}={getattr(self, name)}: 0 to {MOST} was expected; change it.")
        for name in (
            "batch_seconds",
            "batch_tokens",
            "accumulate",
            "microbatches",
            "max_buckets",
            "rows_multiple",
            "max_seconds",
            "max_tokens",
            "keep_best",
            "log_steps",
            "nonfinite_limit",
        ):
            if getattr(self, name) <= 0:
                raise ConfigError(f"--{name}={getattr(self, name)}: a positive number was expected; change it.")

    @property
    def metric(self) -> str:
        """What the best models are chosen by."""
        return self.best_metric or ("wer" if self.task.searches() else "loss")

    @property
    def batch_units(self) -> float:
        """What a batch holds, in the units of what the task reads: seconds, or tokens of text."""
        return self.batch_tokens if self.task.source.unit == "tokens" else self.batch_seconds

    @property
    def max_units(self) -> float:
        """The longest training utterance in these units."""
        return self.max_tokens if self.task.source.unit == "tokens" else self.max_seconds

    @property
    def trainable(self) -> Trainable:
        """What of the network learns."""
        return Trainable(self.freeze, self.adapter)

    def _check_patterns(self) -> None:
        """Refuses, as far as it can be told before data is read, patterns that match no parameter."""
        self.trainable.check()
        if (shapes := self.task.parameter_shapes()) is not None:
            params, _ = split_stats(shapes)
            self.trainable.check_params(params, sizes_known=False)
            begun = jax.eval_shape(self.trainable.begun, jax.random.key(0), params)
            self.optimizer.check_params(begun)
            if self.fsdp is not None:
                self.fsdp.check_params(begun, sizes_known=False)

    def _check_fsdp(self, fsdp: Fsdp) -> None:
        fsdp.check()
        if fsdp.devices > 1 and self.parallel == "pmap":
            raise ConfigError(
                f"--parallel=pmap with --fsdp={fsdp.devices}: programs of their own have all of the state; "
                "--parallel=jit was expected; change one of the two."
            )

    def _check_units(self) -> None:
        """Raises ConfigError where an option is set that is for what the task does not read."""
        of_sound = ("batch_seconds", "max_seconds", "max_infeasible", "check_sound")
        kind, of_text = self.task.source.kind, ("batch_tokens", "max_tokens")
        idle = of_sound if self.task.source.unit == "tokens" else of_text
        for name in idle:
            if (value := getattr(self, name)) != (default := getattr(type(self), name)):
                raise ConfigError(
                    f"--{name}={value}: a {type(self.task).__name__} reads {kind}, for which it would change nothing; "
                    f"{default} was expected; remove it."
                )

    def _check_weights(self) -> None:
        weights = self.train_weights
        if weights and (len(weights) != len(self.train) or not all(0 < w < float("inf") for w in weights)):
            raise ConfigError(
                f"--train_weights {' '.join(f'{w:g}' for w in weights)} with {len(self.train)} manifests in --train: "
                "a number above 0 for each of them was expected; give as many, in the same order."
            )


def _plain(path: str) -> str:
    """Without the slashes that shells complete a folder's name with: a run goes on with or without them."""
    return path.rstrip("/") or path


RESUMABLE = {  # what the same run may be started again with; everything else decides its result
    "test", "workdir", "epochs", "steps", "minutes", "patience", "log_steps", "workers", "stall_seconds",
    "nonfinite_limit", "rollbacks", "check_sound", "report", "parallel", "fsdp", "coordinator", "num_processes",
    "process_id", "imports",
}  # fmt: skip
