"""What is frozen stays as it is to the last bit, and costs nothing."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.averages import Ema
from jaxasr.data.bucketing import PlannedBatch
from jaxasr.data.pipeline import HostBatch
from jaxasr.errors import ConfigError
from jaxasr.gradients import gradient_of
from jaxasr.optim import OPTIMIZERS, AdamW
from jaxasr.parallel import Devices
from jaxasr.paths import leaves, with_given
from jaxasr.schedules import Constant
from jaxasr.state import init_state, make_train_step, model_of, train_steps
from jaxasr.train_config import TrainConfig
from jaxasr.trainable import Trainable

from .test_contract import ALONE, BATCH_NORM, NARROW, Case, assert_trees_close, jit, task_case, tiny
from .test_optim import NETWORK


def distance(params, batch, key):
    return sum(jnp.sum(jnp.square(p - batch)) for p in jax.tree.leaves(params)), {}


def after_three_steps(loss_fn, params, optimizer, trainable):
    @jit
    def run(params):
        state = init_state(lambda *_: params, optimizer, None, jax.random.key(0), Ema(0.5), trainable)
        step = make_train_step(loss_fn, optimizer, Constant(), Ema(0.5), trainable)
        for batch in (0.5, -0.25, 1.0):
            state, metrics = step(state, batch)
        return state, model_of(state, trainable), metrics["grad_norm"].value

    return run(params)


@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_the_rest_learns_as_if_it_were_alone(name):
    """Without state, gradient, decay or a share in the norm that is clipped; patterns may name what is frozen."""
    optimizer = tiny(OPTIMIZERS[name], weight_decay=0.1, decay_exclude=("encoder", "bias"))
    trainable = Trainable(freeze=("encoder", "*/bias"))
    learning = trainable.learning(NETWORK)
    assert dict(leaves(learning)).keys() == {"decoder/embed/embedding", "decoder/output/kernel", "ctc/kernel"}
    state, model, norm = after_three_steps(distance, NETWORK, optimizer, trainable)

    def loss_alone(params, batch, key):
        return distance(with_given(NETWORK, params), batch, key)

    without = dataclasses.replace(optimizer, decay_exclude=("bias",))
    alone, _, norm_alone = after_three_steps(loss_alone, learning, without, Trainable())
    np.testing.assert_allclose(norm, norm_alone, rtol=1e-6)
    assert_trees_close(trainable.learning(state.params), alone.params)
    assert_trees_close(state.opt_state, alone.opt_state)  # the same leaves, no more
    assert_trees_close(state.average.params, alone.average.params)
    for tree in (state.params, model):
        for path, array in leaves(tree):
            was = dict(leaves(NETWORK))[path]
            same = np.array_equal(np.asarray(array).view(np.int32), was.view(np.int32))
            assert same == (path not in dict(leaves(learning))), path


@pytest.fixture(scope="module")
def conformer(tmp_path_factory):
    """Small, with a batch norm."""
    asr = task_case("asr", tmp_path_factory.getbasetemp())
    return Case(dataclasses.replace(asr.task, encoder=BATCH_NORM, **ALONE), asr.examples)


def run_steps(cfg, case, count):
    """The state before and after so many updates from all examples, as in a run."""
    devices, trainable = Devices.all(), cfg.trainable

    def create(params, key):
        return init_state(lambda *_: params, cfg.optimizer, None, key, cfg.average, trainable)

    first = jax.jit(create, out_shardings=devices.replicated)(case.params, jax.random.key(7))
    before = jax.device_get((first.params, first.stats, model_of(first, trainable), first.opt_state))
    steps = train_steps(cfg, case.task, devices, devices.abstract(first))
    host = HostBatch(PlannedBatch(NARROW, np.arange(0)), [], case.batch(case.examples))
    losses, state = [], first
    for _ in range(count):
        state, metrics = steps(state, [host] * cfg.accumulate)
        losses.append(float(metrics["loss"].value))
    steps.close()
    return before, state, losses


@pytest.mark.parametrize(
    ("mode", "accumulate", "freeze"),
    [("jit", 1, ("encoder/blocks/conv", "ctc/bias")), pytest.param("pmap", 2, ("encoder",), marks=pytest.mark.slow)],
)
def test_a_network_with_running_statistics(conformer, mode, accumulate, freeze):
    """With dropout, averages, and statistics of frozen norms, which stay too."""
    cfg = TrainConfig(
        task=conformer.task,
        optimizer=AdamW(weight_decay=0.1),
        schedule=Constant(),
        average=Ema(),
        freeze=freeze,
        parallel=mode,
        accumulate=accumulate,
    )
    (params, stats, model, _), state, _ = run_steps(cfg, conformer, 3)
    learns = dict(leaves(cfg.trainable.learning(params))).keys()
    assert not cfg.trainable.learning(stats)
    pairs = [(params, state.params, learns), (stats, state.stats, ()), (model, model_of(state), learns)]
    for before, after, moving in pairs:
        after = dict(leaves(jax.device_get(after)))
        for path, was in leaves(before):
            assert np.array_equal(after[path], was) == (path not in moving), path


def test_the_backward_pass_ends_above_what_is_frozen(conformer):
    loss_fn, batch = conformer.task.loss_fn(), conformer.batch(conformer.examples)

    def cost(fn, *args):
        return jax.jit(fn).lower(*args).cost_analysis()["flops"]

    forward = cost(loss_fn, conformer.params, batch, jax.random.key(0))

    def backward(*freeze):
        trainable = Trainable(freeze=freeze)

        def gradient(params, batch, key):
            return gradient_of(loss_fn, trainable, params, batch, key)

        return cost(gradient, conformer.params, batch, jax.random.key(0)) - forward

    whole = backward()
    assert backward("encoder") < 0.1 * whole
    assert backward("ctc") > 0.8 * whole  # the encoder's gradient comes through it


@pytest.mark.parametrize(
    ("freeze", "said"),
    [
        (("encoder", "decodr"), "--freeze: 'decodr' matches no parameter; .* Did you mean 'decoder'"),
        (("*",), r"--freeze \*: all parameters of this network; some that learn were expected; freeze fewer"),
        (("encoder", "decoder", "ctc"), "--freeze encoder decoder ctc: all parameters"),
    ],
)
def test_patterns_that_mean_nothing(freeze, said):
    with pytest.raises(ConfigError, match=said):
        Trainable(freeze=freeze).check_params(NETWORK)


def test_slashes_around_a_pattern_mean_nothing():
    bare, slashed = (Trainable(freeze=names) for names in (("encoder", "*/bias"), ("/encoder/", "*/bias/")))
    slashed.check_params(NETWORK)
    assert dict(leaves(slashed.learning(NETWORK))).keys() == dict(leaves(bare.learning(NETWORK))).keys()


def test_the_number_of_parameters_is_said():
    trainable = Trainable(freeze=("encoder", "ctc"))
    sizes = {part: sum(p.size for p in jax.tree.leaves(NETWORK[part])) for part in NETWORK}
    said = f"learning {sizes['decoder']} of {sum(sizes.values())} parameters (frozen: encoder, ctc)"
    assert trainable.summary(NETWORK) == said
    assert Trainable().summary(NETWORK) == ""
