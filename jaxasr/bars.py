"""Progress bars."""

import collections
import time
from collections.abc import Collection, Iterable, Iterator

import jax
import numpy as np
import rich.console
import rich.progress
import rich.table

from jaxasr.data.pipeline import HostBatch


class Pace:
    """How fast a run is, by its latest steps."""

    def __init__(self):
        self._gaps: collections.deque[tuple[float, bool]] = collections.deque(maxlen=1000)
        self._last: float | None = None
        self._validated = False

    def step(self) -> None:
        """A step has ended."""
        now = time.perf_counter()
        if self._last is not None:
            self._gaps.append((now - self._last, self._validated))
        self._last, self._validated = now, False

    def validated(self) -> None:
        """There is a validation between the last step and the next."""
        self._validated = True

    def seconds_a_step(self) -> float | None:
        """None as long as there is but one."""
        return _mean(self._gaps) if self._gaps else None


def _mean(gaps: Collection[tuple[float, bool]]) -> float:
    """Of seconds from step to step, validations counted; without the far longer ones that waited for a compiler.

    >>> _mean([(90, False), (1, False), (1, False), (4, True)])
    2.0
    """
    usual = sorted(seconds for seconds, _ in gaps)[len(gaps) // 2]
    counted = [seconds for seconds, validated in gaps if validated or seconds <= 10 * usual]
    return sum(counted) / len(counted)


def bar(console: rich.console.Console, *, transient: bool = False) -> rich.progress.Progress:
    """What is done, the time taken and left, and of the field `numbers` as much as there is room for."""
    return rich.progress.Progress(
        rich.progress.TextColumn("{task.description}"),
        rich.progress.BarColumn(bar_width=min(40, max(5, console.width // 6))),
        rich.progress.MofNCompleteColumn(),
        rich.progress.TimeElapsedColumn(),
        rich.progress.TextColumn("left"),
        rich.progress.TimeRemainingColumn(),
        rich.progress.TextColumn(
            "{task.fields[numbers]}", table_column=rich.table.Column(ratio=1, no_wrap=True, overflow="ellipsis")
        ),
        console=console,
        expand=True,
        transient=transient,
    )


def with_bar(
    batches: Iterable[HostBatch], total: int, rate: float, console: rich.console.Console
) -> Iterator[HostBatch]:
    """The batches, with a bar that tells how many are done, the ETA and the audio seconds per second."""
    began, samples = time.perf_counter(), 0
    with bar(console, transient=True) as shown:
        task = shown.add_task("batches", total=total, numbers="")
        for host in batches:
            yield host
            samples += int(np.sum(host.batch.input_lengths)) * jax.process_count()
            speed = samples / rate / max(time.perf_counter() - began, 1e-9)
            shown.update(task, advance=1, numbers=f"audio s/s {speed:.0f}")


def with_sound_bar(
    blocks: Iterable[np.ndarray], total: int, rate: float, console: rich.console.Console
) -> Iterator[np.ndarray]:
    """Blocks (S,) of `total` samples of sound in all, with the same bar."""
    began, samples = time.perf_counter(), 0
    with bar(console, transient=True) as shown:
        task = shown.add_task("samples", total=total, numbers="")
        for block in blocks:
            yield block
            samples += len(block)
            speed = samples / rate / max(time.perf_counter() - began, 1e-9)
            shown.update(task, advance=len(block), numbers=f"audio s/s {speed:.0f}")
