"""FunASR's encoders with more of their options; make_fixtures.py made the files under more/."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from jaxasr.convert import convert_params, rules_of_part
from jaxasr.convert.encoders import SANM_BLOCKS, convolutions
from jaxasr.nn.batch_norm import MOMENTS, STATS, BatchNorm, gathered, running, variables_of
from jaxasr.nn.convolution import DepthwiseConv
from jaxasr.nn.encoders import (
    BranchformerEncoder,
    ConformerEncoder,
    EBranchformerEncoder,
    RnnEncoder,
    SanmChunkEncoder,
    SanmEncoder,
    TransformerEncoder,
)
from jaxasr.nn.subsampling import ConvSubsampling

from .fixtures import assert_trees_close, fixture, more

SIZES = {"num_layers": 2, "d_model": 16, "num_heads": 2, "dropout": 0.0}
TRANSFORMER = TransformerEncoder(**SIZES, d_ff=24)
CONFORMER = ConformerEncoder(**SIZES, d_ff=24, kernel_size=7)
BRANCHFORMER = BranchformerEncoder(**SIZES, d_gate=24, kernel_size=5)
SANM = SanmEncoder(**SIZES, d_ff=24, kernel_size=5)
SANM_CHUNK = SanmChunkEncoder(**SIZES, d_ff=24, kernel_size=5)
RNN = RnnEncoder(num_layers=3, d_hidden=12, d_model=16)
E_BRANCHFORMER = EBranchformerEncoder(**SIZES, d_gate=24, kernel_size=5, d_ff=24)

CASES = {
    "transformer_conv2d8": TRANSFORMER.clone(subsampling="conv2d8"),
    "transformer_embed": TRANSFORMER.clone(subsampling="embed", num_units=20),
    "conformer_latest": CONFORMER,
    "conformer_legacy": CONFORMER.clone(positions="relative_legacy"),
    "conformer_absolute": CONFORMER.clone(positions="absolute", macaron=False, activation="relu"),
    "conformer_scaled": CONFORMER.clone(positions="scaled", macaron=False, activation="tanh"),
    "conformer_plain": ConformerEncoder(
        **SIZES, d_ff=24, macaron=False, convolution=False, subsampling="linear", activation="selu"
    ),
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
    "e_branchformer_none": EBranchformerEncoder(
        **SIZES, d_gate=24, kernel_size=5, feed_forward=False, subsampling="linear"
    ),
    "sanm_one_block": SANM.clone(num_layers=1),
    "sanm_causal": SANM.clone(kernel_size=7, shift=3),
    "sanm_conv2d": SANM.clone(d_model=20, subsampling="conv2d"),
    "sanm_chunk_look_ahead": SANM_CHUNK.clone(chunk_size=(8,), stride=(5,)),
    "sanm_chunk_look_back_2": SANM_CHUNK.clone(chunk_size=(6,), stride=(6,), look_back=(2,)),
    "sanm_chunk_pad_left": SANM_CHUNK.clone(chunk_size=(9,), stride=(4,), pad_left=(3,)),
    "rnn_blstm": RNN,
    "rnn_gru": RNN.clone(cell="gru", bidirectional=False, subsample=(1, 3)),
    "rnn_bgru_without_projection": RNN.clone(cell="gru", projection=False),
    "rnn_lstm_without_projection": RNN.clone(bidirectional=False, projection=False),
}


@functools.cache
def case(name):
    """Arrays by kind, the assertion, our encoder and our variables."""
    arrays, assert_close = more(name)
    if arrays["in"]["x"].ndim == 2:  # numbers of units
        arrays["in"]["x"] = np.float32(arrays["in"]["x"][..., None])
    if name == "sanm_conv2d":  # which multiplies frames with the root of the width before them, not after
        arrays["param"]["embed.conv.0.weight"] *= np.float32(20**0.5)
    return arrays, assert_close, CASES[name], variables_of(convert_params(arrays["param"], rules_of(name)))


def rules_of(name):
    if name == "sanm_conv2d":  # no model of theirs: it was given our positions
        return [*convolutions("conv2d"), *SANM_BLOCKS]
    return rules_of_part("encoder", CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_every_row_is_what_it_is_alone(name):
    arrays, assert_close, encoder, variables = case(name)
    x, lengths = arrays["in"]["x"], arrays["in"]["x_lens"]
    y, y_lengths = jax.device_get(jax.jit(functools.partial(encoder.apply, train=False))(variables, x, lengths))
    for row, frames in enumerate(y_lengths):
        expected = arrays["out"][f"y_alone_{row}"][0]
        assert len(expected) == frames
        assert_close(y[row, :frames], expected, err_msg=f"row {row}")


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_is_filled(name):
    arrays, _, encoder, variables = case(name)
    init = functools.partial(encoder.init, train=False)
    expected = jax.eval_shape(init, jax.random.key(0), arrays["in"]["x"], arrays["in"]["x_lens"])
    assert jax.tree.map(np.shape, dict(variables)) == jax.tree.map(lambda x: x.shape, dict(expected))


@pytest.mark.parametrize("name", [name for name in CASES if "y_train" in more(name)[0]["out"]])
def test_batch_norm_while_training(name):
    """Of a batch without padding, which FunASR's batch norm would count."""
    arrays, assert_close, encoder, variables = case(name)
    x, out = arrays["in"]["x"], arrays["out"]

    @jax.jit
    def train(variables, x):
        lengths, key = np.full(len(x), x.shape[1], np.int32), jax.random.key(0)
        return encoder.apply(variables, x, lengths, train=True, rngs={"dropout": key}, mutable=[MOMENTS])

    (y, _), left = train(variables, x)
    assert_close(y, out["y_train"])
    assert_stats_close(assert_close, running(variables[STATS], *gathered(left)), out, "after/")


