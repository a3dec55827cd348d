import functools

import jax
import numpy as np
import optax
import pytest

from jaxasr.errors import ConfigError
from jaxasr.schedules import Constant, Cosine, Noam, TriStage, WarmupLinear, WarmupRsqrt


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


def test_noam():
    """FunASR's NoamLR is ``lr * model_size^-0.5 * min(n^-0.5, n * warmup^-1.5)``."""
    step = np.arange(1, 201)
    expected = 64**-0.5 * np.minimum(step**-0.5, step * 10**-1.5)
    np.testing.assert_allclose(shares_of(Noam(10, d_model=64), 200, 0), expected, rtol=1e-6)


def test_warmup_linear():
    found = shares_of(WarmupLinear(10, final_share=0.1), 120, 100)
    np.testing.assert_allclose(found[:10], np.arange(1, 11) / 10, rtol=1e-6)
    down = np.diff(found[9:100])
    np.testing.assert_allclose(down, down[0], rtol=1e-4)  # a straight line
    assert 0.1 <= found[99] < 0.12  # to the last step
    np.testing.assert_allclose(found[100:], 0.1, rtol=1e-5)


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_cosine(final):
    found = shares_of(Cosine(10, final_share=final), 130, 99)
    theirs = optax.warmup_cosine_decay_schedule(0.0, 1.0, warmup_steps=10, decay_steps=100, end_value=final)
    np.testing.assert_allclose(found, theirs(np.arange(1, 131)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[[9, 54, 99]], [1.0, (1.0 + final) / 2, final], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("schedule", [WarmupLinear, Cosine])
def test_a_short_run_warms_up_for_half_of_it(schedule):
    np.testing.assert_allclose(shares_of(schedule(1000), 10, 20), np.arange(1, 11) / 10, rtol=1e-6)


def test_tri_stage():
    found = shares_of(TriStage((0.2, 0.3, 0.5), initial_share=0.2, final_share=1 / 32), 14, 10)
    expected = [0.6, 1.0, 1.0, 1.0, 1.0, 1 / 2, 1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 32, 1 / 32, 1 / 32, 1 / 32]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize("phases", [(0.0, 0.5, 0.5), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0)])
def test_tri_stage_without_some_of_its_stages(phases):
    found = shares_of(TriStage(phases), 200, 100)
    assert np.all(np.isfinite(found) & (found > 0.0) & (found <= 1.0))
    assert found[99] == pytest.approx(0.01 if phases[2] else 1.0, rel=1e-5)


def test_constant():
    np.testing.assert_array_equal(shares_of(Constant(), 5, 3), 1.0)


@pytest.mark.parametrize(
    ("schedule", "said"),
    [
        (WarmupLinear(-1), "--schedule.warmup_steps=-1: 0 or more"),
        (WarmupRsqrt(-1), "--schedule.warmup_steps=-1: 0 or more"),
        (Noam(d_model=0), "--schedule.d_model=0: 1 or more"),
        (WarmupLinear(final_share=1.5), r"--schedule.final_share=1.5: a share from 0 to 1 was"),
        (Cosine(final_share=-0.1), r"--schedule.final_share=-0.1: a share from 0 to 1 was"),
        (TriStage(final_share=0.0), r"--schedule.final_share=0.0: a share above 0, 1 at most, was"),
        (TriStage(initial_share=2.0), r"--schedule.initial_share=2.0: a share from 0 to 1 was"),
        (TriStage((0.5, 0.5, 0.5)), r"--schedule.phase_ratios=\(0.5, 0.5, 0.5\): three parts"),
        (TriStage((-0.5, 1.0, 0.5)), r"--schedule.phase_ratios=\(-0.5, 1.0, 0.5\): three parts"),
    ],
)
def test_schedules_that_mean_nothing(schedule, said):
    with pytest.raises(ConfigError, match=said):
        schedule.check()
