"""What a model makes of a sound, as a picture: `python -m jaxasr.plot MODEL AUDIO`."""

import dataclasses
import math
import pathlib
import sys
import tempfile
from collections.abc import Sequence
from typing import Annotated

import jax
import numpy as np
import tyro

from jaxasr import checkpoint, config
from jaxasr.command_line import Imports, options_of
from jaxasr.compiled import use_persistent_cache
from jaxasr.data.source import of_files
from jaxasr.data.utterance import Utterance
from jaxasr.errors import ConfigError, DataError, exit_with_message
from jaxasr.hypothesis import Hypothesis
from jaxasr.inputs import evaluation_inputs
from jaxasr.parallel import Devices
from jaxasr.recognizer import Recognizer
from jaxasr.reporting import browser, looks, page, results
from jaxasr.reporting.html import Html, el
from jaxasr.searching import SearchFlags
from jaxasr.speech_to_text import as_utterance
from jaxasr.tasks import Task
from jaxasr.tasks.speech import SpeechTask
from jaxasr.typing import Params

LONGEST_SECONDS = 30.0


@dataclasses.dataclass(frozen=True)
class PlotOptions:
    """A sound in a network's eyes.

    Its spectrogram, CTC posteriors with the alignment of the text, the weights that a Paraformer counts tokens by, and
    where the decoder looks.
    """

    model: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="DIR")]
    """Workdir of a run, or its model folder."""
    audio: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOUND")]
    """Sound file; .npy file or PATH.ark:OFFSET where the model reads features."""
    output: str | None = None
    """File to write: a .png, drawn by Chromium, which must be installed, or an .html; by default the sound's name
    with .png."""
    start: float = 0.0
    """Seconds into the file where the picture begins."""
    seconds: float | None = None
    """How much of the file it shows, at most 30; by default all."""
    searching: Annotated[SearchFlags, tyro.conf.arg(name="")] = SearchFlags()
    """Which search, and its options."""
    imports: Imports = ()


def plot(options: PlotOptions) -> pathlib.Path:
    """What the command line does; returns the file that it wrote.

    Raises:
      ConfigError: options mean nothing, or the model is of another task.
    """
    output = pathlib.Path(options.output or f"{pathlib.Path(options.audio).stem}.png")
    if output.suffix not in (".png", ".html"):
        raise ConfigError(f"--output={output}: a name that ends in .png or .html was expected; change it.")
    name, parts = drawn(options, heard=output.suffix == ".html")
    text = page.document(name, parts)
    if output.suffix == ".html":
        checkpoint.write_atomically(output, text.encode())
        return output
    with tempfile.TemporaryDirectory() as folder:
        whole = pathlib.Path(folder) / "plot.html"
        whole.write_text(text, encoding="utf-8")
        browser.picture(whole, output)
    return output


def drawn(options: PlotOptions, *, heard: bool = True) -> tuple[str, list[Html]]:
    """The sound's name, and the parts of the picture; with a player where it is to be `heard`.

    Raises:
      ConfigError: the model recognises nothing, or the search cannot be.
      DataError: the sound cannot be read, or there is nothing to see, or too much.
    """
    if not (0.0 <= options.start < math.inf and (options.seconds is None or 0.0 < options.seconds < math.inf)):
        raise ConfigError(
            f"--start={options.start} --seconds={options.seconds}: 0 or more seconds, and more than 0, were expected; "
            "change them."
        )
    config.import_modules(options.imports, "--import")
    use_persistent_cache()
    task, params = checkpoint.load_model(options.model)
    if not isinstance(task, SpeechTask):
        raise ConfigError(
            f"{options.model}: a model of the task {type(task).__name__}; one of speech recognition was expected; give "
            "another."
        )
    utterance = as_utterance(pathlib.Path(options.audio).stem, options.audio, task.source.kind)
    utterance = dataclasses.replace(utterance, start=options.start, seconds=options.seconds)
    check_length(task, utterance)
    said = _recognized(task, params, utterance, options.searching)
    return utterance.id, _body(task, params, utterance, said, heard=heard)


def check_length(task: Task, utterance: Utterance) -> None:
    """Raises DataError where there is nothing to see, or too much."""
    samples = task.source.length(utterance, of_files(task.source).info(utterance.audio), 1.0)
    seconds = samples / task.input_rate
    if not (task.frames(samples) > 0 and seconds <= LONGEST_SECONDS):
        raise DataError(
            f"{utterance.audio}: {seconds:.2f} s; one frame to {LONGEST_SECONDS:g} s were expected; choose a part by "
            "--start and --seconds."
        )


def _recognized(task: Task, params: Params, utterance: Utterance, searching: SearchFlags) -> Hypothesis:
    devices = Devices.first()
    fusion = searching.fusion(searching.scorers(task))
    recognizer = Recognizer(task, searching.choices(task), devices, fusion=fusion)
    inputs = evaluation_inputs(task, [utterance], batch_seconds=LONGEST_SECONDS)
    return recognizer(jax.device_put(params, devices.replicated), inputs)[0][0]


def _body(task: SpeechTask, params: Params, utterance: Utterance, said: Hypothesis, *, heard: bool) -> list[Html]:
    example = task.preprocess_fn(train=False)(utterance, np.random.default_rng(0))
    [found] = looks.look(task, params, [example._replace(tokens=np.array(said.tokens, np.int32))])
    assert task.vocabulary is not None
    sound = getattr(example, "audio", None)
    figure = results.look(utterance.id, sound, found, task.vocabulary.tokens, task.sample_rate)
    player = None if sound is None or not heard else results.player(utterance.id, sound, task.sample_rate)[0]
    head = el("header", el("h1", el("bdi", utterance.id)), el("p", el("bdi", said.text)), class_="headline")
    return [head, el("div", player, figure, class_="look")]


@exit_with_message
def main(argv: Sequence[str] | None = None) -> None:
    """The command line: `argv`, or else the program's own arguments."""
    options = options_of(PlotOptions, argv, "plot")
    print(plot(options))


if __name__ == "__main__":
    main(sys.argv[1:])
