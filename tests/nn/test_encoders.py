"""What encoders do beside the promises of tests/test_contract.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxasr.errors import ConfigError
from jaxasr.nn import encoders as registry
from jaxasr.nn import subsampling
from jaxasr.nn.encoders import (
    BranchformerEncoder,
    ConformerEncoder,
    EBranchformerEncoder,
    RnnEncoder,
    SanmEncoder,
    Taps,
    TransformerEncoder,
)

from ..slow import slow

SIZES = {"num_layers": 5, "d_model": 8, "num_heads": 2, "d_ff": 16}
ENCODERS = {
    "sanm": SanmEncoder(**SIZES, kernel_size=3),
    "sanm_conv2d": SanmEncoder(**SIZES, kernel_size=3, subsampling="conv2d", subsampling_channels=4),
    "transformer": TransformerEncoder(**SIZES),
    "norm_last": TransformerEncoder(**SIZES, norm_first=False),
}
REMAT = [name for name in registry.ENCODERS if hasattr(registry.ENCODERS[name], "remat")]
LENGTHS = np.array([30, 23], np.int32)


def inputs(seed=0):
    return np.random.default_rng(seed).normal(size=(2, 30, 20)).astype(np.float32)


def variables_of(encoder):
    """Parameters without a zero among them."""
    shapes = jax.eval_shape(functools.partial(encoder.init, train=False), jax.random.key(0), inputs(), LENGTHS)
    rng = np.random.default_rng(1)
    return jax.tree.map(lambda x: 0.3 * rng.normal(size=x.shape).astype(np.float32), shapes)


def first_layers(encoder, variables, count):
    """The encoder cut off after `count` blocks."""
    stacked = count - (1 if "first" in variables["params"] else 0)
    params = dict(variables["params"])
    params["blocks"] = jax.tree.map(lambda x: x[:stacked], params["blocks"])
    if not stacked:
        del params["blocks"]
    return encoder.clone(num_layers=count), {"params": params}


@pytest.mark.parametrize("name", slow(ENCODERS, "sanm_conv2d", "transformer"))
def test_a_tap_sees_what_the_encoder_cut_off_there_says(name):
    encoder = ENCODERS[name]
    variables = variables_of(encoder)
    layers = (1, 2, 4)

    @jax.jit
    def run(variables, x):
        seen = []
        y, lengths = encoder.apply(variables, x, LENGTHS, train=False, taps=Taps(layers, lambda y, _: seen.append(y)))
        return y, lengths, seen

    y, lengths, seen = run(variables, inputs())
    assert len(seen) == 3
    mask = np.arange(y.shape[1])[None, :, None] < np.asarray(lengths)[:, None, None]
    for layer, found in [*zip(layers, seen, strict=True), (5, y)]:
        cut, cut_variables = first_layers(encoder, variables, layer)
        expected, _ = jax.jit(functools.partial(cut.apply, train=False))(cut_variables, inputs(), LENGTHS)
        np.testing.assert_allclose(found * mask, expected * mask, atol=2e-5)


def test_every_block_can_be_looked_into():
    """With norms last, what comes out of a block is what the encoder cut off there says."""
    encoder = TransformerEncoder(**SIZES, norm_first=False, subsampling="none")
    variables, x = variables_of(encoder), inputs()
    look = functools.partial(encoder.apply, train=False, capture_intermediates=True, mutable=["intermediates"])
    (y, _), looked = jax.jit(look)(variables, x, LENGTHS)
    frames, _ = looked["intermediates"]["blocks"]["__call__"][0]
    assert frames.shape == (5, *y.shape)
    np.testing.assert_array_equal(frames[4], y)
    cut, cut_variables = first_layers(encoder, variables, 3)
    expected, _ = jax.jit(functools.partial(cut.apply, train=False))(cut_variables, x, LENGTHS)
    np.testing.assert_allclose(frames[2][0], expected[0], atol=2e-5)  # the longest row, without padding


def test_what_a_tap_gives_back_goes_on():
    """With norms last nothing stands between blocks, so two halves make the whole."""
    encoder = TransformerEncoder(**SIZES, norm_first=False, subsampling="none")
    variables, x = variables_of(encoder), inputs()
    start, start_variables = first_layers(encoder, variables, 3)
    end_params = {"blocks": jax.tree.map(lambda leaf: leaf[3:], variables["params"]["blocks"])}

    @jax.jit
    def found(variables, x):
        return encoder.apply(variables, x, LENGTHS, train=False, taps=Taps((3,), lambda y, _: 0.5 * y))[0]

    @jax.jit
    def expected(variables, end_params, x):
        y, lengths = start.apply(variables, x, LENGTHS, train=False)
        return encoder.clone(num_layers=2).apply({"params": end_params}, 1.5 * y, lengths, train=False)[0]

    y = expected(start_variables, end_params, x)
    np.testing.assert_allclose(found(variables, x)[0], y[0], atol=2e-5)


@pytest.mark.parametrize("name", slow(ENCODERS, "sanm_conv2d", "transformer", "norm_last"))
@pytest.mark.parametrize("remat", ["dots", pytest.param(True, marks=pytest.mark.slow)])
def test_remat_changes_nothing(name, remat):
    encoder = ENCODERS[name]
    variables = variables_of(encoder)

    def gradient_of(encoder):
        @jax.jit
        @jax.grad
        def gradient(variables):
            rngs = {"dropout": jax.random.key(3)}
            y, _ = encoder.apply(variables, inputs(), LENGTHS, train=True, rngs=rngs, taps=Taps((2,), lambda y, _: y))
            return jnp.sum(jnp.sin(y[0]))

        return gradient(variables)

    plain, again = gradient_of(encoder), gradient_of(encoder.clone(remat=remat))
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), plain, again)


@pytest.mark.parametrize("name", slow(REMAT, *(set(REMAT) - {"sanm", "transformer"})))
def test_remat_keeps_less(name):
    """Of each block's inside nothing is left for the backward pass but what went in, and products with kernels."""

    def kept(encoder):
        variables = variables_of(encoder)
        loss = functools.partial(encoder.apply, train=False)
        _, pullback = jax.eval_shape(lambda v, x: jax.vjp(lambda v: loss(v, x, LENGTHS)[0], v), variables, inputs())
        return sum(leaf.size for leaf in jax.tree.leaves(pullback))

    cls = registry.ENCODERS[name]
    encoder = cls(**{option: size for option, size in SIZES.items() if hasattr(cls, option)})
    encoder = encoder.clone(subsampling="none" if name.startswith("sanm") else "linear")
    nothing, products, everything = (kept(encoder.clone(remat=remat)) for remat in (True, "dots", False))
    assert nothing < 0.4 * everything
    assert nothing < products < 0.9 * everything


