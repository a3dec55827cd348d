"""Whole runs in processes of their own: killed, stopped, and shared between several."""

import contextlib
import dataclasses
import os
import pathlib
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import soundfile
from orbax.checkpoint import v1 as orbax

from jaxasr import checksums, config
from jaxasr.averages import Ema
from jaxasr.data.perturb import CommonPreprocessor
from jaxasr.optim import Sgd
from jaxasr.parallel import Devices
from jaxasr.paths import leaves

from . import dies, tiny
from .test_train import assert_same, final_params, losses, records, rerun

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
    """Killed while it writes a state, which then does not count."""
    cfg = rerun(whole, tmp_path)
    log = pathlib.Path(cfg.workdir) / "log.jsonl"
    process = subprocess.Popen(command(cfg), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    wait_for(log, r'"step": [2-5]\b', process)
    process.send_signal(signal.SIGTERM)
    _, stderr = process.communicate(timeout=30)
    assert process.returncode == 143 and "the same command or call goes on from there" in stderr
    assert subprocess.run(dying("writing a state", cfg), stdout=subprocess.DEVNULL).returncode == -9
    assert any((log.parent / "checkpoints").glob("saving-*"))
    subprocess.run(command(cfg), check=True, stdout=subprocess.DEVNULL)
    assert_the_same_run(cfg, whole)


def dying(place: str, cfg) -> list[str]:
    return [sys.executable, "-m", "tests.dies", place, *command(cfg)[3:]]


def assert_the_same_run(cfg, whole) -> None:
    """To the last bit: the final model, the whole last state, what was measured, the data that were read."""
    assert losses(cfg) == losses(whole)
    for name in ("wer", "cer", "loss"):
        ours, theirs = ({r["step"]: r[name] for r in records(run, "valid")} for run in (cfg, whole))
        assert ours == theirs
    assert_same(final_params(cfg), final_params(whole))
    ours, theirs = map(last_state, (cfg, whole))
    assert ours == theirs


def last_state(cfg) -> tuple[dict, dict]:
    """What is known beside its arrays but for times, and the bytes of every array."""
    folder = max((pathlib.Path(cfg.workdir) / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    assert checksums.fault(folder) == ""
    known = orbax.checkpointables_metadata(str(folder))
    about, here = known.custom_metadata, Devices.first().replicated
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), known.metadata["state"])
    arrays = orbax.load_checkpointables(str(folder), {"state": like})["state"]

    def content(x) -> tuple:
        x = np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)
        return x.dtype, x.shape, x.tobytes()

    del about["window"]["seconds"], about["window"]["waiting"]
    return about, {path: content(leaf) for path, leaf in leaves(arrays)}


