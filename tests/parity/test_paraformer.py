"""FunASR's Paraformer, put together of its parts; manifest.json says how the file was made."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.convert import (
    CIF_PREDICTOR_V2,
    EMBEDDING,
    PARAFORMER_SANM_DECODER,
    SANM_ENCODER,
    convert_params,
)
from jaxasr.nn.decoders import ParaformerSanmDecoder
from jaxasr.nn.encoders import SanmEncoder
from jaxasr.nn.losses import label_smoothing_loss
from jaxasr.nn.masking import zero_padding
from jaxasr.nn.predictors import CifPredictorV2
from jaxasr.tasks.loss_parts import with_sos_eos

from .fixtures import assert_rows_close, fixture, more

ENCODER = SanmEncoder(num_layers=2, d_model=32, num_heads=4, d_ff=64)
PREDICTOR = CifPredictorV2()
DECODER = ParaformerSanmDecoder(num_layers=2, d_model=32, num_heads=4, d_ff=64)
RULES = {"encoder": SANM_ENCODER, "predictor": CIF_PREDICTOR_V2, "decoder": [EMBEDDING, *PARAFORMER_SANM_DECODER]}


def parts_of(arrays):
    """Our parameters of each part."""
    of = {
        part: {k.removeprefix(f"{part}."): v for k, v in arrays.items() if k.startswith(f"{part}.")} for part in RULES
    }
    return {part: convert_params(of[part], rules) for part, rules in RULES.items()}


def said(params, speech, lengths, *, num_tokens, token_lengths=None, without_last=False):
    """Encoded frames, what the predictor makes of them, and the decoder's logits.

    Args:
      without_last: nothing was heard of the last token.
    """
    encoded, lengths = ENCODER.apply({"params": params["encoder"]}, speech, lengths, train=False)
    options = {"num_tokens": num_tokens, "token_lengths": token_lengths, "train": False}
    found = PREDICTOR.apply({"params": params["predictor"]}, encoded, lengths, **options)
    known = found.counts.astype(jnp.int32) if token_lengths is None else token_lengths
    decoder = {name: branch for name, branch in params["decoder"].items() if name != "embed"}
    heard = zero_padding(found.embeddings, known - without_last)
    memory = heard, known, encoded, lengths
    return encoded, found, DECODER.apply({"params": decoder}, *memory, vocab_size=31, train=False)


def test_inference():
    """Each row as it is alone; the longest one as it is in FunASR's batch."""
    (arrays, assert_close), (alone, _) = fixture("h_paraformer"), more("paraformer")
    given, out = arrays["in"], arrays["out"]
    run = jax.jit(functools.partial(said, num_tokens=14))
    encoded, found, logits = run(parts_of(arrays["param"]), given["speech"], given["speech_lengths"])
    assert_rows_close(assert_close, encoded, out["encoder_out"], given["speech_lengths"])
    log_probs = jax.nn.log_softmax(logits)
    for row, frames in enumerate(given["speech_lengths"]):
        expected = {name: alone["out"][f"{name}_{row}"] for name in ("embeds", "alphas", "log_probs", "counts")}
        count = int(expected["counts"])
        assert found.counts[row] == count
        assert_close(found.alphas[row, : frames + 1], expected["alphas"])
        assert_close(found.embeddings[row, :count], expected["embeds"][:count])
        assert_close(log_probs[row, :count], expected["log_probs"][:count])
    count = int(out["infer_token_num"][0])
    assert np.argmax(logits[0, :count], axis=-1).tolist() == out["infer_ids"][0, :count].tolist()


@pytest.mark.parametrize(("variant", "bias"), [("nosampler", True), ("nobias_norm", False)])
def test_losses(variant, bias):
    """Of each row alone: label-smoothed cross-entropy, and the error of the number of tokens.

    Where the sum of FunASR's weights ends a little below the number of tokens, its loop gives the last one nothing at
    all (test_predictors.py); its loss is that, and ours the right one.
    """
    (arrays, assert_close), (alone, _) = fixture("h_paraformer"), more("paraformer")
    given = arrays["in"]
    tokens, lengths = given["text"].astype(np.int32), given["text_lengths"]
    if bias:  # an end is a token too
        _, tokens, lengths = jax.jit(with_sos_eos)(tokens, lengths)

    @functools.partial(jax.jit, static_argnums=3)
    def losses(params, speech, frames, without_last):
        options = {"num_tokens": tokens.shape[1], "token_lengths": lengths, "without_last": without_last}
        _, found, logits = said(params, speech, frames, **options)
        return label_smoothing_loss(logits, tokens, lengths, 0.1), jnp.abs(found.counts - lengths)

    inputs = parts_of(arrays["param"]), given["speech"], given["speech_lengths"]
    (of_text, of_counts), (of_less, _) = (losses(*inputs, without_last) for without_last in (False, True))
    divided = np.asarray(lengths) if variant.endswith("norm") else np.ones(3)
    whole, expected_text, expected_counts = np.transpose([alone["out"][f"loss_{variant}_{row}"] for row in range(3)])
    assert_close(of_counts / divided, expected_counts)
    lost = np.abs(of_text / divided - expected_text) > 1e-3
    assert not lost.all()
    assert_close(np.where(lost, of_less, of_text) / divided, expected_text)
    assert_close(np.where(lost, of_less, of_text) / divided + of_counts / divided, whole)
