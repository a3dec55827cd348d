"""What a step takes of memory is known before it runs, and batches are chosen by it."""

import dataclasses
import functools
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.processes import call
from jaxasr import config
from jaxasr.data.batch import BucketShape
from jaxasr.fit import largest, memory_of_device, most_rows
from jaxasr.memory import StepMemory, bytes_on_device, teller
from jaxasr.optim import AdamW
from jaxasr.parallel import Devices
from jaxasr.prepare import resumed
from jaxasr.schedules import Constant
from jaxasr.state import init_state, train_steps
from jaxasr.train import train
from jaxasr.train_config import TrainConfig

from . import tiny
from .test_state import Sum


class Wide(Sum):
    """With more than one weight."""

    def loss_fn(self):
        of_sum = super().loss_fn()
        return lambda params, batch, key, counts=None: of_sum({"w": jnp.sum(params["w"] ** 2)}, batch, None, counts)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_state_and_batch_are_told_apart(accumulate):
    """Adam keeps twice what its parameters are; batches are dealt out to the devices, those of an update together."""
    cfg = TrainConfig(task=Wide(), optimizer=AdamW(), schedule=Constant(), accumulate=accumulate)
    params, devices = {"w": np.ones(1000, np.float32)}, Devices.all()
    create = functools.partial(init_state, lambda *_: jax.tree.map(jnp.asarray, params), cfg.optimizer, None)
    abstract, told = jax.eval_shape(create, jax.random.key(0)), {}
    steps = train_steps(cfg, Wide(), devices, devices.replicated_spec(abstract), told.__setitem__)
    shape = BucketShape(800, 1, 1)
    found = steps.memory(shape)
    steps.close()
    assert told == {shape: found}
    assert 12_000 <= found.state < 12_100
    assert found.batch == accumulate * 4 * 800 / 8
    assert found.between >= 4_000  # a gradient
    assert found.total == found.state + found.batch + found.between


def test_bytes_are_those_of_one_device():
    devices = Devices.all()
    batch = devices.spec({"x": jax.ShapeDtypeStruct((16, 3), np.int16)})
    assert bytes_on_device(batch) == 16 * 3 * 2 / 8
    assert bytes_on_device(devices.replicated_spec(batch)) == 16 * 3 * 2


def test_what_is_told():
    said, events = [], []

    class Log:
        say = said.append

        def event(self, **fields):
            events.append(fields)

    teller(Sum.source, Log())(BucketShape(8, 12, 3), StepMemory(2**30, 2**29, 2**28))
    assert said == ["memory  8 rows x 12.00 s: 1.750 GiB (state 1.000, batch 0.500, between 0.250)"]
    assert events == [
        {"split": "memory", "rows": 8, "seconds": 12.0, "tokens": 3, "state": 2**30, "batch": 2**29,
         "between": 2**28, "total": 7 * 2**28}
    ]  # fmt: skip


@given(st.integers(1, 60), st.integers(1, 8), st.floats(0, 99), st.floats(0.1, 50), st.floats(0, 1), st.floats(1, 3000))
def test_the_most_rows_that_fit(multiples, multiple, fixed, slope, bend, limit):
    def need(shape):
        return fixed + slope * shape.rows + bend * shape.rows**2

    shape = BucketShape(multiples * multiple, 100, 3)
    found = most_rows(shape, need, limit, multiple)
    fitting = [rows for rows in range(multiple, shape.rows + 1, multiple) if need(shape._replace(rows=rows)) <= limit]
    assert found == max(fitting, default=0)


def test_few_numbers_of_rows_are_looked_at():
    looked = []

    def need(shape):
        looked.append(shape.rows)
        return 1e9 + 3e6 * shape.rows + 50.0 * math.sin(shape.rows)

    assert most_rows(BucketShape(100_000, 1, 1), need, 10.01e9, 8) == 3000
    assert len(looked) <= 5


@given(st.lists(st.integers(1, 40), min_size=1, max_size=5, unique=True), st.integers(1, 4), st.integers(10, 4000))
def test_the_largest_batch_that_fits(edges, multiple, limit):
    """Where attention makes long rows dear; larger shapes would not fit, or there are none."""
    filled = 40 // multiple * multiple

    def shapes_of(samples):
        rows = (min(samples // edge, filled) // multiple * multiple for edge in sorted(edges))
        return [BucketShape(max(r, multiple), edge, 1) for r, edge in zip(rows, sorted(edges), strict=True)]

    def fits(samples):
        return all(need(shape) <= limit for shape in shapes_of(samples))

    def need(shape):
        return 5 + shape.rows * (shape.samples + shape.samples**2 / 20)

    found = largest(shapes_of, need, limit, multiple)
    if not fits(1):
        assert found == 1
    else:
        assert fits(found)
        larger = (samples for samples in range(found, 40 * 40 + 1) if shapes_of(samples) != shapes_of(found))
        assert not fits(next(larger, found)) or shapes_of(found) == shapes_of(10**9)


def test_memory_in_gib():
    assert memory_of_device(1.5) == 3 * 2**29


@pytest.mark.slow
def test_fit_chooses_and_a_run_goes_on_with_it(tmp_path, capsys):
    cfg = tiny.config(tmp_path, fit=0.003, steps=2, epochs=None, test=(), batch_seconds=1.0)
    train(cfg)
    saved = config.read_yaml(pathlib.Path(cfg.workdir) / "config.yaml")
    assert saved["fit"] is None and saved["batch_seconds"] > 10
    assert f"--batch_seconds={saved['batch_seconds']:g}" in capsys.readouterr().out
    again = resumed(dataclasses.replace(cfg, fit=0.5))
    assert (again.fit, again.batch_seconds) == (None, saved["batch_seconds"])
    records = [json.loads(line) for line in (pathlib.Path(cfg.workdir) / "log.jsonl").read_text().splitlines()]
    (memory,) = [record for record in records if record["split"] == "memory"]
    assert memory["total"] + memory["state"] + memory["batch"] <= 0.9 * 0.003 * 2**30


@pytest.mark.slow
@pytest.mark.parametrize("case", ["as it is", "remat, microbatches=4"])
def test_the_plan_is_what_a_step_takes(case):
    found = call("memory", "one_case", case, "small", 16, 12.0)
    assert abs(found["off"]) < 0.1, found
