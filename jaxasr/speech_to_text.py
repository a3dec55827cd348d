"""A trained model in a program: `jaxasr.load(DIR).transcribe("a.wav")`."""

import dataclasses
import math
import numbers
import pathlib
import threading
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, overload

import jax
import numpy as np

from jaxasr import checkpoint, long
from jaxasr.compiled import use_persistent_cache
from jaxasr.data.audio import SoundSource
from jaxasr.data.batch import BucketShape
from jaxasr.data.manifest import Utterance
from jaxasr.data.segmenter import Segmenter
from jaxasr.data.selection import Selection
from jaxasr.data.source import MAX_AUDIO_SECONDS, FileSource, check_max_seconds, of_files
from jaxasr.data.utterance import Kind, check_kind, check_name
from jaxasr.errors import DataError
from jaxasr.hypothesis import Hypothesis, with_words
from jaxasr.inputs import Inputs, evaluation_inputs_of
from jaxasr.long import Batching
from jaxasr.parallel import Devices
from jaxasr.recognizer import Recognizer
from jaxasr.searching import SearchFlags
from jaxasr.tasks.base import Task
from jaxasr.typing import Params

Sound: TypeAlias = str | pathlib.Path | bytes | np.ndarray | tuple[np.ndarray, int]
How: TypeAlias = SearchFlags | str | None
USUAL_CUTS = Segmenter()


class SpeechToText:
    """A trained model ready for use: `jaxasr.load("exp/mine").transcribe("a.wav")`. Any number of threads may use it.

    Each search is compiled when it is first used, and kept. `task` gives the model's pure functions, of which `params`
    are the first argument.
    """

    def __init__(self, task: Task, params: Params):
        self.task = task
        self._devices = Devices.first()
        self.params = jax.device_put(params, self._devices.replicated)
        self._recognizers: dict[SearchFlags, Recognizer] = {}
        self._making = threading.Lock()

    @overload
    def transcribe(
        self,
        audio: Sound,
        *,
        search: How = ...,
        timestamps: Literal[False] = ...,
        segmenter: Segmenter = ...,
        max_audio_seconds: float | None = ...,
    ) -> str: ...
    @overload
    def transcribe(
        self,
        audio: list[Sound],
        *,
        search: How = ...,
        timestamps: Literal[False] = ...,
        segmenter: Segmenter = ...,
        max_audio_seconds: float | None = ...,
    ) -> list[str]: ...
    @overload
    def transcribe(
        self,
        audio: Sound,
        *,
        search: How = ...,
        timestamps: Literal[True],
        segmenter: Segmenter = ...,
        max_audio_seconds: float | None = ...,
    ) -> Hypothesis: ...
    @overload
    def transcribe(
        self,
        audio: list[Sound],
        *,
        search: How = ...,
        timestamps: Literal[True],
        segmenter: Segmenter = ...,
        max_audio_seconds: float | None = ...,
    ) -> list[Hypothesis]: ...
    def transcribe(
        self,
        audio: Any,
        *,
        search: How = None,
        timestamps: bool = False,
        segmenter: Segmenter = USUAL_CUTS,
        max_audio_seconds: float | None = None,
    ) -> Any:
        """The text of a sound file, or with `timestamps` all that is known of it (`Hypothesis`); of a list, a list.

        Args:
          audio: the path of a sound file; the bytes of one; samples (S,), float in [-1, 1] or int16, at the task's
            rate, or (samples, rate). Where the model reads features: the path of a .npy file, PATH.ark:OFFSET, or
            features (T, F). Or a list of any of these, which is decoded in batches.
          search: how to look for the text, by its name or with all that `python -m jaxasr.decode` takes; None for the
            model's usual search.
          timestamps: confidences and times of tokens and words, as far as the search can tell them.
          segmenter: how sound that is longer than its `max_segment` is cut; files are read piece by piece then.
          max_audio_seconds: what is longer is refused; None: bytes of more than 600 s, and no files.

        Raises:
          DataError: the sound cannot be read, or is too long.
          ConfigError: the search cannot be.
        """
        segmenter.check()
        check_max_seconds(max_audio_seconds)
        sounds = audio if isinstance(audio, list) else [audio]
        found = self._recognized(sounds, search, segmenter, max_audio_seconds)
        said = [with_words(self.task, one) for one in found] if timestamps else [one.text for one in found]
        return said if isinstance(audio, list) else said[0]

    def _recognizer(self, search: How) -> Recognizer:
        flags = search if isinstance(search, SearchFlags) else SearchFlags(search)
        with self._making:
            if flags not in self._recognizers:
                choices = dataclasses.replace(flags.choices(self.task), times=True)
                fusion = flags.fusion(flags.scorers(self.task))
                self._recognizers[flags] = Recognizer(self.task, choices, self._devices, fusion=fusion)
            return self._recognizers[flags]

    def _recognized(
        self, sounds: list[Sound], search: How, segmenter: Segmenter, max_seconds: float | None
    ) -> list[Hypothesis]:
        """In the order of the sounds, of which the ids are the places."""
        of_files_at_most, of_bytes_at_most = max_seconds or math.inf, max_seconds or MAX_AUDIO_SECONDS
        source, batching = of_files(self.task.source), Batching()
        paths = {str(i): sound for i, sound in enumerate(sounds) if isinstance(sound, str | pathlib.Path)}
        places = [f"transcribe: item {i}" if len(sounds) > 1 else "transcribe" for i in range(len(sounds))]
        arrays = {
            str(i): _samples(places[i], source, sound, of_bytes_at_most)
            for i, sound in enumerate(sounds)
            if str(i) not in paths
        }
        files = [as_utterance(name, path, source.kind) for name, path in paths.items()]
        recognizer = self._recognizer(search)
        found = long.recognized(
            recognizer, self.params, files, segmenter, batching, adapt=on_grid, max_seconds=of_files_at_most
        )
        cut = {name for name, array in arrays.items() if segmenter.cuts(len(array), source)}
        found += [long.heard(recognizer, self.params, n, [arrays.pop(n)], segmenter, batching) for n in cut]
        if arrays:
            found += recognizer(self.params, on_grid(_array_inputs(self.task, arrays)))[0]
        by_place = {said.id: said for said in found}
        return [by_place[str(i)] for i in range(len(sounds))]


