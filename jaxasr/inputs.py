"""From manifests to planned batches for a task: what to train on, and what to evaluate."""

import contextlib
import dataclasses
import functools
import hashlib
import json
import math
import os
import pathlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
import rich.console
import rich.table
import rich.text

from jaxasr.data import bucketing, mixing, pipeline
from jaxasr.data.batch import BucketShape
from jaxasr.data.manifest import Utterance
from jaxasr.data.mixing import Drawn
from jaxasr.data.pipeline import HostBatch, LoadBatch
from jaxasr.data.probe import headers
from jaxasr.data.selection import INFEASIBLE, Measures, Selection, draw_speeds, select, select_all
from jaxasr.errors import ConfigError, DataError
from jaxasr.parallel import is_main_process
from jaxasr.params import write_atomically
from jaxasr.tasks.base import Task


def measures(task: Task) -> Measures:
    """What of the task decides which utterances can be used."""
    return Measures(task.source, task.frames, task.frames_needed, task.num_tokens, task.unknown)


@dataclasses.dataclass(frozen=True)
class Inputs:
    """Utterances with their bucket shapes; gives the batches of any epoch as a pure function of its number."""

    task: Task
    selection: Selection
    shapes: list[BucketShape]
    seed: int = 0
    shuffle: bool = True
    train: bool = True
    collate: Callable[..., Any] | None = None
    """What puts examples into a batch; None for the task's own."""
    preprocess: Callable[..., Any] | None = None
    """From utterance to example; None for the task's own."""
    weights: tuple[float, ...] = ()
    """What the corpora's shares of an epoch are by; () for every utterance once."""

    def epoch(self, number: int) -> LoadBatch:
        """The batches of epoch `number`, in order: every utterance once, or as the weights say."""
        drawn, speed, samples = self._drawn(number)
        rng = np.random.default_rng([self.seed, number]) if self.shuffle else None
        return LoadBatch(
            bucketing.plan(samples, self.selection.tokens[drawn.indices], self.shapes, rng),
            [self.selection.utterances[i] for i in drawn.indices],
            self._example_of,
            self.collate or self.task.collate_fn(),
            self.seed,
            number,
            np.array(self.selection.speeds)[speed],
            (jax.process_index(), jax.process_count()),
            drawn.repeats,
        )

    @functools.cached_property
    def _example_of(self) -> Callable[..., Any]:
        """From utterance to example; made once, since that may look through folders of noises."""
        return self.preprocess or self.task.preprocess_fn(train=self.train)

    def _drawn(self, number: int) -> tuple[Drawn, np.ndarray, np.ndarray]:
        """(M,) the utterances of epoch `number`, the index of each one's speed, and its samples at that speed."""
        drawn = mixing.draw(self.selection.corpora, self.weights, self.seed, number)
        speed = draw_speeds(self.selection, self.seed, number, drawn)
        return drawn, speed, self.selection.samples[drawn.indices, speed]

    def num_batches(self, number: int) -> int:
        """How many batches epoch `number` has."""
        return len(self.epoch(number).plan)

    def shapes_by_need(self, epoch: int = 0, start: int = 0) -> list[BucketShape]:
        """All shapes, those first that batches from number `start` of `epoch` on need first."""
        return list(dict.fromkeys([*(planned.shape for planned in self.epoch(epoch).plan[start:]), *self.shapes]))

    @property
    def size(self) -> float:
        """Hours, or tokens of text."""
        return self._size(self.selection.plain_samples)

    def _size(self, samples: np.ndarray) -> float:
        _, units = self.task.source.of_corpora
        return float(samples.sum()) / self.task.input_rate / units

    def shares(self, number: int) -> list[tuple[int, float, int]]:
        """Of each of `number` corpora its utterances, their `size`, and how many of them stand in an epoch."""
        corpora, samples = self.selection.corpora, self.selection.plain_samples
        sizes = np.bincount(corpora, minlength=number).tolist()
        found = [self._size(samples[corpora == i]) for i in range(number)]
        drawn = mixing.counts(sizes, self.weights) if self.weights else sizes
        return list(zip(sizes, found, drawn, strict=True))

    def print_shares(self, console: rich.console.Console, names: Sequence[str]) -> None:
        """A table of the corpora by these names: utterances and `size` of each, and its share of an epoch."""
        shares = self.shares(len(names))
        table = rich.table.Table(title="Corpora", title_justify="left")
        table.add_column("--train")
        for name in ("utterances", self.task.source.of_corpora[0], "in an epoch", "% of it"):
            table.add_column(name, justify="right")
        total = sum(size for size, _, _ in shares)
        for name, (size, found, count) in zip(names, shares, strict=True):
            figures = str(size), f"{found:.2f}", str(count), f"{100 * count / total:.1f}"
            table.add_row(rich.text.Text(name), *figures)
        console.print(table)

    def fingerprint(self) -> str:
        """A hash of what batches are made from: the utterances, their lengths, weights and shapes, noises and rooms."""
        digest = hashlib.sha256(repr(self.shapes).encode())
        for utterance in self.selection.utterances:
            digest.update(f"{utterance.id}\0{utterance.text}\0".encode())
        for file in self.task.sounds_drawn_from():
            digest.update(f"{os.path.basename(file.path)}\0{file.frames}\0{file.rate}\0".encode())
        if self.weights:
            digest.update(repr((self.weights, self.selection.corpora.tolist())).encode())
        for array in (self.selection.samples, self.selection.usable, self.selection.tokens):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    def usage(self) -> list[bucketing.BucketUse]:
        """What each shape holds in the first epoch."""
        return bucketing.usage(self.epoch(0).plan, self._drawn(0)[2], self.shapes)

    def print_buckets(self, console: rich.console.Console, title: str) -> None:
        """A table of the shapes: rows, seconds or tokens, utterances and padding of the first epoch."""
        uses = self.usage()
        table = rich.table.Table(title=title, title_justify="left")
        timed = ["seconds"] if self.task.source.unit == "seconds" else []
        for name in ("rows", *timed, "tokens", "batches", "utterances", "padding %"):
            table.add_column(name, justify="right")
        for use in uses:
            rows, samples, tokens = use.shape
            seconds, padding = [f"{samples / self.task.input_rate:.2f}" for _ in timed], f"{100 * use.padding:.1f}"
            table.add_row(str(rows), *seconds, str(tokens), str(use.batches), str(use.utterances), padding)
        batches, utterances = sum(u.batches for u in uses), sum(u.utterances for u in uses)
        padding = 1 - sum(u.samples for u in uses) / max(sum(u.room for u in uses), 1) if uses else 0.0
        table.add_row(
            "", *("" for _ in timed), "all", str(batches), str(utterances), f"{100 * padding:.1f}", style="bold"
        )
        console.print(table)


