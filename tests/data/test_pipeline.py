import contextlib
import dataclasses
import gc
import itertools
import multiprocessing
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxasr.data import audio
from jaxasr.data.audio import SoundSource
from jaxasr.data.batch import AsrBatch, BucketShape, Collate
from jaxasr.data.bucketing import PlannedBatch
from jaxasr.data.manifest import Utterance
from jaxasr.data.perturb import CommonPreprocessor
from jaxasr.data.pipeline import HostBatch, LoadBatch, load
from jaxasr.data.preprocess import Preprocess
from jaxasr.data.tokenizer import CharTokenizer, Vocabulary
from jaxasr.errors import ConfigError, DataError
from jaxasr.tasks import AsrTask
from tests.data import loading

BATCHES, ROWS = 7, 4


def loader(**changes) -> LoadBatch:
    """Seven batches of four rows, the last one half empty."""
    utterances = [Utterance(f"u{i}", f"{i}.wav", "a") for i in range(BATCHES * ROWS - 2)]
    shape = BucketShape(ROWS, 4, 6)
    order = np.random.default_rng(0).permutation(len(utterances))
    plan = [PlannedBatch(shape, order[i : i + ROWS]) for i in range(0, len(order), ROWS)]
    speeds = np.resize([0.9, 1.0, 1.1], len(utterances))
    return dataclasses.replace(LoadBatch(plan, utterances, loading.Noise(), Collate(), 3, 5, speeds), **changes)


def assert_same(left: list[HostBatch], right: list[HostBatch]) -> None:
    assert len(left) == len(right)
    for a, b in zip(left, right, strict=True):
        assert a.ids == b.ids
        assert a.planned.shape == b.planned.shape
        np.testing.assert_array_equal(a.planned.indices, b.planned.indices)
        for x, y in zip(a.batch, b.batch, strict=True):
            assert x.dtype == y.dtype
            np.testing.assert_array_equal(x, y)


def directly(batch: LoadBatch) -> list[HostBatch]:
    return [batch(number) for number in range(len(batch.plan))]


