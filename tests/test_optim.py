import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from jaxasr.adapters import PROJECTIONS, is_matrix, kernels
from jaxasr.checkpoint import flatten
from jaxasr.errors import ConfigError
from jaxasr.nn.decoders import DECODERS, PARALLEL_DECODERS
from jaxasr.nn.encoders import ENCODERS, BranchformerEncoder, ConformerEncoder
from jaxasr.nn.layers import Dense
from jaxasr.nn.postencoders import POSTENCODERS, LengthAdaptor, TransformerPostEncoder
from jaxasr.nn.predictors import PREDICTORS
from jaxasr.nn.preencoders import PREENCODERS, LinearPreEncoder, SincPreEncoder
from jaxasr.optim import Adafactor, Adam, AdamW, Lion, Muon, Sgd
from jaxasr.paths import leaves, path_of
from jaxasr.schedules import WarmupRsqrt
from jaxasr.state import init_state, make_train_step
from jaxasr.tasks.base import Mean


@pytest.mark.parametrize("change", [{"learning_rate": x} for x in (0.0, -1.0, np.nan, np.inf)] + [{"clip_norm": -1.0}])
def test_options_that_mean_nothing(change):
    with pytest.raises(ConfigError, match=r"--optimizer: learning_rate=.*, clip_norm=.*; a positive rate and "):
        AdamW(**change).check()


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (AdamW(weight_decay=-1.0), "weight_decay=-1.0: a number from 0 was expected"),
        (AdamW(beta1=1.0), "beta1=1.0: a number from 0 to below 1 was expected"),
        (Adam(epsilon=0.0), "epsilon=0.0: a number from 1e-30 was expected"),
        (Sgd(momentum=1.0), "momentum=1.0: a number from 0 to below 1 was expected"),
        (Sgd(momentum=0.0, nesterov=True), "nesterov without momentum: it means nothing"),
        (Lion(beta2=-0.1), "beta2=-0.1: a number from 0 to below 1 was expected"),
        (Adafactor(clip_rms=-1.0), "clip_rms=-1.0: a number from 0 was expected"),
        (Muon(newton_schulz_steps=0), "newton_schulz_steps=0: a number from 1 was expected"),
        (Muon(rms=0.0), "rms=0.0: a number from 1e-30 was expected"),
    ],
)
def test_more_options_that_mean_nothing(optimizer, said):
    with pytest.raises(ConfigError, match=f"--optimizer.{said}"):
        optimizer.check()


# --- rules -------------------------------------------------------------------------------------------------------


def updates_of(optimizer, params, gradients):
    """The updates from these gradients one after the other; the parameters stay as they are."""
    transform = optimizer.build()

    @jax.jit
    def run(params, gradients):
        def step(state, gradient):
            updates, state = transform.update(gradient, state, params)
            return state, updates

        return jax.lax.scan(step, transform.init(params), gradients)[1]

    return jax.device_get(run(params, gradients))


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("optimizer", [Adam(weight_decay=0.1), AdamW(weight_decay=0.1)])
def test_the_first_update_by_hand(optimizer):
    """After one step Adam's means are the gradient itself, so that only its sign is left."""
    p, g = np.array([2.0, -3.0, 0.5], np.float32), np.array([0.5, 0.2, -0.1], np.float32)
    expected = np.sign(g + 0.1 * p) if isinstance(optimizer, Adam) else np.sign(g) + 0.1 * p
    np.testing.assert_allclose(updates_of(optimizer, p, g[None])[0], expected, rtol=1e-5)


@pytest.mark.parametrize("nesterov", [False, True])
def test_sgd_by_hand(nesterov):
    p, (g1, g2) = random(4), random(2, 4, seed=1)
    first, second = updates_of(
        Sgd(clip_norm=0.0, momentum=0.5, nesterov=nesterov, weight_decay=0.1), p, np.stack([g1, g2])
    )
    g1, g2 = g1 + 0.1 * p, g2 + 0.1 * p
    sums = [g1, g2 + 0.5 * g1]
    expected = [g + 0.5 * s for g, s in zip((g1, g2), sums, strict=True)] if nesterov else sums
    np.testing.assert_allclose([first, second], expected, rtol=1e-5, atol=1e-6)


