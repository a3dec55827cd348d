"""What stands before and behind an encoder; make_fixtures.py says how the files under more/ were made."""

import functools

import jax
import numpy as np
import pytest

from jaxasr.convert import convert_params, rules_of_part, rules_of_parts
from jaxasr.nn.batch_norm import variables_of
from jaxasr.nn.encoders import SanmEncoder, TransformerEncoder
from jaxasr.nn.network import AsrNetwork
from jaxasr.nn.postencoders import LengthAdaptor
from jaxasr.nn.preencoders import LinearPreEncoder, SincPreEncoder, band_edges

from .fixtures import more, shapes_at_init, shapes_of

CASES = {
    "linear": ("preencoder", LinearPreEncoder(7)),
    "sinc": ("preencoder", SincPreEncoder()),
    "sinc_relu": ("preencoder", SincPreEncoder(128, 8000, "bark", "none", "relu")),
    "length_adaptor": ("postencoder", LengthAdaptor(num_layers=2)),
    "length_adaptor_linear": ("postencoder", LengthAdaptor(d_model=8)),
}


@pytest.mark.parametrize("name", CASES)
def test_every_row_is_what_it_is_alone(name):
    arrays, assert_close = more(name)
    slot, module = CASES[name]
    variables = variables_of(convert_params(arrays["param"], rules_of_part(slot, module, "espnet")))
    x, lengths = arrays["in"]["x"], arrays["in"]["x_lens"]
    init = functools.partial(module.init, train=False)
    expected = jax.eval_shape(init, jax.random.key(0), x, lengths)
    assert jax.tree.map(np.shape, dict(variables)) == jax.tree.map(lambda x: x.shape, dict(expected))
    found = jax.jit(functools.partial(module.apply, train=False))(variables, x, lengths)
    y, y_lengths = found if isinstance(found, tuple) else (found, lengths)
    for row, frames in enumerate(y_lengths):
        alone = arrays["out"][f"y_alone_{row}"][0]
        assert len(alone) == frames
        assert_close(y[row, :frames], alone, err_msg=f"row {row}")


SIZES = {"num_layers": 3, "d_model": 16, "num_heads": 2, "d_ff": 24, "dropout": 0.0}
CONDITIONED = {
    "transformer": (TransformerEncoder(**SIZES, subsampling="linear"), 1),
    "sanm": (SanmEncoder(**SIZES, kernel_size=5), 2),  # they do not count its first block
}


@pytest.mark.parametrize("name", CONDITIONED)
def test_self_conditioned_ctc(name):
    """Each row as it is alone."""
    arrays, assert_close = more(f"conditioned_{name}")
    encoder, layer = CONDITIONED[name]
    network = AsrNetwork(encoder, None, vocab_size=19, has_ctc=True, interctc_layers=(layer,), conditioning=True)
    params = convert_params(arrays["param"], rules_of_parts({"encoder": encoder}))
    x, lengths = arrays["in"]["x"], arrays["in"]["x_lens"]
    assert shapes_of(params) == shapes_at_init(network, x, lengths, np.zeros((3, 1), np.int32))
    found = jax.jit(functools.partial(network.apply, train=False, method="encode"))({"params": params}, x, lengths)
    log_probs, between = jax.nn.log_softmax(found.ctc_logits), jax.nn.log_softmax(found.intermediate_logits[0])
    for row, frames in enumerate(lengths):
        for kind, y in (("y_alone", found.encoded), ("log_probs", log_probs), ("between", between)):
            assert_close(y[row, :frames], arrays["out"][f"{kind}_{row}"][0], err_msg=f"{kind} of row {row}")


@pytest.mark.parametrize(
    ("scale", "first", "middle", "last"),
    [
        ("mel", (30.0000, 58.5917), (1748.540, 1844.441), (7672.095, 8000.001)),
        ("bark", (19.8234, 120.178), (4054.785, 4839.941), (6459.587, 7940.412)),
    ],
)
def test_bands_are_laid_out_as_theirs(scale, first, middle, last):
    """The edges, in Hz, that FunASR's scales give for 16 kHz, of bands 0, 63 and 127."""
    edges = band_edges(scale, 16_000)
    assert edges.shape == (128, 2)
    np.testing.assert_allclose(edges[[0, 63, 127]] * 16_000, [first, middle, last], rtol=1e-4)
