"""FunASR's Paraformer: inference, losses, gradients; manifest.json and make_fixtures.py say how the files were made.

In a batch its predictor's convolution sees the padding, and where the sum of a row's weights ends a little below the
number of tokens, its loop gives the last one nothing at all. So its numbers are compared twice: those of the batch with
ours after both faults are put in, and those of each row alone, with all its tokens, with ours as they are.
"""

import contextlib
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxasr.convert import convert_params, rules_of_part
from jaxasr.convert.decoders import EMBEDDING
from jaxasr.data.batch import AsrBatch
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.nn import cif, glancing
from jaxasr.nn.decoders import ParaformerSanmDecoder
from jaxasr.nn.encoders import SanmEncoder
from jaxasr.nn.masking import zero_padding
from jaxasr.nn.predictors import Predictor
from jaxasr.tasks import ParaformerTask

from .fixtures import assert_rows_close, assert_trees_close, fixture, more

SIZES = {"num_layers": 2, "d_model": 32, "num_heads": 4, "d_ff": 64, "dropout": 0.0}
TASK = ParaformerTask(
    encoder=SanmEncoder(**SIZES),
    decoder=ParaformerSanmDecoder(**SIZES),
    length_normalized_loss=False,
    vocabulary=Vocabulary(("<blank>", "<s>", "</s>", *map(chr, range(97, 124)), "<unk>")),
)
RULES = {
    "encoder": rules_of_part("encoder", TASK.encoder),
    "predictor": rules_of_part("predictor", TASK.predictor),
    "decoder": [EMBEDDING, *rules_of_part("decoder", TASK.decoder)],
}
VARIANTS = {
    "nosampler": {"sampling_ratio": 0.0},
    "sampler": {},
    "nobias_norm": {"sampling_ratio": 0.0, "predictor_bias": 0, "length_normalized_loss": True},
}
ALL_HEARD, LOST = np.zeros(3, bool), np.array([False, True, True])
"""Rows of whose last token nothing is heard: none, and those of the file, which no other choice of rows gives.

Which ones it hits is a matter of the last bit of their sums.
"""


def params_of(arrays):
    """Our parameters; the table of tokens is no part of our decoder."""
    of = {
        part: {k.removeprefix(f"{part}."): v for k, v in arrays.items() if k.startswith(f"{part}.")} for part in RULES
    }
    params = {part: convert_params(of[part], rules) for part, rules in RULES.items()}
    return params | ({"embed": params["decoder"].pop("embed")} if "embed" in params["decoder"] else {})


@contextlib.contextmanager
def faults(*, sees_padding, lost=ALL_HEARD):
    """What FunASR's predictor does wrong.

    Args:
      sees_padding: let its convolution see the padding.
      lost: rows whose last token it loses, where the number of tokens is given.
    """
    frames = []

    def predict(call, args, kwargs, context):
        if isinstance(context.module, Predictor) and context.method_name == "__call__":
            frames.append(args[0])
            found, known = call(*args, **kwargs), kwargs.get("token_lengths")
            return found if known is None else found._replace(embeddings=zero_padding(found.embeddings, known - lost))
        return (
            call(frames[-1], **kwargs) if sees_padding and context.method_name == "context" else call(*args, **kwargs)
        )

    with nn.intercept_methods(predict):
        yield


@functools.partial(jax.jit, static_argnames="sees_padding")
def inference(params, speech, lengths, *, sees_padding=False):
    with faults(sees_padding=sees_padding):
        out = TASK.network().apply({"params": params}, speech, lengths, train=False, method="recognize")
    found = out.predicted
    return out.encoded, found, cif.fires(found.alphas, found.counts), jax.nn.log_softmax(out.attention_logits)


def test_inference_in_a_batch():
    arrays, assert_close = fixture("h_paraformer")
    given, out = arrays["in"], arrays["out"]
    inputs = params_of(arrays["param"]), given["speech"], given["speech_lengths"]
    encoded, found, fires, log_probs = inference(*inputs, sees_padding=True)
    np.testing.assert_array_equal(out["encoder_out_lens"], given["speech_lengths"])
    assert_rows_close(assert_close, encoded, out["encoder_out"], given["speech_lengths"])
    assert_close(found.alphas, out["infer_alphas"])
    assert_close(fires, out["infer_fires"])
    np.testing.assert_array_equal(found.counts, out["infer_token_num"])
    np.testing.assert_array_equal(found.counts, out["infer_token_lens"])
    assert_close(found.embeddings[:, :12], out["infer_acoustic_embeds"])
    counts = out["infer_token_lens"]
    assert_rows_close(assert_close, log_probs, out["infer_log_probs"], counts)
    ids = np.argmax(log_probs, axis=-1)
    for row, count in enumerate(counts):
        assert ids[row, :count].tolist() == out["infer_ids"][row, :count].tolist()


