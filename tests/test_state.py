"""Updates from several batches, of a task that is nothing but a sum."""

import contextlib
import dataclasses
import itertools
import json
import shlex
import types

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import rich.console
import tyro

from jaxasr import command_line, logs
from jaxasr.averages import Ema
from jaxasr.commands import import_flags
from jaxasr.data.audio import SoundSource
from jaxasr.data.batch import AsrBatch, BucketShape, Collate
from jaxasr.data.bucketing import PlannedBatch
from jaxasr.data.pipeline import HostBatch
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.errors import ConfigError, TrainingError
from jaxasr.logs import RunLog, StepLog
from jaxasr.nn.normalize import Cmvn
from jaxasr.optim import AdamW, Sgd
from jaxasr.parallel import Devices
from jaxasr.replay import ReplayOptions
from jaxasr.schedules import Constant
from jaxasr.state import init_state, make_train_step, state_creator, train_steps
from jaxasr.states import Progress
from jaxasr.tasks.base import Mean, Task, denominator
from jaxasr.train_config import TrainConfig

from . import tiny


@dataclasses.dataclass(frozen=True)
class Sum:
    """The mean of ``w * x`` over a batch; with noise, ``w`` times a number from the key is added to it."""

    noise: float = 0.0
    input_rate: float = 1.0
    values = Task.values
    source = SoundSource(1)

    def batch_spec(self, shape):
        return jax.ShapeDtypeStruct((shape.rows,), jnp.float32)

    def loss_fn(self):
        def loss_fn(params, batch, key, counts=None):
            count = jnp.float32(len(batch))
            noise = 0.0 if key is None else self.noise * jax.random.normal(key)
            loss = params["w"] * (jnp.sum(batch) / denominator("loss", count, counts) + noise)
            return loss, {"loss": Mean(loss * denominator("loss", count, counts), count)}

        return loss_fn


def updated(task, *batches, accumulate=3):
    """(what one update takes off a weight of 1, the metrics, the new state)."""
    cfg = TrainConfig(
        task=task, optimizer=Sgd(learning_rate=1.0, clip_norm=0.0), schedule=Constant(), accumulate=accumulate
    )
    devices = Devices.first()
    create = jax.jit(lambda key: init_state(lambda *_: {"w": jnp.ones(())}, cfg.optimizer, None, key))
    state = jax.device_put(create(jax.random.key(0)), devices.replicated)
    steps = train_steps(cfg, task, devices, devices.abstract(state))
    hosts = [host(np.float32(batch)) for batch in batches]
    state, metrics = steps(state, hosts)
    steps.close()
    return 1.0 - float(state.params["w"]), metrics, state


def host(batch):
    return HostBatch(PlannedBatch(BucketShape(len(batch), 1, 1), np.arange(len(batch))), [], batch)


def test_a_group_of_any_size_is_one_batch():
    for batches in ([[1.0, 2.0], [6.0]], [[1.0], [2.0, 6.0]], [[1.0], [2.0], [6.0]], [[1.0, 2.0, 6.0]]):
        update, metrics, state = updated(Sum(), *batches)
        assert update == pytest.approx(3.0)
        assert metrics["loss"] == (pytest.approx(9.0), 3.0)
        assert (state.step, state.skipped) == (1, 0)
    assert updated(Sum(), [1.0, 2.0, 6.0], accumulate=1)[0] == pytest.approx(3.0)


def test_every_batch_of_a_group_has_its_own_noise():
    one, two, three = (updated(Sum(noise=1.0), *[[0.0]] * count)[0] for count in (1, 2, 3))
    assert len({round(x, 4) for x in (one, two - one, three - two)}) == 3
    assert updated(Sum(noise=1.0), [0.0])[0] == one


@pytest.mark.parametrize("poison", [np.nan, np.inf])
def test_one_bad_batch_skips_the_whole_update(poison):
    update, metrics, state = updated(Sum(), [1.0], [poison], [2.0])
    assert update == 0.0
    assert (state.step, state.skipped, metrics["skipped"].total) == (1, 1, 1)