def test_lion_by_hand():
    p, (g1, g2) = random(40), random(2, 40, seed=1)
    found = updates_of(Lion(clip_norm=0.0, beta1=0.6, beta2=0.9, weight_decay=0.1), p, np.stack([g1, g2]))
    mean = 0.1 * g1
    expected = [np.sign(g1) + 0.1 * p, np.sign(0.4 * g2 + 0.6 * mean) + 0.1 * p]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("options", [{}, {"parameter_scale": False, "momentum": 0.9, "clip_rms": 0.0}])
def test_adafactor_is_optax_with_every_layer_by_itself(options):
    """Also where the layers are more than a matrix has rows."""
    sizes = 10.0 ** np.arange(-4, 5, dtype=np.float32)[:, None]
    params = {"kernel": random(9, 4, 5), "norm": {"bias": random(9, 7) * sizes}, "bias": random(7)}
    gradients = jax.tree.map(lambda p: random(3, *p.shape, seed=1), params)
    found = updates_of(Adafactor(clip_norm=0.0, min_factored=2, **options), params, gradients)

    theirs = optax.adafactor(
        1.0,
        min_dim_size_to_factor=2,
        multiply_by_parameter_scale=not options,
        clipping_threshold=None if options else 1.0,
        momentum=options.get("momentum"),
    )

    def layers(kernel, bias):
        return {f"{i}": x for i, x in enumerate(kernel)} | {f"norm{i}": x for i, x in enumerate(bias)}

    alone = {"bias": params["bias"]} | layers(params["kernel"], params["norm"]["bias"])
    state = theirs.init(alone)
    update = jax.jit(theirs.update)
    for n in range(3):
        gradient = {"bias": gradients["bias"][n]} | layers(gradients["kernel"][n], gradients["norm"]["bias"][n])
        updates, state = update(gradient, state, alone)
        np.testing.assert_allclose(found["bias"][n], -updates["bias"], rtol=1e-4, atol=1e-6)
        for i in range(9):
            np.testing.assert_allclose(found["kernel"][n, i], -updates[f"{i}"], rtol=1e-4, atol=1e-6)
            np.testing.assert_allclose(found["norm"]["bias"][n, i], -updates[f"norm{i}"], rtol=1e-4, atol=1e-6)


def test_adafactor_keeps_rows_and_columns_alone():
    state = jax.eval_shape(Adafactor(min_factored=2).build().init, {"kernel": jnp.zeros((3, 40, 50))})
    assert sum(np.prod(x.shape) for x in jax.tree.leaves(state)) < 3 * (40 + 50) + 20


NETWORK = {
    "encoder": {
        "in": {"kernel": random(8, 6), "bias": random(6)},
        "blocks": {
            "ff": {"kernel": random(3, 6, 9, seed=1), "bias": random(3, 9)},
            "memory": {"kernel": random(3, 5, 6, seed=2)},
            "norm": {"scale": random(3, 6), "bias": random(3, 6)},
        },
    },
    "decoder": {"embed": {"embedding": random(7, 6)}, "output": {"kernel": random(6, 7), "bias": random(7)}},
    "ctc": {"kernel": random(6, 7), "bias": random(7)},
}


def test_muon():
    """Hidden kernels as optax has them, one layer as another; all other parameters as AdamW."""
    gradients = jax.tree.map(lambda p: random(2, *p.shape, seed=5), NETWORK)
    options = {"clip_norm": 0.0, "weight_decay": 0.1}
    found = flatten(updates_of(Muon(**options), NETWORK, gradients))
    adamw = flatten(updates_of(AdamW(**options), NETWORK, gradients))
    differing = {path for path in found if not np.allclose(found[path], adamw[path], rtol=1e-5, atol=1e-6)}
    assert differing == {"encoder/in/kernel", "encoder/blocks/ff/kernel"}

    theirs = optax.contrib.muon(1.0, consistent_rms=0.2, weight_decay=0.1)
    params, grads = flatten(NETWORK), flatten(gradients)
    alone = {"in": params["encoder/in/kernel"]}
    alone |= {f"{i}": x for i, x in enumerate(params["encoder/blocks/ff/kernel"])}
    state = theirs.init(alone)
    for n in range(2):
        gradient = {"in": grads["encoder/in/kernel"][n]}
        gradient |= {f"{i}": x for i, x in enumerate(grads["encoder/blocks/ff/kernel"][n])}
        updates, state = jax.jit(theirs.update)(gradient, state, alone)
        np.testing.assert_allclose(found["encoder/in/kernel"][n], -updates["in"], rtol=1e-4, atol=1e-5)
        for i in range(3):
            np.testing.assert_allclose(found["encoder/blocks/ff/kernel"][n, i], -updates[f"{i}"], rtol=1e-4, atol=1e-5)