def test_inference_of_each_row_alone():
    (arrays, _), (alone, assert_close) = fixture("h_paraformer"), more("paraformer")
    lengths, out = arrays["in"]["speech_lengths"], alone["out"]
    _, found, _, log_probs = inference(params_of(arrays["param"]), arrays["in"]["speech"], lengths)
    for row, frames in enumerate(lengths):
        count = int(out[f"counts_{row}"])
        assert found.counts[row] == count
        assert_close(found.alphas[row, : frames + 1], out[f"alphas_{row}"])
        assert_close(found.embeddings[row, :count], out[f"embeds_{row}"][:count])
        assert_close(log_probs[row, :count], out[f"log_probs_{row}"][:count])


def loss_of(params, variant, *, weights=(1.0, 1.0, 1.0), **wrong):
    """A variant's loss of the rows of weight 1, and the metrics; see `faults`."""
    given = fixture("h_paraformer")[0]["in"]
    task = dataclasses.replace(TASK, **VARIANTS[variant])
    speech, lengths, weights = given["speech"], given["speech_lengths"], jnp.asarray(weights)
    batch = AsrBatch(speech, lengths, given["text"].astype(np.int32), given["text_lengths"], weights)
    with faults(**wrong):
        inputs = speech, lengths, *task.texts(batch)
        options = {"train": True, "rngs": {"dropout": jax.random.key(0)}}
        outputs = task.network().apply({"params": params}, *inputs, **options)
    return task.loss_of(outputs, batch)


def gradient_of(params, variant, **wrong):
    if variant != "sampler":
        del params["embed"]
    return jax.jit(jax.grad(lambda params: loss_of(params, variant, **wrong)[0]))(params)


@pytest.fixture(autouse=True)
def first_tokens_are_shown(monkeypatch):
    """The files were made with the sampler's draws in rising order."""
    monkeypatch.setattr(glancing, "row_uniforms", lambda key, shape: jnp.broadcast_to(jnp.arange(shape[1]) / 64, shape))


PARTS = {"loss": "loss", "loss_att": "loss/att", "loss_pre": "loss/count", "acc": "acc/token"}


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_in_a_batch(variant):
    arrays, assert_close = fixture("h_paraformer")
    run = jax.jit(functools.partial(loss_of, variant=variant, sees_padding=True, lost=LOST))
    loss, metrics = run(params_of(arrays["param"]))
    assert metrics["loss/att"].count == metrics["loss/count"].count == arrays["out"][f"weight_{variant}"][0]
    assert_close(loss, arrays["out"][f"loss_{variant}"][0])
    for theirs, ours in PARTS.items():
        assert_close(metrics[ours].value, arrays["out"][f"{theirs}_{variant}"][0])


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_of_each_row_alone(variant):
    (arrays, _), (alone, assert_close) = fixture("h_paraformer"), more("paraformer")
    run = jax.jit(functools.partial(loss_of, variant=variant, sees_padding=False))
    for row in range(3):
        _, metrics = run(params_of(arrays["param"]), weights=np.eye(3, dtype=np.float32)[row])
        assert_close([metrics[name].value for name in PARTS.values()], alone["out"][f"loss_{variant}_{row}"])


def test_gradient_in_a_batch():
    arrays, assert_close = fixture("h_paraformer")
    gradient = gradient_of(params_of(arrays["param"]), "nosampler", sees_padding=True, lost=LOST)
    assert_trees_close(assert_close, gradient, params_of(arrays["grad"]))


def test_gradient_of_each_row_alone():
    """Of their sum, with the sampler."""
    (arrays, _), (alone, assert_close) = fixture("h_paraformer"), more("paraformer")
    gradient = gradient_of(params_of(arrays["param"]), "sampler", sees_padding=False)
    assert_trees_close(assert_close, jax.tree.map(lambda x: 3 * x, gradient), params_of(alone["grad"]))
