"""FunASR's predictors; manifest.json says how each file was made."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.convert import convert_params, rules_of_part
from jaxasr.nn import cif
from jaxasr.nn.losses import count_loss
from jaxasr.nn.predictors import CifPredictor, CifPredictorV2, CifPredictorV3
from jaxasr.search.timestamps import spans_of_fires

from .fixtures import assert_rows_close, assert_trees_close, fixture, more, shapes_at_init, shapes_of

PREDICTORS = {"v1": CifPredictor(dropout=0.0), "v2": CifPredictorV2()}


def case(version):
    """Arrays, the assertion, the predictor and its parameters, hidden frames and their lengths."""
    arrays, assert_close = fixture(f"e_cif_{version}")
    predictor = PREDICTORS[version]
    given = arrays["in"]
    return (
        arrays,
        assert_close,
        predictor,
        convert_params(arrays["param"], rules_of_part("predictor", predictor)),
        given["hidden"],
        given["hidden_lens"],
    )


def by_the_loop(hidden, alphas):
    """Integrate and fire in float64, frame by frame; a last token that lacks no more than rounding fires too."""
    tokens, token, held = [], np.zeros(hidden.shape[1]), 0.0
    for frame, alpha in zip(np.float64(hidden), np.float64(alphas), strict=True):
        while held + alpha >= 1.0 - 1e-5:
            tokens.append(token + (1.0 - held) * frame)
            alpha, token, held = alpha - (1.0 - held), np.zeros(hidden.shape[1]), 0.0
        token, held = token + alpha * frame, held + alpha
    return np.array(tokens)


def lost(arrays):
    """(B, U): tokens that FunASR's loop lost, because in float32 its sum ended a little below a whole number."""
    tokens = (arrays["in"]["target"] >= 0).sum(axis=1)
    empty = ~np.any(arrays["out"]["train_embeds"], axis=2)
    return empty & (np.arange(empty.shape[1]) < tokens[:, None])


@pytest.mark.parametrize("version", PREDICTORS)
def test_while_the_number_of_tokens_is_known(version):
    arrays, assert_close, predictor, params, hidden, lengths = case(version)
    out, tokens = arrays["out"], (arrays["in"]["target"] >= 0).sum(axis=1)
    options = {"num_tokens": tokens.max(), "token_lengths": tokens}
    assert shapes_of(params) == shapes_at_init(predictor, hidden, lengths, **options)
    predict = jax.jit(functools.partial(predictor.apply, num_tokens=tokens.max(), train=False))
    found = predict({"params": params}, hidden, lengths, token_lengths=tokens)
    assert_close(found.counts, out["train_token_num"])
    assert_rows_close(assert_close, found.alphas, out["train_alphas"], lengths)
    right = [by_the_loop(h, a)[:n] for h, a, n in zip(hidden, out["train_alphas"], tokens, strict=True)]
    assert_rows_close(assert_close, found.embeddings, right, tokens)
    assert 0 < lost(arrays).sum() < len(tokens)
    there = ~lost(arrays)[..., None]
    assert_close(np.where(there, found.embeddings, 0.0), np.where(there, out["train_embeds"], 0.0))
    fires = jax.jit(cif.fires)(found.alphas, tokens)
    assert_rows_close(assert_close, fires, out["train_fires"], lengths)
    np.testing.assert_array_equal(np.sum(np.floor(fires), axis=1), tokens)


@pytest.mark.parametrize("version", PREDICTORS)
def test_while_the_number_of_tokens_is_not_known(version):
    arrays, assert_close, predictor, params, hidden, lengths = case(version)
    out = arrays["out"]
    predict = jax.jit(functools.partial(predictor.apply, num_tokens=20, train=False))
    found = predict({"params": params}, hidden, lengths)
    np.testing.assert_array_equal(found.counts, out["infer_token_num"])
    assert_rows_close(assert_close, found.alphas, out["infer_alphas"], lengths + 1)
    assert_rows_close(assert_close, found.embeddings, out["infer_embeds"], out["infer_token_num"].astype(int))
    fires = jax.jit(cif.fires)(found.alphas, found.counts)
    assert_rows_close(assert_close, fires, out["infer_fires"], lengths + 1)
    np.testing.assert_array_equal(np.floor(fires), out["infer_frame_alignments"])
    np.testing.assert_array_equal(found.counts, out["infer_frame_alignment_lens"])