def test_a_loss_without_counts_is_refused():
    class Without(Sum):
        def loss_fn(self):
            return lambda params, batch, key: (jnp.sum(batch), {})

    message = "--accumulate: the loss of Without has no argument `counts`; one was expected"
    with pytest.raises(ConfigError, match=message):
        updated(Without(), [1.0], [2.0])


def test_the_log_counts_all_batches_and_names_all_utterances(tmp_path, monkeypatch):
    monkeypatch.delenv("PYTHONPATH", raising=False)

    def asr_host(ids, rows, samples):
        lengths = np.array([samples - 1] * len(ids) + [0] * (rows - len(ids)))
        batch = AsrBatch(None, lengths, None, None, None)
        return HostBatch(PlannedBatch(BucketShape(rows, samples, 1), np.arange(len(ids))), ids, batch)

    (tmp_path / "log.jsonl").write_text('{"half a line": ')
    log = RunLog(tmp_path, rich.console.Console(quiet=True), imports=("my_parts", "my_checks"))
    steps = StepLog(log, Sum(), log_steps=1, nonfinite_limit=2)
    hosts = [asr_host(["a", "b"], 2, 11), asr_host(["c"], 4, 6)]
    for step, skipped in ((1, 0), (2, 1), (3, 2)):
        metrics = {"loss": Mean(6.0, 3.0), "skipped": Mean(min(skipped, 1), 1.0)}
        steps.add(step, None, 0.5, hosts, metrics | {"skipped_in_a_row": Mean(skipped, 1.0)}, 0.0)
    message = r"step 3: .* 2 steps in a row, last on the bucket of 2 rows x 11.00 s and 4 rows x 6.00 s with a, b"
    with pytest.raises(TrainingError, match=message):
        steps.flush()
    log.close()
    cut, *lines = (tmp_path / "log.jsonl").read_text().splitlines()
    first, *skipped = map(json.loads, lines)
    assert cut == '{"half a line": '
    assert first["loss"] == 2.0
    assert first["padding_percent"] == pytest.approx(100 * (1 - 25 / 46))
    skipped = [record for record in skipped if record["split"] == "skipped"]
    assert [(r["step"], r["ids"]) for r in skipped] == [(2, ["a", "b", "c"]), (3, ["a", "b", "c"])]
    assert skipped[0]["shapes"] == [[2, 11, 1], [4, 6, 1]]
    file = tmp_path / "nonfinite" / "step_00000003.json"
    python, m, module, *asked = shlex.split(json.loads(file.read_text())["command"])
    assert (python, m, module) == ("python", "-m", "jaxasr.replay")
    assert tyro.cli(ReplayOptions, args=asked) == ReplayOptions(str(file), ("my_parts", "my_checks"))


def test_the_form_in_which_modules_are_printed_is_what_training_takes(monkeypatch):
    imported = []
    monkeypatch.setattr(command_line, "import_modules", lambda names, where: imported.extend(names))
    asked = ["--steps=3", *import_flags(("my_parts", "my_checks"))]
    found = command_line.parse(TrainConfig, asked, prog="", description="")
    assert found.imports == ("my_parts", "my_checks") == tuple(imported) and found.steps == 3
    assert import_flags(()) == []


def test_a_line_of_the_log_is_the_same_wherever_the_run_was_stopped(tmp_path):
    shape = BucketShape(2, 11, 1)
    one = HostBatch(PlannedBatch(shape, np.arange(2)), ["a", "b"], Collate()([], shape))

    def lines(folder, stops):
        folder.mkdir()
        progress = Progress()
        with contextlib.closing(RunLog(folder, rich.console.Console(quiet=True))) as log:
            for steps in stops:
                progress = Progress(**json.loads(json.dumps(dataclasses.asdict(progress))))
                step_log = StepLog(log, Sum(), log_steps=4, nonfinite_limit=2, progress=progress)
                for step in steps:
                    loss = Mean(np.float32(0.1) * np.float32(step), np.float32(3))
                    metrics = {"loss": loss, "skipped": Mean(np.int32(0), np.float32(1))}
                    step_log.add(step, None, 0.5, [one], metrics, 0.0)
                step_log.save()
        found = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
        return [[record[name] for name in ("step", "loss", "padding_percent")] for record in found]

    assert lines(tmp_path / "stopped", [(1, 2, 3), (4, 5), (6, 7, 8)]) == lines(tmp_path / "whole", [range(1, 9)])