def test_remat_holds_outside_of_loops():
    """Where XLA would merge the two computations, a barrier keeps them apart: for the first block, and between taps."""

    @jax.grad
    def gradient(variables, x):
        y, _ = encoder.apply(variables, x, LENGTHS, train=False, taps=Taps((2, 3), lambda *_: None))
        return jnp.sum(y)

    encoder = SanmEncoder(**SIZES | {"num_layers": 4}, kernel_size=3, remat=True)
    lowered = jax.jit(gradient).lower(variables_of(encoder), inputs())
    blocks = 4
    assert lowered.as_text().count("optimization_barrier") >= blocks


@pytest.mark.parametrize("layers", [(0,), (5,), (2, 2), (3, 1)])
def test_taps_are_layers_before_the_last(layers):
    with pytest.raises(ConfigError, match="an encoder of 5 layers; rising numbers from 1 to 4 were expected"):
        jax.eval_shape(
            lambda: ENCODERS["sanm"].init(
                jax.random.key(0), inputs(), LENGTHS, train=False, taps=Taps(layers, lambda *_: None)
            )
        )


IDLE = [
    (SanmEncoder(), {"subsampling_channels": 8}),
    (TransformerEncoder(subsampling="linear"), {"subsampling_channels": 8}),
    (TransformerEncoder(), {"num_units": 9}),
    (TransformerEncoder(subsampling="none"), {"positions": "scaled"}),
    (BranchformerEncoder(subsampling="none"), {"positions": "scaled"}),
    (BranchformerEncoder(), {"gate_share": 0.3}),
    (BranchformerEncoder(merge="learned_average"), {"gate_share": 0.3}),
    (ConformerEncoder(convolution=False), {"kernel_size": 7}),
    (ConformerEncoder(convolution=False), {"conv_norm": "layer"}),
    (EBranchformerEncoder(feed_forward=False), {"macaron": False}),
    (EBranchformerEncoder(feed_forward=False), {"d_ff": 64}),
    (EBranchformerEncoder(feed_forward=False), {"activation": "relu"}),
    (RnnEncoder(projection=False), {"subsample": (2,)}),
    (RnnEncoder(num_layers=1), {"dropout": 0.1}),
]


