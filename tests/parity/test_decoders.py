"""FunASR's decoders beside `transformer`; manifest.json and make_fixtures.py say how each file was made."""

import functools

import jax
import numpy as np
import pytest

from jaxasr.convert import convert_params, rules_of_part
from jaxasr.convert.decoders import EMBEDDING
from jaxasr.nn.decoders import DECODERS, ParaformerSanDecoder, ParaformerSanmDecoder, RnnDecoder, SanmDecoder

from .fixtures import assert_rows_close, fixture, more, shapes_at_init, shapes_of

SIZES = {"d_model": 32, "num_heads": 4, "d_ff": 64}
SANM = SanmDecoder(num_layers=3, attention_layers=2, kernel_size=5, **SIZES)
PARALLEL = {
    "sanm_decoder": ParaformerSanmDecoder(num_layers=3, attention_layers=2, kernel_size=5, **SIZES),
    "decoder_san": ParaformerSanDecoder(num_layers=2, **SIZES),
}


def test_sanm_decoder():
    arrays, assert_close = fixture("d_fsmn_decoder_scama_opt")
    params = convert_params(arrays["param"], rules_of_part("decoder", SANM))
    inputs = [arrays["in"][k] for k in ("ys", "hs", "hs_lens")]
    assert shapes_of(params) == shapes_at_init(SANM, *inputs, vocab_size=37)
    decode = jax.jit(functools.partial(SANM.apply, vocab_size=37, train=False))
    logits, _ = decode({"params": params}, *inputs)
    assert_rows_close(assert_close, logits, arrays["out"]["logits"], arrays["in"]["ys_lens"])


def test_sanm_decoder_step_by_step():
    arrays, assert_close = fixture("d_fsmn_decoder_scama_opt")
    params = convert_params(arrays["param"], rules_of_part("decoder", SANM))
    ys, hs, hs_lengths = (arrays["in"][k][:1] for k in ("ys", "hs", "hs_lens"))
    expected = arrays["out"]["incremental_logp_utt0"]
    step = jax.jit(functools.partial(SANM.apply, vocab_size=37, train=False))
    cache = SANM.empty_cache(1, len(expected), np.float32)
    for position, log_probs in enumerate(expected):
        logits, cache = step({"params": params}, ys[:, position, None], hs, hs_lengths, cache=cache, position=position)
        assert_close(jax.nn.log_softmax(logits[0, 0]), log_probs, err_msg=f"position {position}")


@pytest.mark.parametrize("name", PARALLEL)
def test_parallel_decoder(name):
    arrays, assert_close = fixture(f"d_paraformer_{name}")
    decoder = PARALLEL[name]
    params = convert_params(arrays["param"], [EMBEDDING, *rules_of_part("decoder", decoder)])
    assert params.pop("embed")["embedding"].shape == (37, 32)
    inputs = [arrays["in"][k] for k in ("ys", "ys_lens", "hs", "hs_lens")]
    assert shapes_of(params) == shapes_at_init(decoder, *inputs, vocab_size=37)
    decode = jax.jit(functools.partial(decoder.apply, vocab_size=37, train=False))
    logits = decode({"params": params}, *inputs)
    assert_rows_close(assert_close, logits, arrays["out"]["logits"], arrays["in"]["ys_lens"])


SMALL = {"num_layers": 2, "d_model": 16, "num_heads": 2, "d_ff": 24}
CONVOLUTION = SMALL | {"kernel_size": 5, "groups": 4}
MORE = {
    "lightweight_conv": DECODERS["lightweight_conv"](**CONVOLUTION),
    "lightweight_conv2d": DECODERS["lightweight_conv2d"](**CONVOLUTION, use_bias=True),
    "dynamic_conv": DECODERS["dynamic_conv"](**CONVOLUTION, use_bias=True),
    "dynamic_conv2d": DECODERS["dynamic_conv2d"](**CONVOLUTION),
}


RNN = RnnDecoder(num_layers=2, d_hidden=12, d_attention=8)
MORE |= {
    "rnn_location": RNN.clone(attention_channels=3, attention_filter=4),
    "rnn_add": RNN.clone(attention="add", context_residual=True),
    "rnn_dot": RNN.clone(attention="dot", cell="gru"),
}


@pytest.mark.parametrize("name", MORE)
def test_decoder(name):
    arrays, assert_close = more(name)
    params = convert_params(arrays["param"], rules_of_part("decoder", MORE[name]))
    inputs = [arrays["in"][k] for k in ("ys", "hs", "hs_lens")]
    assert shapes_of(params) == shapes_at_init(MORE[name], *inputs, vocab_size=19)
    decode = jax.jit(functools.partial(MORE[name].apply, vocab_size=19, train=False))
    logits, _ = decode({"params": params}, *inputs)
    assert_rows_close(assert_close, logits, arrays["out"]["logits"], arrays["in"]["ys_lens"])