@pytest.fixture(autouse=True, scope="module")
def _what_was_there_stays():
    """Looking through it after each test would take most of the time."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def _leaves_nothing_behind():
    yield
    gc.collect()
    assert multiprocessing.active_children() == []
    deadline = time.monotonic() + 5
    while (left := _threads()) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == []


def _threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name.startswith("read-")]


pytestmark = pytest.mark.usefixtures("_leaves_nothing_behind")


# Order and content


def test_a_batch_is_what_its_plan_says():
    batch = loader()
    host = batch(2)
    assert host.planned is batch.plan[2]
    assert host.ids == [f"u{i}" for i in host.planned.indices]
    for row, index in enumerate(host.planned.indices):
        assert host.batch.tokens[row, 0] == round(10 * [0.9, 1.0, 1.1][index % 3])
    assert directly(batch)[-1].batch.weights.tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_any_number_of_threads_gives_the_same_batches_in_order(threads):
    assert_same(list(load(loader(), threads=threads)), directly(loader()))


def test_worker_processes_give_the_same_batches_in_order():
    hosts = list(load(loader(), start=1, workers=2))
    assert_same(hosts, directly(loader())[1:])
    assert all(type(x) is np.ndarray and x.flags.writeable for host in hosts for x in host.batch)


@pytest.mark.parametrize("start", [0, 1, BATCHES - 1, BATCHES, BATCHES + 3])
def test_a_start_gives_the_tail(start):
    assert_same(list(load(loader(), start=start)), directly(loader())[start:])


def test_randomness_is_of_seed_epoch_and_id_alone():
    base = loader()
    moved = loader(plan=base.plan[::-1])
    assert_same(directly(moved), directly(base)[::-1])
    for change in ({"seed": 4}, {"epoch": 6}):
        assert (directly(loader(**change))[0].batch.audio != directly(base)[0].batch.audio).any()


@pytest.mark.parametrize("count", [2, 4])
def test_processes_together_read_what_one_reads(count):
    """And each reads its own rows alone."""
    whole, read = directly(loader()), []

    def noting(utterance, rng):
        read.append(utterance.id)
        return loading.Noise()(utterance, rng)

    shares = [directly(loader(process=(index, count), preprocess=noting)) for index in range(count)]
    assert sorted(read) == sorted(name for host in whole for name in host.ids)
    for number, host in enumerate(whole):
        parts = [share[number] for share in shares]
        assert all(part.ids == host.ids and part.planned.shape == host.planned.shape for part in parts)
        for name, value in host.batch._asdict().items():
            np.testing.assert_array_equal(np.concatenate([getattr(part.batch, name) for part in parts]), value)


def test_processes_that_do_not_divide_the_rows_are_refused():
    with pytest.raises(ConfigError, match="--num_processes=3: batches of 4 rows; rows that the number of processes"):
        loader(process=(0, 3))


def test_an_empty_plan():
    assert list(load(loader(plan=[]))) == []


# Faults


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fault_names_id_and_path(workers):
    batch = loader(preprocess=loading.Noise(fails_on="u9"))
    position = next(n for n, planned in enumerate(batch.plan) if 9 in planned.indices)
    loaded = load(batch, workers=workers)
    assert_same(list(itertools.islice(loaded, position)), directly(loader())[:position])
    with pytest.raises(DataError, match=r"^u9 \(9\.wav\): preprocessing raised UnpicklableError: boom; an example was"):
        next(loaded)


def test_what_is_missing_is_no_fault_of_an_utterance():
    def preprocess(utterance, rng):
        raise ConfigError("a.ark:5: Kaldi's archives are read by kaldiio")

    with pytest.raises(ConfigError, match=r"^a\.ark:5: Kaldi's archives are read by kaldiio"):
        loader(preprocess=preprocess)(0)


def test_a_fault_of_collating_names_the_ids():
    with pytest.raises(DataError, match=r"^batch of u\d+, u.*: collating to Bucket.* raised UnpicklableError: boom; "):
        next(load(loader(collate=loading.failing)))


def test_a_data_error_gets_the_id_unless_it_has_it(tmp_path):
    path = str(tmp_path / "gone.wav")
    preprocess = Preprocess(SoundSource(8000), CharTokenizer(), None)
    batch = loader(utterances=[Utterance("gone", path, "")] * 40, preprocess=preprocess)
    with pytest.raises(DataError) as caught:
        batch(0)
    assert str(caught.value).startswith(f"{path} (utterance gone): No such file")

    def own(utterance, rng):
        raise DataError("no pitch; a voice was expected; listen to it.")

    with pytest.raises(DataError, match=r"^gone \(.*gone.wav\): no pitch; "):
        loader(utterances=[Utterance("gone", path, "")] * 40, preprocess=own)(0)
    soundfile.write(path, np.zeros(10), 8000)
    cut = Utterance("cut", path, "", start=1.0)
    with pytest.raises(DataError) as caught:
        loader(utterances=[cut] * 40, preprocess=preprocess)(0)
    assert str(caught.value).startswith(f"{path} (utterance cut): from 1.000 s")


# Ending


def test_closing_early_stops_the_threads():
    loaded = load(loader(), threads=3)
    next(loaded)
    loaded.close()
    with pytest.raises(StopIteration):
        next(loaded)


def test_forgetting_the_iterator_stops_the_threads():
    next(load(loader(), threads=3))


def test_workers_run_beside_jax_without_importing_it_for_us():
    spec = sys.modules["__main__"].__spec__
    loaded = load(loader(preprocess=loading.surroundings, collate=Collate()), workers=2)
    first, second = next(loaded), next(loaded)
    pids = {int(host.batch.tokens[row, 0]) for host in (first, second) for row in range(ROWS)}
    assert len(pids) == 2
    assert os.getpid() not in pids
    # neither jax nor the program's own module
    np.testing.assert_array_equal(first.batch.tokens[:, 1:], 0)
    assert sys.modules["__main__"].__spec__ is spec
    loaded.close()
    assert multiprocessing.active_children() == []


def test_our_own_part_of_a_worker_does_not_import_jax(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.zeros(80), 8000)
    task = AsrTask(preprocess=CommonPreprocessor(volume_db=6.0)).prepared([Utterance("u", "", "ab")])
    shape = BucketShape(2, 160, 2)
    utterance = Utterance("u", str(tmp_path / "a.wav"), "ab")
    batch = LoadBatch(
        [PlannedBatch(shape, np.array([0]))], [utterance], task.preprocess_fn(train=True), task.collate_fn(), 0, 0
    )
    (tmp_path / "batch").write_bytes(pickle.dumps(batch))
    code = (
        "import pickle, sys\n"
        f"batch = pickle.load(open({str(tmp_path / 'batch')!r}, 'rb'))\n"
        "print(batch(0).ids, batch(0).batch.token_lengths)\n"
        "print(sorted({'jax', 'flax', 'optax', 'orbax', 'tyro'} & sys.modules.keys()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::ResourceWarning", "-c", code], capture_output=True, text=True
    )
    assert done.stdout == "['u'] [2 0]\n[]\n", done.stderr


PROGRAM = """
import signal, sys
from jaxasr.data.pipeline import load
from tests.data import loading
from tests.data.test_pipeline import loader

