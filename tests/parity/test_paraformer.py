"""FunASR's Paraformer, put together of its parts; manifest.json and make_fixtures.py say how the files were made.

In a batch its predictor's convolution sees the padding, and where the sum of a row's weights ends a little below the
number of tokens, its loop gives the last one nothing at all. So its numbers are compared twice: those of the batch with
ours after both faults are put in, and those of each row alone, with all its tokens, with ours as they are.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxasr.convert import convert_params, rules_of_part
from jaxasr.convert.decoders import EMBEDDING
from jaxasr.nn import cif, glancing
from jaxasr.nn.decoders import ParaformerSanmDecoder
from jaxasr.nn.encoders import SanmEncoder
from jaxasr.nn.losses import count_loss, label_smoothing_loss, token_accuracy
from jaxasr.nn.masking import zero_padding
from jaxasr.nn.predictors import CifPredictorV2
from jaxasr.tasks.loss_parts import with_sos_eos

from .fixtures import assert_rows_close, assert_trees_close, fixture, more

ENCODER = SanmEncoder(num_layers=2, d_model=32, num_heads=4, d_ff=64)
PREDICTOR = CifPredictorV2()
DECODER = ParaformerSanmDecoder(num_layers=2, d_model=32, num_heads=4, d_ff=64)
RULES = {
    "encoder": rules_of_part("encoder", ENCODER),
    "predictor": rules_of_part("predictor", PREDICTOR),
    "decoder": [EMBEDDING, *rules_of_part("decoder", DECODER)],
}
VARIANTS = {"nosampler": (True, 0.0), "sampler": (True, 0.75), "nobias_norm": (False, 0.0)}
"""Whether an end is a token too, and the sampler's ratio."""

ALL_HEARD, LOST = np.zeros(3, bool), np.array([False, True, True])
"""Rows of whose last token nothing is heard: none, and those of the file, which no other choice of rows gives.

Which ones it hits is a matter of the last bit of their sums.
"""


def parts_of(arrays):
    """Our parameters of each part."""
    of = {
        part: {k.removeprefix(f"{part}."): v for k, v in arrays.items() if k.startswith(f"{part}.")} for part in RULES
    }
    return {part: convert_params(of[part], rules) for part, rules in RULES.items()}


def heard(params, speech, lengths, *, sees_padding=False, **options):
    """Encoded frames, their lengths, and what the predictor makes of them.

    Args:
      sees_padding: let the predictor's convolution see the padding, as FunASR's does.
    """
    encoded, lengths = ENCODER.apply({"params": params["encoder"]}, speech, lengths, train=False)

    def unmasked(call, args, kwargs, context):
        shown = sees_padding and context.method_name == "context"
        return call(encoded, **kwargs) if shown else call(*args, **kwargs)

    with nn.intercept_methods(unmasked):
        found = PREDICTOR.apply({"params": params["predictor"]}, encoded, lengths, train=False, **options)
    return encoded, lengths, found


def said(params, embeddings, known, encoded, lengths):
    """The decoder's logits; the embedding of tokens is no part of it."""
    decoder = {name: branch for name, branch in params["decoder"].items() if name != "embed"}
    return DECODER.apply({"params": decoder}, embeddings, known, encoded, lengths, vocab_size=31, train=False)


@functools.partial(jax.jit, static_argnames="sees_padding")
def inference(params, speech, lengths, *, sees_padding=False):
    encoded, lengths, found = heard(params, speech, lengths, num_tokens=14, sees_padding=sees_padding)
    logits = said(params, found.embeddings, found.counts.astype(jnp.int32), encoded, lengths)
    return encoded, found, cif.fires(found.alphas, found.counts), jax.nn.log_softmax(logits)


def test_inference_in_a_batch():
    arrays, assert_close = fixture("h_paraformer")
    given, out = arrays["in"], arrays["out"]
    inputs = parts_of(arrays["param"]), given["speech"], given["speech_lengths"]
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
    _, found, _, log_probs = inference(parts_of(arrays["param"]), arrays["in"]["speech"], lengths)
    for row, frames in enumerate(lengths):
        count = int(out[f"counts_{row}"])
        assert found.counts[row] == count
        assert_close(found.alphas[row, : frames + 1], out[f"alphas_{row}"])
        assert_close(found.embeddings[row, :count], out[f"embeds_{row}"][:count])
        assert_close(log_probs[row, :count], out[f"log_probs_{row}"][:count])


