"""Bucket shapes chosen from durations, and the batch plan of an epoch."""

import dataclasses
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxasr.data.batch import BucketShape
from jaxasr.errors import DataError

_MAX_EDGES = 512
"""Candidate edges looked at; more of them make the batches smaller by less than one percent."""


class PlannedBatch(NamedTuple):
    """One batch of the plan: its shape, and which utterances fill its first rows."""

    shape: BucketShape
    indices: np.ndarray


@dataclasses.dataclass(frozen=True)
class BucketUse:
    """What one bucket holds over an epoch."""

    shape: BucketShape
    batches: int
    utterances: int
    samples: int
    """Real samples; the rest of the room is padding."""

    @property
    def room(self) -> int:
        """Samples of all its batches, padding and filler rows counted."""
        return self.batches * self.shape.rows * self.shape.samples

    @property
    def padding(self) -> float:
        """Share of the room that is padding.

        >>> BucketUse(BucketShape(rows=2, samples=100, tokens=9), batches=1, utterances=2, samples=150).padding
        0.25
        """
        return 1.0 - self.samples / self.room if self.room else 0.0


def choose(
    samples: np.ndarray,
    tokens: np.ndarray,
    *,
    batch_samples: int,
    max_buckets: int,
    rows_multiple: int,
    variants: int = 1,
    uses: np.ndarray | None = None,
) -> list[BucketShape]:
    """At most `max_buckets` shapes, shortest first, with the least padding for these lengths; none for no lengths.

    Args:
      samples: (N,) length of every utterance; `variants` entries each where speed is perturbed.
      tokens: (N,) likewise.
      batch_samples: rows * samples of a batch stays below it, unless `rows_multiple` rows are more already.
      rows_multiple: rows come in multiples of it, so that the plan does not depend on the number of devices.
      uses: (N,) how often each entry comes in an epoch, on average; None for once.

    Shapes grow in both dimensions, so what fits one fits every later one.

    >>> seconds = np.array([1, 1, 2, 4]) * 16000
    >>> choose(seconds, np.array([2, 3, 5, 9]), batch_samples=64000, max_buckets=2, rows_multiple=1)
    [BucketShape(rows=2, samples=16000, tokens=3), BucketShape(rows=1, samples=64000, tokens=9)]
    """
    if not len(samples):
        return []
    uses = np.ones(len(samples)) if uses is None else uses
    edges = _best_edges(np.asarray(samples), uses, max_buckets)
    bucket = np.searchsorted(edges, samples)
    shapes, longest = [], 0
    for index, edge in enumerate(edges):
        inside = bucket == index
        longest = max(longest, int(tokens[inside].max(initial=0)))
        filled = math.ceil(round(uses[inside].sum() / variants, 6))  # utterances that an epoch puts here, on average
        if edge == edges[-1]:
            filled += rows_multiple - 1  # the largest takes what is left over; the others are to fill a batch
        rows = min(batch_samples // int(edge), filled) // rows_multiple * rows_multiple
        shapes.append(BucketShape(max(rows, rows_multiple), int(edge), longest))
    return shapes


def _best_edges(samples: np.ndarray, uses: np.ndarray, max_buckets: int) -> np.ndarray:
    """The upper edges that minimise the padded total: dynamic programming over candidate edges."""
    candidates = _candidates(np.unique(np.maximum(samples, 1)))
    order = np.argsort(samples)
    used = np.concatenate([[0.0], np.cumsum(uses[order])])
    below = used[np.searchsorted(samples[order], candidates, side="right")]  # utterances up to each edge
    cost = candidates * below  # padded total with one bucket up to each edge
    choice = []
    for _ in range(min(max_buckets, len(candidates)) - 1):
        # the last bucket ends at column j, the one before at row i
        total = cost[:, None] + candidates[None, :] * (below[None, :] - below[:, None])
        total = np.where(np.tri(len(candidates), k=-1, dtype=bool).T, total, np.inf)
        total = np.vstack([total, cost[None]])  # or no further bucket at all
        choice.append(total.argmin(axis=0))
        cost = total.min(axis=0)
    edges, end = [len(candidates) - 1], len(candidates) - 1
    for best in reversed(choice):
        if best[end] < len(candidates):
            end = int(best[end])
            edges.append(end)
    return candidates[sorted(set(edges))]


def _candidates(edges: np.ndarray) -> np.ndarray:
    """At most `_MAX_EDGES` of the edges: half of them even in rank, half, for the sake of a long tail, in length."""
    if len(edges) <= _MAX_EDGES:
        return edges
    by_rank = np.linspace(0, len(edges) - 1, _MAX_EDGES // 2).round().astype(int)
    by_length = np.searchsorted(edges, np.linspace(edges[0], edges[-1], _MAX_EDGES // 2), side="right") - 1
    return edges[np.union1d(by_rank, by_length)]


def assign(samples: np.ndarray, tokens: np.ndarray, shapes: Sequence[BucketShape]) -> np.ndarray:
    """(N,) index of the first shape that each utterance fits; len(shapes) where none does.

    >>> assign(np.array([5, 9]), np.array([1, 1]), [BucketShape(2, 6, 3), BucketShape(2, 10, 3)]).tolist()
    [0, 1]
    """
    by_samples = np.searchsorted([s.samples for s in shapes], samples)
    by_tokens = np.searchsorted([s.tokens for s in shapes], tokens)
    return np.maximum(by_samples, by_tokens)


def plan(
    samples: np.ndarray, tokens: np.ndarray, shapes: Sequence[BucketShape], rng: np.random.Generator | None
) -> list[PlannedBatch]:
    """Every utterance once, in batches of the shapes; left-overs of a bucket move to the next larger one.

    With an `rng` the order of utterances and of batches is drawn from it; without, utterances go by length.
    Only the largest shape can be left with filler rows.

    Args:
      samples: (N,) that of each utterance.
      tokens: (N,) likewise.

    Raises:
      DataError: an utterance fits no shape.
    """
    order = np.argsort(samples, kind="stable") if rng is None else rng.permutation(len(samples))
    bucket = assign(samples, tokens, shapes)[order]
    if (bucket == len(shapes)).any():
        index = int(order[bucket == len(shapes)][0])
        raise DataError(
            f"plan: utterance {index} has {samples[index]} samples and {tokens[index]} tokens; at most those of the "
            f"largest shape, {shapes[-1] if shapes else 'of none'}, were expected; choose the shapes for these lengths."
        )
    batches, waiting = [], np.zeros(0, order.dtype)
    for index, shape in enumerate(shapes):
        waiting = np.concatenate([waiting, order[bucket == index]])
        last = index == len(shapes) - 1
        whole = len(waiting) if last else len(waiting) // shape.rows * shape.rows
        batches += [PlannedBatch(shape, waiting[i : i + shape.rows]) for i in range(0, whole, shape.rows)]
        waiting = waiting[whole:]
    return batches if rng is None else [batches[i] for i in rng.permutation(len(batches))]


def usage(batches: Sequence[PlannedBatch], samples: np.ndarray, shapes: Sequence[BucketShape]) -> list[BucketUse]:
    """What each shape holds in this plan of utterances with so many samples, (N,)."""
    uses = []
    for shape in shapes:
        mine = [b.indices for b in batches if b.shape == shape]
        uses.append(
            BucketUse(shape, len(mine), sum(map(len, mine)), sum(int(samples[i].sum()) for i in mine)),
        )
    return uses
