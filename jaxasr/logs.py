"""What a run shows and writes down: a progress bar or plain lines, log.jsonl and TensorBoard."""

import collections
import contextlib
import json
import math
import os
import pathlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any, TypeAlias

import jax
import numpy as np
import rich.console
import rich.progress
import rich.text

from jaxasr.bars import Pace, bar
from jaxasr.board import Board
from jaxasr.commands import command
from jaxasr.data.pipeline import HostBatch
from jaxasr.errors import NonFiniteError, TrainingError
from jaxasr.memory import shown
from jaxasr.params import write_atomically
from jaxasr.states import Progress
from jaxasr.tasks.base import Mean, Metrics, Task
from jaxasr.watch import Watch

ORDER = (
    "loss",
    "perplexity",
    "loss/ctc",
    "loss/cr",
    "loss/att",
    "loss/count",
    "acc/token",
    "grad_norm",
    "learning_rate",
)

NONFINITE = "nonfinite"
"""Folder of the workdir: a file for each step that had no finite loss and gradient."""
SPEEDS = {"seconds": "audio_seconds_per_second", "tokens": "tokens_per_second"}
"""What a step's speed is called, by what the task reads."""

Reporter: TypeAlias = Callable[[dict[str, Any]], None]
"""Is given every record of log.jsonl as it is written: in their order, in the thread of the run, as JSON holds them."""


class Start:
    """Where the time before the first step went."""

    def __init__(self):
        self.seconds: dict[str, float] = {}
        self._began = self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """Puts the time since the last lap down to `part`."""
        now = time.perf_counter()
        self.seconds[part] = now - self._last
        self._last = now

    def first_step(self, log: "RunLog", step: int, waited: float) -> None:
        """Tells of it, with what was left of the time for compiling when `waited` seconds went for the batch."""
        self.lap("compiling")
        self.seconds["compiling"] -= waited
        parts = self.seconds | {"first batch": waited}
        whole = self._last - self._began
        said = ", ".join(f"{part} {seconds:.1f}" for part, seconds in parts.items())
        log.event(split="start", step=step, seconds=whole, parts=parts)
        log.say(f"first step after {whole:.1f} s: {said}")


class Window:
    """Metrics added up since the last line of the log, with where the time went."""

    def __init__(self, saved: Mapping[str, Any] | None = None):
        """As it was when it was `saved`, or empty."""
        saved = saved or {"metrics": {}, "samples": 0, "room": 0, "waiting": 0.0, "seconds": 0.0}
        self.metrics: Metrics = {name: Mean(*map(_number, mean)) for name, mean in saved["metrics"].items()}
        self.samples: int = saved["samples"]
        self.room: int = saved["room"]
        self.waiting: float = saved["waiting"]
        self.began = time.perf_counter() - saved["seconds"]

    def saved(self) -> dict[str, Any]:
        """As JSON can hold it, to the last bit."""
        return {
            "metrics": {name: [np.asarray(x).item() for x in mean] for name, mean in self.metrics.items()},
            "samples": self.samples,
            "room": self.room,
            "waiting": self.waiting,
            "seconds": time.perf_counter() - self.began,
        }

    def add(self, metrics: Metrics, samples: int, room: int) -> None:
        """`samples` real ones in a batch with `room` for more."""
        for name, mean in metrics.items():
            self.metrics[name] = self.metrics[name] + mean if name in self.metrics else mean
        self.samples += samples
        self.room += room

    def record(self, task: Task) -> dict[str, float]:
        """Means of the metrics, and speed, padding and waiting, of all steps since the window began."""
        seconds = max(time.perf_counter() - self.began, 1e-9)
        return task.values(self.metrics) | {
            SPEEDS[task.source.unit]: self.samples / task.input_rate / seconds,
            "padding_percent": 100.0 * (1.0 - self.samples / max(self.room, 1)),
            "waiting_percent": 100.0 * self.waiting / seconds,
        }