@pytest.mark.parametrize(("encoder", "change"), IDLE)
def test_an_option_that_changes_nothing_is_refused(encoder, change):
    def build(encoder):
        return jax.eval_shape(lambda: encoder.init(jax.random.key(0), inputs(), LENGTHS, train=False))

    build(encoder)  # at their defaults options are not given
    ((name, _),) = change.items()
    with pytest.raises(ConfigError, match=rf"--encoder\.{name}=.* with --encoder\..*: it would change nothing; "):
        build(encoder.clone(**change))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (SanmEncoder(subsampling="linear"), "subsampling=linear: one of conv2d, conv2d2, conv2d6, conv2d8, none was"),
        (ConformerEncoder(subsampling="conv3d"), "subsampling=conv3d: one of conv2d, .*, embed, none was expected; "),
        (TransformerEncoder(positions="relativ"), "positions=relativ: one of relative, relative_legacy, absolute, "),
    ],
)
def test_a_choice_that_there_is_not(encoder, message):
    with pytest.raises(ConfigError, match=rf"--encoder\.{message}"):
        jax.eval_shape(lambda: encoder.init(jax.random.key(0), inputs(), LENGTHS, train=False))


# --- subsampling -------------------------------------------------------------------------------------------------


def conv2d_case(size, channels):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 17, 13, channels))
    kernel = rng.normal(size=(size, size, channels, 5)) / channels**0.5  # so that a sine of the sums keeps its digits
    return x.astype(np.float32), kernel.astype(np.float32)


@pytest.mark.parametrize(("size", "stride", "channels"), [(3, 2, 1), (3, 2, 4), (3, 1, 4), (5, 3, 1), (5, 3, 4)])
def test_conv2d_by_taps_is_the_convolution(size, stride, channels):
    x, kernel = conv2d_case(size, channels)

    def with_gradient(fn):
        loss = lambda x, kernel: jnp.sum(jnp.sin(fn(x, kernel, stride)))  # noqa: E731
        return jax.jit(jax.value_and_grad(loss, argnums=(0, 1)))(x, kernel)

    found, expected = with_gradient(subsampling.conv2d_by_taps), with_gradient(subsampling.conv2d_by_xla)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), found, expected)


@pytest.mark.parametrize(("size", "channels"), [(3, 1), (3, 4), (5, 4), (5, 129)])
def test_conv2d_is_the_same_however_it_is_lowered(size, channels):
    x, kernel = conv2d_case(size, channels)
    expected = jax.jit(subsampling.conv2d_by_xla, static_argnums=2)(x, kernel, 2)
    np.testing.assert_allclose(jax.jit(subsampling.conv2d, static_argnums=2)(x, kernel, 2), expected, atol=1e-4)
    half = [jnp.asarray(array, jnp.bfloat16) for array in (x, kernel)]
    found = jax.jit(subsampling.conv2d, static_argnums=2)(*half, 2)
    assert found.dtype == jnp.bfloat16
    assert np.linalg.norm(np.float32(found) - expected) < 0.02 * np.linalg.norm(expected)


