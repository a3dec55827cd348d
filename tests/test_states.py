"""States on disk: whatever happens to one, or while one is written, the newest good one is found, and no other."""

import contextlib
import errno
import pathlib
import random
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr import checkpoint, checksums, params, states
from jaxasr.errors import CheckpointError
from jaxasr.states import Checkpoints, Progress

SLOW = pytest.mark.slow


def state_of(step: int) -> dict:
    rng = np.random.default_rng(step)
    return {
        "step": jnp.int32(step),
        "key": jax.random.key(step),
        "params": {
            "kernel": jnp.asarray(rng.normal(size=(40, 30)), jnp.float32),
            "bias": jnp.full(7, step, jnp.bfloat16),
        },
    }


def like(state: dict) -> dict:
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), state)


@contextlib.contextmanager
def opened(folder: pathlib.Path, **options):
    with contextlib.closing(Checkpoints(folder, **options)) as checkpoints:
        yield checkpoints


def save(folder: pathlib.Path, *steps: int, **options) -> None:
    with opened(folder, **options) as checkpoints:
        for step in steps:
            checkpoints.save(step, state_of(step), Progress(epoch=step))
        checkpoints.wait()


def assert_restores(folder: pathlib.Path, step: int, **options) -> str:
    """To the last bit, with what is known beside it; returns what was said."""
    said: list[str] = []
    with opened(folder, **options) as checkpoints:
        found, progress = checkpoints.restore(like(state_of(0)), said.append)
    assert progress == Progress(epoch=step)
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(state_of(step)), strict=True):
        if jax.dtypes.issubdtype(ours.dtype, jax.dtypes.prng_key):
            ours, theirs = jax.random.key_data(ours), jax.random.key_data(theirs)
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    return "\n".join(said)


# --- mutations ---------------------------------------------------------------------------------------------------


def cut(file: pathlib.Path, rng: random.Random) -> None:
    file.write_bytes(file.read_bytes()[: rng.randrange(file.stat().st_size)])