class RunLog:
    """Writes records to log.jsonl and TensorBoard and shows them; only the main process has one that does.

    On a terminal there is one bar with the ETA; elsewhere a line is printed at every record. When nothing new comes for
    a minute, it says where the program is.
    """

    def __init__(
        self,
        workdir: pathlib.Path,
        console: rich.console.Console,
        *,
        active: bool = True,
        imports: Sequence[str] = (),
        reporter: Reporter | None = None,
    ):
        """`imports` are the modules that commands on this run's folder need."""
        self.console = console
        self._active = active
        self._workdir = workdir
        self._imports = imports
        self._bar: rich.progress.Progress | None = None
        self._pace = Pace()
        self._last_wer = ""
        self._estimated = False
        self._writing = threading.Lock()
        self._thread = threading.get_ident()
        self._reporter = reporter
        self._unreported: collections.deque[str] = collections.deque()
        if not active:
            return
        with _told_of_disk(workdir):
            self._file = _continued(workdir / "log.jsonl")
            self._board = Board(workdir / "tensorboard", self.say)
        self._watch = Watch(self.say)
        if console.is_terminal:
            self._bar = bar(console)
            self._task = self._bar.add_task("training", total=None, numbers="")
            self._bar.start()

    def advance(self, step: int, total: int | None, epoch: float) -> None:
        """Moves the bar to `step` of `total`."""
        if self._active:
            self._watch.beat()
        self._pace.step()
        if self._bar is not None:
            self._bar.update(self._task, completed=step, total=total, description=f"epoch {epoch:.1f}")

    def steps(self, record: dict[str, float], step: int, total: int | None, epoch: float) -> None:
        """A record of the training steps since the last one."""
        self._write("train", record, step, epoch)
        numbers = short(record, speed_first=self._bar is not None) + self._last_wer  # what is last may be cut off
        if not self._estimated and (left := self._left(step, total)) is not None:
            self._estimated = True
            self.say(f"estimated: {left / 60:.1f} minutes to step {total}, as fast as the steps so far")
        if self._bar is not None:
            self._bar.update(self._task, numbers=numbers)
        elif self._active:
            of = f"/{total}" if total else ""
            self.console.print(
                f"step {step}{of}  epoch {epoch:.2f}  {numbers}{self._eta(step, total)}",
                highlight=False,
                soft_wrap=True,
            )

    def validation(self, record: dict[str, Any], step: int, epoch: float, note: str) -> None:
        """Writes down a validation's record and prints it, with what was made of the model."""
        self._write("valid", record, step, epoch)
        self._pace.validated()
        self._last_wer = f"  valid wer {100 * record['wer']:.2f} %" if "wer" in record else ""
        self.say(f"valid  step {step}  epoch {epoch:.2f}  {short(record)}  {note}")

    def event(self, **fields: Any) -> None:
        """A record that is no number, such as the ids of a batch that was skipped; from any thread."""
        record = {name: value if _is_json(value) else None for name, value in fields.items()}
        line = json.dumps({"time": time.time()} | record, ensure_ascii=False) + "\n"
        with self._writing, _told_of_disk(self._workdir):
            if self._active:
                self._file.write(line)
                self._file.flush()
                self._watch.beat()
                self._unreported.append(line)
        if threading.get_ident() == self._thread:  # those of other threads wait for it
            self._report()

    def to_disk(self) -> None:
        """Returns when all lines so far are on the disk."""
        with self._writing, _told_of_disk(self._workdir):
            if self._active:
                os.fsync(self._file.fileno())

    def nonfinite(self, step: int, **about: Any) -> None:
        """Writes what is known of a step without a finite loss and gradient into a file that `jaxasr.replay` takes."""
        if self._active:
            file = self._workdir / NONFINITE / f"step_{step:08d}.json"
            record = {"command": command("replay", [str(file)], self._imports), "step": step} | about
            write_atomically(file, json.dumps(record, ensure_ascii=False, indent=1).encode())

    def say(self, line: str, style: str | None = None) -> None:
        """Prints a line above the progress bar."""
        if self._active:
            self.console.print(rich.text.Text(line, style=style or ""), soft_wrap=True)

    def close(self) -> None:
        """Ends the bar and the files."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None
        with self._writing:
            if self._active:
                self._watch.close()
                for file in (self._board, self._file):
                    with contextlib.suppress(OSError):  # what could not be written, has been said
                        file.close()
            self._active = False
        self._report()

    def _report(self) -> None:
        """Gives the reporter what it has not seen; one that raises is asked no more."""
        reporter, self._reporter = self._reporter, None
        if reporter is not None:
            while self._unreported:
                reporter(json.loads(self._unreported.popleft()))
        self._reporter = reporter

    def _write(self, split: str, record: dict[str, Any], step: int, epoch: float) -> None:
        if not self._active:
            return
        self.event(split=split, step=step, epoch=round(epoch, 4), **record)
        self._board.add({f"{split}/{n}": x for n, x in record.items() if isinstance(x, int | float)}, step)

    def _eta(self, step: int, total: int | None) -> str:
        left = self._left(step, total)
        return "" if left is None else f"  ETA {int(left) // 60}:{int(left) % 60:02d}"

    def _left(self, step: int, total: int | None) -> float | None:
        """Seconds to the last step, where steps have been timed."""
        pace = self._pace.seconds_a_step()
        return pace * (total - step) if total and pace else None


@contextlib.contextmanager
def _told_of_disk(workdir: pathlib.Path) -> Iterator[None]:
    """Raises TrainingError where the log cannot be written."""
    try:
        yield
    except OSError as error:
        raise TrainingError(
            f"{workdir}: {error.strerror}; a folder to write in was expected, and room for the log; give the right to, "
            "or free some, and the same command goes on from the last state."
        ) from error


def _number(value: float) -> np.generic:
    """As it came from the device."""
    return np.int32(value) if isinstance(value, int) else np.float32(value)


def _continued(path: pathlib.Path) -> IO[str]:
    """The file, to be written on from a new line, even where a power cut left its last one half written."""
    cut = path.exists() and path.read_bytes()[-1:] not in (b"", b"\n")
    file = path.open("a", encoding="utf-8")
    file.write("\n" * cut)
    return file


def _is_json(value: Any) -> bool:
    """JSON has neither NaN nor infinity."""
    return not isinstance(value, float) or math.isfinite(value)


def short(record: dict[str, Any], *, speed_first: bool = False) -> str:
    """The numbers of a record on one line.

    >>> short({"loss": 1.23456, "step": 3})
    'loss 1.235'
    """
    labels = {"acc/token": "acc", "learning_rate": "lr", "grad_norm": "|g|", "audio_seconds_per_second": "audio s/s"}
    labels |= {"tokens_per_second": "tokens/s", "padding_percent": "padding %", "waiting_percent": "waiting %"}
    figures = [f"{labels.get(name, name)} {_figure(record[name])}" for name in ORDER if name in record]
    figures += [f"{name} {100 * record[name]:.2f} %" for name in ("wer", "cer") if name in record]
    whole = (*SPEEDS.values(), "padding_percent", "waiting_percent")
    speeds = [f"{labels[name]} {record[name]:.0f}" for name in whole if name in record]
    parts = speeds + figures if speed_first else figures + speeds
    return "  ".join(parts + ["skipped steps!"] * bool(record.get("skipped")))


def _figure(value: float) -> str:
    return f"{value:.2e}" if 0 < abs(value) < 0.01 else f"{value:.3f}"


class StepLog:
    """Reads each step's metrics while the next step runs, watches them and logs them every so many steps."""

    def __init__(
        self,
        log: RunLog,
        task: Task,
        log_steps: int,
        nonfinite_limit: int,
        start: Start | None = None,
        progress: Progress | None = None,
    ):
        """`progress` is where the run goes on."""
        self._progress = progress or Progress()
        self._log = log
        self._task = task
        self._log_steps = log_steps
        self._nonfinite_limit = nonfinite_limit
        self._start = start
        self._window = Window(self._progress.window)
        self._pending: tuple[Any, ...] | None = None

    def add(
        self,
        step: int,
        total: int | None,
        epoch: float,
        hosts: Sequence[HostBatch],
        metrics: Metrics,
        waited: float,
    ) -> None:
        """Takes note of a step that has been started, and reads the one before."""
        if self._start is not None:
            self._start.first_step(self._log, step, waited)
            self._start = None
        self._window.waiting += waited  # before the window may end: it was then that the loop waited
        self.flush()
        self._pending = (step, total, epoch, hosts, metrics)

    def save(self) -> None:
        """Reads what is pending, and notes in the progress what no line of the log has yet.

        The lines before that are on the disk then, also after a power cut.
        """
        self.flush()
        self._log.to_disk()
        self._progress.window = self._window.saved()

    def flush(self) -> None:
        """Reads what is pending.

        Raises:
          NonFiniteError: too many steps in a row had no finite loss and gradient.
        """
        if self._pending is None:
            return
        (step, total, epoch, hosts, metrics), self._pending = self._pending, None
        values = jax.device_get(metrics)
        samples = sum(int(np.sum(host.batch.input_lengths)) for host in hosts) * jax.process_count()
        if not values["skipped"].total:  # its NaN would hide the other steps' numbers
            shapes = [host.planned.shape for host in hosts]
            self._window.add(values, samples, sum(shape.rows * shape.samples for shape in shapes))
        self._log.advance(step, total, epoch)
        self._check(step, total, hosts, values)
        if step % self._log_steps == 0:
            self._log.steps(self._window.record(self._task), step, total, epoch)
            self._window = Window()

    def _check(self, step: int, total: int | None, hosts: Sequence[HostBatch], values: Metrics) -> None:
        if not values["skipped"].total:
            return
        ids, shapes = [i for host in hosts for i in host.ids], [host.planned.shape for host in hosts]
        self._log.event(split="skipped", step=step, shapes=shapes, ids=ids)
        batches = [{"shape": host.planned.shape._asdict(), "ids": host.ids} for host in hosts]
        self._log.nonfinite(step, total=total, rollbacks=self._progress.rollbacks, batches=batches)
        if values["skipped_in_a_row"].total >= self._nonfinite_limit:
            buckets = " and ".join(dict.fromkeys(shown(shape, self._task.source) for shape in shapes))
            error = NonFiniteError(
                f"step {step}: loss or gradient is not finite for {self._nonfinite_limit} steps in a row, last on the "
                f"bucket of {buckets} with {', '.join(ids[:8])}; finite ones were expected; lower "
                "--optimizer.learning_rate, give --rollbacks, or look at these utterances (all ids are in files of the "
                f"workdir's {NONFINITE}/, each with a command that repeats its step)."
            )
            error.first_step = step + 1 - int(values["skipped_in_a_row"].total)
            error.rollbacks = self._progress.rollbacks
            raise error
