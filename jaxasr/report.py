"""A run in one file to look at: `python -m jaxasr.report DIR`; training writes it at its end."""

import dataclasses
import os
import pathlib
import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import jax
import numpy as np
import tyro

from jaxasr import checkpoint, config
from jaxasr.command_line import Imports, options_of
from jaxasr.commands import command
from jaxasr.compiled import use_persistent_cache
from jaxasr.data.manifest import Utterance
from jaxasr.data.source import of_files
from jaxasr.errors import ConfigError, JaxasrError, exit_with_message
from jaxasr.evaluate import worst_first
from jaxasr.nn.batch_norm import split_stats
from jaxasr.reporting import browser, gather, looks, page, results
from jaxasr.reporting.gather import Run, Scored
from jaxasr.reporting.html import Html, el
from jaxasr.reporting.results import Example
from jaxasr.scoring import UtteranceScore
from jaxasr.tasks import Task
from jaxasr.tasks.speech import SpeechTask
from jaxasr.typing import Params

FILE = "report.html"
WORST = 10
MOST_SOUND = 3_000_000
"""Bytes of sound in the file, as it is written there."""
MOST_NUMBERS = 5
LONGEST_LOOK = 20.0
"""Seconds; longer utterances would be too fine a picture."""

Model = tuple[Task, Params]


def write(workdir: pathlib.Path, output: pathlib.Path, *, worst: int = WORST) -> None:
    """Makes the report of a run, finished or not.

    Raises:
      JaxasrError: there is no run, or the file cannot be written.
    """
    text = page.render(_content(gather.read(workdir), worst))
    checkpoint.write_atomically(output, text.encode(errors="replace"))


def at_end(workdir: pathlib.Path, say: Callable[[str], None], imports: Sequence[str] = ()) -> None:
    """The report of a run that has ended, whose success does not depend on it; `imports` are its modules."""
    try:
        write(workdir, workdir / FILE)
    except Exception as error:  # whatever it is, the model is trained
        fault = " ".join(str(error).split())
        again = command("report", [str(workdir)], imports)
        say(f"report: {type(error).__name__}: {fault}; to try again: {again}")
    else:
        say(f"report: {workdir / FILE}")


def _content(run: Run, worst: int) -> page.Content:
    notes: list[str] = []
    model = _model(run, notes)
    scored = run.tests
    if not any(item.score for item in scored) and model is not None and model[0].searches():
        scored = [*scored, *_validation(run, model, notes)]
    elif scored and run.log.kept is None:
        notes.append("The test scores are those of an earlier end of this run; it has been trained further since.")
    if run.log.damaged:
        notes.append(f"Left out of log.jsonl, being damaged: {_numbered('line', run.log.damaged)}.")
    if run.log.skipped:
        steps = [record.get("step", 0) for record in run.log.skipped]
        notes.append(f"Skipped, the loss or gradient not being finite: {_numbered('step', steps)}.")
    shown, closer = [], []
    if model is not None:
        primary = results.by_usual_search(scored)
        shown, room = _utterances(primary, model[0], worst)
        closer = _looks(primary, model, room, notes)
    parameters = (
        None if model is None else sum(leaf.size for leaf in checkpoint.flatten(split_stats(model[1])[0]).values())
    )
    return page.Content(run, parameters, scored, shown, closer, notes)


def _numbered(thing: str, numbers: Sequence[int]) -> str:
    """`1 line (6)`, `7 lines (6, 7, 8, 9, 10, …)`."""
    shown = ", ".join(map(str, numbers[:MOST_NUMBERS])) + ", …" * (len(numbers) > MOST_NUMBERS)
    return f"{len(numbers)} {thing}{'s' * (len(numbers) != 1)} ({shown})"


def _model(run: Run, notes: list[str]) -> Model | None:
    """The model as it is on disk; None and a note where there is none yet, or none that can be read."""
    try:
        return checkpoint.load_model(run.workdir)
    except JaxasrError as error:
        notes.append(str(error))
        return None


def _validation(run: Run, model: Model, notes: list[str]) -> list[Scored]:
    """The validation set in place of a test set."""
    why = "The run has no test set" if not run.cfg.test else "No test set has been scored"
    try:
        found = looks.decode_validation(run, *model)
    except JaxasrError as error:
        notes.append(f"{why}, and the validation set cannot be decoded: {error}")
        return []
    notes.append(f"{why}: what follows is the validation set, by which the model was also chosen.")
    return [found]


# Utterances --------------------------------------------------------------------------------------------------


def _example(task: Task, scored: Scored, score: UtteranceScore) -> Example:
    """The utterance with what the network reads of it, or with why it cannot be read."""
    utterance = scored.utterances[score.id]
    try:
        return Example(scored, utterance, score, task.preprocess_fn(train=False)(utterance, np.random.default_rng(0)))
    except JaxasrError as error:
        return Example(scored, utterance, score, None, f"No {task.source.kind}: {error}")


