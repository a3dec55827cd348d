"""Progress bars."""

import time
from collections.abc import Iterable, Iterator

import jax
import numpy as np
import rich.console
import rich.progress
import rich.table

from jaxasr.data.pipeline import HostBatch


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
