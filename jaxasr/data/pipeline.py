"""Planned batches to host arrays: read, preprocess and collate ahead of time, in the plan's order."""

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxasr.data.bucketing import PlannedBatch
from jaxasr.data.manifest import Utterance
from jaxasr.data.selection import id_hash
from jaxasr.errors import DataError


class HostBatch(NamedTuple):
    """A batch of this process's rows, and whose the global batch's rows are."""

    planned: PlannedBatch
    ids: list[str]
    batch: Any


@dataclasses.dataclass(frozen=True)
class LoadBatch:
    """Number in the plan to batch; a pure function of (seed, epoch, utterance), so any worker may run it."""

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

    def __call__(self, number: int) -> HostBatch:
        planned = self.plan[number]
        index, count = self.process
        rows = planned.shape.rows // count
        mine = planned.indices[index * rows : (index + 1) * rows]
        examples = [self._example(int(i)) for i in mine]
        ids = [self.utterances[int(i)].id for i in planned.indices]
        return HostBatch(planned, ids, self.collate(examples, planned.shape._replace(rows=rows)))

    def _example(self, index: int) -> Any:
        utterance = self.utterances[index]
        if self.speeds is not None:
            utterance = dataclasses.replace(utterance, speed=float(self.speeds[index]))
        rng = np.random.default_rng([self.seed, self.epoch, id_hash(utterance.id)])
        try:
            return self.preprocess(utterance, rng)
        except DataError:
            raise
        except Exception as error:  # a user's own preprocessing may raise anything: say on which utterance
            raise DataError(
                f"{utterance.id} ({utterance.audio}): preprocessing raised {type(error).__name__}: {error}; "
                "correct or remove the utterance."
            ) from error


def load(
    batch: LoadBatch, *, start: int = 0, workers: int = 0, threads: int = 2, ahead: int = 4
) -> Generator[HostBatch, None, None]:
    """The plan's batches from number `start`, in order, read ahead in threads or in `workers` processes.

    Args:
      ahead: batches held ready.
    """
    import grain.python as grain  # half a second, which --help does not need

    dataset = grain.MapDataset.source(range(start, len(batch.plan))).map(batch)
    if workers:
        _mark_flags_parsed()
        dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=2))
        dataset = dataset.mp_prefetch(grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=2))
    else:
        dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=ahead))
    with _without_main() if workers else contextlib.nullcontext():
        iterator = iter(dataset)
        first = next(iterator, None)
    try:
        if first is not None:
            yield first
            yield from iterator
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()


def _mark_flags_parsed() -> None:
    """Grain's workers read absl flags, which only absl programs parse."""
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS.mark_as_parsed()


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Keeps a spawned worker from importing the program's own module again, and all of JAX with it."""
    main = sys.modules["__main__"]
    hidden = {name: main.__dict__.pop(name) for name in ("__spec__", "__file__") if name in main.__dict__}
    main.__dict__["__spec__"] = None
    try:
        yield
    finally:
        main.__dict__.update(hidden)
