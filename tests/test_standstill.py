"""Runs whose data stands still: each ends within a minute, says why, and goes on to the same end."""

import contextlib
import dataclasses
import os
import pathlib
import random
import signal
import subprocess
import time

import pytest

from jaxasr import parallel
from jaxasr.data.perturb import CommonPreprocessor
from jaxasr.optim import Sgd

from . import tiny
from .test_processes import by_hand, command, wait_for
from .test_train import assert_same, final_params, losses

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

MODULE = """
import contextlib
import dataclasses
import os
import pathlib
import time

from jaxasr.data.perturb import PREPROCESSORS, CommonPreprocessor


@PREPROCESSORS.register("waiting")
@dataclasses.dataclass(frozen=True)
class Waiting(CommonPreprocessor):
    def perturb_fn(self, sample_rate):
        return waiting


def waiting(sound, rng):
    pathlib.Path(f"pids/{os.getpid()}").touch()
    while pathlib.Path("hang").exists():
        time.sleep(0.05)
    time.sleep(0.02)  # so that it reads while it trains
    return sound
"""


@pytest.fixture(scope="module")
def _one_device_each():
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAX_NUM_CPU_DEVICES", "1")
        yield


@pytest.fixture(scope="module")
def whole(tmp_path_factory, _one_device_each):
    """A run that nothing happens to, in a folder that its options are relative to."""
    folder = tmp_path_factory.mktemp("whole")
    (folder / "waiting.py").write_text(MODULE)
    (folder / "pids").mkdir()
    ends = {"epochs": None, "steps": 40, "valid_steps": 10, "check_sound": False}
    task = dataclasses.replace(tiny.CTC_TASK, preprocess=CommonPreprocessor())
    cfg = tiny.config(folder, task=task, optimizer=Sgd(learning_rate=0.02), test=(), **ends)
    subprocess.run([*command(cfg), *FLAGS], check=True, stdout=subprocess.DEVNULL, cwd=folder, env=paths())
    return cfg


FLAGS = ["--import=waiting", "--preprocess=waiting"]


def paths() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[1])}


def run_of(whole, folder: pathlib.Path, *flags: str) -> tuple[pathlib.Path, list[str], dict]:
    """The log and the command of another run of it, and how it is started."""
    cfg = dataclasses.replace(whole, workdir=str(folder / "run"))
    (folder / "pids").mkdir()
    (folder / "waiting.py").write_text(MODULE)
    how = {"cwd": folder, "env": paths(), "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    return pathlib.Path(cfg.workdir) / "log.jsonl", [*command(cfg), *FLAGS, *flags], how


def hang(folder: pathlib.Path, process: subprocess.Popen) -> None:
    (folder / "hang").touch()


def kill(folder: pathlib.Path, process: subprocess.Popen) -> None:
    """Those of the processes that read, the next ones too where these have sent all that they had to."""
    children = pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children")
    while process.poll() is None:
        with contextlib.suppress(OSError):  # it ends
            for pid in children.read_text().split():
                if (folder / "pids" / pid).exists():
                    os.kill(int(pid), signal.SIGKILL)
        time.sleep(0.05)


CASES = {
    "a thread hangs": (["--stall_seconds=5"], hang, ("nothing has moved for 5 s", "waiting.py", "--stall_seconds")),
    "a process hangs": (
        ["--workers=2", "--stall_seconds=5"],
        hang,
        ("nothing has moved for 5 s", "waiting.py", "--stall_seconds"),
    ),
    "a thread hangs, by the default": ([], hang, ("nothing has moved for 50 s", "waiting.py")),
    "a process dies": (["--workers=2"], kill, ("has ended by itself",)),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_whose_reading_stands_still_ends_and_goes_on(whole, tmp_path, name):
    flags, harm, said = CASES[name]
    random.seed(name)
    times = []
    for number in range(1 if "default" in name else 5):
        folder = tmp_path / str(number)
        folder.mkdir()
        log, line, how = run_of(whole, folder, *flags)
        process = subprocess.Popen(line, **how)
        wait_for(log, rf'"step": {random.randint(2, 9)}\b', process)
        time.sleep(random.uniform(0.0, 0.2))
        began = time.monotonic()
        harm(folder, process)
        _, stderr = process.communicate(timeout=120)
        times.append(time.monotonic() - began)
        assert process.returncode == 2, stderr[-2000:]
        for text in said:
            assert text in stderr
        (folder / "hang").unlink(missing_ok=True)
        subprocess.run(line, check=True, **how)
        cfg = dataclasses.replace(whole, workdir=str(folder / "run"))
        assert losses(cfg) == losses(whole)
        assert_same(final_params(cfg), final_params(whole))
    print(f"{name}: {len(times)} of {len(times)} ended, in {max(times):.1f} s at most, and went on to the same end")
    assert max(times) < 60


def test_a_run_whose_data_vanishes_ends_and_goes_on(whole, tmp_path):
    """The folder with the sound is gone, and then it is back."""
    corpus = tmp_path / "disk"
    corpus.mkdir()
    log, line, how = run_of(whole, tmp_path)
    sounds = pathlib.Path(whole.train[0])
    lines = [entry.split(" ", 1) for entry in (sounds / "wav.scp").read_text().splitlines()]
    for ident, path in lines:
        (corpus / f"{ident}{pathlib.Path(path).suffix}").write_bytes(pathlib.Path(path).read_bytes())
    moved = tmp_path / "train"
    moved.mkdir()
    for file in sounds.iterdir():
        (moved / file.name).write_bytes(file.read_bytes())
    (moved / "wav.scp").write_text("".join(f"{i} {corpus / (i + pathlib.Path(p).suffix)}\n" for i, p in lines))
    line = [*line, f"--train={moved}"]
    process = subprocess.Popen(line, **how)
    wait_for(log, r'"step": 4\b', process)
    corpus.rename(tmp_path / "gone")
    began = time.monotonic()
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 2
    assert f"error: {corpus}" in stderr and "No such file" in stderr
    seconds = time.monotonic() - began
    print(f"the data vanishes: the run ended in {seconds:.1f} s, and went on to the same end")
    assert seconds < 30
    (tmp_path / "gone").rename(corpus)
    subprocess.run(line, check=True, **how)
    cfg = dataclasses.replace(whole, workdir=str(tmp_path / "run"))
    assert_same(final_params(cfg), final_params(whole))


@pytest.mark.parametrize("signum", [signal.SIGKILL, signal.SIGSTOP])
def test_a_process_of_two_that_dies_or_stops_ends_the_other(whole, tmp_path, signum):
    log, line, how = run_of(whole, tmp_path, "--fsdp=2", "--steps=4000", "--valid_steps=4000")
    first, second = (subprocess.Popen([*line, *own], **how) for own, _ in by_hand(2))
    with first, second:
        try:
            wait_for(log, r'"step": 4\b', first)
            second.send_signal(signum)
            began = time.monotonic()
            _, stderr = first.communicate(timeout=120)
            seconds = time.monotonic() - began
        finally:
            first.kill()
            second.kill()
    print(f"{signum.name}: the other ended in {seconds:.1f} s with status {first.returncode}")
    assert first.returncode != 0
    assert stderr
    assert seconds < 60 > parallel.SILENT_SECONDS
