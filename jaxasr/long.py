"""Sound of hours to one hypothesis, in memory that does not grow with it: segments, in batches of few shapes."""

import dataclasses
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import rich.console

from jaxasr.bars import with_sound_bar
from jaxasr.data.audio import SoundSource
from jaxasr.data.batch import BucketShape
from jaxasr.data.bucketing import PlannedBatch
from jaxasr.data.pipeline import HostBatch
from jaxasr.data.probe import probe
from jaxasr.data.reading import taken_ahead
from jaxasr.data.segmenter import Segment, Segmenter
from jaxasr.data.selection import lengths
from jaxasr.data.source import FileSource, check_seconds, of_files
from jaxasr.data.source import place as named
from jaxasr.data.textfile import few
from jaxasr.data.utterance import Utterance
from jaxasr.errors import DataError
from jaxasr.hypothesis import Hypothesis, hypothesis_of, joined, with_words
from jaxasr.inputs import Inputs, evaluation_inputs
from jaxasr.recognizer import Recognizer
from jaxasr.tasks.base import Task
from jaxasr.typing import Array, Bool, Float, Params

LENGTHS, SHORTEST_SECONDS = 4, 2.0
"""Lengths of batches, each half of the next: at most half of a batch is padding, but for the shortest."""
NEAR_SECONDS = 0.3
"""How far apart two segments may hear the same token."""
LEAST_SECONDS = 0.001
"""Of a token that another segment than the one before it has heard, where they are in each other's way."""


