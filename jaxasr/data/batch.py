"""Examples and batches: from waveforms and token ids of any length to arrays of a fixed shape."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxasr.errors import DataError


class BucketShape(NamedTuple):
    """The static shape of a batch; one compilation each."""

    rows: int
    """B, filler rows included."""
    samples: int
    """S, samples of audio in a row."""
    tokens: int
    """U, tokens in a row."""


class AsrExample(NamedTuple):
    """One utterance, ready to be put into a batch."""

    id: str
    audio: np.ndarray
    """int16 (S,) at the task's sample rate."""
    tokens: np.ndarray
    """int32 (U,) ids without sos and eos."""


class AsrBatch(NamedTuple):
    """Utterances side by side; the shapes are those of a `BucketShape`. A tree of arrays, as JAX takes it."""

    audio: Any
    """int16 (B, S)."""
    audio_lengths: Any
    """int32 (B,), in samples; 0 in a filler row."""
    tokens: Any
    """int32 (B, U), no sos or eos; -1 after the end: mask before every gather."""
    token_lengths: Any
    """int32 (B,)."""
    weights: Any
    """float32 (B,): 1 for a real utterance, 0 for a filler row."""


@dataclasses.dataclass(frozen=True)
class Collate:
    """Pads examples to a shape; FunASR's `CommonCollateFn` with lengths, row weights and static shapes."""

    float_pad_value: float = 0.0
    """What stands after the end of the audio."""
    int_pad_value: int = -1
    """What stands after the last token."""

    def __call__(self, examples: Sequence[AsrExample], shape: BucketShape) -> AsrBatch:
        """A batch of `shape`; rows that no example fills have length and weight 0.

        Raises:
          DataError: there are more examples than rows, or one is longer than the shape or of another type.
        """
        if len(examples) > shape.rows:
            raise DataError(
                f"Collate: {len(examples)} examples; at most {shape.rows} fit into {shape}; give one with more rows."
            )
        batch = AsrBatch(
            audio=np.full((shape.rows, shape.samples), self.float_pad_value, np.int16),
            audio_lengths=np.zeros(shape.rows, np.int32),
            tokens=np.full((shape.rows, shape.tokens), self.int_pad_value, np.int32),
            token_lengths=np.zeros(shape.rows, np.int32),
            weights=np.zeros(shape.rows, np.float32),
        )
        for row, example in enumerate(examples):
            # a float between -1 and 1 would silently become a 0
            if example.audio.dtype != np.int16 or not np.issubdtype(example.tokens.dtype, np.integer):
                raise DataError(
                    f"Collate: {example.id} has {example.audio.dtype} audio and {example.tokens.dtype} tokens; int16 "
                    "and whole numbers were expected; take audio.to_int16 and int32."
                )
            if len(example.audio) > shape.samples or len(example.tokens) > shape.tokens:
                raise DataError(
                    f"Collate: {example.id} has {len(example.audio)} samples and {len(example.tokens)} tokens; at most "
                    f"{shape.samples} and {shape.tokens} fit into {shape}; give a larger shape."
                )
            batch.audio[row, : len(example.audio)] = example.audio
            batch.audio_lengths[row] = len(example.audio)
            batch.tokens[row, : len(example.tokens)] = example.tokens
            batch.token_lengths[row] = len(example.tokens)
            batch.weights[row] = 1.0
        return batch
