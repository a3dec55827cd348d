"""Whole runs in processes of their own: killed, stopped, and shared between several."""

import contextlib
import dataclasses
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest

from jaxasr import config
from jaxasr.optim import Sgd

from . import tiny
from .test_train import assert_same, final_params, losses, rerun

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="module")
def _one_device_each():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_NUM_CPU_DEVICES", "1")
        yield


def command(cfg, *flags: str) -> list[str]:
    file = pathlib.Path(cfg.workdir).parent / "config.yaml"
    file.write_text(config.to_yaml(cfg))
    return [sys.executable, "-m", "jaxasr.train", f"--config={file}", *flags]


def wait_for(path: pathlib.Path, pattern: str, process: subprocess.Popen) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and process.poll() is None:
        if path.exists() and re.search(pattern, path.read_text()):
            return
        time.sleep(0.05)
    raise AssertionError(f"{pattern} never came in {path}: {process.poll()}")


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nothing happens to.

    Not by Adam, which makes steps as long as any of what is 0 but for rounding: the gradient of the keys' bias.
    """
    ends = {"epochs": None, "steps": 16, "valid_steps": 6}
    cfg = tiny.config(tmp_path_factory.mktemp("whole"), optimizer=Sgd(learning_rate=0.02), test=(), **ends)
    subprocess.run(command(cfg), check=True, stdout=subprocess.DEVNULL)
    return cfg


def test_stopped_and_killed_and_started_again(whole, tmp_path):
    cfg = rerun(whole, tmp_path)
    log = pathlib.Path(cfg.workdir) / "log.jsonl"
    for signum, steps, status in ((signal.SIGTERM, "[2-5]", 143), (signal.SIGKILL, "[89]", -9)):
        process = subprocess.Popen(command(cfg), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        wait_for(log, rf'"step": {steps}\b', process)
        process.send_signal(signum)
        _, stderr = process.communicate()
        assert process.returncode == status
        assert status < 0 or "the same command goes on from there" in stderr
    subprocess.run(command(cfg), check=True, stdout=subprocess.DEVNULL)
    assert losses(cfg) == losses(whole)
    assert_same(final_params(cfg), final_params(whole))


def free_port(first: int = 0, last: int = 0) -> int:
    """One that nothing listens on; from this range, if one is given."""
    for port in range(first + os.getpid() % 1000 if first else 0, last + 1):
        with contextlib.suppress(OSError), socket.socket() as free:
            free.bind(("127.0.0.1", port))
            return free.getsockname()[1]
    raise AssertionError(f"no port is free from {first} to {last}")


def by_hand(count: int) -> list[tuple[list[str], dict[str, str]]]:
    """The flags, and variables, of each process."""
    flags = [f"--coordinator=127.0.0.1:{free_port()}", f"--num_processes={count}"]
    return [([*flags, f"--process_id={i}"], {}) for i in range(count)]


def by_slurm(count: int) -> list[tuple[list[str], dict[str, str]]]:
    """As `srun` starts them on one machine; JAX makes the port of the job's number."""
    job = free_port(61_440, 65_535) - 61_440
    known = {"SLURM_JOB_ID": str(job), "SLURM_STEP_NODELIST": "127.0.0.1", "SLURM_NTASKS": str(count)}
    each = [known | {"SLURM_PROCID": str(i), "SLURM_LOCALID": str(i)} for i in range(count)]
    return [(["--coordinator=auto"], variables) for variables in each]


def started(cfg, launches, *flags: str) -> list[subprocess.Popen]:
    return [
        subprocess.Popen(command(cfg, *own, *flags), stdout=subprocess.DEVNULL, env=os.environ | variables)
        for own, variables in launches
    ]


def assert_agree(cfg, whole):
    """As the same sums in another order do."""
    np.testing.assert_allclose(list(losses(cfg).values()), list(losses(whole).values()), rtol=1e-5)
    ours, theirs = (final_params(run) for run in (cfg, whole))
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-4, atol=1e-5, err_msg=name)


def test_two_processes_that_share_a_state_agree_with_one(whole, tmp_path):
    cfg = rerun(whole, tmp_path)
    processes = started(cfg, by_slurm(2), "--fsdp=2", "--fsdp.min_size=64")
    assert [p.wait(timeout=110) for p in processes] == [0, 0]
    assert_agree(cfg, whole)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize(("count", "fsdp"), [(2, 1), (4, 1), (4, 2)])
def test_more_processes_agree_with_one(whole, tmp_path, count, fsdp):
    cfg = rerun(whole, tmp_path)
    processes = started(cfg, by_hand(count), f"--fsdp={fsdp}", "--fsdp.min_size=64")
    assert [p.wait(timeout=500) for p in processes] == [0] * count
    assert_agree(cfg, whole)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_one_process_goes_on_with_what_two_shared(whole, tmp_path):
    cfg = rerun(whole, tmp_path)
    processes = started(cfg, by_hand(2), "--fsdp=2", "--fsdp.min_size=64")
    wait_for(pathlib.Path(cfg.workdir) / "log.jsonl", r'"step": [89]\b', processes[0])
    processes[1].send_signal(signal.SIGTERM)
    assert [p.wait(timeout=300) for p in processes] == [143, 143]
    subprocess.run(command(cfg), check=True, stdout=subprocess.DEVNULL)
    assert_agree(cfg, whole)


FAILS = """
import sys
from jaxasr import config, errors, train, train_config
from tests.test_train import FailsAt
cfg = config.from_mapping(train_config.TrainConfig, config.read_yaml(sys.argv[1]), where="")
errors.exit_with_message(train.train, cfg, collate_fn=FailsAt(9))
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_fails_in_one_process_ends_all(whole, tmp_path):
    """It does not wait for the others, for minutes, nor they for it."""
    cfg = rerun(whole, tmp_path, coordinator=f"127.0.0.1:{free_port()}", num_processes=2)
    other = subprocess.Popen(command(dataclasses.replace(cfg, process_id=0)), stdout=subprocess.DEVNULL)
    file = tmp_path / "failing.yaml"
    file.write_text(config.to_yaml(dataclasses.replace(cfg, process_id=1)))
    failing = subprocess.Popen([sys.executable, "-c", FAILS, file], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    _, said = failing.communicate(timeout=200)
    assert failing.returncode == 2 and "error: the disk is gone" in said
    assert other.wait(timeout=300) != 0


def test_a_coordinator_that_is_not_there_is_named():
    code = (
        "from jaxasr.parallel import start_processes\n"
        "from jaxasr.errors import exit_with_message\n"
        f"exit_with_message(start_processes, '127.0.0.1:{free_port()}', 2, 1, timeout_seconds=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "the processes have not met in 1 s; all of them were expected" in done.stderr