def flip(file: pathlib.Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    file.write_bytes(content)


def lengthen(file: pathlib.Path, rng: random.Random) -> None:
    file.write_bytes(file.read_bytes() + rng.randbytes(rng.randint(1, 99)))


def zero(file: pathlib.Path, rng: random.Random) -> None:
    """As a file that was never written to the disk before the power went."""
    del rng
    file.write_bytes(bytes(file.stat().st_size))


def lose(file: pathlib.Path, rng: random.Random) -> None:
    del rng
    file.unlink()


def make_folder(file: pathlib.Path, rng: random.Random) -> None:
    lose(file, rng)
    file.mkdir()


def of_the_state_before(file: pathlib.Path, rng: random.Random) -> None:
    """Half of one state and half of another."""
    del rng
    newest = next(p for p in file.parents if p.name == "2")
    other = newest.with_name("1") / file.relative_to(newest)
    if other.exists():
        shutil.copy(other, file)
    else:
        file.unlink()


def add(file: pathlib.Path, rng: random.Random) -> None:
    (file.parent / "more").write_bytes(rng.randbytes(9))


MUTATIONS = (cut, flip, lengthen, zero, lose, make_folder, of_the_state_before, add)


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> pathlib.Path:
    """States 1 and 2 of a run, 2 being the newest; beside them those of another run and of another network."""
    folder = tmp_path_factory.mktemp("two")
    save(folder / "good", 1, 2, run="ours")
    save(folder / "theirs", 2, run="theirs")
    with opened(folder / "network", run="ours") as checkpoints:
        checkpoints.save(2, state_of(2) | {"params": {"kernel": jnp.zeros((40, 31)), "bias": jnp.zeros(7)}}, Progress())
        checkpoints.wait()
    return folder


@pytest.mark.parametrize("seeds", [range(0, 200, 17), pytest.param(range(200), marks=SLOW)], ids=["some", "200"])
def test_a_state_that_was_changed_is_named_and_the_one_before_taken(two, tmp_path, seeds):
    for seed in seeds:
        folder, rng = tmp_path / str(seed), random.Random(seed)
        shutil.copytree(two / "good", folder)
        files = sorted(file for file in (folder / "2").rglob("*") if file.is_file())
        change, file = MUTATIONS[seed % len(MUTATIONS)], files[seed // len(MUTATIONS) % len(files)]
        before = file.read_bytes()
        if before or change not in (cut, flip):
            change(file, rng)
        if change is not add and file.is_file() and file.read_bytes() == before:
            lengthen(file, rng)
        said = assert_restores(folder, 1, run="ours")
        assert said.startswith(f"{folder / '2'}/"), said
        changed = "more" if change is add else file.name
        assert changed in said or file.name == checksums.SUMS, f"{change.__name__} of {file}: {said}"
        assert {path.name for path in folder.iterdir()} == {"1", "damaged-2"}
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    ("other", "said"),
    [("theirs", "another run"), ("network", "params/bias is float32[7] and not bfloat16[7]")],
)
def test_the_state_of_another_run_or_network_is_not_taken(two, tmp_path, other, said):
    shutil.copytree(two / "good", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "2")
    shutil.copytree(two / other / "2", tmp_path / "run" / "2")
    assert said in assert_restores(tmp_path / "run", 1, run="ours")


def test_a_copy_of_a_state_by_another_number_is_not_taken(two, tmp_path):
    """What comes before that number would not be saved."""
    shutil.copytree(two / "good", tmp_path / "run")
    shutil.copytree(two / "good" / "2", tmp_path / "run" / "9")
    assert "run/9: a copy of the state of step 2; it is kept as damaged-9" in assert_restores(tmp_path / "run", 2)


def test_looking_back_moves_nothing(two, tmp_path):
    shutil.copytree(two / "good", tmp_path / "run")
    (tmp_path / "run" / "2" / checksums.SUMS).unlink()
    said: list[str] = []
    with opened(tmp_path / "run") as checkpoints:
        found, _ = checkpoints.restore(like(state_of(0)), said.append, before=3)
    assert found["step"] == 1 and said[0].endswith("no such file; the run goes on from the state before it.")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"1", "2"}


def test_a_disk_on_which_nothing_can_be_moved_is_told(two, tmp_path, monkeypatch):
    shutil.copytree(two / "good", tmp_path / "run")
    (tmp_path / "run" / "2" / checksums.SUMS).unlink()
    full = OSError(errno.ENOSPC, "No space left on device")
    monkeypatch.setattr(pathlib.Path, "rename", Dies(0, full).before(pathlib.Path.rename))
    with pytest.raises(CheckpointError, match="No space left on device"):
        assert_restores(tmp_path / "run", 1)
    with opened(tmp_path / "run") as checkpoints, pytest.raises(CheckpointError, match="No space left on device"):
        checkpoints.forget_from(1)


def test_where_none_is_good_none_is_taken_or_moved(two, tmp_path):
    shutil.copytree(two / "good", tmp_path / "run")
    for step in ("1", "2"):
        cut(tmp_path / "run" / step / checksums.SUMS, random.Random(step))
    with pytest.raises(CheckpointError, match=rf"run/2/{checksums.SUMS}: "):
        assert_restores(tmp_path / "run", 1)
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"1", "2"}


def test_hidden_files_of_others_do_not_matter_and_sha256sum_agrees(two, tmp_path):
    shutil.copytree(two / "good", tmp_path / "run")
    (tmp_path / "run" / "2" / "state" / ".DS_Store").write_bytes(b"x")
    assert assert_restores(tmp_path / "run", 2) == ""
    if shutil.which("sha256sum"):
        subprocess.run(
            ["sha256sum", "--quiet", "--check", "--strict", checksums.SUMS], check=True, cwd=tmp_path / "run" / "2"
        )


# --- while it is written -----------------------------------------------------------------------------------------


