import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.errors import ConfigError
from jaxasr.optim import Adam, AdamW, Constant, WarmupLinear, WarmupRsqrt
from jaxasr.state import init_state, make_train_step
from jaxasr.tasks.base import Mean


@functools.partial(jax.jit, static_argnums=0)
def shares(schedule, updates, total):
    return jax.vmap(schedule, in_axes=(0, None))(updates, total)


def shares_of(schedule, count, total):
    return np.asarray(shares(schedule, np.arange(count, dtype=np.int32), np.int32(total)))


def test_warmup_rsqrt():
    found = shares_of(WarmupRsqrt(10), 200, 0)
    step = np.arange(1, 201)
    np.testing.assert_allclose(found, np.minimum(step / 10, np.sqrt(10 / step)), rtol=1e-6)
    assert found.argmax() == 9
    assert not WarmupRsqrt().needs_total


def test_warmup_linear():
    found = shares_of(WarmupLinear(10, final_share=0.1), 120, 100)
    np.testing.assert_allclose(found[:10], np.arange(1, 11) / 10, rtol=1e-6)
    down = np.diff(found[9:100])
    np.testing.assert_allclose(down, down[0], rtol=1e-4)  # a straight line
    assert 0.1 <= found[99] < 0.12  # to the last step
    np.testing.assert_allclose(found[100:], 0.1, rtol=1e-5)
    assert WarmupLinear().needs_total


def test_warmup_linear_of_a_short_run_warms_up_for_half_of_it():
    np.testing.assert_allclose(shares_of(WarmupLinear(1000), 10, 20), np.arange(1, 11) / 10, rtol=1e-6)


def test_constant():
    np.testing.assert_array_equal(shares_of(Constant(), 5, 3), 1.0)


@pytest.mark.parametrize("change", [{"learning_rate": x} for x in (0.0, -1.0, np.nan, np.inf)] + [{"clip_norm": -1.0}])
def test_options_that_mean_nothing(change):
    with pytest.raises(ConfigError, match=r"--optimizer: learning_rate=.*, clip_norm=.*; a positive rate and "):
        AdamW(**change).check()


@pytest.mark.parametrize("schedule", [WarmupLinear(-1), WarmupRsqrt(-1), WarmupLinear(final_share=1.5)])
def test_schedules_that_mean_nothing(schedule):
    with pytest.raises(ConfigError, match="--schedule"):
        schedule.check()


@pytest.mark.parametrize("optimizer", [Adam(weight_decay=0.1), AdamW(weight_decay=0.1)])
def test_the_first_update_by_hand(optimizer):
    """After one step Adam's means are the gradient itself, so that only its sign is left."""
    p, g = np.array([2.0, -3.0, 0.5], np.float32), np.array([0.5, 0.2, -0.1], np.float32)
    transform = optimizer.build()
    update = jax.jit(lambda g, p: transform.update(g, transform.init(p), p)[0])(g, p)
    expected = np.sign(g + 0.1 * p) if isinstance(optimizer, Adam) else np.sign(g) + 0.1 * p
    np.testing.assert_allclose(update, expected, rtol=1e-5)


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