def test_without_a_tail_half_a_token_is_one():
    """As FunASR counts; what has not fired it shows as zeros."""
    _, _, predictor, params, hidden, lengths = case("v2")
    predict = jax.jit(functools.partial(predictor.clone(tail_threshold=0.0).apply, num_tokens=20, train=False))
    found = predict({"params": params}, hidden, lengths)
    total = np.sum(found.alphas, axis=1)
    np.testing.assert_array_equal(found.counts, np.round(total))
    assert np.any(found.counts > total)
    for embeddings, count, fired in zip(found.embeddings, found.counts, np.floor(total), strict=True):
        assert np.all(np.any(embeddings[: int(fired)], axis=-1))
        assert not np.any(embeddings[int(fired) : int(count)])


@pytest.mark.parametrize("version", PREDICTORS)
def test_gradient(version):
    """Without the tokens that they lost, by the rows' own frames: theirs goes on into the padding."""
    arrays, assert_close, predictor, params, hidden, lengths = case(version)
    slope = np.where(lost(arrays)[..., None], 0.0, arrays["in"]["cotangent_train_embeds"])
    tokens = (arrays["in"]["target"] >= 0).sum(axis=1)

    @jax.jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(params, hidden):
        options = {"num_tokens": tokens.max(), "token_lengths": tokens, "train": False}
        found = predictor.apply({"params": params}, hidden, lengths, **options)
        return jnp.sum(found.embeddings * slope) + jnp.sum(count_loss(found.counts, tokens))

    of_params, of_hidden = gradient(params, hidden)
    assert_rows_close(assert_close, of_hidden, arrays["out"]["train_dhidden"], lengths)
    assert_trees_close(assert_close, of_params, convert_params(arrays["grad"], rules_of_part("predictor", predictor)))


def test_integrate_and_fire():
    arrays, assert_close = fixture("e_cif_raw")
    hidden, alphas = arrays["in"]["hidden"], arrays["in"]["alphas"]
    expected = arrays["out"]["embeds"]
    found = jax.jit(cif.integrate_and_fire, static_argnums=2)(hidden, alphas, expected.shape[1])
    counts = np.floor(alphas.sum(axis=1) + 1e-6).astype(int)  # what has not fired is no token of theirs
    assert_rows_close(assert_close, found, expected, counts)
    assert_close(jax.jit(cif.fires)(alphas, counts), arrays["out"]["fires"])


V3 = {
    "cnn": CifPredictorV3(upsample=5, upsample_type="cnn", smooth_factor2=0.25, noise_threshold2=0.01),
    "blstm": CifPredictorV3(from_context=False),
    "attention": CifPredictorV3(upsample=2, upsample_type="cnn_attn"),
    "smooth": CifPredictorV3(left=2, smooth_factor=0.8, noise_threshold=0.1, upsample=2, upsample_type="cnn"),
}


@pytest.mark.parametrize("name", V3)
def test_fine_weights(name):
    """Each row as it is alone."""
    arrays, assert_close = more(f"cif_v3_{name}")
    params, out = convert_params(arrays["param"], rules_of_part("predictor", V3[name])), arrays["out"]
    x, lengths = arrays["in"]["x"], arrays["in"]["x_lens"]
    assert shapes_of(params) == shapes_at_init(V3[name], x, lengths, num_tokens=30)
    found = jax.jit(functools.partial(V3[name].apply, num_tokens=30, train=False))({"params": params}, x, lengths)
    for row, frames in enumerate(lengths):
        count = int(out[f"counts_{row}"])
        assert found.counts[row] == count
        assert_close(found.alphas[row, : frames + 1], out[f"alphas_{row}"])
        assert_close(found.embeddings[row, :count], out[f"embeds_{row}"][:count])
        fine = found.fine_alphas[row, : frames * V3[name].upsample]
        assert_close(fine, out[f"fine_{row}"])
        assert_close(np.sum(fine), out[f"fine_counts_{row}"])


SHARED = {"several_in_a_frame": slice(2, 4), "at_once": slice(0, 2)}
"""Tokens whose times are not FunASR's: those that share a frame, and those that theirs begin before the sound."""


@pytest.mark.parametrize("name", more("timestamps")[0]["in"])
def test_times_of_tokens(name):
    """To the millisecond, which FunASR rounds down to."""
    arrays = more("timestamps")[0]
    alphas, expected = arrays["in"][name], arrays["out"][name]
    spans = jax.jit(spans_of_fires, static_argnums=(3, 4))
    counts = np.array([len(expected)])
    found = 20.0 * np.asarray(spans(alphas[None], np.array([len(alphas)]), counts, len(expected), 20.0))[0]
    other = np.zeros(len(expected), bool)
    other[SHARED.get(name, slice(0))] = True
    np.testing.assert_allclose(found[~other], expected[~other], atol=1.0)
    np.testing.assert_allclose(found[other], expected[other], atol=50.0)
    assert np.all(np.abs(found - expected)[other].max(axis=-1, initial=0.0) > 1.0)
