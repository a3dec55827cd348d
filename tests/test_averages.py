import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.averages import Ema, Running
from jaxasr.errors import ConfigError
from jaxasr.optim import Sgd
from jaxasr.schedules import Constant
from jaxasr.state import init_state, make_train_step, model_of

TOTAL = 16


def loss_fn(params, batch, key):
    return jnp.sum(params["w"] * batch), {}


def course(average, gradients, total=TOTAL):
    """The parameters after each step, and their average."""
    optimizer = Sgd(learning_rate=1.0, clip_norm=0.0, momentum=0.0)
    create = jax.jit(lambda: init_state(lambda *_: {"w": jnp.ones(2)}, optimizer, None, jax.random.key(0), average))
    step = jax.jit(make_train_step(loss_fn, optimizer, Constant(), average), donate_argnums=0)
    state, seen = create()._replace(total_steps=np.int32(total)), []
    for gradient in gradients:
        state, _ = step(state, gradient)
        seen.append((np.asarray(state.params["w"]), np.asarray(model_of(state)["w"])))
    params, averaged = zip(*seen, strict=True)
    return np.array(params), np.array(averaged)


def gradients(count=TOTAL):
    return np.random.default_rng(0).normal(size=(count, 2)).astype(np.float32)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.999])
def test_ema(decay):
    params, averaged = course(Ema(decay), gradients())
    expected = np.ones(2)
    for n, (now, found) in enumerate(zip(params, averaged, strict=True), 1):
        kept = min(decay, (1 + n) / (10 + n))
        expected = kept * expected + (1 - kept) * now
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("share", "first"), [(0.25, 12), (0.5, 8), (1.0, 0), (0.01, 15)])
def test_running(share, first):
    params, averaged = course(Running(share), gradients())
    np.testing.assert_array_equal(averaged[:first], params[:first])
    for n in range(first, TOTAL):
        np.testing.assert_allclose(averaged[n], params[first : n + 1].mean(axis=0), rtol=1e-5, atol=1e-6)


def test_running_waits_for_a_length_of_the_run():
    params, averaged = course(Running(0.25), gradients(), total=2**30)
    np.testing.assert_array_equal(averaged, params)


@pytest.mark.parametrize("average", [Ema(0.9), Running(0.5)])
def test_a_skipped_step_is_in_no_average(average):
    poisoned = np.insert(gradients(TOTAL - 1), 10, np.nan, axis=0)
    _, averaged = course(average, poisoned)
    np.testing.assert_array_equal(averaged[10], averaged[9])
    params, averaged = course(Running(0.5), poisoned)
    np.testing.assert_allclose(averaged[-1], params[[8, 9, *range(11, TOTAL)]].mean(axis=0), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("average", "said"),
    [
        (Ema(1.0), "--average.decay=1.0: a share from 0 to below 1 was expected"),
        (Ema(-0.1), "--average.decay=-0.1: a share"),
        (Running(0.0), "--average.share=0.0: a share above 0, 1 at most, was expected"),
        (Running(1.1), "--average.share=1.1: a share"),
    ],
)
def test_averages_that_mean_nothing(average, said):
    with pytest.raises(ConfigError, match=said):
        average.check()
