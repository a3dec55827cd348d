"""Full states of a run, to go on from: Orbax's files, which count once they are read back as they were written."""

import concurrent.futures
import contextlib
import dataclasses
import pathlib
import shutil
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import jax
import jax.numpy as jnp

from jaxasr import checksums
from jaxasr.errors import CheckpointError
from jaxasr.parallel import all_processes, is_main_process, wait_for_processes
from jaxasr.params import sync_folder
from jaxasr.paths import leaves

SAVING, REMOVING = "saving-", "removing-"
"""What the names of states begin with that do not count yet, or no more."""


@dataclasses.dataclass
class Progress:
    """Where a run stands, beside the arrays of its state."""

    epoch: int = 0
    batch: int = 0
    """Batches of this epoch's plan that are done."""
    best: list[tuple[float, int]] = dataclasses.field(default_factory=list)
    """(metric, step) of the validations whose parameters are kept, best first."""
    since_best: int = 0
    """Validations since the best one."""
    validation_due: bool = False
    """Whether the run was stopped at a step that is validated, before it was."""
    minutes: float | None = None
    """The --minutes that `minutes_steps` were made from."""
    minutes_steps: int = 0
    data_hash: str = ""
    """Fingerprint of the training utterances and their lengths."""
    rollbacks: int = 0
    """How often the run has gone back to a state, with a smaller learning rate."""
    window: dict[str, Any] = dataclasses.field(default_factory=dict)
    """What the next line of the log is made of, as far as it is known (`logs.Window`)."""


