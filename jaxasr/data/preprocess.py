"""From a line of a manifest to an example: read, perturb, tokenise."""

import dataclasses

import numpy as np

from jaxasr.data.batch import AnyAsrExample, TextExample
from jaxasr.data.manifest import Utterance
from jaxasr.data.perturb import Perturb
from jaxasr.data.source import FileSource
from jaxasr.data.tokenizer import Tokenizer, Vocabulary


@dataclasses.dataclass(frozen=True)
class Preprocess:
    """Utterance and random generator in, example out; holds no state and travels to workers."""

    source: FileSource
    tokenizer: Tokenizer
    vocabulary: Vocabulary | None
    """None leaves the transcript out, as in decoding."""
    perturb: Perturb | None = None
    """What training does to the sound; None takes it as it is."""

    def __call__(self, utterance: Utterance, rng: np.random.Generator) -> AnyAsrExample:
        """The example; everything random comes from `rng`, in a fixed order."""
        inputs = self.source.read(utterance)
        if self.perturb is not None:
            inputs = self.perturb(inputs, rng)
        return self.source.example(utterance.id, inputs, self.encode(utterance.text))

    def encode(self, text: str) -> np.ndarray:
        """The ids of a text's tokens, int32 (U,); none without a token list."""
        if self.vocabulary is None:
            return np.zeros(0, np.int32)
        return self.vocabulary.encode(self.tokenizer.tokens(text))


@dataclasses.dataclass(frozen=True)
class PreprocessText:
    """As `Preprocess`, of text."""

    tokenizer: Tokenizer
    vocabulary: Vocabulary

    def __call__(self, utterance: Utterance, rng: np.random.Generator) -> TextExample:
        del rng
        return TextExample(utterance.id, self.vocabulary.encode(self.tokenizer.tokens(utterance.text)))