def targets_of(variant):
    given = fixture("h_paraformer")[0]["in"]
    tokens, lengths = given["text"].astype(np.int32), given["text_lengths"]
    if VARIANTS[variant][0]:
        _, tokens, lengths = jax.jit(with_sos_eos)(tokens, lengths)
    return tokens, lengths


def losses_of(params, lost, *, variant, sees_padding):
    """Of each row the loss of its text, that of its number of tokens, and how many tokens are right at first.

    Args:
      lost: rows of whose last token nothing is heard.
    """
    given, (tokens, lengths) = fixture("h_paraformer")[0]["in"], targets_of(variant)
    ratio = VARIANTS[variant][1]
    options = {"num_tokens": tokens.shape[1], "token_lengths": lengths, "sees_padding": sees_padding}
    encoded, frames, found = heard(params, given["speech"], given["speech_lengths"], **options)
    embeddings = zero_padding(found.embeddings, lengths - lost)
    logits = said(params, embeddings, lengths, encoded, frames)
    right, _ = token_accuracy(logits, tokens, lengths)
    if ratio > 0.0:
        shown = glancing.glanced(jax.random.key(0), logits, tokens, lengths, ratio)[..., None]
        gold = params["decoder"]["embed"]["embedding"][jnp.maximum(tokens, 0)]
        logits = said(params, jnp.where(shown, gold, embeddings), lengths, encoded, frames)
    return label_smoothing_loss(logits, tokens, lengths, 0.1), count_loss(found.counts, lengths), right


def gradient_of(params, lost, **options):
    """Of the losses' sum over rows."""

    def loss(params):
        of_text, of_counts, _ = losses_of(params, lost, **options)
        return jnp.sum(of_text) + jnp.sum(of_counts)

    return jax.jit(jax.grad(loss))(params)


@pytest.fixture(autouse=True)
def first_tokens_are_shown(monkeypatch):
    """The files were made with the sampler's draws in rising order."""
    monkeypatch.setattr(glancing, "row_uniforms", lambda key, shape: jnp.broadcast_to(jnp.arange(shape[1]) / 64, shape))


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_in_a_batch(variant):
    arrays, assert_close = fixture("h_paraformer")
    names = "loss", "loss_att", "loss_pre", "acc", "weight"
    out = {name: arrays["out"][f"{name}_{variant}"][0] for name in names}
    _, lengths = targets_of(variant)
    run = jax.jit(functools.partial(losses_of, variant=variant, sees_padding=True))
    of_text, of_counts, right = run(parts_of(arrays["param"]), LOST)
    weight = np.sum(lengths) if variant.endswith("norm") else len(lengths)
    assert weight == out["weight"]
    assert_close(np.sum(of_text) / weight, out["loss_att"])
    assert_close(np.sum(of_counts) / weight, out["loss_pre"])
    assert_close(np.sum(of_text + of_counts) / weight, out["loss"])
    assert_close(np.sum(right) / np.sum(lengths), out["acc"])


@pytest.mark.parametrize("variant", VARIANTS)
def test_losses_of_each_row_alone(variant):
    (arrays, _), (alone, assert_close) = fixture("h_paraformer"), more("paraformer")
    lengths = np.asarray(targets_of(variant)[1])
    run = jax.jit(functools.partial(losses_of, variant=variant, sees_padding=False))
    of_text, of_counts, right = run(parts_of(arrays["param"]), ALL_HEARD)
    weight = lengths if variant.endswith("norm") else 1
    found = np.array([(of_text + of_counts) / weight, of_text / weight, of_counts / weight, right / lengths])
    assert_close(found.T, [alone["out"][f"loss_{variant}_{row}"] for row in range(3)])


def test_gradient_in_a_batch():
    arrays, assert_close = fixture("h_paraformer")
    gradient = gradient_of(parts_of(arrays["param"]), LOST, variant="nosampler", sees_padding=True)
    assert not np.any(gradient["decoder"].pop("embed")["embedding"])  # no token is shown
    assert_trees_close(assert_close, jax.tree.map(lambda x: x / 3, gradient), parts_of(arrays["grad"]))


def test_gradient_of_each_row_alone():
    """Of their sum, with the sampler."""
    (arrays, _), (alone, assert_close) = fixture("h_paraformer"), more("paraformer")
    gradient = gradient_of(parts_of(arrays["param"]), ALL_HEARD, variant="sampler", sees_padding=False)
    assert_trees_close(assert_close, gradient, parts_of(alone["grad"]))