class Checkpoints:
    """Full states under one folder, the newest `keep` of them; saved in the background.

    A state has its number for a name only once it is whole on the disk, with checksums of all its files, and has been
    read back (`checksums.seal`). Until then its name begins with `saving`, and what a run left so when it was killed,
    the next one removes.
    """

    def __init__(self, folder: pathlib.Path, *, keep: int = 2, run: str | None = None):
        """`run` is a fingerprint of the run's options; states of another are not taken. None asks for none."""
        from orbax.checkpoint import v1 as orbax  # half a second, which --help and decoding do not need

        self._orbax = orbax
        self._context = orbax.Context()
        # or each device would write its part of every replicated array, which is sliced by a program compiled for it
        self._context.array.saving.use_replica_parallel = False
        # or, where there is no room for a folder, Orbax's threads wait for each other for minutes
        self._context.asynchronous.create_directories_asynchronously = False
        self._folder = folder.absolute()
        self._keep = keep
        self._run = run
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="state")
        self._pending: concurrent.futures.Future[None] | None = None
        if is_main_process():
            with _told_of_disk(self._folder):
                self._folder.mkdir(parents=True, exist_ok=True)
            _remove(path for prefix in (SAVING, REMOVING) for path in self._folder.glob(f"{prefix}*"))
        wait_for_processes("states")
        self._newest = max(self._steps(), default=-1)

    def _steps(self) -> list[int]:
        return sorted(int(path.name) for path in self._folder.iterdir() if path.name.isdigit())

    def save(self, step: int, state: Any, progress: Progress) -> None:
        """Starts saving and returns; a step that is on disk already is left as it is.

        Raises:
          CheckpointError: this one, or the one before, could not be written.
        """
        if step <= self._newest:
            return
        self.wait()
        saving = self._folder / f"{SAVING}{step}"
        about = dataclasses.asdict(progress) | {"run": self._run, "step": step}
        with self._context, _told_of_disk(self._folder):
            started = self._orbax.save_checkpointables_async(str(saving), {"state": state}, custom_metadata=about)
        self._pending = self._thread.submit(self._finish, started, saving, self._folder / str(step))
        self._newest = step

    def _finish(self, started: Any, saving: pathlib.Path, final: pathlib.Path) -> None:
        """Makes a state count once it is written and checked, and the oldest give way."""
        with _told_of_disk(self._folder):
            started.result()
            if not is_main_process():
                return
            if fault := checksums.seal(saving):
                raise CheckpointError(
                    f"{saving}/{fault}; a state that reads as it was written was expected; look at the disk, and the "
                    "same command goes on from the state before."
                )
            saving.rename(final)
            sync_folder(self._folder)
            for step in self._steps()[: -self._keep]:
                (self._folder / str(step)).rename(self._folder / f"{REMOVING}{step}")
            _remove(self._folder.glob(f"{REMOVING}*"))

    def restore(
        self, abstract_state: Any, say: Callable[[str], None], *, before: int | None = None
    ) -> tuple[Any, Progress] | None:
        """The newest state that is as it was written, with the shardings of `abstract_state`, and where it stood.

        Newer ones that cannot be read are moved aside, which `say` is told. None where there is no state at all.

        Args:
          before: only states of an earlier step count; nothing is moved then.

        Raises:
          CheckpointError: there are states, and none can be read.
        """
        steps = [step for step in self._steps() if before is None or step < before]
        faults: dict[int, str] = {}
        for step in reversed(steps):
            found = None
            if all_processes(not (fault := self._fault(step, abstract_state))):  # all of them load it, or none
                try:
                    found = self._load(step, abstract_state)
                except Exception as error:  # Orbax, TensorStore and JSON have each their own
                    fault = _said(error)
            if all_processes(found is not None):
                damaged = steps[steps.index(step) + 1 :]
                for number in damaged:
                    kept = f"it is kept as damaged-{number}, and " if before is None else ""
                    say(
                        f"{self._folder / str(number)}{faults[number]}; {kept}the run goes on from the state before it."
                    )
                if before is None:
                    self._move_aside(damaged)
                self._newest = step
                return found
            faults[step] = fault or ": another process cannot read it"
        if steps:
            raise CheckpointError(
                f"{self._folder / str(steps[-1])}{faults[steps[-1]]}; the state of a run with these options, saved by "
                "this version, was expected; use another --workdir, or the options and the version the run was started "
                "with."
            )
        return None

    def forget_from(self, first: int) -> None:
        """Removes the states of step `first` and later."""
        if is_main_process():
            with _told_of_disk(self._folder):
                for step in self._steps():
                    if step >= first:
                        (self._folder / str(step)).rename(self._folder / f"{REMOVING}{step}")
            _remove(self._folder.glob(f"{REMOVING}*"))
        wait_for_processes("states")
        self._newest = max(self._steps(), default=-1)

    def _fault(self, step: int, abstract_state: Any) -> str:
        """What the main process sees wrong with a state before it is loaded, to be put behind its path."""
        if not is_main_process():
            return ""
        if fault := checksums.fault(self._folder / str(step)):
            return f"/{fault}"
        try:
            known = self._known(step)
            if self._run not in (None, known.custom_metadata["run"]):
                return ": the state of another run, with other options"
            if (saved := known.custom_metadata.get("step", step)) != step:
                return f": a copy of the state of step {saved}"
            return _misfit(known.metadata["state"], abstract_state)
        except Exception as error:  # of a state that another version wrote
            return _said(error)

    def _known(self, step: int) -> Any:
        """What can be told of a state without its arrays."""
        return self._orbax.checkpointables_metadata(str(self._folder / str(step)))

    def _load(self, step: int, abstract_state: Any) -> tuple[Any, Progress]:
        with self._context:
            found = self._orbax.load_checkpointables(str(self._folder / str(step)), {"state": abstract_state})
        about = self._known(step).custom_metadata
        progress = Progress(**{name: value for name, value in about.items() if name not in ("run", "step")})
        progress.best = [(float(metric), int(best)) for metric, best in progress.best]
        return found["state"], progress

    def _move_aside(self, steps: list[int]) -> None:
        """Takes states out of the list; what is left of them stays in the folder."""
        if is_main_process():
            with _told_of_disk(self._folder):
                for step in steps:
                    shutil.rmtree(self._folder / f"damaged-{step}", ignore_errors=True)
                    (self._folder / str(step)).rename(self._folder / f"damaged-{step}")
        wait_for_processes("damaged states")

    def wait(self) -> None:
        """Returns when the last save is on disk; every process must wait at the same point.

        Raises:
          CheckpointError: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        error = pending.exception()
        if all_processes(error is None):
            return
        raise error or CheckpointError(
            f"{self._folder}: a state that another process could not write; one was expected; look at what it says; "
            "the same command goes on from the state before."
        )

    def close(self) -> None:
        """Lets what is being saved come to its end; whether it could, `wait` says."""
        self._thread.shutdown()


def _said(error: Exception) -> str:
    return f": {type(error).__name__}: {str(error)[:200]}"


def _misfit(saved: Any, expected: Any) -> str:
    """Where the arrays of two states differ in shape or type; empty where they do not."""

    def specs(tree: Any) -> dict[str, str]:
        return {path: f"{x.dtype}{list(x.shape)}" for path, x in leaves(jax.tree.map(_as_saved, tree))}

    found, wanted = specs(saved), specs(expected)
    wrong = sorted(path for path in found.keys() | wanted.keys() if found.get(path) != wanted.get(path))
    none = "none"
    return f": {wrong[0]} is {found.get(wrong[0], none)} and not {wanted.get(wrong[0], none)}" if wrong else ""


def _as_saved(x: Any) -> Any:
    """A key is saved as its numbers."""
    return jax.eval_shape(jax.random.key_data, x) if jnp.issubdtype(x.dtype, jax.dtypes.prng_key) else x


@contextlib.contextmanager
def _told_of_disk(folder: pathlib.Path) -> Iterator[None]:
    """Raises CheckpointError for what Orbax, TensorStore and the system have to say of a disk."""
    try:
        yield
    except CheckpointError:
        raise
    except Exception as error:  # each has its own
        raise CheckpointError(
            f"{folder}: {type(error).__name__}: {str(error)[:200]}; a folder to write in was expected, and room for a "
            "state; give the right to, or free some, and the same command goes on from the state before."
        ) from error


def _remove(folders: Iterable[pathlib.Path]) -> None:
    """As far as it is possible; the next run tries again."""
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)
