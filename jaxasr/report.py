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

from jaxasr import checkpoint
from jaxasr.compiled import use_persistent_cache
from jaxasr.data import audio
from jaxasr.data.batch import AsrExample
from jaxasr.data.manifest import Utterance
from jaxasr.errors import CheckpointError, ConfigError, DataError, exit_with_message
from jaxasr.evaluate import worst_first
from jaxasr.reporting import browser, gather, looks, page, results
from jaxasr.reporting.gather import Run, Scored
from jaxasr.reporting.html import Html, el
from jaxasr.reporting.results import Example
from jaxasr.scoring import UtteranceScore
from jaxasr.tasks import AsrTask, Task
from jaxasr.typing import Params

FILE = "report.html"
WORST = 10
MOST_SOUND = 3_000_000
"""Bytes of sound in the file, as it is written there."""
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


def at_end(workdir: pathlib.Path, say: Callable[[str], None]) -> None:
    """The report of a run that has ended, whose success does not depend on it."""
    try:
        write(workdir, workdir / FILE)
    except Exception as error:  # whatever it is, the model is trained
        fault = " ".join(str(error).split())
        say(f"report: {type(error).__name__}: {fault}; to try again: python -m jaxasr.report {workdir}")
    else:
        say(f"report: {workdir / FILE}")


def _content(run: Run, worst: int) -> page.Content:
    notes: list[str] = []
    model = _model(run, notes)
    scored = run.tests
    if not any(item.score for item in scored) and model is not None:
        scored = [*scored, *_validation(run, model, notes)]
    elif scored and run.log.kept is None:
        notes.append("The test scores are those of an earlier end of this run; it has been trained further since.")
    if run.log.damaged:
        lines = ", ".join(map(str, run.log.damaged[:5]))
        notes.append(f"{len(run.log.damaged)} lines of log.jsonl are damaged and left out (line {lines}).")
    if run.log.skipped:
        steps = ", ".join(str(record.get("step")) for record in run.log.skipped[:5])
        notes.append(f"{len(run.log.skipped)} steps were skipped, their loss or gradient not finite (step {steps}).")
    shown, closer = [], []
    if model is not None:
        primary = results.by_usual_search(scored)
        shown, room = _utterances(primary, model[0], worst)
        closer = _looks(primary, model, room, notes)
    parameters = None if model is None else sum(leaf.size for leaf in checkpoint.flatten(model[1]).values())
    return page.Content(run, parameters, scored, shown, closer, notes)


def _model(run: Run, notes: list[str]) -> Model | None:
    """The model as it is on disk; None and a note where there is none yet."""
    try:
        return checkpoint.load_model(run.workdir)
    except CheckpointError as error:
        notes.append(str(error))
        return None


def _validation(run: Run, model: Model, notes: list[str]) -> list[Scored]:
    """The validation set in place of a test set."""
    why = "The run has no test set" if not run.cfg.test else "No test set has been scored"
    try:
        found = looks.decode_validation(run, *model)
    except DataError as error:
        notes.append(f"{why}, and the validation set cannot be decoded: {error}")
        return []
    notes.append(f"{why}: what follows is the validation set, by which the model was also chosen.")
    return [found]


# Utterances --------------------------------------------------------------------------------------------------


def _example(task: Task, scored: Scored, score: UtteranceScore) -> Example:
    """The utterance with its sound, or with why it has none."""
    utterance = scored.utterances[score.id]
    if task.source.kind != "sound":
        return Example(scored, utterance, score, None, f"No sound: the model reads {task.source.kind}.")
    try:
        return Example(scored, utterance, score, looks.hear(task, utterance))
    except DataError as error:
        return Example(scored, utterance, score, None, f"No sound: {error}")


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
    if not isinstance(task, AsrTask) or not primary:
        return []
    examples = [_example(task, primary[0], score) for score in _typical(primary[0])]
    heard = [e for e in examples if e.sound is not None and task.frames(len(e.sound))]
    if not heard:
        notes.extend(example.fault for example in examples[:1])
        return []
    ids = [primary[0].tokens[example.utterance.id] for example in heard]
    inputs = [AsrExample(e.utterance.id, e.sound, np.array(t, np.int32)) for e, t in zip(heard, ids, strict=True)]  # type: ignore[arg-type]
    vocabulary, shown = task.vocabulary.tokens, []  # type: ignore[union-attr]
    for example, found, tokens in zip(heard, looks.look(task, params, inputs), ids, strict=True):
        figure = results.look(example, found, [vocabulary[i] for i in tokens], vocabulary, task.sample_rate)
        article, size = results.utterance(example, task.sample_rate, room=room)
        shown.append(el("div", article, figure, class_="look"))
        room -= size
    return shown


def _typical(scored: Scored) -> list[UtteranceScore]:
    """The best, the median and the worst by word error rate, or the nearest of these that are not too long."""
    assert scored.score is not None
    known = [score for score in scored.score.utterances if score.id in scored.tokens]
    order = sorted(known, key=lambda score: (score.words.rate, -score.words.reference))
    ways = (order, order[len(order) // 2 :], order[::-1])
    found = [next((s for s in way if _seconds(scored.utterances[s.id]) <= LONGEST_LOOK), None) for way in ways]
    return [score for score in dict.fromkeys(found) if score is not None]


def _seconds(utterance: Utterance) -> float:
    """The length of an utterance; 0 where its file cannot be read, which its sound will tell."""
    if utterance.seconds is not None:
        return utterance.seconds
    try:
        info = audio.info(utterance.audio)
    except DataError:
        return 0.0
    return info.frames / info.rate - utterance.start


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


def report(options: ReportOptions) -> pathlib.Path:
    """What the command line does; returns the file that it wrote."""
    if options.worst < 0 or options.picture_width < 500:
        raise ConfigError(
            f"--worst={options.worst} --picture_width={options.picture_width}: 0 or more utterances and at least 500 "
            "pixels were expected; change them."
        )
    use_persistent_cache()
    workdir = pathlib.Path(options.workdir)
    output = pathlib.Path(options.output) if options.output else workdir / FILE
    write(workdir, output, worst=options.worst)
    if options.picture is not None:
        browser.picture(output, pathlib.Path(options.picture), width=options.picture_width)
    return output


def main(argv: Sequence[str] | None = None) -> None:
    options = tyro.cli(ReportOptions, args=argv, prog="python -m jaxasr.report", config=(tyro.conf.FlagCreatePairsOff,))
    if not os.environ.get("JAX_PLATFORMS"):
        jax.config.update("jax_platforms", "cpu")  # the accelerator may be full of a run that is under way
    print(exit_with_message(report, options))


if __name__ == "__main__":
    main(sys.argv[1:])