@dataclasses.dataclass(frozen=True)
class Batching:
    """The shapes of batches that segments come in, which depend on no sound."""

    batch_seconds: float = 200.0
    max_buckets: int = 6
    rows: int | None = None
    rows_multiple: int = 1
    extra_seconds: float = 0.0

    def shapes(self, task: Task, longest: int) -> list[BucketShape]:
        """For segments of at most so many samples, the shortest first."""
        rate, shapes = task.input_rate, list[BucketShape]()
        for number in range(min(self.max_buckets, LENGTHS)):
            samples = -(-longest // 2**number)
            if shapes and samples < SHORTEST_SECONDS * rate:
                break
            rows = max(int(self.batch_seconds * rate) // samples, 1)
            extra = int(self.extra_seconds * rate)
            shapes.append(BucketShape(self._rows(1 << (rows.bit_length() - 1)), samples + extra, 1))
        return shapes[::-1]

    def smaller(self, shape: BucketShape, count: int) -> BucketShape:
        """With no more rows than so many segments need, of which there are few numbers."""
        return shape._replace(rows=min(self._rows(1 << (count - 1).bit_length()), shape.rows))

    def _rows(self, power_of_two: int) -> int:
        return self.rows or -(-power_of_two // self.rows_multiple) * self.rows_multiple


class Place(NamedTuple):
    """Where a segment is in the sound, all in samples."""

    start: int
    length: int
    cut: int | None
    """As `Segment.cut`."""


def recognized(
    recognizer: Recognizer,
    params: Params,
    utterances: Sequence[Utterance],
    segmenter: Segmenter,
    batching: Batching,
    *,
    adapt: Callable[[Inputs], Inputs] = lambda inputs: inputs,
    max_seconds: float = math.inf,
    progress: rich.console.Console | None = None,
) -> list[Hypothesis]:
    """The hypothesis of each utterance; those that are too long for it are listened to in segments.

    Args:
      adapt: changes how the others come in batches.

    Raises:
      DataError: a file cannot be read, or is longer than `max_seconds`.
    """
    source = of_files(recognizer.task.source)
    samples = samples_of(utterances, source, max_seconds)
    cut = {u.id: n for u, n in zip(utterances, samples, strict=True) if segmenter.cuts(n, source)}
    found: dict[str, Hypothesis] = {}
    if whole := [u for u in utterances if u.id not in cut]:
        inputs = evaluation_inputs(recognizer.task, whole, **dataclasses.asdict(batching))
        found = {said.id: said for said in recognizer(params, adapt(inputs), progress=progress)[0]}
    for utterance in utterances:
        if utterance.id in cut:
            assert isinstance(source, SoundSource)
            blocks = taken_ahead(source.blocks(utterance))
            if progress is not None:
                blocks = with_sound_bar(blocks, cut[utterance.id], source.rate, progress)
            found[utterance.id] = heard(recognizer, params, utterance.id, blocks, segmenter, batching)
    return [found[u.id] for u in utterances]


def samples_of(utterances: Sequence[Utterance], source: FileSource, max_seconds: float = math.inf) -> list[int]:
    """Of each utterance; raises DataError that tells how many cannot be read, of which it has the first one's fault."""
    infos = probe([u.audio for u in utterances], source)
    found, faults = list[int](), dict[str, DataError]()
    for utterance in utterances:
        try:
            found.append(lengths(utterance, infos, source, (1.0,))[0])
            check_seconds(named(utterance), found[-1] / source.rate, max_seconds)
        except DataError as fault:
            faults[utterance.id] = fault
    if len(faults) > 1:
        error = next(iter(faults.values()))
        raise DataError(f"{len(faults)} of {len(utterances)} utterances cannot be read ({few(faults)}): {error}")
    if faults:
        raise faults.popitem()[1]
    return found


def heard(
    recognizer: Recognizer,
    params: Params,
    name: str,
    blocks: Iterable[np.ndarray],
    segmenter: Segmenter,
    batching: Batching,
) -> Hypothesis:
    """What is said in sound that comes in blocks (S,), float32 at the task's rate; with words.

    The score is the sum of the segments' scores.
    """
    task, places, samples = recognizer.task, list[Place](), [0]

    def counted() -> Iterator[np.ndarray]:
        for block in blocks:
            samples[0] += len(block)
            yield block

    def placed() -> Iterator[Segment]:
        for segment in segmenter.segments(counted(), task.input_rate):
            places.append(Place(segment.start, len(segment.audio), segment.cut))
            yield segment

    found: dict[int, Hypothesis] = {}
    for indices, hypotheses, _ in recognizer.decoded(params, _batches(recognizer, placed(), segmenter, batching)):
        for row, index in enumerate(indices):
            found[index] = hypothesis_of(task, hypotheses, row, name, places[index].length)
    parts = merged(task, [(place, found[i]) for i, place in enumerate(places)])
    whole = together(name, [with_words(task, part) for part in parts])
    return whole._replace(seconds=samples[0] / task.input_rate, silence=1.0 - _covered(places) / max(samples[0], 1))


def _covered(places: Sequence[Place]) -> int:
    """Samples of all segments, those of two once."""
    ends = [0, *(place.start + place.length for place in places)]
    return sum(end - max(place.start, before) for place, before, end in zip(places, ends, ends[1:], strict=False))


def _batches(
    recognizer: Recognizer, segments: Iterable[Segment], segmenter: Segmenter, batching: Batching
) -> Iterator[HostBatch]:
    """The segments by their lengths, each batch as soon as it is full; the rest in the end."""
    task = recognizer.task
    collate = task.collate_fn()
    shapes = batching.shapes(task, segmenter.longest(task.input_rate))
    waiting: list[list[tuple[int, Any]]] = [[] for _ in shapes]

    def batch(shape: BucketShape, rows: list[tuple[int, Any]]) -> HostBatch:
        indices, examples = zip(*rows, strict=True)
        rows.clear()
        return HostBatch(PlannedBatch(shape, np.array(indices)), list(map(str, indices)), collate(examples, shape))

    for index, segment in enumerate(segments):
        number = next(i for i, shape in enumerate(shapes) if len(segment.audio) <= shape.samples)
        rows = waiting[number]
        rows.append((index, of_files(task.source).example(str(index), segment.audio, np.zeros(0, np.int32))))
        if len(rows) == shapes[number].rows:
            yield batch(shapes[number], rows)
    for shape, rows in zip(shapes, waiting, strict=True):
        if rows:
            yield batch(shape if shape in recognizer.compiled else batching.smaller(shape, len(rows)), rows)


# --- segments to one text ------------------------------------------------------------------------------------


def merged(task: Task, heard: Sequence[tuple[Place, Hypothesis]]) -> list[Hypothesis]:
    """What is said of each stretch of sound, of which the segments do not overlap; times are those of all the sound."""
    parts: list[Hypothesis] = []
    begin = 0
    for number, (place, said) in enumerate(heard):
        if said.times is not None:
            start = place.start / task.input_rate
            said = said._replace(times=[(start + first, start + last) for first, last in said.times])
        if place.cut is None or not parts:
            parts.append(said)
            begin = place.start
            continue
        before = heard[number - 1][0]
        end = before.start + before.length
        room = (end - place.start) / (end - begin), (end - place.start) / place.length
        keep, first = seam(parts[-1], said, place.cut / task.input_rate, room)
        parts[-1] = _passing(task, parts[-1], said, keep, first)
    return parts


def _passing(task: Task, before: Hypothesis, after: Hypothesis, keep: int, first: int) -> Hypothesis:
    """One hypothesis of the first `keep` tokens of one and those of the other from `first` on, none before another."""
    whole = together(before.id, [_tokens(before, slice(keep)), _tokens(after, slice(first, None))])
    for place in range(max(keep, 1), len(whole.times or ())):
        assert whole.times is not None
        start, end = max(whole.times[place][0], whole.times[place - 1][1]), whole.times[place][1]
        whole.times[place] = (start, max(end, start + LEAST_SECONDS))
    return whole._replace(text=task.text(whole.tokens))


def _tokens(said: Hypothesis, part: slice) -> Hypothesis:
    confidences = None if said.confidences is None else said.confidences[part]
    times = None if said.times is None else said.times[part]
    return said._replace(tokens=said.tokens[part], confidences=confidences, times=times)


def seam(before: Hypothesis, after: Hypothesis, cut: float, room: tuple[float, float]) -> tuple[int, int]:
    """How many tokens of `before` to keep, and with which of `after` to go on, where both have heard the same sound.

    It lies in the middle of the longest run of tokens that both have, at about the same time if times are known; of
    equally long ones at the most similar time. Without any, tokens are taken by the side of the cut that the middle of
    their time is on; if times are not known either, all are kept.

    Args:
      cut: the middle of the sound that both have heard, in the seconds of `times`.
      room: the shares of either one's sound that the other has heard too, which say what tokens may be the same where
        times do not.

    >>> before = Hypothesis("u1", "a b c", 0.0, [4, 5, 6])
    >>> seam(before, Hypothesis("u1", "b c d", 0.0, [5, 6, 7]), 0.0, (1.0, 1.0))
    (2, 1)
    """
    ends, begins = _middles(before), _middles(after)
    if ends is None or begins is None:
        apart = np.zeros((len(before.tokens), len(after.tokens)))
        apart[: len(before.tokens) - _reach(before, room[0])] = np.inf
        apart[:, _reach(after, room[1]) :] = np.inf
    else:
        apart = np.abs(np.subtract.outer(ends, begins))
    runs = _runs(np.equal.outer(before.tokens, after.tokens) & (apart <= NEAR_SECONDS))
    if not runs.any():
        if ends is None or begins is None:
            return len(before.tokens), 0
        return int(np.sum(ends < cut)), int(np.sum(begins < cut))
    best = np.argwhere(runs == runs.max())
    row, column = min(best.tolist(), key=lambda at: (apart[*at], -at[0], at[1]))
    back = int(runs.max()) // 2
    return row + 1 - back, column + 1 - back


def _middles(said: Hypothesis) -> np.ndarray | None:
    """Of each token's time, in seconds."""
    return None if said.times is None else np.array(said.times).reshape(-1, 2).mean(axis=1)


def _reach(said: Hypothesis, share: float) -> int:
    """Tokens that may lie in a share of the sound: twice as many as would if they were spread evenly."""
    return min(int(np.ceil(2.0 * share * len(said.tokens))) + 1, len(said.tokens))


def _runs(same: Bool[Array, "M N"]) -> Float[np.ndarray, "M N"]:
    """How many tokens in a row are the same up to each pair."""
    runs = np.zeros((same.shape[0] + 1, same.shape[1] + 1), int)
    for row, of_row in enumerate(same):
        runs[row + 1, 1:] = np.where(of_row, runs[row, :-1] + 1, 0)
    return runs[1:, 1:]


def together(name: str, parts: Sequence[Hypothesis]) -> Hypothesis:
    """One hypothesis of several, one behind the other; of which some can tell times, none or all.

    >>> parts = [Hypothesis("u1", "ONE", -1.0, [4]), Hypothesis("u1", "TWO", -2.0, [5])]
    >>> together("call", parts)[:4]
    ('call', 'ONE TWO', -3.0, [4, 5])
    """

    def all_of(field: str) -> Any:
        found = [getattr(part, field) for part in parts]
        return None if any(f is None for f in found) else [item for items in found for item in items]

    score, text = sum((part.score for part in parts), 0.0), joined([part.text for part in parts])
    of_tokens = {field: all_of(field) for field in ("tokens", "confidences", "times", "words", "pieces")}
    return Hypothesis(name, text, score, **of_tokens)