def training_inputs(
    task: Task,
    utterances: Sequence[Utterance],
    *,
    batch_seconds: float,
    max_buckets: int = 5,
    rows_multiple: int = 8,
    max_seconds: float = 40.0,
    seed: int = 0,
    weights: tuple[float, ...] = (),
    check_sound: bool = True,
    collate: Callable[..., Any] | None = None,
) -> Inputs:
    """What training can use of `utterances`, and the shapes that suit their lengths at every speed.

    The task has its resources (`task.prepared`). Lengths are seconds, or tokens where it reads text. What comes back is
    iterated over by `for host in inputs.epoch(number)`: `host.batch` goes into the task's functions.

    Args:
      batch_seconds: at most so many in a batch, padding included.
      max_buckets: most shapes, each of which is compiled once.
      rows_multiple: rows of a batch come in multiples of it.
      max_seconds: longer utterances are left out.
      seed: of the order, the speeds and what preprocessing draws, in every epoch.
      weights: what the corpora's shares of an epoch are by; () for every utterance once.
      check_sound: read every file to its end first, and leave out those that cannot be; else the seconds that a
        manifest states are trusted.

    Raises:
      DataError: nothing is left to train on.
    """
    preprocess, speeds = task.preprocess_fn(train=True), task.training_speeds()  # first: it may look for noises
    longest = max_seconds * max(speeds)
    infos = headers(utterances, task.source, whole=check_sound, trust=not check_sound, max_seconds=longest)
    selection = select(
        utterances,
        infos,
        measures(task),
        speeds=speeds,
        max_seconds=max_seconds,
        leave_out_unknown=task.leaves_out_unknown(),
    )
    if not selection.utterances:
        first = "".join(f" {fault}" for fault in list(selection.faults.values())[:1])
        raise DataError(
            f"--train: nothing is left to train on: {selection.accounting()}; at least one utterance was expected; "
            f"correct the data.{first}"
        )
    shapes = training_shapes(
        selection,
        batch_samples=int(batch_seconds * task.input_rate),
        max_buckets=max_buckets,
        rows_multiple=rows_multiple,
        weights=weights,
    )
    return Inputs(task, selection, shapes, seed, collate=collate, preprocess=preprocess, weights=weights)


