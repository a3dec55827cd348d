"""A trained model in a program: `jaxasr.load(DIR).transcribe("a.wav")`."""

import dataclasses
import pathlib
from collections.abc import Sequence
from typing import Any, TypeAlias, overload

import jax
import numpy as np

from jaxasr import checkpoint
from jaxasr.compiled import use_persistent_cache
from jaxasr.data.batch import BucketShape
from jaxasr.data.manifest import Utterance
from jaxasr.data.selection import Selection
from jaxasr.data.source import FileSource
from jaxasr.data.utterance import Kind, check_kind, check_name
from jaxasr.hypothesis import Hypothesis, with_words
from jaxasr.inputs import Inputs, evaluation_inputs, evaluation_inputs_of
from jaxasr.parallel import Devices
from jaxasr.recognizer import Recognizer
from jaxasr.search.choices import Search
from jaxasr.tasks.base import Task
from jaxasr.typing import Params

Sound: TypeAlias = str | pathlib.Path | np.ndarray


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
        assert isinstance(source, FileSource)
        files = [
            as_utterance(str(i), sound, source.kind)
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
    recognizer = Recognizer(task, Search(search or task.usual_search(), times=True), devices)
    return SpeechToText(task, jax.device_put(params, devices.replicated), recognizer)


def as_utterance(utterance_id: str, path: str | pathlib.Path, kind: Kind) -> Utterance:
    check_kind(str(path), check_name(str(path)), kind)
    return Utterance(utterance_id, str(path), "")


@dataclasses.dataclass(frozen=True)
class _Lookup:
    """Preprocessing for sounds, or features, that are in memory."""

    source: FileSource
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
    assert isinstance(task.source, FileSource)
    return dataclasses.replace(inputs, preprocess=_Lookup(task.source, sounds))
