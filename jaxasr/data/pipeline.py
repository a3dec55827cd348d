"""Planned batches to host arrays: read, preprocess and collate ahead of time, in the plan's order."""

import contextlib
import dataclasses
import itertools
import multiprocessing
import os
import pathlib
import signal
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from multiprocessing import resource_tracker
from typing import Any, NamedTuple

import numpy as np

from jaxasr.data.batch import BucketShape
from jaxasr.data.bucketing import PlannedBatch
from jaxasr.data.manifest import Utterance
from jaxasr.data.reading import ended, in_order, reading, taken_ahead, tell
from jaxasr.data.selection import id_hash
from jaxasr.errors import ConfigError, DataError, JaxasrError


class HostBatch(NamedTuple):
    """A batch of this process's rows, and whose the global batch's rows are."""

    planned: PlannedBatch
    ids: list[str]
    batch: Any


@dataclasses.dataclass(frozen=True)
class LoadBatch:
    """Number in the plan to batch; a pure function of (seed, epoch, utterance, repeat), so any worker may run it."""

    plan: Sequence[PlannedBatch]
    utterances: Sequence[Utterance]
    preprocess: Callable[[Utterance, np.random.Generator], Any]
    collate: Callable[..., Any]
    seed: int
    epoch: int
    speeds: np.ndarray | None = None
    """(N,) speed factor of each utterance; None for 1."""
    process: tuple[int, int] = (0, 1)
    """This process's index and the number of processes; each reads its share of a batch's rows."""
    repeats: np.ndarray | None = None
    """(N,) how often each utterance stands in the epoch before; None for never."""

    def __post_init__(self):
        for planned in self.plan:
            if planned.shape.rows % self.process[1]:
                raise ConfigError(
                    f"--num_processes={self.process[1]}: batches of {planned.shape.rows} rows; rows that the number of "
                    "processes divides were expected; change --rows_multiple or --num_processes."
                )

    def __call__(self, number: int) -> HostBatch:
        planned = self.plan[number]
        index, count = self.process
        rows = planned.shape.rows // count
        mine = planned.indices[index * rows : (index + 1) * rows]
        examples = [self._example(int(i)) for i in mine]
        ids = [self.utterances[int(i)].id for i in planned.indices]
        return HostBatch(planned, ids, self._collated(examples, planned.shape._replace(rows=rows), ids))

    def _example(self, index: int) -> Any:
        utterance = self.utterances[index]
        if self.speeds is not None:
            utterance = dataclasses.replace(utterance, speed=float(self.speeds[index]))
        again = () if self.repeats is None or not self.repeats[index] else (int(self.repeats[index]),)
        rng = np.random.default_rng([self.seed, self.epoch, id_hash(utterance.id), *again])
        try:
            with reading(utterance.audio or utterance.id):
                return self.preprocess(utterance, rng)
        except DataError as error:
            if f"(utterance {utterance.id})" in str(error):
                raise
            raise DataError(f"{utterance.id} ({utterance.audio}): {error}") from error
        except JaxasrError:
            raise
        except Exception as error:  # a user's own preprocessing may raise anything: say on which utterance
            raise DataError(
                f"{utterance.id} ({utterance.audio}): preprocessing raised {type(error).__name__}: {error}; an example "
                "was expected; correct the preprocessing, or correct or remove the utterance."
            ) from error

    def _collated(self, examples: Sequence[Any], shape: BucketShape, ids: Sequence[str]) -> Any:
        try:
            return self.collate(examples, shape)
        except JaxasrError:
            raise
        except Exception as error:  # as above; and an error that cannot be pickled would hang a worker
            raise DataError(
                f"batch of {', '.join(ids)}: collating to {shape} raised {type(error).__name__}: {error}; a batch was "
                "expected; correct the collate function."
            ) from error


def load(
    batch: LoadBatch, *, start: int = 0, workers: int = 0, threads: int = 2, ahead: int = 4
) -> Generator[HostBatch, None, None]:
    """The plan's batches from number `start`, in order, read ahead in threads or in `workers` processes.

    Args:
      ahead: batches held ready.

    Raises:
      DataError: an utterance cannot be read, or reading stands still.
    """
    numbers = range(start, len(batch.plan))
    if workers:
        yield from _from_processes(batch, numbers, workers)
    else:
        yield from in_order(batch, numbers, threads=threads, ahead=ahead)


def _from_processes(batch: LoadBatch, numbers: range, workers: int) -> Generator[HostBatch, None, None]:
    import grain.python as grain  # half a second, which --help does not need

    _mark_flags_parsed()
    dataset: Any = grain.MapDataset.source(numbers).map(batch).map(_Parcel)
    dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
    options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2)
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(tempfile.TemporaryDirectory(prefix="jaxasr-"))
        parcels = opened.enter_context(contextlib.closing(iter(dataset.mp_prefetch(options, _Begin(folder)))))

        def hosts() -> Iterator[HostBatch]:
            try:
                with _spawning():
                    first = list(itertools.islice(parcels, 1))
                yield from (parcel.host for parcel in itertools.chain(first, parcels))
            except RuntimeError as error:  # Grain has seen that one has ended
                raise ended([]) from error

        # in a thread, since whoever waits for a process that dies while it sends waits for ever
        taken = taken_ahead(hosts(), processes=pathlib.Path(folder))
        yield from opened.enter_context(contextlib.closing(taken))


@dataclasses.dataclass(frozen=True)
class _Parcel:
    """A batch whose arrays Grain does not see.

    It sends arrays that it sees through shared memory, of which containers have little, and which is never freed where
    JAX still holds an array when the program ends.
    """

    host: HostBatch


def _mark_flags_parsed() -> None:
    """Grain's workers read absl flags, which only absl programs parse."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


@dataclasses.dataclass(frozen=True)
class _Begin:
    """What a worker does first."""

    folder: str
    """Where it tells what it reads."""

    def __call__(self, worker: int, count: int) -> None:
        _end_with_parent()
        tell(self.folder, worker)


def _end_with_parent() -> None:
    """Lets a worker end when its program was killed; it would wait for a reader for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _spawning() -> Iterator[None]:
    """Workers that start meanwhile neither run the program's own module again nor take its signals.

    Ctrl-C and a scheduler's SIGTERM reach every process of a group; the program saves and then ends its workers.
    """
    main = sys.modules["__main__"].__dict__
    hidden = {name: main.pop(name) for name in ("__spec__", "__file__") if name in main}
    main["__spec__"] = None
    resource_tracker.ensure_running()  # while it starts it lets the signals through
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        main.update(hidden)
