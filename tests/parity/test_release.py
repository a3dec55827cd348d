"""Model folders as FunASR releases them: from sound to features, encoded frames, weights and logits.

FunASR's numbers are of a batch of two sounds; in it the predictor's convolution sees the padding, and here too.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import soundfile
from flax import linen as nn

from jaxasr.convert import convert_params, rules_of, torch_file
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.nn.decoders import ParaformerSanmDecoder, TransformerDecoder
from jaxasr.nn.encoders import SanmEncoder
from jaxasr.nn.frontends import WavFrontend
from jaxasr.nn.normalize import GlobalMvn, read_kaldi_mvn
from jaxasr.tasks.asr import AsrTask
from jaxasr.tasks.paraformer import ParaformerTask

from .fixtures import HERE, assert_rows_close, close_of

FOLDER = HERE / "release"
SIZES = {"d_model": 48, "num_heads": 4, "d_ff": 96}
ENCODER = SanmEncoder(**SIZES, num_layers=3, dropout=0.0)
TOKENS = Vocabulary(("<blank>", "<s>", "</s>", *(f"t{i}" for i in range(31)), "<unk>"))
ASR = AsrTask(encoder=ENCODER, decoder=TransformerDecoder(**SIZES, num_layers=2, dropout=0.0), vocabulary=TOKENS)
DECODER = ParaformerSanmDecoder(**SIZES, num_layers=3, attention_layers=2)
PARAFORMER = ParaformerTask(encoder=ENCODER, decoder=DECODER, vocabulary=TOKENS)


@functools.cache
def expected():
    with np.load(FOLDER / "expected.npz") as arrays:
        return dict(arrays)


def tensors_of(name):
    [path] = (FOLDER / name).glob("model.p*")
    return torch_file.read(path, print)


@functools.cache
def features(name):
    """Of the two sounds, normalised by the folder's am.mvn; and their lengths."""
    clips = (FOLDER / "clips.txt").read_text().split()
    sounds = [soundfile.read(FOLDER / clip, dtype="int16")[0] for clip in clips]
    lengths = np.array([len(sound) for sound in sounds], np.int32)
    padded = np.stack([np.pad(sound, (0, max(lengths) - len(sound))) for sound in sounds])
    statistics = read_kaldi_mvn(FOLDER / name / "am.mvn")

    @jax.jit
    def made(padded, lengths):
        x, frames = WavFrontend(lfr_m=7, lfr_n=6)(padded, lengths, sample_rate=16_000)
        return GlobalMvn()(x, frames, statistics), frames

    x, frames = made(padded, lengths)
    return np.asarray(x), np.asarray(frames)


@pytest.mark.parametrize("name", ["asr_0x", "asr_1x", "paraformer_0x", "paraformer_1x"])
def test_features(name):
    x, frames = features(name)
    np.testing.assert_array_equal(frames, expected()["feats_lens"])
    assert_rows_close(close_of("release_features"), x, expected()["feats"], frames)


@pytest.mark.parametrize("name", ["asr_0x", "asr_1x"])
def test_asr(name):
    params = convert_params(tensors_of(name), rules_of(ASR))
    network = ASR.network()
    x, frames = expected()["feats"], expected()["feats_lens"]
    tokens = expected()["asr/decoder_in"].astype(np.int32)
    found = jax.jit(functools.partial(network.apply, train=False))({"params": params}, x, frames, tokens)
    close = close_of("release_asr")
    assert_rows_close(close, found.encoded, expected()["asr/encoder_out"], frames)
    assert_rows_close(close, jax.nn.log_softmax(found.ctc_logits), expected()["asr/ctc_log_probs"], frames)
    close(found.attention_logits, expected()["asr/decoder_logits"])


@pytest.mark.parametrize("name", ["paraformer_0x", "paraformer_1x"])
def test_paraformer(name):
    params = convert_params(tensors_of(name), rules_of(PARAFORMER))
    out = {key.removeprefix("paraformer/"): array for key, array in expected().items()}
    encoded, found, logits = said(params, expected()["feats"], expected()["feats_lens"])
    close = close_of("release_paraformer")
    assert_rows_close(close, encoded, out["encoder_out"], expected()["feats_lens"])
    close(found.alphas, out["alphas"])
    np.testing.assert_array_equal(found.counts, out["token_num"])
    np.testing.assert_array_equal(found.counts, out["token_lens"])
    assert_rows_close(close, jax.nn.log_softmax(logits), out["log_probs"], out["token_lens"])
    for ids, right, count in zip(np.argmax(logits, axis=-1), out["ids"], out["token_lens"], strict=True):
        assert ids[:count].tolist() == right[:count].tolist()


@jax.jit
def said(params, x, frames):
    """Encoded frames, what the predictor makes of them, and the logits of 36 tokens."""
    predictor = PARAFORMER.predictor
    encoded, lengths = ENCODER.apply({"params": params["encoder"]}, x, frames, train=False)

    def sees_padding(call, args, kwargs, context):
        return call(encoded, **kwargs) if context.method_name == "context" else call(*args, **kwargs)

    with nn.intercept_methods(sees_padding):
        found = predictor.apply({"params": params["predictor"]}, encoded, lengths, num_tokens=36, train=False)
    counts = found.counts.astype(jnp.int32)
    given = found.embeddings, counts, encoded, lengths
    return encoded, found, DECODER.apply({"params": params["decoder"]}, *given, vocab_size=35, train=False)
