"""FunASR's encoders with more of their options; make_fixtures.py made the files under more/."""

import functools
import pathlib

import jax
import numpy as np
import pytest

from jaxasr.convert import BRANCHFORMER_ENCODER, CONFORMER_ENCODER, convert_params
from jaxasr.nn.batch_norm import MOMENTS, STATS, gathered, running, variables_of
from jaxasr.nn.encoders import BranchformerEncoder, ConformerEncoder, EBranchformerEncoder

HERE = pathlib.Path(__file__).parent / "more"
SIZES = {"num_layers": 2, "d_model": 16, "num_heads": 2, "dropout": 0.0}
CONFORMER = ConformerEncoder(**SIZES, d_ff=24, kernel_size=7)
BRANCHFORMER = BranchformerEncoder(**SIZES, d_gate=24, kernel_size=5)
E_BRANCHFORMER = EBranchformerEncoder(**SIZES, d_gate=24, kernel_size=5, d_ff=24)

CASES = {
    "conformer_latest": CONFORMER,
    "conformer_legacy": CONFORMER.clone(positions="relative_legacy"),
    "conformer_absolute": CONFORMER.clone(positions="absolute", macaron=False, activation="relu"),
    "conformer_scaled": CONFORMER.clone(positions="scaled", macaron=False, activation="tanh"),
    "conformer_plain": CONFORMER.clone(macaron=False, convolution=False, subsampling="linear", activation="selu"),
    "conformer_norms_last": CONFORMER.clone(macaron=False, norm_first=False, concat_after=True, subsampling="conv2d2"),
    "conformer_conv2d6": CONFORMER.clone(subsampling="conv2d6", activation="hardtanh"),
    "branchformer_concat": BRANCHFORMER,
    "branchformer_legacy": BRANCHFORMER.clone(positions="relative_legacy"),
    "branchformer_learned_average": BRANCHFORMER.clone(
        merge="learned_average", gate_linear=True, gate_activation="tanh"
    ),
    "branchformer_fixed_average": BRANCHFORMER.clone(merge="fixed_average", gate_share=0.3, subsampling="linear"),
    "branchformer_absolute": BRANCHFORMER.clone(positions="absolute"),
    "e_branchformer_macaron": E_BRANCHFORMER,
    "e_branchformer_one_feed_forward": E_BRANCHFORMER.clone(macaron=False, merge_kernel_size=5, activation="relu"),
    "e_branchformer_none": E_BRANCHFORMER.clone(feed_forward=False, subsampling="linear"),
}


@functools.cache
def case(name):
    """Arrays by kind, our encoder and our variables."""
    kinds = {"in": {}, "param": {}, "out": {}}
    with np.load(HERE / f"{name}.npz") as arrays:
        for key in arrays:
            kind, _, rest = key.partition("/")
            if kind in kinds:
                kinds[kind][rest] = arrays[key]
    rules = CONFORMER_ENCODER if name.startswith("conformer") else BRANCHFORMER_ENCODER
    return kinds, CASES[name], variables_of(convert_params(kinds["param"], rules))


assert_close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=5e-5)


@pytest.mark.parametrize("name", CASES)
def test_every_row_is_what_it_is_alone(name):
    arrays, encoder, variables = case(name)
    x, lengths = arrays["in"]["x"], arrays["in"]["x_lens"]
    y, y_lengths = jax.jit(functools.partial(encoder.apply, train=False))(variables, x, lengths)
    for row, frames in enumerate(y_lengths):
        expected = arrays["out"][f"y_alone_{row}"][0]
        assert len(expected) == frames
        assert_close(y[row, :frames], expected, err_msg=f"row {row}")


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_is_filled(name):
    arrays, encoder, variables = case(name)
    init = functools.partial(encoder.init, train=False)
    expected = jax.eval_shape(init, jax.random.key(0), arrays["in"]["x"], arrays["in"]["x_lens"])
    assert jax.tree.map(np.shape, dict(variables)) == jax.tree.map(lambda x: x.shape, dict(expected))


@pytest.mark.parametrize("name", ["conformer_latest", "conformer_norms_last"])
def test_batch_norm_while_training(name):
    """Of a batch without padding, which FunASR's batch norm would count."""
    arrays, encoder, variables = case(name)
    x, out = arrays["in"]["x"], arrays["out"]

    @jax.jit
    def train(variables, x):
        lengths, key = np.full(len(x), x.shape[1], np.int32), jax.random.key(0)
        return encoder.apply(variables, x, lengths, train=True, rngs={"dropout": key}, mutable=[MOMENTS])

    (y, _), left = train(variables, x)
    assert_close(y, out["y_train"])
    stats = running(variables[STATS], *gathered(left))
    after = {key.removeprefix("after/"): value for key, value in out.items() if key.startswith("after/")}
    expected = convert_params(after, CONFORMER_ENCODER)[STATS]
    jax.tree.map(assert_close, stats, expected)