def _samples(where: str, source: FileSource, sound: Any, max_seconds: float) -> np.ndarray:
    """What is in memory, as the source gives it."""
    if isinstance(sound, np.ndarray):
        return source.from_array(where, sound)
    of_sound = isinstance(source, SoundSource)
    if of_sound and isinstance(sound, bytes):
        return source.from_bytes(where, sound, max_seconds)
    pair = of_sound and isinstance(sound, tuple) and len(sound) == 2
    if pair and isinstance(sound[0], np.ndarray) and isinstance(sound[1], numbers.Real):
        return source.from_array(where, *sound)
    more = ", the bytes of a sound file, or (array, rate)" if of_sound else ""
    raise DataError(
        f"{where}: {type(sound).__name__}; a path, an array{more}, or a list of these were expected; give one."
    )


def on_grid(inputs: Inputs) -> Inputs:
    """`inputs` in slightly larger shapes of which there are few, so that most calls find theirs compiled.

    Rows are a power of two, samples (or frames) at least a second and at most an eighth more than needed.
    """

    def wider(shape: BucketShape) -> BucketShape:
        samples = max(shape.samples, int(inputs.task.input_rate))
        step = 1 << (samples.bit_length() - 4)
        return BucketShape(1 << (shape.rows - 1).bit_length(), -(-samples // step) * step, shape.tokens)

    return dataclasses.replace(inputs, shapes=sorted(set(map(wider, inputs.shapes)), key=lambda s: s.samples))


def load(path: str | pathlib.Path, *, imports: Sequence[str] = ()) -> SpeechToText:
    """The model in a folder or workdir, on the first device, ready to transcribe.

    Args:
      imports: modules to import first, which register what the model names.
    """
    use_persistent_cache()
    return SpeechToText(*checkpoint.load_model(path, imports=imports))


def as_utterance(utterance_id: str, path: str | pathlib.Path, kind: Kind) -> Utterance:
    """An utterance that is a whole file, without a text.

    Raises:
      DataError: the file is not of this kind.
    """
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
    return dataclasses.replace(inputs, preprocess=_Lookup(of_files(task.source), sounds))
