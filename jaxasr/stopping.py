"""What ends a run: steps, epochs, minutes, patience, SIGTERM and Ctrl-C; and an error, where others wait."""

import atexit
import contextlib
import itertools
import os
import pathlib
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

import jax

from jaxasr.errors import JaxasrError
from jaxasr.parallel import all_processes, any_process, from_main_process
from jaxasr.train_config import TrainConfig
from jaxasr.typing import Array, Int

if TYPE_CHECKING:
    from jaxasr.inputs import Inputs, Position
    from jaxasr.states import Progress

T = TypeVar("T")
MEASURED_STEPS, MEASURED_SHARE = 20, 0.05
"""How many steps are timed at least, for how much of the minutes: buckets differ, and the first steps are slower."""
UNKNOWN_TOTAL = 2**30
DEFAULT_EPOCHS = 40


class Ends:
    """The planned ends of a run, the first of which counts; in steps, which are updates.

    Minutes become steps once their speed has been seen; from then on the run is exact again.
    """

    def __init__(self, cfg: TrainConfig, inputs: "Inputs", progress: "Progress", began: float):
        self._cfg = cfg
        self._progress = progress
        self._planned = planned_steps(cfg, inputs)
        timed = cfg.minutes is not None and cfg.minutes == progress.minutes  # in an earlier session
        self.total = min(self._planned, progress.minutes_steps) if timed else self._planned
        self._budget = None if cfg.minutes is None or timed else Budget(cfg.minutes, began)

    @property
    def known_total(self) -> int | None:
        """Steps of the run; None while minutes are not yet turned into them."""
        return None if self.total == UNKNOWN_TOTAL else self.total

    @property
    def out_of_patience(self) -> bool:
        """Whether validations have not got better for as long as `--patience` allows."""
        return self._cfg.patience is not None and self._progress.since_best >= self._cfg.patience

    def reached(self, step: int) -> bool:
        """Whether the run ends after this step."""
        return step >= self.total or self.out_of_patience

    def due(self, step: int, position: "Position") -> bool:
        """Whether this step is validated."""
        every = self._cfg.valid_steps
        return step >= self.total or (step % every == 0 if every else position.ends_epoch)

    def measured(self, ready: bool, step: Int[Array, ""]) -> bool:
        """Whether minutes can now be turned into steps; `ready` if all is compiled."""
        return self._budget is not None and self._budget.measured(all_processes(ready), step)

    def set_minutes(self, step: int, valid_seconds: float, position: "Position") -> str:
        """Turns minutes into steps, which is told."""
        assert self._budget is not None
        every = self._cfg.valid_steps or -(-position.batches // self._cfg.accumulate)
        left = self._budget.steps_left(valid_seconds, every)
        self._progress.minutes, self._progress.minutes_steps = self._cfg.minutes, step + from_main_process(left)
        self.total = min(self._planned, self._progress.minutes_steps)
        note = f"--minutes={self._cfg.minutes:g}: {self.total} steps at {self._budget.step_seconds:.2f} s a step"
        self._budget = None
        return note

    def interrupted(self) -> None:
        """Leaves the time since the last step out of the measurement."""
        if self._budget is not None:
            self._budget.interrupted()


def planned_steps(cfg: TrainConfig, inputs: "Inputs") -> int:
    """Steps of the run by --steps and --epochs, the first of which counts; without both, no end."""
    ends = [UNKNOWN_TOTAL] if cfg.steps is None else [cfg.steps]
    epochs = cfg.epochs
    if epochs is None and cfg.steps is None and cfg.minutes is None:
        epochs = DEFAULT_EPOCHS
    if epochs is not None:
        ends.append(sum(-(-inputs.num_batches(epoch) // cfg.accumulate) for epoch in range(epochs)))
    return min(ends)


class Budget:
    """The time that is left, and how long a step takes."""

    def __init__(self, minutes: float, began: float):
        self._end = began + 60 * minutes
        self._least = MEASURED_SHARE * 60 * minutes
        self._before: float | None = None
        self._steps, self._seconds = 0, 0.0

    @property
    def step_seconds(self) -> float:
        """Mean seconds of a step, of those that were timed."""
        return self._seconds / max(self._steps, 1)

    def measured(self, all_compiled: bool, step: Int[Array, ""]) -> bool:
        """Whether enough steps have been timed, in every process; only those after the last compilation count."""
        if not all_compiled:
            return False
        jax.block_until_ready(step)
        now = time.perf_counter()
        if self._before is not None:
            self._steps, self._seconds = self._steps + 1, self._seconds + now - self._before
        self._before = now
        return all_processes(self._steps >= MEASURED_STEPS and self._seconds >= self._least)

    def interrupted(self) -> None:
        """Leaves the time since the last step out."""
        if self._before is not None:
            self._before = time.perf_counter()

    def steps_left(self, valid_seconds: float, steps_per_valid: int) -> int:
        """Steps that fit into what is left, validations counted, and two more of them at the end."""
        left = self._end - time.perf_counter() - 2 * valid_seconds
        return max(int(left / (self.step_seconds + valid_seconds / steps_per_valid)), 1)


class Stopped(Exception):  # noqa: N818 (it is no error)
    """The run was asked to stop, and its state is saved."""

    def __init__(self, signum: int, step: int, workdir: pathlib.Path):
        super().__init__(f"stopped at step {step}; the same command or call goes on from there ({workdir})")
        self.exit_status = 128 + (signum or signal.SIGTERM)  # none: it came to another process


@contextlib.contextmanager
def failing_alone() -> Iterator[None]:
    """Lets a program of several processes end as soon as its error is told.

    JAX would first wait for the others, for minutes, and they for this one in the middle of a step; then it would end
    all of them with stacks of its own. `Stopped` comes to all of them.
    """
    try:
        yield
    except Stopped:
        raise
    except BaseException as error:
        if jax.distributed.is_initialized():
            if not isinstance(error, JaxasrError):
                error.add_note("Where another process ended first, its output has the reason.")
            atexit.register(leave, _status(error))  # what is registered last comes first
        raise


def _status(error: BaseException) -> int:
    if isinstance(error, SystemExit) and isinstance(error.code, int):  # nobody reads what is printed
        return error.code
    return 130 if isinstance(error, KeyboardInterrupt) else 2 if isinstance(error, JaxasrError) else 1


def leave(status: int) -> None:
    """Ends the program without what else was to be done at its end."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


class _Interrupted(BaseException):
    """A signal came while the run did what can be given up."""


class StopSignals:
    """Notes SIGTERM and Ctrl-C, so that the loop can save; a second one ends the program at once."""

    def __init__(self):
        self.signal = 0
        self._interruptible = False
        self._before: dict[int, Any] = {}

    @property
    def requested(self) -> bool:
        """Whether any process was asked to stop; every process must ask at the same point."""
        return any_process(self.signal != 0)

    def requested_by(self, step: int, every: int) -> bool:
        """`requested`; several processes ask each other every so many steps alone."""
        return (jax.process_count() == 1 or step % every == 0) and self.requested

    def unless_asked(self, do: Callable[[], T]) -> T | None:
        """What `do` returns, which may take minutes and is given up where a signal comes: then None.

        A run of several processes does not give up: they agree on where to stop, between steps.
        """
        if jax.process_count() > 1:
            return do()
        try:
            self._interruptible = True
            found = None if self.signal else do()
            self._interruptible = False
            return found
        except _Interrupted:
            return None
        finally:
            self._interruptible = False

    def until_asked(self, items: Iterable[T]) -> Iterator[T]:
        """The items, until a signal comes; waiting for the next is given up."""
        iterator = iter(items)
        while found := self.unless_asked(lambda: list(itertools.islice(iterator, 1))):
            yield found[0]

    def __enter__(self) -> "StopSignals":
        with contextlib.suppress(ValueError):  # signals belong to the main thread; elsewhere there are none to note
            self._before = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        return self

    def __exit__(self, *_: object) -> None:
        self.listen_no_more()

    def listen_no_more(self) -> None:
        """Gives the signals back to whoever had them."""
        for signum, handler in self._before.items():
            signal.signal(signum, handler)
        self._before = {}

    def _note(self, signum: int, frame: Any) -> None:
        del frame
        self.signal = signum
        signal.signal(signum, self._before[signum])
        if self._interruptible:
            self._interruptible = False
            raise _Interrupted
