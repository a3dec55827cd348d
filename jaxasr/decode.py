"""Sound to text with a trained model: `python -m jaxasr.decode --model=DIR INPUT...`."""

import dataclasses
import math
import pathlib
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal, TypeAlias, overload

import jax
import numpy as np
import rich.console
import rich.progress
import tyro

from jaxasr import checkpoint, stream
from jaxasr.compiled import CompiledByShape, use_persistent_cache
from jaxasr.data import kaldi, manifest, pipeline
from jaxasr.data.audio import SUFFIXES
from jaxasr.data.batch import BucketShape
from jaxasr.data.manifest import Utterance
from jaxasr.data.selection import Selection
from jaxasr.data.source import Source
from jaxasr.data.utterance import Kind, check_kind, check_name, holds_features
from jaxasr.errors import ConfigError, DataError, exit_with_message
from jaxasr.hypothesis import Hypothesis, hypothesis_of, with_words, write_hypotheses
from jaxasr.inputs import Inputs, evaluation_inputs, evaluation_inputs_of
from jaxasr.parallel import Devices, is_main_process
from jaxasr.tasks.base import Metrics, Task
from jaxasr.typing import Params

Sound: TypeAlias = str | pathlib.Path | np.ndarray


class Recognizer:
    """Decodes planned batches with one search; what it compiles it keeps, one executable a shape.

    Training validates with the same object as `jaxasr.decode` decodes with.
    """

    def __init__(self, task: Task, search: str, devices: Devices, *, loss: bool = False):
        decode, loss_fn = task.decode_fn(search), task.loss_fn() if loss else None

        def run(params: Params, batch: Any) -> tuple[Any, Metrics]:
            return decode(params, batch), {} if loss_fn is None else loss_fn(params, batch, None)[1]

        self.task = task
        self.devices = devices
        self._abstract: Any = None
        self.compiled = CompiledByShape(
            devices.compiled_for(run, batch_out=True),
            lambda shape: (self._abstract, devices.spec(task.batch_spec(shape))),
        )

    def announce(self, params: Params, shapes: Sequence[BucketShape]) -> None:
        """Compiles for `shapes` ahead of time; of `params` only shapes and places matter."""
        if self._abstract is None:
            self._abstract = self.devices.abstract(params)
        self.compiled.announce(shapes)

    def __call__(
        self, params: Params, inputs: Inputs, *, progress: rich.console.Console | None = None
    ) -> tuple[list[Hypothesis], Metrics]:
        """Every utterance's hypothesis in the order of the inputs, and the metrics added up over all of them."""
        self.announce(params, inputs.shapes)
        found: dict[int, Hypothesis] = {}
        metrics: Metrics = {}
        for indices, hypotheses, batch_metrics in self._batches(params, inputs, progress):
            for row, index in enumerate(indices):
                utterance_id, samples = (
                    inputs.selection.utterances[index].id,
                    int(inputs.selection.plain_samples[index]),
                )
                found[int(index)] = hypothesis_of(self.task, hypotheses, row, utterance_id, samples)
            for name, mean in batch_metrics.items():
                metrics[name] = metrics[name] + mean if name in metrics else mean
        return [found[i] for i in range(len(found))], metrics

    def _batches(self, params: Params, inputs: Inputs, progress: Any) -> Iterator[tuple[Any, Any, Metrics]]:
        """(indices, hypotheses, metrics) of each batch; read back while the next one runs."""
        loader = inputs.epoch(0)
        batches = pipeline.load(loader)
        if progress is not None:
            batches = rich.progress.track(batches, "Decoding", total=len(loader.plan), console=progress, transient=True)
        before = None
        for host in batches:
            outputs = self.compiled[host.planned.shape](params, self.devices.put(host.batch))
            if before is not None:
                yield before[0], *jax.device_get(before[1])
            before = (host.planned.indices, outputs)
        if before is not None:
            yield before[0], *jax.device_get(before[1])