class Dies:
    """A process that is killed, or whose disk fails, at the nth thing that it does to its disk and does no more."""

    def __init__(self, at: int, error: BaseException):
        self.left = at
        self.error = error

    def before(self, function):
        def called(*args, **kwargs):
            self.left -= 1
            if self.left < 0:
                raise self.error
            return function(*args, **kwargs)

        return called


class Killed(BaseException):
    """No code of ours may see it."""


DISK = (
    (checksums, "write_atomically"),
    (checksums, "of_file"),
    (checksums, "_to_disk"),
    (states, "sync_folder"),
    (params.os, "fsync"),
    (pathlib.Path, "rename"),
    (shutil, "rmtree"),
)


@pytest.mark.parametrize("every", [8, pytest.param(1, marks=SLOW)])
@pytest.mark.parametrize("error", [Killed(), OSError(errno.ENOSPC, "No space left on device")], ids=["killed", "full"])
def test_a_save_that_ends_anywhere_leaves_the_state_before_or_the_new_one(two, tmp_path, error, every):
    ended = {}
    for at in range(0, 999, every):
        folder = tmp_path / str(at)
        shutil.copytree(two / "good", folder)
        dies = Dies(at, error)
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.suppress(CheckpointError, Killed),
            opened(folder) as checkpoints,
        ):
            for owner, name in DISK:
                patch.setattr(owner, name, dies.before(getattr(owner, name)))
            checkpoints.save(3, state_of(3), Progress(epoch=3))
            checkpoints.wait()
        ended[at] = 3 if (folder / "3").exists() else 2
        assert_restores(folder, ended[at])
        assert {path.name for path in folder.iterdir() if not path.name.isdigit()} == set()
        if dies.left >= 0:
            break
    else:
        pytest.fail("it never came to its end")
    assert set(ended.values()) == {2, 3}


def test_a_disk_that_gives_other_bytes_than_were_written_is_told(two, tmp_path, monkeypatch):
    shutil.copytree(two / "good", tmp_path / "run")
    monkeypatch.setattr(checksums, "_to_disk", lambda file: file.name == "_METADATA" and flip(file, random.Random(0)))
    with pytest.raises(CheckpointError, match="saving-3/state/_METADATA: its SHA-256 is not"):
        save(tmp_path / "run", 3)
    monkeypatch.undo()
    assert_restores(tmp_path / "run", 2)


FULL = """
import resource, sys, pathlib
from tests.test_states import save
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    save(pathlib.Path(sys.argv[1]), 3)
except Exception as error:
    print(type(error).__name__, error)
"""


@SLOW
@pytest.mark.timeout(600)
def test_files_that_cannot_grow_end_the_save_and_leave_the_state_before(two, tmp_path):
    """The system itself refuses to write on, in TensorStore's threads as in ours."""
    ended = set()
    for limit in (0, 1, 10, 100, 300, 700, 1000, 2000, 3000, 4000, 5000, 6000, 8000, 10**6):
        folder = tmp_path / str(limit)
        shutil.copytree(two / "good", folder)
        done = subprocess.run(
            [sys.executable, "-c", FULL, folder, str(limit)], capture_output=True, text=True, timeout=60
        )
        good = 3 if (folder / "3").exists() else 2
        ended.add(good)
        assert done.stdout.startswith("" if good == 3 else "CheckpointError"), done.stdout + done.stderr
        assert_restores(folder, good)
    assert ended == {2, 3}


# --- models ------------------------------------------------------------------------------------------------------


def test_a_model_that_was_changed_is_refused(tmp_path):
    file, weights = tmp_path / "params.safetensors", {"a": np.arange(12.0).reshape(3, 4), "b": np.float32(1)}
    checkpoint.save_params(file, {"a": weights["a"].T, "b": weights["b"]})  # a transpose is no piece of memory
    np.testing.assert_array_equal(checkpoint.load_params(file)["a"], weights["a"].T)
    good = file.read_bytes()
    for seed in range(40):
        (cut, flip, lengthen)[seed % 3](file, random.Random(seed))
        with pytest.raises(CheckpointError, match=r"params\.safetensors: "):
            checkpoint.load_params(file)
        file.write_bytes(good)