def test_steps_that_are_not_finite_leave_the_state_as_it_was():
    """A third of 300, in the loss or in the gradient alone; and they are counted."""

    @jax.custom_vjp
    def spoilt(w, by):
        return w

    spoilt.defvjp(lambda w, by: (w, by), lambda by, g: (g * by, jnp.zeros_like(by)))

    def loss_fn(params, batch, key):
        x, loss_by, gradient_by = batch
        loss = x * spoilt(params["w"], gradient_by) ** 2 * loss_by
        return loss, {"loss": Mean(loss, jnp.float32(1))}

    def moved(state):
        return jax.tree.leaves((state.params, state.opt_state, state.average))

    optimizer, average, rng = AdamW(learning_rate=0.1), Ema(), np.random.default_rng(0)
    state = init_state(lambda *_: {"w": jnp.ones(())}, optimizer, None, jax.random.key(0), average)
    step = jax.jit(make_train_step(loss_fn, optimizer, Constant(), average))
    skipped = 0
    for number in range(1, 301):
        bad = bool(rng.random() < 1 / 3)
        by = rng.choice([np.nan, np.inf, -np.inf]) if bad else 1.0
        spoilers = (by, 1.0) if rng.random() < 0.5 else (1.0, by)
        after, metrics = step(state, tuple(map(jnp.float32, (1.0 + number % 3, *spoilers))))
        skipped += bad
        assert (int(after.step), int(after.skipped), int(metrics["skipped"].total)) == (number, skipped, bad)
        same = [np.array_equal(a, b) for a, b in zip(moved(after), moved(state), strict=True)]
        assert all(same) if bad else not all(same)
        state = after
    assert 50 < skipped < 150


@pytest.mark.parametrize("log_steps", [1, 2])
def test_waiting_is_a_share_of_the_time_that_it_was_in(tmp_path, monkeypatch, log_steps):
    now = itertools.count()  # seconds, one from each look at the clock to the next
    monkeypatch.setattr(logs, "time", types.SimpleNamespace(perf_counter=lambda: next(now), time=lambda: 0.0))
    host = HostBatch(PlannedBatch(BucketShape(1, 4, 1), np.zeros(1, int)), ["u"], Collate()([], BucketShape(1, 4, 1)))
    with contextlib.closing(RunLog(tmp_path, rich.console.Console(quiet=True))) as log:
        steps = StepLog(log, Sum(), log_steps=log_steps, nonfinite_limit=2)
        for step, waited in enumerate((0, 9, 0, 0, 0), 1):
            for _ in range(waited):
                next(now)
            steps.add(step, None, 0.5, [host], {"loss": Mean(1.0, 1.0), "skipped": Mean(0.0, 1.0)}, waited)
        steps.flush()
    waiting = [json.loads(line)["waiting_percent"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert 80 < waiting[0] <= 100 and not any(waiting[1:])


def test_given_parameters_are_where_a_new_run_begins():
    """In the average too; what is not given is drawn."""
    task = tiny.CTC_TASK.with_resources(
        vocabulary=Vocabulary(("<blank>", "<s>", "</s>", "a", "<unk>")),
        cmvn=Cmvn(np.zeros(80, np.float32), np.ones(80, np.float32)),
    )
    create = state_creator(TrainConfig(task=task, average=Ema()), task, Devices.first())
    key = jax.random.key(0)
    drawn, begun = create(key, {}), create(key, {"ctc": {"bias": np.full(5, 3.0, np.float32)}})
    for params, before in ((begun.params, drawn.params), (begun.average.params, drawn.average.params)):
        np.testing.assert_array_equal(params["ctc"].pop("bias"), np.full(5, 3.0))
        assert not np.any(before["ctc"].pop("bias"))
        jax.tree.map(np.testing.assert_array_equal, params, before)