not_run_by_a_worker = {"__main__": True}[__name__]
signal.signal(signal.SIGINT, lambda *_: print("interrupted", flush=True))
loaded = load(loader(preprocess=loading.surroundings, plan=500 * loader().plan), workers=2)  # more than pipes hold
print(*(int(next(loaded).batch.tokens[0, 0]) for _ in range(2)), flush=True)
for line in sys.stdin:
    print(*next(loaded).ids, flush=True)
"""


@pytest.fixture
def program(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    environment = os.environ | {"PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    started = subprocess.Popen(
        [sys.executable, tmp_path / "program.py"], env=environment, start_new_session=True, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE,
    )  # fmt: skip
    with started:
        yield started
        with contextlib.suppress(ProcessLookupError):
            os.killpg(started.pid, signal.SIGKILL)


def test_ctrl_c_leaves_workers_alive_and_the_end_of_the_program_does_not(program):
    workers = [int(pid) for pid in program.stdout.readline().split()]
    os.killpg(program.pid, signal.SIGINT)  # as a terminal does: to the program and its workers
    assert program.stdout.readline() == "interrupted\n"
    for host in directly(loader())[2:]:
        print(file=program.stdin, flush=True)
        assert program.stdout.readline().split() == host.ids
    assert len(workers) == 2 and all(map(alive, workers))
    program.kill()
    program.wait()
    deadline = time.monotonic() + 20
    while any(map(alive, workers)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not any(map(alive, workers))


def test_a_program_that_ends_does_not_wait_for_its_workers(program):
    """Which it has not closed, as where an error shows the place of the fault."""
    program.communicate(timeout=20)
    assert program.returncode == 0


def alive(pid: int) -> bool:
    """Whether a process runs; one that only waits to be noticed does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout.strip()
    return bool(state) and not state.startswith("Z")


# Real sounds


def test_sounds_of_any_rate_are_resampled(tmp_path):
    for rate in (8000, 16_000, 44_100):
        seconds = np.arange(rate) / rate
        soundfile.write(tmp_path / f"{rate}.wav", 0.5 * np.sin(2 * np.pi * 440 * seconds), rate)
    utterances = [Utterance(str(rate), str(tmp_path / f"{rate}.wav"), "ab") for rate in (8000, 16_000, 44_100)]
    preprocess = Preprocess(SoundSource(16_000), CharTokenizer(), Vocabulary.from_texts(["ab"], CharTokenizer()))
    plan = [PlannedBatch(BucketShape(4, 20_000, 2), np.arange(3))]
    (host,) = load(LoadBatch(plan, utterances, preprocess, Collate(), 0, 0))
    assert host.batch.audio_lengths.tolist() == [16_000, 16_000, 16_000, 0]
    assert host.batch.tokens[:3].tolist() == [[3, 4]] * 3
    inside = host.batch.audio[:3, 1000:15_000].astype(float)
    np.testing.assert_allclose(inside[0], inside[1], atol=20)
    np.testing.assert_allclose(inside[2], inside[1], atol=20)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("sounds")