def _utterances(primary: Sequence[Scored], task: Task, worst: int) -> tuple[list[Html], int]:
    """The worst utterances of all sets, and the room that is left for sound."""
    owner = {id(u): item for item in primary if item.score is not None for u in item.score.utterances}
    chosen = worst_first([u for item in primary if item.score is not None for u in item.score.utterances])[:worst]
    room, shown = MOST_SOUND * 4 // 5, []
    for score in chosen:
        article, size = results.utterance(_example(task, owner[id(score)], score), task.sample_rate, room=room)
        shown.append(article)
        room -= size
    return shown, room + MOST_SOUND // 5


def _looks(primary: Sequence[Scored], model: Model, room: int, notes: list[str]) -> list[Html]:
    """The best, the median and the worst utterance of the first set, in the network's eyes."""
    task, params = model
    if not isinstance(task, SpeechTask) or not primary:
        return []
    vocabulary, shown = task.vocabulary.tokens, []  # type: ignore[union-attr]
    examples, why = _typical(primary[0], task, len(vocabulary))
    read = [(e, e.read) for e in examples if e.read is not None and task.frames(len(e.read.inputs))]
    if not read:
        notes.append(f"No closer look: {why}")
        return []
    ids = [primary[0].tokens[example.utterance.id] for example, _ in read]
    inputs = [inputs._replace(tokens=np.array(i, np.int32)) for (_, inputs), i in zip(read, ids, strict=True)]
    for (example, _), found in zip(read, looks.look(task, params, inputs), strict=True):
        figure = results.look(example.utterance.id, example.sound, found, vocabulary, task.sample_rate)
        article, size = results.utterance(example, task.sample_rate, room=room)
        shown.append(el("div", article, figure, class_="look"))
        room -= size
    return shown


def _typical(scored: Scored, task: Task, tokens: int) -> tuple[list[Example], str]:
    """The best, the median and the worst by word error rate, or the nearest of these that are not too long.

    And where none of them can be looked at, why; of a list of so many tokens.
    """
    assert scored.score is not None
    known = [s for s in scored.score.utterances if all(0 <= i < tokens for i in scored.tokens.get(s.id, [-1]))]
    order = sorted(known, key=lambda score: (score.words.rate, -score.words.reference))
    ways = (order, order[len(order) // 2 :], order[::-1])
    found = [next((s for s in way if _seconds(task, scored.utterances[s.id]) <= LONGEST_LOOK), None) for way in ways]
    examples = [_example(task, scored, score) for score in dict.fromkeys(found) if score is not None]
    if not known:
        return [], "no hypothesis comes with its tokens, by their numbers in the model's list."
    if not examples:
        return [], f"the utterances are all longer than {LONGEST_LOOK:g} s."
    return examples, examples[0].fault or "the utterances are shorter than one frame."


def _seconds(task: Task, utterance: Utterance) -> float:
    """The length of an utterance; 0 where it cannot be read, which its example will tell."""
    if utterance.seconds is not None:
        return utterance.seconds
    try:
        return task.source.length(utterance, of_files(task.source).info(utterance.audio), 1.0) / task.input_rate
    except JaxasrError:
        return 0.0


# --- command line ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class ReportOptions:
    """The report of a run: one file with everything in it, to be opened in a browser, mailed, printed.

    Works on a run that is under way or was interrupted, too. What it shows: docs/report.md.
    """

    workdir: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Workdir of the run."""
    output: str | None = None
    """File to write; report.html in the workdir by default."""
    worst: int = WORST
    """How many of the utterances with the most errors to show."""
    picture: str | None = None
    """Also a picture of the whole page, a .png; drawn by Chromium, which must be installed."""
    picture_width: int = 1120
    """Pixels from left to right of the picture, 500 or more."""
    imports: Imports = ()


def report(options: ReportOptions) -> pathlib.Path:
    """What the command line does; returns the file that it wrote.

    Raises:
      ConfigError: options mean nothing.
    """
    if options.worst < 0 or options.picture_width < 500:
        raise ConfigError(
            f"--worst={options.worst} --picture_width={options.picture_width}: 0 or more utterances and at least 500 "
            "pixels were expected; change them."
        )
    config.import_modules(options.imports, "--import")
    use_persistent_cache()
    workdir = pathlib.Path(options.workdir)
    output = pathlib.Path(options.output) if options.output else workdir / FILE
    write(workdir, output, worst=options.worst)
    if options.picture is not None:
        browser.picture(output, pathlib.Path(options.picture), width=options.picture_width)
    return output


@exit_with_message
def main(argv: Sequence[str] | None = None) -> None:
    """The command line: `argv`, or else the program's own arguments."""
    options = options_of(ReportOptions, argv, "report")
    if not os.environ.get("JAX_PLATFORMS"):
        jax.config.update("jax_platforms", "cpu")  # the accelerator may be full of a run that is under way
    print(report(options))


if __name__ == "__main__":
    main(sys.argv[1:])