@functools.cache
def given_conformer():
    """The file of the manifest: arrays, the assertion, encoder and variables."""
    arrays, assert_close = fixture("c_conformer_encoder_latest")
    encoder = ConformerEncoder(num_layers=2, d_model=32, num_heads=4, d_ff=64, kernel_size=15, dropout=0.0)
    return (
        arrays,
        assert_close,
        encoder,
        variables_of(convert_params(arrays["param"], rules_of_part("encoder", encoder))),
    )


def test_conformer():
    arrays, assert_close, encoder, variables = given_conformer()
    encode = jax.jit(functools.partial(encoder.apply, train=False))
    y, lengths = encode(variables, arrays["in"]["x"], arrays["in"]["x_lens"])
    for row, frames in enumerate(lengths):
        expected = arrays["out"][f"y_alone_{row}"][0]
        assert len(expected) == frames
        assert_close(y[row, :frames], expected, err_msg=f"row {row}")


def with_faults(call, args, kwargs, context):
    """What theirs does with a batch: up to two frames more a row, filters and norms that see the padding."""
    if context.method_name == "__call__" and isinstance(context.module, ConvSubsampling):
        return call(*args, **kwargs)[0], given_conformer()[0]["out"]["y_lens"]
    if context.method_name == "__call__" and isinstance(context.module, DepthwiseConv | BatchNorm):
        return call(args[0], np.full(len(args[0]), args[0].shape[1]), **kwargs)
    return call(*args, **kwargs)


def test_conformer_in_a_batch():
    """Outputs and every gradient of theirs, with their faults."""
    arrays, assert_close, encoder, variables = given_conformer()
    given, out = arrays["in"], arrays["out"]

    @jax.jit
    def run(params, x):
        def scalar(params, x):
            y, _ = encoder.apply({**variables, "params": params}, x, given["x_lens"], train=False)
            return jnp.sum(y * given["cotangent"]), y

        with nn.intercept_methods(with_faults):
            return jax.value_and_grad(scalar, argnums=(0, 1), has_aux=True)(params, x)

    (scalar, y), (of_params, of_x) = run(variables["params"], given["x"])
    assert_close(y, out["y"])
    assert_close(scalar, out["scalar"])
    real = np.arange(given["x"].shape[1])[None, :, None] < given["x_lens"][:, None, None]
    assert_close(of_x, out["dx"] * real)  # padding that theirs sees here is no input, though it be zeros
    assert_trees_close(assert_close, of_params, convert_params(arrays["grad"], rules_of_part("encoder", encoder)))


def test_conformer_in_a_batch_while_training():
    arrays, assert_close, encoder, variables = given_conformer()
    given, out = arrays["in"], arrays["out"]

    @jax.jit
    def run(x):
        rngs = {"dropout": jax.random.key(0)}
        with nn.intercept_methods(with_faults):
            return encoder.apply(variables, x, given["x_lens"], train=True, rngs=rngs, mutable=[MOMENTS])

    (y, _), left = run(given["x"])
    assert_close(y, out["y_train_mode"])
    assert_stats_close(assert_close, running(variables[STATS], *gathered(left)), out, "train_buffer_after/")


def assert_stats_close(assert_close, stats, out, prefix):
    after = {key.removeprefix(prefix): value for key, value in out.items() if key.startswith(prefix)}
    jax.tree.map(assert_close, stats, convert_params(after, rules_of_part("encoder", CONFORMER))[STATS])


@pytest.mark.parametrize("name", [name for name in CASES if more(name)[0]["grad"]])
def test_gradient(name):
    """Of all rows, each of them alone."""
    arrays, assert_close, encoder, variables = case(name)
    x, lengths = arrays["in"]["x"], arrays["in"]["x_lens"]
    slopes = [arrays["in"][f"cotangent_{row}"] for row in range(len(x))]
    rest = {kind: branch for kind, branch in variables.items() if kind != "params"}

    @jax.jit
    @jax.grad
    def gradient(params):
        y, _ = encoder.apply({"params": params, **rest}, x, lengths, train=False)
        return sum(jnp.sum(y[row, : len(slope)] * slope) for row, slope in enumerate(slopes))

    assert_trees_close(assert_close, gradient(variables["params"]), convert_params(arrays["grad"], rules_of(name)))