def training_shapes(
    selection: Selection, *, batch_samples: int, max_buckets: int, rows_multiple: int, weights: tuple[float, ...]
) -> list[BucketShape]:
    """The shapes that suit the lengths at every speed."""
    usable = selection.usable
    return bucketing.choose(
        selection.samples[usable],
        np.broadcast_to(selection.tokens[:, None], usable.shape)[usable],
        batch_samples=batch_samples,
        max_buckets=max_buckets,
        rows_multiple=rows_multiple,
        variants=len(selection.speeds),
        uses=np.broadcast_to(mixing.uses(selection.corpora, weights)[:, None], usable.shape)[usable],
    )


def check_feasible(selection: Selection, frame_ms: float, limit: float) -> str:
    """A line on frames against tokens.

    Raises:
      DataError: more than `limit` of the utterances have fewer frames than CTC needs.
    """
    share = len(selection.left_out.get(INFEASIBLE, ())) / max(selection.total, 1)
    line = f"{frame_ms:g} ms per encoder frame; {100 * share:.2f} % of the utterances have too few frames for CTC"
    if share > limit:
        raise DataError(
            f"--train: {line}; at most {100 * limit:g} % was expected; take shorter encoder frames (--frontend.lfr_n "
            "and lfr_m, --encoder.subsampling), tokens that stand for more sound (--tokenizer=word), slower "
            "--preprocess.speeds, or raise --max_infeasible."
        )
    return line


def write_left_out(selection: Selection, folder: pathlib.Path, console: rich.console.Console) -> None:
    """Lists what is not used in `left_out.jsonl`; there is no such file where everything is."""
    file = folder / "left_out.jsonl"
    rows = [json.dumps(row, ensure_ascii=False) + "\n" for row in selection.left_out_rows()]
    if rows:
        console.print(f"  all {len(rows)} left out: {file}", highlight=False, markup=False, soft_wrap=True)
    if rows and is_main_process():
        write_atomically(file, "".join(rows).encode())
    elif is_main_process():
        file.unlink(missing_ok=True)


def check_batches(options: Any) -> None:
    """Raises ConfigError where --rows, --batch_seconds or --max_buckets cannot be."""
    for name in ("rows", "batch_seconds", "max_buckets"):
        if (value := getattr(options, name)) is not None and not 0 < value < math.inf:
            raise ConfigError(f"--{name}={value}: a positive number was expected; change it.")