def test_muon_moves_by_orthogonal_matrices():
    kernel = random(3, 16, 64)
    (update,) = updates_of(Muon(weight_decay=0.0), {"kernel": kernel}, {"kernel": random(1, 3, 16, 64)})["kernel"]
    np.testing.assert_allclose(np.sqrt(np.mean(np.square(update), axis=(1, 2))), 0.2, rtol=0.2)
    singular = np.linalg.svd(update, compute_uv=False) / (0.2 * 64**0.5)
    assert np.all((singular > 0.6) & (singular < 1.3))


X, LENGTHS, TOKENS = np.zeros((1, 40, 80), np.float32), np.array([40]), np.zeros((1, 3), np.int32)
HEARD, HEARD_LENGTHS = np.zeros((1, 3, 80), np.float32), np.array([3])
PARTS = {
    **{name: (ENCODERS[name](num_layers=2), (X, LENGTHS), {}) for name in ENCODERS},
    "conformer, conv2d6": (ConformerEncoder(num_layers=2, subsampling="conv2d6", d_model=16), (X, LENGTHS), {}),
    "branchformer, learned average": (BranchformerEncoder(merge="learned_average", d_model=16), (X, LENGTHS), {}),
    **{f"decoder {name}": (DECODERS[name](), (TOKENS, X, LENGTHS), {"vocab_size": 9}) for name in DECODERS},
    **{
        f"decoder {name}": (PARALLEL_DECODERS[name](d_model=80), (HEARD, HEARD_LENGTHS, X, LENGTHS), {"vocab_size": 9})
        for name in PARALLEL_DECODERS
    },
    **{f"predictor {name}": (PREDICTORS[name](), (X, LENGTHS), {"num_tokens": 3}) for name in PREDICTORS},
    "preencoder linear": (LinearPreEncoder(), (X, LENGTHS), {}),
    "preencoder sinc": (SincPreEncoder(), (np.zeros((1, 3, 400), np.float32), np.array([3])), {}),
    "postencoder length_adaptor": (LengthAdaptor(d_model=8), (X, LENGTHS), {}),
    "postencoder transformer": (TransformerPostEncoder(), (X, LENGTHS), {}),
}


@pytest.mark.parametrize("name", list(PARTS))
def test_muon_and_lora_take_matrices_alone(name):
    """Kernels of dense layers; but of none that says one number, and Muon of none that a convolution is computed by."""
    part, inputs, options = PARTS[name]
    dense, heads = set(), set()

    def note(call, args, kwargs, context):
        if isinstance(context.module, Dense):
            kind = dense if type(context.module) is Dense else heads
            kind.add("/".join((*context.module.path, "kernel")))
        return call(*args, **kwargs)

    with nn.intercept_methods(note):
        init = functools.partial(part.init, train=False, **options)
        params = jax.eval_shape(init, jax.random.key(0), *inputs)["params"]
    labels = Muon().labels(params)
    found = {path_of(keys) for keys, label in jax.tree_util.tree_leaves_with_path(labels) if label == "muon"}
    widths = {path_of(keys): leaf.shape[-1] for keys, leaf in jax.tree_util.tree_leaves_with_path(params)}
    matrices = {path for path in dense if widths[path] > 1 and not re.search(r"(^|/)conv\d*/kernel", path)}
    assert found == matrices
    assert matrices or name in ("predictor cif", "predictor cif_v2", "preencoder sinc")
    assert {path for path, array in leaves(params) if is_matrix(path, array)} == {
        path for path in dense | heads if widths[path] > 1
    }
    projections = {path.split("/")[-2] for path, _ in kernels(params, PROJECTIONS)}
    if re.search("rnn|predictor|preencoder|adaptor", name):
        assert not projections
    else:
        assert projections in ({"q", "k", "v", "out"}, {"qkv", "out"})


def test_every_part_of_a_network_is_shown_to_muon():
    named = {type(part) for part, *_ in PARTS.values()}
    for registry in (ENCODERS, DECODERS, PARALLEL_DECODERS, PREDICTORS, PREENCODERS, POSTENCODERS):
        assert named >= {registry[name] for name in registry}


