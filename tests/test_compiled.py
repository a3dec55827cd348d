"""Programs by shape: in what order they are compiled, and that no step compiles anything."""

import concurrent.futures
import contextlib
import dataclasses
import json
import threading
import time
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console

from jaxasr import compiled, logs
from jaxasr.compiled import CompiledByShape
from jaxasr.data import manifest
from jaxasr.data.batch import BucketShape
from jaxasr.data.bucketing import PlannedBatch
from jaxasr.data.pipeline import HostBatch
from jaxasr.inputs import evaluation_inputs
from jaxasr.logs import RunLog, Start, StepLog
from jaxasr.optim import Sgd
from jaxasr.parallel import Devices
from jaxasr.schedules import Constant
from jaxasr.state import init_state, train_steps, with_total
from jaxasr.tasks.base import Mean
from jaxasr.train_config import TrainConfig

from . import tiny
from .test_state import Sum, host

BATCH = HostBatch(
    PlannedBatch(BucketShape(1, 1, 1), np.arange(1)), ["a"], types.SimpleNamespace(input_lengths=np.ones(1))
)
SHAPES = [BucketShape(rows, samples, 1) for rows, samples in ((2, 10), (1, 90), (4, 30))]


class Jitted:
    """Compiles as it is let; notes what."""

    def __init__(self):
        self.done: list[BucketShape] = []
        self.let = {shape: threading.Event() for shape in SHAPES}

    def lower(self, shape):
        self.shape = shape
        return self

    def compile(self):
        shape = self.shape
        assert self.let[shape].wait(10)
        self.done.append(shape)
        return shape


@pytest.fixture
def by_shape(monkeypatch):
    monkeypatch.setattr(compiled, "THREADS", concurrent.futures.ThreadPoolExecutor(1))
    jitted = Jitted()
    yield jitted, CompiledByShape(jitted, lambda shape: (shape,))
    for event in jitted.let.values():
        event.set()
    compiled.THREADS.shutdown()


def test_only_what_is_needed_next_is_waited_for(by_shape):
    jitted, programs = by_shape
    programs.announce(SHAPES)
    jitted.let[SHAPES[0]].set()
    assert programs[SHAPES[0]] == SHAPES[0]  # the others have not begun, the largest neither
    assert not programs.ready()
    for shape in SHAPES:
        jitted.let[shape].set()
    assert programs[SHAPES[2]] == SHAPES[2]
    assert jitted.done == SHAPES
    assert programs.ready()


def test_what_has_not_begun_is_given_up(by_shape):
    jitted, programs = by_shape
    programs.announce(SHAPES)
    while not programs._futures[SHAPES[0]].running():
        time.sleep(0.001)
    programs.close()
    assert jitted.done == []  # nor is what has begun waited for
    for shape in SHAPES:
        jitted.let[shape].set()
    assert programs[SHAPES[0]] == SHAPES[0]
    with pytest.raises(concurrent.futures.CancelledError):
        programs[SHAPES[1]]


def test_shapes_come_in_the_order_of_the_plan(tmp_path):
    cfg = tiny.config(tmp_path, max_buckets=3, batch_seconds=5.0)
    utterances = manifest.read(cfg.train[0])
    task = cfg.task.prepared(utterances)
    chosen = evaluation_inputs(task, utterances, batch_seconds=5.0, max_buckets=3)
    inputs = dataclasses.replace(chosen, shuffle=True, seed=1)
    assert len(inputs.shapes) > 1
    for epoch, start in ((0, 0), (0, 2), (3, 0), (0, len(inputs.epoch(0).plan))):
        planned = [batch.shape for batch in inputs.epoch(epoch).plan[start:]]
        order = inputs.shapes_by_need(epoch, start)
        assert sorted(order) == sorted(inputs.shapes)
        needed = [planned.index(shape) for shape in order if shape in planned]
        assert needed == sorted(needed)
        assert order[: len(needed)] == list(dict.fromkeys(planned))


@pytest.mark.parametrize("accumulate", [1, 2])
def test_no_step_compiles_or_sends_anything_by_the_way(accumulate, caplog):
    """Once every bucket's program is there; batches alone are sent, on purpose."""
    cfg = TrainConfig(task=Sum(), optimizer=Sgd(), schedule=Constant(), accumulate=accumulate)
    devices = Devices.first()
    create = jax.jit(lambda key: init_state(lambda *_: {"w": jnp.ones(())}, cfg.optimizer, None, key))
    state = with_total(jax.device_put(create(jax.random.key(0)), devices.replicated), 9, devices)
    buckets = [[host(np.ones(rows, np.float32))] * accumulate for rows in (1, 2, 4)]
    with contextlib.closing(train_steps(cfg, Sum(), devices, devices.abstract(state))) as steps:
        steps.announce([hosts[0].planned.shape for hosts in buckets])
        state, _ = steps(state, buckets[0])
        while not steps.ready():
            time.sleep(0.01)
        with jax.log_compiles(), jax.transfer_guard("disallow"):
            for hosts in buckets * 2:
                state, _ = steps(state, hosts)
            assert not caplog.records
            jax.jit(lambda x: x + 4321)(state.step)
    assert caplog.records  # which it would have been told of
    assert int(state.step) == 7


def test_a_step_is_read_when_the_next_one_has_begun(tmp_path, monkeypatch):
    """The loop does not wait for the step that it has just started."""
    read = []
    monkeypatch.setattr(logs.jax, "device_get", lambda metrics: read.append(metrics["loss"].total) or metrics)
    with contextlib.closing(RunLog(tmp_path, rich.console.Console(quiet=True))) as log:
        steps = StepLog(log, Sum(), log_steps=2, nonfinite_limit=2, start=Start())
        for step in range(1, 5):
            one = {"loss": Mean(float(step), 1.0), "skipped": Mean(0.0, 1.0)}
            steps.add(step, None, 0.5, [BATCH], one, 0.25)
            assert read == list(range(1, step))
    first, *_ = map(json.loads, (tmp_path / "log.jsonl").read_text().splitlines())
    assert first["split"] == "start" and first["step"] == 1
    assert list(first["parts"]) == ["compiling", "first batch"]
    assert first["seconds"] == pytest.approx(sum(first["parts"].values()))
