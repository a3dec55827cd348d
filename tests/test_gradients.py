"""A batch computed in parts."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxasr.gradients import ALL, make_gradient
from jaxasr.nn.rows import DATA_AXIS, every_nth, row_index, rows_at
from jaxasr.parallel import Devices, pmapped
from jaxasr.tasks import TASKS
from jaxasr.tasks.base import Mean, denominator

from .test_contract import ALONE, Case, assert_trees_close, jit, task_case

KEY = jax.random.key(5)


def assert_parts_are_the_whole(case, microbatches):
    """With the same noise, and rows whose losses count different numbers of tokens."""
    batch, loss_fn = case.batch(case.examples, seed=1), case.task.loss_fn()
    whole, parts = (jit(make_gradient(loss_fn, ALL, n))(case.params, batch, KEY) for n in (1, microbatches))
    np.testing.assert_allclose(parts.loss, whole.loss, rtol=1e-5)
    assert_trees_close(parts.grads, whole.grads)
    for name, mean in whole.metrics.items():
        np.testing.assert_allclose(parts.metrics[name].total, mean.total, rtol=1e-5, err_msg=name)
        np.testing.assert_allclose(parts.metrics[name].count, mean.count, rtol=1e-6, err_msg=name)


def test_parts_of_a_batch_add_up_to_it(tmp_path_factory):
    """Two views of each row, dropout of attention, and a loss by tokens among them."""
    case = task_case("asr", tmp_path_factory.getbasetemp())
    encoder = case.task.encoder.clone(attention_dropout=0.2)
    changes = {"encoder": encoder, "cr_weight": 0.5} | ALONE
    assert_parts_are_the_whole(Case(dataclasses.replace(case.task, **changes), case.examples), 4)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(TASKS))
def test_parts_add_up_in_every_task(name, tmp_path):
    assert_parts_are_the_whole(task_case(name, tmp_path), 2)


def by_row(params, batch, key, counts=None):
    """A loss that weighs rows by where they stand in the whole batch."""
    del key
    places = row_index(len(batch)).astype(jnp.float32)
    count = jnp.float32(len(batch))
    total = params["w"] * jnp.sum(places * jnp.sum(batch, axis=1))
    return total / denominator("loss", count, counts), {"loss": Mean(total, count)}


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_every_device_divides_its_own_rows(mode):
    devices, params = Devices.all(), {"w": np.float32(2.0)}
    rows = np.random.default_rng(0).normal(size=(32, 3)).astype(np.float32)
    gradient = make_gradient(by_row, ALL, 2)
    places = devices.replicated, devices.by_row
    step = devices.compiled_for(lambda params, batch: gradient(params, batch, KEY), places, places[0], mode=mode)
    compiled = step.lower(params, devices.put(rows)).compile()
    text = compiled.as_text()
    assert "all-reduce" in text
    assert not any(name in text for name in ("all-gather", "all-to-all", "collective-permute"))
    found = compiled(params, devices.put(rows))
    np.testing.assert_allclose(found.grads["w"], np.sum(np.arange(32) * rows.sum(axis=1)) / 32, rtol=1e-5)
    np.testing.assert_allclose(found.loss, 2 * found.grads["w"], rtol=1e-6)


def test_rows_of_a_part_know_their_place():
    def places(rows):
        index = row_index(rows)
        with rows_at(every_nth(index, 2)[1]):
            return row_index(rows // 2), row_index(rows)  # the latter of two views

    first, views = jax.jit(places, static_argnums=0)(8)
    assert first.tolist() == [1, 3, 5, 7]
    assert views.tolist() == [2, 3, 6, 7, 10, 11, 14, 15]
    devices = Devices.all()
    spread = pmapped(lambda x: places(len(x)), devices.mesh, PartitionSpec(DATA_AXIS), PartitionSpec(DATA_AXIS))
    assert spread(np.zeros(16))[0].tolist() == list(range(1, 16, 2))
