"""Examples and batches: from utterances of any length to arrays of a fixed shape."""

import dataclasses
from collections.abc import Sequence
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from jaxasr.errors import DataError


class BucketShape(NamedTuple):
    """The static shape of a batch; one compilation each."""

    rows: int
    """B, filler rows included."""
    samples: int
    """S, samples of audio in a row; T, frames, where features are given instead."""
    tokens: int
    """U, tokens in a row."""


class AsrExample(NamedTuple):
    """One utterance, ready to be put into a batch."""

    id: str
    """Of the utterance."""
    audio: np.ndarray
    """int16 (S,) at the task's sample rate."""
    tokens: np.ndarray
    """int32 (U,) ids without sos and eos."""

    @property
    def inputs(self) -> np.ndarray:
        """The sound, int16 (S,)."""
        return self.audio


class AsrFeatureExample(NamedTuple):
    """One utterance whose features are given, ready to be put into a batch."""

    id: str
    """Of the utterance."""
    features: np.ndarray
    """float32 (T, F)."""
    tokens: np.ndarray
    """int32 (U,) ids without sos and eos."""

    @property
    def inputs(self) -> np.ndarray:
        """The features, float32 (T, F)."""
        return self.features


class TextExample(NamedTuple):
    """A line of text, ready to be put into a batch."""

    id: str
    """Of the utterance."""
    tokens: np.ndarray
    """int32 (U,) ids without sos and eos."""

    @property
    def inputs(self) -> np.ndarray:
        """The tokens, int32 (U,)."""
        return self.tokens


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

    @property
    def inputs(self) -> Any:
        """The sound, int16 (B, S)."""
        return self.audio

    @property
    def input_lengths(self) -> Any:
        """Samples of each row, int32 (B,)."""
        return self.audio_lengths


class AsrFeatureBatch(NamedTuple):
    """As `AsrBatch`, with features instead of audio."""

    features: Any
    """float32 (B, T, F)."""
    feature_lengths: Any
    """int32 (B,), in frames; 0 in a filler row."""
    tokens: Any
    """int32 (B, U)."""
    token_lengths: Any
    """int32 (B,)."""
    weights: Any
    """float32 (B,): 1 for a real utterance, 0 for a filler row."""

    @property
    def inputs(self) -> Any:
        """The features, float32 (B, T, F)."""
        return self.features

    @property
    def input_lengths(self) -> Any:
        """Frames of each row, int32 (B,)."""
        return self.feature_lengths


class TextBatch(NamedTuple):
    """Lines of text side by side."""

    tokens: Any
    """int32 (B, U), no sos or eos; -1 after the end."""
    token_lengths: Any
    weights: Any
    """float32 (B,): 1 for a real line, 0 for a filler row."""

    @property
    def input_lengths(self) -> Any:
        """Tokens of each row, int32 (B,)."""
        return self.token_lengths


AnyAsrExample: TypeAlias = AsrExample | AsrFeatureExample
AnyAsrBatch: TypeAlias = AsrBatch | AsrFeatureBatch


def layout(shape: BucketShape, width: int | None) -> AnyAsrBatch:
    """(dimensions, type) of each array of a batch; `width` is F where features are given, None for audio.

    >>> layout(BucketShape(rows=8, samples=16000, tokens=20), None).inputs[0]
    (8, 16000)
    """
    B, S, U = shape
    others = ((B,), np.int32), ((B, U), np.int32), ((B,), np.int32), ((B,), np.float32)
    if width is None:
        return AsrBatch(((B, S), np.int16), *others)
    return AsrFeatureBatch(((B, S, width), np.float32), *others)


@dataclasses.dataclass(frozen=True)
class Collate:
    """Pads examples to a shape; FunASR's `CommonCollateFn` with lengths, row weights and static shapes."""

    float_pad_value: float = 0.0
    """What stands after the end of the audio, or of the features."""
    int_pad_value: int = -1
    """What stands after the last token."""
    width: int | None = None
    """F of the features that the examples have; None where they have audio."""

    def __call__(self, examples: Sequence[AnyAsrExample], shape: BucketShape) -> AnyAsrBatch:
        """A batch of `shape`; rows that no example fills have length and weight 0.

        Raises:
          DataError: there are more examples than rows, or one is longer than the shape or of another type.
        """
        _check_rows(examples, shape)
        planned = layout(shape, self.width)
        batch = type(planned)(*(np.zeros(*array) for array in planned))
        batch.inputs.fill(self.float_pad_value)
        batch.tokens.fill(self.int_pad_value)
        for row, example in enumerate(examples):
            _check(example, batch.inputs, shape)
            batch.inputs[row, : len(example.inputs)] = example.inputs
            batch.input_lengths[row] = len(example.inputs)
            batch.tokens[row, : len(example.tokens)] = example.tokens
            batch.token_lengths[row] = len(example.tokens)
            batch.weights[row] = 1.0
        return batch


def text_layout(shape: BucketShape) -> TextBatch:
    """(dimensions, type) of each array of a batch.

    >>> text_layout(BucketShape(rows=8, samples=20, tokens=20)).tokens[0]
    (8, 20)
    """
    B, _, U = shape
    return TextBatch(((B, U), np.int32), ((B,), np.int32), ((B,), np.float32))


def collate_text(examples: Sequence[TextExample], shape: BucketShape) -> TextBatch:
    """As `Collate`, of text.

    >>> collate_text([TextExample("u1", np.array([4, 5]))], BucketShape(rows=1, samples=3, tokens=3)).tokens.tolist()
    [[4, 5, -1]]
    """
    _check_rows(examples, shape)
    batch = TextBatch(*(np.zeros(*array) for array in text_layout(shape)))
    batch.tokens.fill(-1)
    for row, example in enumerate(examples):
        _check_tokens(example, shape)
        batch.tokens[row, : len(example.tokens)] = example.tokens
        batch.token_lengths[row] = len(example.tokens)
        batch.weights[row] = 1.0
    return batch


def _check_rows(examples: Sequence[Any], shape: BucketShape) -> None:
    if len(examples) > shape.rows:
        raise DataError(
            f"Collate: {len(examples)} examples; at most {shape.rows} fit into {shape}; give one with more rows."
        )


def _check_tokens(example: TextExample, shape: BucketShape) -> None:
    if not np.issubdtype(example.tokens.dtype, np.integer) or len(example.tokens) > shape.tokens:
        raise DataError(
            f"Collate: {example.id} has {len(example.tokens)} tokens of {example.tokens.dtype}; at most {shape.tokens} "
            "whole numbers were expected; take int32, or give a larger shape."
        )


def _check(example: AnyAsrExample, room: np.ndarray, shape: BucketShape) -> None:
    inputs, tokens = example.inputs, example.tokens
    # a float between -1 and 1 would silently become a 0
    if (inputs.dtype, inputs.shape[1:]) != (room.dtype, room.shape[2:]) or not np.issubdtype(tokens.dtype, np.integer):
        wide = f" of width {room.shape[2]}" if room.ndim == 3 else ""
        raise DataError(
            f"Collate: {example.id} has {inputs.dtype} inputs of shape {inputs.shape} and {tokens.dtype} tokens; "
            f"{room.dtype}{wide} and whole numbers were expected; take the task's own source, and int32."
        )
    if len(inputs) > shape.samples or len(tokens) > shape.tokens:
        raise DataError(
            f"Collate: {example.id} has {len(inputs)} samples and {len(tokens)} tokens; at most {shape.samples} and "
            f"{shape.tokens} fit into {shape}; give a larger shape."
        )
