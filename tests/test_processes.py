"""Whole runs in processes of their own: killed, stopped, and shared between two."""

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

from . import tiny
from .test_train import assert_same, final_params, losses, rerun


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
    """A run that nothing happens to."""
    cfg = tiny.config(tmp_path_factory.mktemp("whole"), epochs=None, steps=16, valid_steps=6, test=())
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


def test_two_processes_agree_with_one(whole, tmp_path):
    cfg = rerun(whole, tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = [f"--coordinator=127.0.0.1:{port}", "--num_processes=2"]
    processes = [
        subprocess.Popen(command(cfg, *flags, f"--process_id={i}"), stdout=subprocess.DEVNULL) for i in range(2)
    ]
    assert [p.wait(timeout=110) for p in processes] == [0, 0]
    np.testing.assert_allclose(list(losses(cfg).values()), list(losses(whole).values()), rtol=1e-5)