# --- weight decay ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("exclude", "decaying"),
    [
        (("bias", "scale"), "in/kernel ff/kernel memory/kernel embed/embedding output/kernel ctc/kernel"),
        (("bias", "scale", "encoder", "decoder/output"), "embed/embedding ctc/kernel"),
        (("bias", "scale", "embed*", "blocks/*/kernel"), "in/kernel output/kernel ctc/kernel"),
        (("encoder/blocks/ff/kernel", "decoder", "ctc", "in", "memory", "norm"), "ff/bias"),
        (("kernel", "embedding", "bias"), "norm/scale"),
    ],
)
@pytest.mark.parametrize("optimizer", [AdamW, Lion, Adafactor, Muon, Sgd, Adam])
def test_weight_decay_leaves_out_what_is_excluded(optimizer, exclude, decaying):
    zeros = jax.tree.map(np.zeros_like, NETWORK)
    transform = optimizer(weight_decay=0.5, decay_exclude=exclude).decay()
    found = flatten(transform.update(zeros, transform.init(NETWORK), NETWORK)[0])
    assert {"/".join(path.split("/")[-2:]) for path in found if np.any(found[path])} == set(decaying.split())
    for path, update in found.items():
        assert not np.any(update) or np.array_equal(update, 0.5 * flatten(NETWORK)[path])


def test_weight_decay_of_everything():
    params = jax.tree.map(np.asarray, NETWORK)
    transform = AdamW(weight_decay=0.5, decay_exclude=()).decay()
    found, _ = transform.update(jax.tree.map(np.zeros_like, params), transform.init(params), params)
    jax.tree.map(lambda f, p: np.testing.assert_array_equal(f, 0.5 * p), found, params)


@pytest.mark.parametrize(
    ("optimizer", "said"),
    [
        (AdamW(decay_exclude=("bias", "nrom")), r"decay_exclude: 'nrom' matches no parameter; .* mean 'norm'\?"),
        (Sgd(decay_exclude=("encoder/block",)), r"decay_exclude: 'encoder/block' matches no parameter; .*ctc/bias was"),
        (Muon(adam_kernels=("ctc", "memoir")), r"adam_kernels: 'memoir' matches no parameter; .* mean 'memory'\?"),
    ],
)
def test_a_pattern_without_a_parameter_is_refused_when_the_state_is_made(optimizer, said):
    with pytest.raises(ConfigError, match=f"--optimizer.{said}"):
        jax.eval_shape(lambda key: init_state(lambda *_: NETWORK, optimizer, None, key), jax.random.key(0))


# --- steps -------------------------------------------------------------------------------------------------------


def loss_fn(params, batch, key):
    loss = jnp.sum(params["w"] * batch)
    return loss, {"loss": Mean(loss, jnp.ones(()))}


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_a_step_that_is_not_finite_changes_nothing_but_the_counts(poison):
    optimizer, w = AdamW(learning_rate=1.0), np.array([1.0, 2.0], np.float32)
    step = jax.jit(make_train_step(loss_fn, optimizer, WarmupRsqrt(4)))
    state = init_state(lambda key, batch: {"w": w}, optimizer, None, jax.random.key(0))
    good, bad = np.array([0.3, -0.1], np.float32), np.array([0.3, poison], np.float32)

    first, _ = step(state, good)
    skipped, metrics = step(first, bad)
    for old, new in zip(*(jax.tree.leaves((s.params, s.opt_state)) for s in (first, skipped)), strict=True):
        np.testing.assert_array_equal(new, old)
    assert (skipped.step, skipped.skipped, skipped.skipped_in_a_row) == (2, 1, 1)
    assert (metrics["skipped"].total, metrics["skipped_in_a_row"].total) == (1, 1)

    twice, _ = step(skipped, bad)
    assert (twice.step, twice.skipped, twice.skipped_in_a_row) == (3, 2, 2)
    after, metrics = step(twice, good)
    assert (after.step, after.skipped, after.skipped_in_a_row) == (4, 2, 0)
    # the schedule counts updates, not batches
    np.testing.assert_allclose(metrics["learning_rate"].value, 2 / 4, rtol=1e-6)
    expected, _ = step(first, good)
    np.testing.assert_array_equal(after.params["w"], expected.params["w"])
