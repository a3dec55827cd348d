"""Planned batches to host arrays: read, preprocess and collate ahead of time, in the plan's order."""

import contextlib
import dataclasses
from collections.abc import Callable, Generator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxasr.data.batch import BucketShape
from jaxasr.data.bucketing import PlannedBatch
from jaxasr.data.manifest import Utterance
from jaxasr.data.reading import in_order, reading, taken_ahead
from jaxasr.data.selection import id_hash
from jaxasr.data.workers import Workers
from jaxasr.errors import ConfigError, DataError, JaxasrError


class HostBatch(NamedTuple):
    """A batch of this process's rows, and whose the global batch's rows are."""

    planned: PlannedBatch
    ids: list[str]
    batch: Any


@dataclasses.dataclass(frozen=True)
class LoadBatch:
    """Number in the plan to batch; a pure function of (seed, epoch, utterance, repeat), so any worker may run it.

    Iterating over it gives the plan's batches in order, read ahead in threads (`load`).
    """

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

    def __len__(self) -> int:
        return len(self.plan)

    def __iter__(self) -> Generator[HostBatch, None, None]:
        return load(self)

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
        except Exception as error:  # as above; and one of another class might not travel from a worker
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
    if not workers:
        yield from in_order(batch, numbers, threads=threads, ahead=ahead)
        return
    with contextlib.ExitStack() as opened:
        processes = opened.enter_context(contextlib.closing(Workers(batch, numbers, workers)))
        taken = taken_ahead(iter(processes), processes=processes.told)
        yield from opened.enter_context(contextlib.closing(taken))
