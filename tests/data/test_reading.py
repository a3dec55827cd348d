"""Reading that stands still ends, with the stacks and the file; reading that is slow goes on."""

import contextlib
import importlib.util
import os
import random
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile

from jaxasr.data import reading
from jaxasr.data.audio import SoundSource
from jaxasr.data.pipeline import load
from jaxasr.data.probe import probe
from jaxasr.data.reading import in_order, taken_ahead
from jaxasr.errors import DataError
from tests.data import loading
from tests.data.test_pipeline import loader

LIMIT = 0.4


@pytest.fixture(autouse=True)
def _impatient():
    reading.allow(LIMIT)
    yield
    reading.allow(reading.STALL_SECONDS)


@pytest.fixture
def stuck():
    """A wait that ends with the test."""
    event = threading.Event()
    yield event.wait
    event.set()


def test_the_limit_is_within_a_minute():
    assert reading.STALL_SECONDS + 2 < 60


def test_a_thread_that_hangs_is_named_with_its_file_and_stack(stuck, capfd):
    def read(path):
        with reading.reading(path):
            return stuck() if path == "b.wav" else path

    taken = in_order(read, ["a.wav", "b.wav", "c.wav"], threads=2, ahead=3)
    assert next(taken) == "a.wav"
    began = time.monotonic()
    with pytest.raises(
        DataError, match=r"^b\.wav: nothing has moved for 0\.4 s; .*no fault allow for more by --stall_seconds\.$"
    ):
        next(taken)
    assert time.monotonic() - began < 10 * LIMIT
    assert f'File "{__file__}", line' in capfd.readouterr().err


def test_a_program_without_the_option_does_not_name_it():
    spec = importlib.util.spec_from_file_location("reading_anew", reading.__file__)
    anew = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(anew)
    assert str(anew._standstill([])).endswith("; where this is no fault start again.")


def test_what_is_slow_goes_on():
    def read(number):
        for _ in range(8):
            time.sleep(LIMIT / 4)
            reading.beat()
        return number

    assert list(in_order(read, range(1), threads=1, ahead=1)) == [0]


def test_an_error_of_time_out_is_the_readers_own():
    def read(number):
        raise TimeoutError("the disk says so")

    with pytest.raises(TimeoutError, match="the disk says so"):
        next(in_order(read, range(3), threads=1, ahead=1))


def test_taken_ahead_is_the_same():
    assert list(taken_ahead(iter("abc"))) == ["a", "b", "c"]
    assert list(taken_ahead(iter(()))) == []


def test_a_check_of_sound_that_hangs_ends(stuck, monkeypatch, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(80), 8000)
    monkeypatch.setattr(SoundSource, "check", lambda *_: stuck())
    with pytest.raises(DataError, match=r"a\.wav: nothing has moved"):
        probe([tmp_path / "a.wav"], SoundSource(8000), whole=True)


PROGRAM = """
import sys
from jaxasr.data import reading
reading.allow(1.0)
print("waiting", flush=True)
print(*reading.in_order(lambda _: sys.stdin.readline(), [0], threads=1, ahead=1))
"""


def test_a_program_that_was_stopped_for_a_while_goes_on():
    """As a scheduler does, or the lid of a computer; by a clock it would have waited too long."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as program:
        assert program.stdout.readline() == "waiting\n"
        program.send_signal(signal.SIGSTOP)
        time.sleep(1.5)
        program.send_signal(signal.SIGCONT)
        assert program.communicate("done")[0] == "done\n"


# Processes


def ends(what: str, pause: float = 0.0) -> float:
    """Reads by a process, to which it does something once it has read; returns in how many seconds that ends."""
    reading.allow(None)  # while it starts
    batches = loader(preprocess=loading.surroundings, plan=500 * loader().plan)  # more than a pipe holds
    with contextlib.closing(load(batches, workers=1)) as loaded:
        pid = int(next(loaded).batch.tokens[0, 0])
        time.sleep(pause)
        reading.allow(2.0)
        os.kill(pid, signal.SIGKILL if what == "dead" else signal.SIGSTOP)
        began = time.monotonic()
        match = "ended by itself" if what == "dead" else "nothing has moved for 2 s"
        with pytest.raises(DataError, match=match):
            list(loaded)
    return time.monotonic() - began


def test_a_process_that_dies_ends_the_wait():
    assert ends("dead") < 10


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", ["dead", "hung"])
def test_processes_that_die_or_hang_end_the_wait_at_any_moment(what):
    random.seed(what)
    seconds = [ends(what, random.uniform(0.0, 0.5)) for _ in range(20)]
    print(f"{what}: 20 of 20 ended, in {max(seconds):.1f} s at most")
    assert max(seconds) < 10