# --- many moments ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    """A run with all that could go on differently, and how many seconds it takes once its programs are compiled."""
    folder = tmp_path_factory.mktemp("everything")
    noise = np.random.default_rng(0).normal(size=8000).clip(-3, 3) / 10
    soundfile.write(folder / "noise.wav", noise, 8000)
    sound = CommonPreprocessor(volume_db=3.0, speeds=(0.9, 1.0, 1.1), noise=str(folder / "noise.wav"))
    cfg = tiny.config(
        folder,
        task=dataclasses.replace(tiny.TASK, preprocess=sound),
        test=(),
        epochs=2,
        batch_seconds=6.0,
        max_buckets=3,
        accumulate=2,
        average=Ema(decay=0.9),
        workers=1,
        valid_steps=2,
        log_steps=3,
    )
    subprocess.run(command(cfg), check=True, stdout=subprocess.DEVNULL)
    again = rerun(cfg, folder / "again")
    (folder / "again").mkdir()
    began = time.monotonic()
    subprocess.run(command(again), check=True, stdout=subprocess.DEVNULL)
    assert_the_same_run(again, cfg)
    return cfg, time.monotonic() - began


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("cold", [0, 5], ids=["compiled", "compiling"])
def test_killed_at_random_moments(everything, tmp_path, monkeypatch, cold):
    """Run after run, each killed until it comes to its end: 45 times with programs at hand, 5 times while compiling."""
    whole, seconds = everything
    rng, kills, runs = random.Random(cold), 0, 0
    wanted = cold or 45
    while kills < wanted:
        (tmp_path / str(runs)).mkdir()
        cfg, ended = rerun(whole, tmp_path / str(runs)), False
        while not ended:
            if cold:
                monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / f"cache{kills}"))
            process = subprocess.Popen(command(cfg), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                ended = process.wait(timeout=rng.uniform(0, seconds) if kills < wanted else 600) == 0
                assert ended, "it came to another end"
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                kills += 1
        assert_the_same_run(cfg, whole)
        runs += 1
    print(f"{kills} kills in {runs} runs, all of them the same to the last bit")


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("place", dies.PLACES)
def test_killed_at_a_place(everything, tmp_path, place):
    whole, _ = everything
    cfg = rerun(whole, tmp_path)
    assert subprocess.run(dying(place, cfg), stdout=subprocess.DEVNULL).returncode == -9
    subprocess.run(command(cfg), check=True, stdout=subprocess.DEVNULL)
    assert_the_same_run(cfg, whole)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_stopped_at_random_moments(everything, tmp_path):
    """20 times: the end within 30 s, by the signal's own number, with every finished step saved once there are any."""
    whole, seconds = everything
    rng, cfg, runs, saved = random.Random(7), None, 0, 0
    for number in range(20):
        if cfg is None:
            (tmp_path / str(runs)).mkdir()
            cfg, runs = rerun(whole, tmp_path / str(runs), log_steps=1), runs + 1
        signum = (signal.SIGTERM, signal.SIGINT)[number % 2]
        process = subprocess.Popen(command(cfg), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=rng.uniform(0, seconds))
        process.send_signal(signum)
        _, stderr = process.communicate(timeout=30)
        assert process.returncode in (0, 128 + signum, -signum), stderr
        if stopped := re.search(r"stopped at step (\d+);", stderr):
            saved += 1
            assert (pathlib.Path(cfg.workdir) / "checkpoints" / stopped[1]).is_dir()
            assert max(losses(cfg), default=0) <= int(stopped[1])
        if process.returncode == 0:
            assert_same(final_params(cfg), final_params(whole))
            cfg = None
    if cfg is not None:
        subprocess.run(command(cfg), check=True, stdout=subprocess.DEVNULL)
        assert_same(final_params(cfg), final_params(whole))
    assert saved > 5


SMALL_DISK = """
mount -t tmpfs -o size={size} none {disk} || exit 99
{train} 2> {errors}; echo $?
mount -o remount,size=64m {disk} && {train} > /dev/null && cp -r {disk}/run {kept}
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.skipif(shutil.which("unshare") is None, reason="no unshare, so no disk of its own")
@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7])
def test_a_full_disk_ends_a_run_with_a_message_and_loses_nothing(whole, tmp_path, share):
    disk = tmp_path / "disk"
    disk.mkdir()
    cfg = dataclasses.replace(whole, workdir=str(disk / "run"))
    file = tmp_path / "config.yaml"
    file.write_text(config.to_yaml(cfg))
    train = f"{sys.executable} -m jaxasr.train --config={file}"
    blocks = [-(-file.stat().st_size // 4096) + 1 for file in pathlib.Path(whole.workdir).rglob("*")]
    size = f"{4 * round(share * sum(blocks))}k"
    script = SMALL_DISK.format(size=size, disk=disk, train=train, errors=tmp_path / "errors", kept=tmp_path / "run")
    done = subprocess.run(["unshare", "-Urm", "bash", "-c", script], capture_output=True, text=True, timeout=300)
    if not (tmp_path / "errors").exists():
        pytest.skip(f"no disk of its own: {done.stderr}")
    said = (tmp_path / "errors").read_text()
    assert done.stdout.splitlines()[-1] == "2" and done.returncode == 0, said + done.stderr
    assert "error: " in said and "free some" in said, said
    assert_the_same_run(dataclasses.replace(cfg, workdir=str(tmp_path / "run")), whole)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("killed", [0, 1])
def test_one_of_two_processes_is_killed_and_both_are_started_again(whole, tmp_path, killed):
    """What is left ends by itself, and soon; the two then come to the end that they would have come to."""
    runs = [rerun(whole, tmp_path / name) for name in ("kept", "killed")]
    for cfg, name in zip(runs, ("kept", "killed"), strict=True):
        (tmp_path / name).mkdir()
        processes = started(cfg, by_hand(2))
        if name == "killed":
            wait_for(pathlib.Path(cfg.workdir) / "log.jsonl", r'"step": [89]\b', processes[0])
            processes[killed].kill()
            processes[killed].wait()
            began = time.monotonic()
            assert processes[1 - killed].wait(timeout=60) not in (0, -9)
            print(f"the other ended after {time.monotonic() - began:.1f} s")
            processes = started(cfg, by_hand(2))
        assert [p.wait(timeout=300) for p in processes] == [0, 0]
    assert_the_same_run(*runs)


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
errors.exit_with_message(train.train)(cfg, collate_fn=FailsAt(9))
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
        f"exit_with_message(start_processes)('127.0.0.1:{free_port()}', 2, 1, timeout_seconds=1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert "the processes have not met in 1 s; all of them were expected" in done.stderr