@dataclasses.dataclass(frozen=True)
class SpeechToText:
    """A trained model ready for use: `jaxasr.load(DIR).transcribe("a.wav")`."""

    task: Task
    params: Params
    recognizer: Recognizer

    @overload
    def transcribe(self, audio: Sound) -> str: ...
    @overload
    def transcribe(self, audio: Sequence[Sound]) -> list[str]: ...
    def transcribe(self, audio: Any) -> Any:
        """The text of a sound file, or of samples (S,) at the task's rate, float in [-1, 1] or int16.

        Where the model reads features: of a .npy file, of PATH.ark:OFFSET, or of features (T, F). A list of them gives
        a list of texts, decoded in batches.
        """
        sounds, single = _listed(audio)
        texts = [said.text for said in self._recognized(sounds)]
        return texts[0] if single else texts

    @overload
    def recognize(self, audio: Sound) -> Hypothesis: ...
    @overload
    def recognize(self, audio: Sequence[Sound]) -> list[Hypothesis]: ...
    def recognize(self, audio: Any) -> Any:
        """As `transcribe`, with all that is known of the text: confidences and times of its tokens and words."""
        sounds, single = _listed(audio)
        said = [with_words(self.task, said) for said in self._recognized(sounds)]
        return said[0] if single else said

    def _recognized(self, sounds: list[Sound]) -> list[Hypothesis]:
        """In the order of the sounds, of which the ids are the places."""
        source = self.task.source
        files = [
            _as_utterance(str(i), sound, source.kind)
            for i, sound in enumerate(sounds)
            if not isinstance(sound, np.ndarray)
        ]
        found: dict[str, Hypothesis] = {}
        if files:
            found |= self._decode(evaluation_inputs(self.task, files, batch_seconds=200.0))
        arrays = {
            str(i): source.from_array("transcribe", sound)
            for i, sound in enumerate(sounds)
            if isinstance(sound, np.ndarray)
        }
        if arrays:
            found |= self._decode(_array_inputs(self.task, arrays))
        return [found[str(i)] for i in range(len(sounds))]

    def _decode(self, inputs: Inputs) -> dict[str, Hypothesis]:
        return {said.id: said for said in self.recognizer(self.params, on_grid(inputs))[0]}


def _listed(audio: Any) -> tuple[list[Sound], bool]:
    """The sounds, and whether it was one of them instead of a list."""
    return ([audio], True) if isinstance(audio, str | pathlib.Path | np.ndarray) else (list(audio), False)