@settings(max_examples=60, deadline=None)
@given(
    frames=st.integers(1, 3000),
    rate=st.sampled_from([8000, 11_025, 16_000, 22_050, 44_100, 48_000]),
    to_rate=st.sampled_from([8000, 16_000]),
    speed=st.sampled_from([0.5, 0.9, 0.95, 1.0, 1.05, 1.1, 2.0]) | st.floats(0.5, 2.0),
)
def test_a_perturbed_sound_has_the_planned_length(folder, frames, rate, to_rate, speed):
    path = str(folder / "x.wav")
    soundfile.write(path, np.zeros(frames, np.int16), rate)
    planned = audio.resampled_length(frames, rate, to_rate, speed)
    perturb = CommonPreprocessor(volume_db=6.0).perturb_fn(to_rate)
    example = Preprocess(SoundSource(to_rate), CharTokenizer(), None, perturb=perturb)
    shape = BucketShape(1, planned, 0)
    batch = LoadBatch(
        [PlannedBatch(shape, np.array([0]))], [Utterance("u", path, "")], example, Collate(), 0, 0, np.array([speed])
    )(0).batch
    assert isinstance(batch, AsrBatch)
    assert batch.audio_lengths.tolist() == [planned]


def test_volume_is_drawn_for_training_only(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(8000, 8192, np.int16), 8000)
    task = AsrTask(sample_rate=8000, preprocess=CommonPreprocessor(volume_db=6.0)).prepared([Utterance("u", "", "ab")])
    utterance = Utterance("u", str(tmp_path / "a.wav"), "ab")

    def level(train: bool, seed: int) -> float:
        example = task.preprocess_fn(train=train)(utterance, np.random.default_rng(seed))
        assert example.id == "u"
        assert example.audio.dtype == np.int16
        assert example.tokens.tolist() == [3, 4]
        return float(example.audio[0])

    assert {level(False, seed) for seed in range(4)} == {8192.0}
    levels = [level(True, seed) for seed in range(4)]
    assert len(set(levels)) == 4
    assert all(8192 / 2 < x < 8192 * 2 for x in levels)


@pytest.fixture
def perturbed(tmp_path):
    """Twelve clips in a room, with noise, a gain and a change of speed."""
    rng = np.random.default_rng(0)
    for name, rate, samples in [("noise/a", 16_000, 9000), ("noise/b", 8000, 700), ("rir/a", 8000, 900)]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        soundfile.write(tmp_path / f"{name}.wav", rng.normal(scale=0.1, size=samples), rate)
    utterances = [Utterance(f"u{i}", str(tmp_path / f"{i}.wav"), "ab") for i in range(12)]
    for utterance in utterances:
        soundfile.write(utterance.audio, rng.normal(scale=0.1, size=rng.integers(1000, 3000)), 8000)
    folders = {"noise": str(tmp_path / "noise"), "rir": str(tmp_path / "rir")}
    task = AsrTask(sample_rate=8000, preprocess=CommonPreprocessor(volume_db=6.0, **folders)).prepared(utterances)
    plan = [PlannedBatch(BucketShape(3, 3400, 2), np.arange(i, i + 3)) for i in (0, 6, 3, 9)]
    speeds = np.resize([0.9, 1.0, 1.1], 12)
    return LoadBatch(plan, utterances, task.preprocess_fn(train=True), task.collate_fn(), 1, 2, speeds)


def test_perturbed_sound_is_the_same_from_any_number_of_workers_and_changes_with_the_epoch(perturbed):
    expected = directly(perturbed)
    for workers in (0, 1, 2):
        assert_same(list(load(perturbed, workers=workers)), expected)
    for change in ({"epoch": 3}, {"seed": 2}):
        for one, other in zip(directly(dataclasses.replace(perturbed, **change)), expected, strict=True):
            assert (one.batch.audio != other.batch.audio).any(axis=1).all()
            np.testing.assert_array_equal(one.batch.audio_lengths, other.batch.audio_lengths)
