"""Model folders as FunASR releases them, converted: from sound to features, encoded frames, weights and logits.

FunASR's numbers are of a batch of two sounds; in it the predictor's convolution sees the padding, and here too.
"""

import functools
import pathlib
from typing import Any

import jax
import numpy as np
import pytest
import soundfile
from flax import linen as nn

from jaxasr.convert import folders
from jaxasr.data.batch import AsrBatch
from jaxasr.nn.batch_norm import variables_of

from .fixtures import HERE, assert_rows_close, close_of

FOLDER = HERE / "release"
NAMES = ["asr_0x", "asr_1x", "paraformer_0x", "paraformer_1x"]


@functools.cache
def expected():
    with np.load(FOLDER / "expected.npz") as arrays:
        return dict(arrays)


@functools.cache
def converted(name) -> Any:
    """The task of a folder, and its parameters."""
    model = folders.read(FOLDER / name, print)
    return model.task, folders.params_of(model)


def sounds(tokens) -> AsrBatch:
    """The two sounds, with these tokens (2, U)."""
    clips = (FOLDER / "clips.txt").read_text().split()
    samples = [soundfile.read(pathlib.Path(FOLDER / clip), dtype="int16")[0] for clip in clips]
    lengths = np.array([len(sound) for sound in samples], np.int32)
    audio = np.stack([np.pad(sound, (0, max(lengths) - len(sound))) for sound in samples])
    counts = np.full(2, tokens.shape[1], np.int32)
    return AsrBatch(audio, lengths, tokens.astype(np.int32), counts, np.ones(2, np.float32))


@pytest.mark.parametrize("name", NAMES)
def test_features(name):
    task, _ = converted(name)
    x, frames = jax.jit(task.features)(sounds(np.zeros((2, 1))))
    np.testing.assert_array_equal(frames, expected()["feats_lens"])
    assert_rows_close(close_of("release_features"), x, expected()["feats"], frames)


@pytest.mark.parametrize("name", ["asr_0x", "asr_1x"])
def test_asr(name):
    task, params = converted(name)
    out = {key.removeprefix("asr/"): array for key, array in expected().items()}
    found = jax.jit(task.model().apply)(params, sounds(out["decoder_in"][:, 1:]))
    close, frames = close_of("release_asr"), out["encoder_out_lens"]
    np.testing.assert_array_equal(found.lengths, frames)
    assert_rows_close(close, found.encoded, out["encoder_out"], frames)
    assert_rows_close(close, jax.nn.log_softmax(found.ctc_logits), out["ctc_log_probs"], frames)
    close(found.attention_logits, out["decoder_logits"])


@pytest.mark.parametrize("name", ["paraformer_0x", "paraformer_1x"])
def test_paraformer(name):
    task, params = converted(name)
    out = {key.removeprefix("paraformer/"): array for key, array in expected().items()}

    @jax.jit
    def said(params, batch):
        """Of the frames that the encoder gives, the predictor is shown those in the padding too."""
        features, lengths = task.features(batch)
        network, variables = task.network().bind(variables_of(params)), variables_of(params)
        seen = network.encode(features, lengths, train=False).encoded

        def sees_padding(call, args, kwargs, context):
            return call(seen, **kwargs) if context.method_name == "context" else call(*args, **kwargs)

        with nn.intercept_methods(sees_padding):
            return task.network().apply(variables, features, lengths, train=False, method="recognize")

    found = said(params, sounds(np.zeros((2, 1))))
    close, counts = close_of("release_paraformer"), out["token_lens"]
    assert_rows_close(close, found.encoded, out["encoder_out"], out["encoder_out_lens"])
    close(found.predicted.alphas, out["alphas"])
    np.testing.assert_array_equal(found.predicted.counts, out["token_num"])
    np.testing.assert_array_equal(found.predicted.counts, counts)
    assert_rows_close(close, jax.nn.log_softmax(found.attention_logits), out["log_probs"], counts)
    ids = np.argmax(found.attention_logits, axis=-1)
    for row, count in enumerate(counts):
        assert ids[row, :count].tolist() == out["ids"][row, :count].tolist()