def evaluation_inputs(
    task: Task,
    utterances: Sequence[Utterance],
    *,
    batch_seconds: float,
    max_buckets: int = 6,
    rows: int | None = None,
    rows_multiple: int = 1,
    extra_seconds: float = 0.0,
    check_sound: bool = False,
) -> Inputs:
    """Every one of `utterances`, with shapes from their own lengths.

    `for host in evaluation_inputs(...).epoch(0)`: `host.batch` goes into the task's functions, whose rows are
    `host.ids` and then empty ones.

    Args:
      rows: rows of every batch; None chooses them by `batch_seconds`.
      extra_seconds: padding added to every row; changes no result.
      check_sound: read every file to its end first.

    Raises:
      DataError: a file cannot be read.
    """
    infos = headers(utterances, task.source, whole=check_sound)
    return evaluation_inputs_of(
        task,
        select_all(utterances, infos, measures(task)),
        batch_seconds=batch_seconds,
        max_buckets=max_buckets,
        rows=rows,
        rows_multiple=rows_multiple,
        extra_seconds=extra_seconds,
    )


def evaluation_inputs_of(
    task: Task,
    selection: Selection,
    *,
    batch_seconds: float,
    max_buckets: int,
    rows: int | None,
    rows_multiple: int,
    extra_seconds: float,
) -> Inputs:
    """`evaluation_inputs` for utterances that have been measured.

    There are no more shapes than batches would be needed with one of them: compiling another would not pay.
    """
    samples = selection.samples[:, 0]
    longest = int(samples.max(initial=1))
    batch_samples = max(int(batch_seconds * task.input_rate), 1)
    batches = -(-len(samples) // (rows or max(batch_samples // longest, 1)))
    shapes = bucketing.choose(
        samples,
        selection.tokens,
        batch_samples=batch_samples,
        max_buckets=min(max_buckets, max(batches, 1)),
        rows_multiple=rows or rows_multiple,
    )
    extra = int(extra_seconds * task.input_rate)
    shapes = [s._replace(rows=rows or s.rows, samples=s.samples + extra) for s in shapes]
    return Inputs(task, selection, shapes, shuffle=False, train=False)


class Position(NamedTuple):
    """Where a batch stands in the run."""

    epoch: int
    batch: int
    """Batches of the epoch up to and with this one."""
    batches: int

    @property
    def epochs(self) -> float:
        """Epochs until here, parts of one too.

        >>> Position(epoch=1, batch=5, batches=10).epochs
        1.5
        """
        return self.epoch + self.batch / self.batches

    @property
    def ends_epoch(self) -> bool:
        """Whether this batch is the last of its epoch."""
        return self.batch == self.batches

    def next(self) -> tuple[int, int]:
        """(epoch, batches done in it) after this batch."""
        return (self.epoch + 1, 0) if self.ends_epoch else (self.epoch, self.batch)


def batches(inputs: Inputs, epoch: int, start: int, workers: int) -> Iterator[tuple[Position, HostBatch, float]]:
    """Positions, host batches and seconds waited for them, from batch `start` of `epoch` on and without end."""
    while True:
        loader = inputs.epoch(epoch)
        with contextlib.closing(pipeline.load(loader, start=start, workers=workers)) as loaded:
            for number in range(start + 1, len(loader.plan) + 1):
                asked = time.perf_counter()
                host = next(loaded)
                yield Position(epoch, number, len(loader.plan)), host, time.perf_counter() - asked
        epoch, start = epoch + 1, 0


def groups(
    inputs: Inputs, epoch: int, start: int, workers: int, size: int
) -> Iterator[tuple[Position, list[HostBatch], float]]:
    """`batches` by `size`, fewer at an epoch's end, with the last one's position and the seconds waited for all."""
    hosts: list[HostBatch] = []
    waited = 0.0
    for position, host, seconds in batches(inputs, epoch, start, workers):
        hosts.append(host)
        waited += seconds
        if len(hosts) == size or position.ends_epoch:
            yield position, hosts, waited
            hosts, waited = [], 0.0
