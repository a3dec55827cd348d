"""Weights of a search that make the fewest errors on a set with transcripts."""

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Mapping, Sequence

import rich.console
import rich.table

from jaxasr.errors import ConfigError
from jaxasr.inputs import Inputs
from jaxasr.recognizer import Recognizer
from jaxasr.scoring import Score, score_cleaned
from jaxasr.search.scorers import Scorer
from jaxasr.searching import SearchFlags
from jaxasr.tasks.base import Task
from jaxasr.typing import Params

GRID: Mapping[str, tuple[float, ...]] = {
    "lm_weight": (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0),
    "ngram_weight": (0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0),
    "ctc_weight": (0.0, 0.1, 0.3, 0.5, 0.7, 0.9),
    "length_bonus": (-1.0, -0.5, 0.0, 0.5, 1.0, 2.0),
}
"""What is tried of each weight, beside what it is."""
BONUS = "length_bonus"
ROUNDS = 2

Weights = tuple[float, ...]


@dataclasses.dataclass(frozen=True)
class Tuned:
    """What was tried, in this order, and the best of it."""

    names: tuple[str, ...]
    tried: Mapping[Weights, Score]
    best: Weights

    def flags(self, flags: SearchFlags) -> SearchFlags:
        """`flags` with the best weights."""
        return dataclasses.replace(flags, **dict(zip(self.names, self.best, strict=True)))

    def __str__(self) -> str:
        return on_command_line(self.names, self.best)

    def table(self) -> rich.table.Table:
        """Each that was tried with its WER and its interval, fewest errors first."""
        table = rich.table.Table(box=None, pad_edge=False)
        for heading in (*self.names, "WER %", "95 % interval"):
            table.add_column(heading, justify="right", no_wrap=True)
        for weights, score in sorted(self.tried.items(), key=lambda item: item[1].wer.rate):
            low, high = score.wer_interval
            figures = f"{100 * score.wer.rate:.2f}", f"{100 * low:.2f} - {100 * high:.2f}"
            style = "bold" if weights == self.best else None
            table.add_row(*(f"{value:g}" for value in weights), *figures, style=style)
        return table


def on_command_line(names: Sequence[str], weights: Weights) -> str:
    """The weights as the flags that set them.

    >>> on_command_line(["lm_weight"], (0.3,))
    '--lm_weight=0.3'
    """
    return " ".join(f"--{name}={value:g}" for name, value in zip(names, weights, strict=True))


def tune(names: Sequence[str], start: Weights, measure: Callable[[Weights], Score]) -> Tuned:
    """The weights `names` by search from `start`: each in turn the best of its grid, the others as they are.

    With each goes the length bonus, for what makes tokens dearer needs more of it. Of equally good ones the first that
    was tried is kept. It ends when a round changes nothing, or after two.

    Args:
      measure: from weights to what is found with them.
    """
    tried = {start: measure(start)}
    best, others = start, [name for name in names if name != BONUS]
    for _ in range(ROUNDS):
        before = best
        for name in others or [BONUS]:
            moved = [n for n in dict.fromkeys((name, BONUS)) if n in names]
            for values in itertools.product(*(GRID[n] for n in moved)):
                new = dict(zip(names, best, strict=True)) | dict(zip(moved, values, strict=True))
                weights = tuple(new.values())
                tried[weights] = tried[weights] if weights in tried else measure(weights)
            best = min(tried, key=lambda weights: tried[weights].wer.errors)
        if best == before:
            break
    return Tuned(tuple(names), tried, best)


def tunable(task: Task, flags: SearchFlags, scorers: Mapping[str, Scorer]) -> tuple[str, ...]:
    """The options of a search that have a grid, all of which is searched by one program."""
    search = flags.choices(task)

    def same(name: str) -> bool:
        return all(dataclasses.replace(flags, **{name: value}).choices(task) == search for value in GRID[name])

    return tuple(name for name in flags.weights(task, scorers) if name in GRID and same(name))


def tuned(
    recognizer: Recognizer,
    params: Params,
    inputs: Inputs,
    flags: SearchFlags,
    scorers: Mapping[str, Scorer],
    shown: rich.console.Console | None = None,
) -> Tuned:
    """The weights of the recogniser's search with the fewest word errors on `inputs`, which have transcripts.

    Args:
      shown: where to say what is being tried.

    Raises:
      ConfigError: the search weighs nothing.
    """
    task = recognizer.task
    names = tunable(task, flags, scorers)
    if not names:
        raise ConfigError(
            f"--tune with --search={flags.choices(task).name}: it weighs nothing; a search with a beam was expected "
            f"({', '.join(task.beam_searches()) or 'this model has none'}); give one, or remove --tune."
        )
    references = {u.id: u.text for u in inputs.selection.utterances}

    with contextlib.nullcontext() if shown is None else shown.status("--tune") as status:

        def measure(weights: Weights) -> Score:
            if status is not None:
                status.update(f"--tune: {on_command_line(names, weights)}")
            weighed = dataclasses.replace(flags, **dict(zip(names, weights, strict=True)))
            recognizer.weighed(weighed.fusion(scorers))
            said, _ = recognizer(params, inputs)
            return score_cleaned(task.cleaning, references, {h.id: h.text for h in said})

        return tune(names, tuple(getattr(flags, name) for name in names), measure)


def show(tuned: Tuned, where: str, console: rich.console.Console) -> None:
    """The table, and what to give from now on."""
    console.print(f"--tune={where}:", highlight=False, markup=False)
    console.print(tuned.table(), highlight=False)
    console.print(f"fewest errors: {tuned}", highlight=False, markup=False)
