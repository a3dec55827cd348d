"""FunASR's losses; manifest.json says how each file was made."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.convert import convert_params
from jaxasr.convert.models import CTC_HEAD
from jaxasr.nn.ctc import ctc_feasible, ctc_loss
from jaxasr.nn.layers import Head
from jaxasr.nn.losses import count_loss, label_smoothing_loss, token_accuracy

from .fixtures import fixture


@jax.jit
@functools.partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
def mean_of_projection(hidden, weight, bias, lengths, tokens, token_lengths):
    loss = ctc_loss(hidden @ weight.T + bias[None, None], lengths, tokens, token_lengths)
    return loss.sum() / ctc_feasible(lengths, tokens, token_lengths).sum(), loss


@pytest.mark.parametrize("name", ["f_ctc", "f_ctc_infeasible"])
def test_ctc(name):
    arrays, assert_close = fixture(name)
    given, out = arrays["in"], arrays["out"]
    parts = given["hs"], arrays["param"]["ctc_lo.weight"], arrays["param"]["ctc_lo.bias"]
    lengths, tokens, token_lengths = (given[key] for key in ("hs_lens", "ys", "ys_lens"))
    (mean, loss), gradients = mean_of_projection(*parts, lengths, tokens, token_lengths)
    feasible = np.asarray(jax.jit(ctc_feasible)(lengths, tokens, token_lengths))
    np.testing.assert_array_equal(feasible, np.isfinite(out["per_utt"]))
    assert_close(mean, out["loss"])
    assert_close(loss, np.where(feasible, out["per_utt"], 0))
    expected = out["dhs"], arrays["grad"]["ctc_lo.weight"], arrays["grad"]["ctc_lo.bias"]
    for gradient, wanted in zip(gradients, expected, strict=True):
        assert_close(gradient, wanted)


@pytest.mark.parametrize("name", ["f_ctc", "f_ctc_infeasible"])
def test_ctc_head(name):
    arrays, assert_close = fixture(name)
    head = Head(29)
    params = convert_params(arrays["param"], CTC_HEAD)
    logits = jax.jit(head.apply)({"params": params}, arrays["in"]["hs"])
    assert_close(jax.nn.log_softmax(logits), arrays["out"]["log_probs"])
    np.testing.assert_array_equal(np.argmax(logits, axis=-1), arrays["out"]["argmax"])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("per_token", [False, True])
def test_label_smoothing(smoothing, per_token):
    arrays, assert_close = fixture("f_label_smoothing_mae_acc")
    logits, targets, out = arrays["in"]["x"], arrays["in"]["target"], arrays["out"]
    lengths = (targets >= 0).sum(axis=1)
    count = lengths.sum() if per_token else len(targets)

    @jax.jit
    @jax.value_and_grad
    def loss_of(logits):
        return jnp.sum(label_smoothing_loss(logits, targets, lengths, smoothing)) / count

    loss, gradient = loss_of(logits)
    assert_close(loss, out[f"loss_s{smoothing}_norm{int(per_token)}"])
    assert_close(gradient, out[f"dx_s{smoothing}_norm{int(per_token)}"])
    correct, counts = jax.jit(token_accuracy)(logits, targets, lengths)
    np.testing.assert_array_equal(counts, lengths)
    assert correct.sum() / counts.sum() == out["acc"]


def test_counts():
    arrays, assert_close = fixture("f_label_smoothing_mae_acc")
    lengths, counts = arrays["in"]["mae_target_len"], arrays["in"]["mae_pred_len"]
    loss = np.sum(jax.jit(count_loss)(counts, lengths))
    assert_close(loss / len(lengths), arrays["out"]["mae_norm0"])
    assert_close(loss / np.sum(lengths), arrays["out"]["mae_norm1"])
