"""From a line of a manifest to an example: read, perturb, tokenise."""

import dataclasses

import numpy as np

from jaxasr.data import audio
from jaxasr.data.batch import AsrExample
from jaxasr.data.manifest import Utterance
from jaxasr.data.perturb import Perturb
from jaxasr.data.tokenizer import Tokenizer, Vocabulary


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Utterance and random generator in, example out; holds no state and travels to workers."""

    sample_rate: int
    tokenizer: Tokenizer
    vocabulary: Vocabulary | None
    """None leaves the transcript out, as in decoding."""
    channel: int | None = None
    perturb: Perturb | None = None
    """What training does to the sound; None takes it as it is."""

    def __call__(self, utterance: Utterance, rng: np.random.Generator) -> AsrExample:
        """The example; everything random comes from `rng`, in a fixed order."""
        sound = audio.read(utterance, self.sample_rate, channel=self.channel, speed=utterance.speed)
        if self.perturb is not None:
            sound = self.perturb(sound, rng)
        return AsrExample(utterance.id, audio.to_int16(sound), self.encode(utterance.text))

    def encode(self, text: str) -> np.ndarray:
        if self.vocabulary is None:
            return np.zeros(0, np.int32)
        return self.vocabulary.encode(self.tokenizer.tokens(text))
