import dataclasses
import pathlib
import signal
import time
from types import SimpleNamespace

import pytest

from jaxasr import stopping
from jaxasr.errors import DataError
from jaxasr.inputs import Position
from jaxasr.states import Progress
from jaxasr.stopping import DEFAULT_EPOCHS, Budget, Ends, Stopped, StopSignals, failing_alone
from jaxasr.train_config import TrainConfig

INPUTS = SimpleNamespace(num_batches=lambda epoch: 7 if epoch % 2 else 6)


def ends(progress=None, **options):
    return Ends(TrainConfig(**options), INPUTS, progress or Progress(), began=0.0)


@pytest.mark.parametrize(
    ("options", "total"),
    [
        ({"epochs": 3}, 19),
        ({"epochs": 3, "accumulate": 2}, 3 + 4 + 3),
        ({"epochs": 3, "accumulate": 100}, 3),
        ({"steps": 5, "accumulate": 2}, 5),
        ({"steps": 5, "epochs": 1, "accumulate": 2}, 3),
        ({}, 13 * DEFAULT_EPOCHS // 2),
        ({"minutes": 1.0}, None),
        ({"minutes": 1.0, "steps": 9}, 9),
    ],
)
def test_the_first_end_counts(options, total):
    found = ends(**options)
    assert found.known_total == total
    assert not found.reached((total or 10**6) - 1)
    assert total is None or found.reached(total)


def test_steps_that_are_validated():
    assert [ends(epochs=2).due(step, Position(0, step, 6)) for step in (5, 6, 13)] == [False, True, True]
    every = ends(epochs=2, valid_steps=4)
    assert [every.due(step, Position(0, step, 6)) for step in (4, 6, 8, 13)] == [True, False, True, True]


def test_patience_counts_validations_since_the_best():
    progress = Progress()
    found, endless = ends(progress, steps=100, patience=2), ends(progress, steps=100)
    for since, over in ((0, False), (1, False), (2, True), (3, True), (0, False)):
        progress.since_best = since
        assert found.out_of_patience is over and found.reached(1) is over
        assert not endless.reached(1)


def test_steps_are_timed_long_enough_to_see_every_bucket(monkeypatch):
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    budget = Budget(minutes=20.0, began=100.0)
    assert not budget.measured(False, Ready())  # still compiling: the clock has not started
    timed = 0
    while not budget.measured(True, Ready()):
        now[0] += 0.05 if timed % 2 else 0.15
        timed += 1
    assert 600 <= timed <= 601  # 5 % of 20 minutes, rounded
    assert budget.step_seconds == pytest.approx(0.1, rel=0.01)
    now[0] = 700.0
    assert budget.steps_left(valid_seconds=5.0, steps_per_valid=50) == pytest.approx((600 - 10) / (0.1 + 0.1), rel=0.01)


def test_an_error_waits_for_no_other_process(monkeypatch):
    left = []
    monkeypatch.setattr(stopping.atexit, "register", lambda leave, status: left.append(status))
    for joined in (False, True):
        monkeypatch.setattr(stopping.jax.distributed, "is_initialized", lambda: joined)  # noqa: B023
        for error in (
            DataError("the disk is gone"),
            KeyError("x"),
            KeyboardInterrupt(),
            SystemExit(141),
            Stopped(15, 1, pathlib.Path()),
        ):
            with pytest.raises(type(error)), failing_alone():
                raise error
        assert left == [2, 1, 130, 141] * joined


def test_what_changes_nothing_is_given_up_when_a_signal_comes():
    def waiting():
        yield from (1, 2)
        signal.raise_signal(signal.SIGTERM)
        time.sleep(60)

    with StopSignals() as stop:
        assert list(stop.until_asked([1, 2, 3])) == [1, 2, 3]
        assert list(stop.until_asked(waiting())) == [1, 2]
        assert stop.signal == signal.SIGTERM
        assert stop.unless_asked(lambda: "what comes later") is None


class Ready:
    def block_until_ready(self):
        pass


def test_minutes_become_steps_once():
    progress = Progress()
    found = ends(progress, minutes=1.0, accumulate=2)
    assert found.set_minutes(30, 1.0, Position(0, 6, 6)) == "--minutes=1: 31 steps at 0.00 s a step"  # time is over
    assert (found.total, progress.minutes, progress.minutes_steps) == (31, 1.0, 31)
    assert ends(progress, minutes=1.0).total == 31
    assert ends(progress, minutes=2.0).known_total is None
    assert ends(dataclasses.replace(progress), minutes=1.0, steps=12).total == 12
