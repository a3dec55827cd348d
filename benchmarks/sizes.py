"""The networks that are measured, and the batches they are given."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxasr.data.batch import AsrBatch, AsrFeatureBatch
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.nn.decoders import TransformerDecoder
from jaxasr.nn.encoders import ConformerEncoder, Encoder, SanmEncoder
from jaxasr.nn.frontends import GivenFeatures, WavFrontend
from jaxasr.tasks import AsrTask

RATE = 16_000
TOKENS_PER_S = 4


class Size(NamedTuple):
    """A network of blocks, and its batch: utterances whose mean is `seconds`, a fifth shorter to a fifth longer."""

    name: str
    layers: int
    width: int
    inner: int
    heads: int
    decoder_layers: int
    symbols: int
    rows: int = 16
    seconds: float = 10.0

    @property
    def durations(self) -> np.ndarray:
        """Seconds of each row."""
        return self.seconds * np.linspace(0.8, 1.2, self.rows)

    @property
    def audio_s(self) -> float:
        """Seconds of sound in a batch."""
        return float(self.durations.sum())


SIZES = {
    size.name: size
    for size in (
        Size("tiny", 2, 16, 32, 2, 1, 20, rows=2, seconds=1.0),
        Size("small", 4, 144, 576, 4, 2, 500),
        Size("base", 12, 256, 2048, 4, 6, 5000),
        Size("large", 50, 512, 2048, 4, 16, 8404),
    )
}
"""`large` has the shape of Paraformer-large."""
CONFORMER = ("tiny", "small")
"""Sizes of which there is a Conformer too."""
DROPOUT = {"dropout": 0.1, "attention_dropout": 0.1}


def sanm(size: Size) -> SanmEncoder:
    return SanmEncoder(
        num_layers=size.layers, d_model=size.width, num_heads=size.heads, d_ff=size.inner, kernel_size=11, **DROPOUT
    )


def conformer(size: Size) -> ConformerEncoder:
    """With convolutions before it that divide the frame rate by 4."""
    return ConformerEncoder(
        num_layers=size.layers, d_model=size.width, num_heads=size.heads, d_ff=size.inner, kernel_size=15, **DROPOUT
    )


def encoders(size: Size) -> list[tuple[str, Encoder]]:
    """The encoders of a size, with their names."""
    found: list[tuple[str, Encoder]] = [(f"SAN-M {size.name}", sanm(size))]
    return [*found, (f"Conformer {size.name}", conformer(size))] if size.name in CONFORMER else found


def frames(encoder: Encoder) -> tuple[float, int]:
    """Frames a second before an encoder, and their width: low frame rate unless it divides the rate itself."""
    return (100.0, 80) if isinstance(encoder, ConformerEncoder) else (100.0 / 6, 560)


def task(size: Size, encoder: Encoder, dtype: str = "float32", *, sound: bool = False) -> AsrTask:
    """Joint CTC and attention over features that are given, or over `sound`; no SpecAugment."""
    symbols = (*Vocabulary.FIRST, *map(str, range(size.symbols - 1 - len(Vocabulary.FIRST))), Vocabulary.LAST)
    return AsrTask(
        frontend=WavFrontend() if sound else GivenFeatures(width=frames(encoder)[1], lfr_m=1, lfr_n=1),
        preprocess=None,
        normalizer=None,
        specaug=None,
        encoder=encoder,
        decoder=TransformerDecoder(
            num_layers=size.decoder_layers, d_model=size.width, num_heads=size.heads, d_ff=size.inner, **DROPOUT
        ),
        dtype=dtype,  # pyright: ignore[reportArgumentType]
        vocabulary=Vocabulary(symbols),
    )


def texts(size: Size) -> tuple[np.ndarray, np.ndarray]:
    """Tokens at random and their lengths."""
    lengths = (size.durations * TOKENS_PER_S).astype(np.int32)
    tokens = np.random.default_rng(1).integers(3, size.symbols - 1, (size.rows, lengths.max())).astype(np.int32)
    return np.where(np.arange(tokens.shape[1]) < lengths[:, None], tokens, -1), lengths


def feature_batch(size: Size, encoder: Encoder) -> AsrFeatureBatch:
    """Noise as features, with texts."""
    rate, width = frames(encoder)
    lengths = (size.durations * rate).astype(np.int32)
    features = np.random.default_rng(0).normal(size=(size.rows, lengths.max(), width)).astype(np.float32)
    features *= np.arange(lengths.max())[:, None] < lengths[:, None, None]
    return AsrFeatureBatch(features, lengths, *texts(size), np.ones(size.rows, np.float32))


def sound_batch(size: Size, rows: int | None = None) -> AsrBatch:
    """Noise as sound, all rows of the mean length if `rows` are given; without texts."""
    lengths = (size.durations * RATE).astype(np.int32) if rows is None else np.full(rows, size.seconds * RATE, np.int32)
    sound = np.random.default_rng(0).integers(-3000, 3000, (len(lengths), lengths.max()), np.int16)
    none = np.zeros(len(lengths), np.int32)
    return AsrBatch(sound, lengths, none[:, None] - 1, none, np.ones(len(lengths), np.float32))


def params_of(task: AsrTask, batch: Any) -> Any:
    return jax.jit(task.model().init)(jax.random.key(0), jax.tree.map(jnp.asarray, batch))