@pytest.mark.parametrize("name", list(subsampling.CONVOLUTIONS))
def test_lengths_count_the_windows_without_padding(name):
    """By brute force: an output frame is real where all of the input frames that it depends on are."""
    convolutions = subsampling.CONVOLUTIONS[name]

    def reach(frame):
        """The last input frame that an output frame depends on."""
        for size, stride in reversed(convolutions):
            frame = frame * stride + size - 1
        return frame

    for frames in range(80):
        assert subsampling.output_lengths(frames, convolutions) == sum(reach(t) < frames for t in range(80))
    assert subsampling.shortest(convolutions) == reach(0) + 1


def test_frames_of_zeros_have_gradients_of_ordinary_size():
    """As SpecAugment makes them, before the first update."""
    encoder = TransformerEncoder(**SIZES, subsampling="none")

    @jax.jit
    def gradient_norm(x):
        variables = encoder.init(jax.random.key(0), x, LENGTHS, train=False)
        loss = lambda variables: jnp.sum(encoder.apply(variables, x, LENGTHS, train=False)[0] ** 3)  # noqa: E731
        return optax.tree.norm(jax.grad(loss)(variables))

    x = inputs()
    plain = gradient_norm(x)
    x[:, 5:12] = 0.0
    assert gradient_norm(x) < 10 * plain


def test_sanm_behind_convolutions_sees_no_padding():
    encoder = ENCODERS["sanm_conv2d"]
    variables, x = variables_of(encoder), inputs()
    apply = jax.jit(functools.partial(encoder.apply, train=False))
    y, lengths = apply(variables, x, LENGTHS)
    x[1, LENGTHS[1] :] = np.nan
    poisoned, _ = apply(variables, x, LENGTHS)
    alone, (frames,) = apply(variables, x[1:, : LENGTHS[1]], LENGTHS[1:])
    assert lengths.tolist() == [6, 5] and frames == 5 == encoder.output_lengths(23)
    np.testing.assert_allclose(poisoned[1, :5], y[1, :5])
    np.testing.assert_allclose(alone[0, :5], y[1, :5], atol=2e-5)


def test_channels_of_the_convolutions():
    params = variables_of(ENCODERS["sanm_conv2d"])["params"]["subsampling"]
    assert params["conv0"]["kernel"].shape == (3, 3, 1, 4) and params["conv1"]["kernel"].shape == (3, 3, 4, 4)
    assert params["out"]["kernel"].shape == (4 * 4, 8)


def test_features_narrower_than_the_windows():
    encoder = TransformerEncoder(**SIZES, subsampling="conv2d8")
    with pytest.raises(ConfigError, match="features of width 14; 15 or more were expected"):
        jax.eval_shape(lambda: encoder.init(jax.random.key(0), inputs()[:, :, :14], LENGTHS, train=False))


def test_units_are_looked_up():
    """Frames that are numbers of units; the same by a table as by a dense layer of one-hot frames."""
    encoder = ConformerEncoder(num_layers=1, d_model=16, num_heads=2, d_ff=32, subsampling="embed", num_units=7)
    units = np.random.default_rng(0).integers(0, 7, (2, 12))
    lengths = np.array([12, 8])
    x = units[..., None].astype(np.float32)
    x[1, 8:] = np.nan
    variables = jax.jit(functools.partial(encoder.init, train=False))(jax.random.key(0), x, lengths)
    y, y_lengths = jax.jit(functools.partial(encoder.apply, train=False))(variables, x, lengths)
    assert y_lengths.tolist() == [12, 8]

    dense = encoder.clone(subsampling="none", num_units=None)
    table = variables["params"]["units"]["embedding"]
    rest = {name: branch for name, branch in variables["params"].items() if name != "units"}
    params = rest | {"input": {"kernel": table, "bias": np.zeros(16, np.float32)}}
    given = variables | {"params": params}
    expected, _ = jax.jit(functools.partial(dense.apply, train=False))(
        given, np.eye(7, dtype=np.float32)[units], lengths
    )
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(y[row, :length], expected[row, :length], rtol=1e-5, atol=1e-5)