def on_grid(inputs: Inputs) -> Inputs:
    """`inputs` in slightly larger shapes of which there are few, so that most calls find theirs compiled.

    Rows are a power of two, samples (or frames) at least a second and at most an eighth more than needed.
    """

    def wider(shape: BucketShape) -> BucketShape:
        samples = max(shape.samples, int(inputs.task.input_rate))
        step = 1 << (samples.bit_length() - 4)
        return BucketShape(1 << (shape.rows - 1).bit_length(), -(-samples // step) * step, shape.tokens)

    return dataclasses.replace(inputs, shapes=sorted(set(map(wider, inputs.shapes)), key=lambda s: s.samples))


def load(path: str | pathlib.Path, *, search: str | None = None) -> SpeechToText:
    """The model in a folder or workdir, on the first device, ready to transcribe.

    Args:
      search: how to decode; None for the model's usual search.
    """
    use_persistent_cache()
    task, params = checkpoint.load_model(path)
    devices = Devices.first()
    recognizer = Recognizer(task, search or task.searches()[0], devices)
    return SpeechToText(task, jax.device_put(params, devices.replicated), recognizer)


def _as_utterance(utterance_id: str, path: str | pathlib.Path, kind: Kind) -> Utterance:
    check_kind(str(path), check_name(str(path)), kind)
    return Utterance(utterance_id, str(path), "")


@dataclasses.dataclass(frozen=True)
class _Lookup:
    """Preprocessing for sounds, or features, that are in memory."""

    source: Source
    sounds: dict[str, np.ndarray]

    def __call__(self, utterance: Utterance, rng: np.random.Generator) -> Any:
        return self.source.example(utterance.id, self.sounds[utterance.id], np.zeros(0, np.int32))


def _array_inputs(task: Task, sounds: dict[str, np.ndarray]) -> Inputs:
    utterances = [Utterance(i, "", "") for i in sounds]
    lengths = np.array([[len(s)] for s in sounds.values()], np.int64)
    count = len(sounds)
    selection = Selection(utterances, lengths, np.ones((count, 1), bool), np.zeros(count, np.int64), (1.0,), {}, count)
    inputs = evaluation_inputs_of(
        task, selection, batch_seconds=200.0, max_buckets=6, rows=None, rows_multiple=1, extra_seconds=0.0
    )
    return dataclasses.replace(inputs, preprocess=_Lookup(task.source, sounds))


# --- command line ------------------------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class DecodeOptions:
    """Sound to text with a trained model.

    Prints one line `id text` an utterance. An INPUT is a sound file, a folder of sound files, a Kaldi folder or
    a .jsonl, .csv or .tsv manifest; any number of them, mixed. A model that reads features takes .npy files and
    PATH.ark:OFFSET instead.
    """

    input: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Sound files, folders, Kaldi folders, manifests."""
    model: str
    """Workdir of a run, or its model folder."""
    output: str | None = None
    """Folder for `text` (Kaldi's form), `transcript.txt` (text alone) and `hyp.jsonl` (with scores and times)."""
    search: str | None = None
    """Such as ctc_greedy or attention_greedy; by default the first that the model has."""
    rows: int | None = None
    """Utterances in a batch; by default as many as --batch_seconds holds. Changes the speed, not the text."""
    batch_seconds: float = 200.0
    """Sound in a batch, padding included, in seconds."""
    max_buckets: int = 6
    """Most batch shapes; one compilation each."""
    extra_padding: float = 0.0
    """Seconds of padding added to every row; changes nothing but the time it takes."""
    progress: Literal["auto", "off"] = "auto"
    """A progress bar on stderr where that is a terminal; with --stream the text as it grows."""
    stream: bool = False
    """Decode while the sound plays, one INPUT behind the other; INPUT - is 16-bit little-endian mono PCM at the model's
    sample rate on standard input."""
    pace: float = 1.0
    """With --stream, how many times as fast as real time files play; 0 for as fast as they are decoded."""


def read_inputs(paths: Sequence[str], kind: Kind) -> list[Utterance]:
    """The utterances that INPUT arguments name, each id once; what is named must be of this kind."""
    found: list[Utterance] = []
    suffixes, what = ((".npy",), "feature") if kind == "features" else (SUFFIXES, "sound")
    script = kaldi.script(kind)
    for name in paths:
        path = pathlib.Path(name)
        if path.is_dir() and not (path / script).exists():
            files = sorted(p for p in path.rglob("*") if p.suffix.lower() in suffixes and p.is_file())
            if not files:
                raise DataError(
                    f"{name}: a folder without {script} and without {what} files; one of them was expected "
                    f"({', '.join(suffixes)}); give another path."
                )
            found += [_as_utterance(_id(str(p.relative_to(path).with_suffix(""))), p, kind) for p in files]
        elif path.suffix.lower() in SUFFIXES or holds_features(name):
            found.append(_as_utterance(_id(path.stem), path, kind))
        else:
            found += manifest.read(path, need_text=False, kind=kind)
    return _with_unique_ids(found)


def _id(name: str) -> str:
    """The name without white space, which would end an id in Kaldi's files."""
    return re.sub(r"\s", "_", name)


def _with_unique_ids(utterances: list[Utterance]) -> list[Utterance]:
    """The same utterances; an id that stands more than once gets its number behind it (`a`, `a-2`)."""
    seen: dict[str, int] = {}
    taken = {u.id for u in utterances}
    out = []
    for utterance in utterances:
        seen[utterance.id] = seen.get(utterance.id, 0) + 1
        new = utterance.id
        while seen[utterance.id] > 1 and new in taken:
            new = f"{utterance.id}-{seen[utterance.id]}"
            seen[utterance.id] += new in taken
        taken.add(new)
        out.append(dataclasses.replace(utterance, id=new))
    return out


def decode(options: DecodeOptions) -> list[Hypothesis]:
    """What the command line does, without printing the hypotheses."""
    if not options.input:
        raise ConfigError("INPUT: none; sound files, folders or manifests were expected; name what to decode.")
    for name in ("rows", "batch_seconds", "max_buckets"):
        if (value := getattr(options, name)) is not None and not value > 0:
            raise ConfigError(f"--{name}={value}: a positive number was expected; change it.")
    if not options.extra_padding >= 0.0:
        raise ConfigError(f"--extra_padding={options.extra_padding}: 0 or more seconds were expected; change it.")
    _check_stream(options)
    if options.output is not None:
        _make_folder(options.output)  # what is wrong with it shows before anything is decoded
    use_persistent_cache()
    task, params = checkpoint.load_model(options.model)
    console = rich.console.Console(stderr=True)
    shown = console if options.progress == "auto" and console.is_terminal else None
    hypotheses = list((_streamed if options.stream else _at_once)(task, params, options, shown))
    if options.output is not None and is_main_process():
        write_hypotheses(pathlib.Path(options.output), [with_words(task, said) for said in hypotheses])
    return hypotheses


def _check_stream(options: DecodeOptions) -> None:
    """Raises ConfigError where an option would change nothing."""
    batches = ("search", "rows", "batch_seconds", "max_buckets", "extra_padding")
    for name in batches if options.stream else ("pace",):
        if (value := getattr(options, name)) != getattr(DecodeOptions, name, None):
            raise ConfigError(
                f"--{name}={value} {'with' if options.stream else 'without'} --stream: it would change nothing; the "
                "default was expected; remove one of the two, or add --stream."
            )
    if not 0.0 <= options.pace < math.inf:
        raise ConfigError(f"--pace={options.pace}: a finite number from 0 was expected; change it.")
    if "-" in options.input and (len(options.input) > 1 or not options.stream):
        raise ConfigError(
            f"INPUT: {' '.join(options.input)}; files, or - alone with --stream, were expected; change them."
        )


def _streamed(
    task: Task, params: Params, options: DecodeOptions, console: rich.console.Console | None
) -> Iterator[Hypothesis]:
    listener = stream.Listener.of(task, jax.device_put(params, jax.devices()[0]))
    if options.input == ("-",):
        sounds = [("-", stream.arriving(sys.stdin.buffer))]
    else:
        utterances = read_inputs(options.input, task.source.kind)
        sounds = [(u.id, stream.played(listener, u, options.pace)) for u in utterances]
    for name, ended in stream.shown(listener, sounds, console):
        yield Hypothesis(name, listener.text(ended), ended.score, list(ended.tokens))


def _at_once(
    task: Task, params: Params, options: DecodeOptions, shown: rich.console.Console | None
) -> list[Hypothesis]:
    devices = Devices.all() if (options.rows or 0) % jax.device_count() == 0 else Devices.first()
    recognizer = Recognizer(task, options.search or task.searches()[0], devices)
    inputs = evaluation_inputs(
        task,
        read_inputs(options.input, task.source.kind),
        batch_seconds=options.batch_seconds,
        max_buckets=options.max_buckets,
        rows=options.rows,
        rows_multiple=devices.mesh.size,
        extra_seconds=options.extra_padding,
    )
    return recognizer(jax.device_put(params, devices.replicated), inputs, progress=shown)[0]


def _make_folder(path: str) -> None:
    try:
        pathlib.Path(path).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"--output={path}: {error.strerror}; a folder to write in was expected; give another."
        ) from error


def main(argv: Sequence[str] | None = None) -> None:
    options = tyro.cli(DecodeOptions, args=argv, prog="python -m jaxasr.decode", config=(tyro.conf.FlagCreatePairsOff,))
    for hypothesis in exit_with_message(decode, options):
        print(f"{hypothesis.id} {hypothesis.text}".rstrip())


if __name__ == "__main__":
    main(sys.argv[1:])
