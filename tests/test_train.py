import contextlib
import dataclasses
import itertools
import json
import os
import pathlib
import re
import shutil
import signal
import threading
import time
import weakref

import jax
import numpy as np
import pytest
import rich.console
import soundfile

from jaxasr import checkpoint, compiled, config, decode, evaluate, report
from jaxasr.averages import Running
from jaxasr.data import manifest
from jaxasr.data.batch import Collate
from jaxasr.data.perturb import CommonPreprocessor
from jaxasr.errors import CheckpointError, DataError, TrainingError
from jaxasr.inputs import evaluation_inputs
from jaxasr.logs import StepLog
from jaxasr.nn.postencoders import TransformerPostEncoder
from jaxasr.parallel import Devices
from jaxasr.prepare import prepare, read_manifests, resumed
from jaxasr.replay import replay
from jaxasr.reporting import gather
from jaxasr.searching import SearchFlags
from jaxasr.states import Checkpoints
from jaxasr.tasks import AsrTask
from jaxasr.train import Stopped, train
from jaxasr.validate import Validator

from . import tiny
from .parity.fixtures import HERE as PARITY


def records(cfg, split: str) -> list[dict]:
    lines = (pathlib.Path(cfg.workdir) / "log.jsonl").read_text().splitlines()
    return [r for r in map(json.loads, lines) if r["split"] == split]


def losses(cfg) -> dict[int, float]:
    """The last loss written for each step: a run that went on writes some steps twice."""
    return {r["step"]: r["loss"] for r in records(cfg, "train")}


def final_params(cfg) -> dict[str, np.ndarray]:
    return checkpoint.flatten(checkpoint.load_params(pathlib.Path(cfg.workdir) / "model" / checkpoint.PARAMS_FILE))


def assert_same(a: dict[str, np.ndarray], b: dict[str, np.ndarray]) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_array_equal(a[name], b[name], err_msg=name)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """One whole run of a deep network with a decoder, on one device."""
    traces = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Devices, "all", lambda *_: Devices.first())
        loss_of = AsrTask.loss_of
        patch.setattr(AsrTask, "loss_of", lambda *a: traces.append(1) or loss_of(*a))
        cfg = tiny.config(tmp_path_factory.mktemp("finished"), task=tiny.TASK)
        train(cfg)
    return cfg, len(traces)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run, never interrupted, that others are held against."""
    cfg = tiny.config(tmp_path_factory.mktemp("whole"), test=())
    train(cfg)
    return cfg


def rerun(cfg, folder: pathlib.Path, **changes):
    """The same run in another workdir."""
    return dataclasses.replace(cfg, workdir=str(folder / "run"), **changes)


class FailsAt:
    """The task's collate until `count` batches were read, then a fault, as of a dead disk.

    Threads read up to four batches ahead, each at its own speed: the fault comes to one of the last four.
    """

    def __init__(self, count: int):
        self.count, self.calls = count, itertools.count()

    def __call__(self, examples, shape):
        if next(self.calls) >= self.count:
            raise DataError("the disk is gone")
        return Collate()(examples, shape)


def listed(section: str) -> set[str]:
    """What stands in the first column of a section's table in docs/file-formats.md, with `*` for what varies."""
    page = (pathlib.Path(__file__).parent.parent / "docs" / "file-formats.md").read_text(encoding="utf-8")
    part = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    rows = [line.split("|")[1] for line in part.splitlines() if line.startswith("| `")]
    names = [re.sub("STEP|SEARCH", "*", name) for row in rows for name in re.findall("`([^`]+)`", row)]
    return {name.removesuffix("/") for name in names}


def test_a_run_leaves_what_the_page_of_files_lists(finished):
    cfg, _ = finished
    workdir, models = pathlib.Path(cfg.workdir), listed("Models")
    absent = {name for name in listed("A run's folder") if not any(workdir.glob(name))}
    assert absent == {"init.yaml", "left_out.jsonl", "nonfinite/step_*.json", "report.html"}  # there is no cause
    assert {path.name for path in workdir.iterdir()} <= {name.split("/")[0] for name in listed("A run's folder")}
    left = {path.name for path in (workdir / "model").iterdir()}
    assert {"config.yaml", "tokens.txt", "am.mvn", "params.safetensors"} <= left <= models
    written = {json.loads(line)["split"] for line in (workdir / "log.jsonl").read_text().splitlines()}
    assert written == listed("log.jsonl") - {"skipped", "test0"}


def test_a_run_learns_and_says_what_it_is(finished):
    cfg, _ = finished
    workdir = pathlib.Path(cfg.workdir)
    assert losses(cfg)[1] > list(losses(cfg).values())[-1]
    (memory,) = records(cfg, "memory")  # of its one bucket
    assert 0 < memory["state"] + memory["batch"] < memory["total"]
    again = config.from_mapping(type(cfg), config.read_yaml(workdir / "config.yaml"), where="test")
    assert again == cfg


def test_every_shape_is_traced_once(finished):
    cfg, traces = finished
    data = prepare(resumed(cfg), pathlib.Path(cfg.workdir), Devices.first(), rich.console.Console(quiet=True))
    # each training shape once for the step, each validation shape once for the loss beside the decoding
    assert traces == len(data.train.shapes) + len(data.valid.shapes)


def test_the_log_and_the_command_line_agree(finished, tmp_path):
    cfg, _ = finished
    logged = {r["search"]: r["wer"] for r in records(cfg, "test")}
    assert set(logged) == {"ctc_greedy", "attention_greedy"}
    for search, wer in logged.items():
        how = SearchFlags(None if search == "ctc_greedy" else search)
        decode.decode(decode.DecodeOptions(cfg.test, cfg.workdir, how, output=str(tmp_path / search)))
        options = evaluate.EvaluateOptions(cfg.test[0], str(tmp_path / search), model=cfg.workdir)
        assert evaluate.evaluate(options).wer.rate == wer


def test_resume_is_exact(whole, tmp_path):
    """From the beginning, before anything is saved, and from within the second epoch."""
    cfg = rerun(whole, tmp_path)
    for batches_before in (2, 7):
        with pytest.raises(DataError, match="the disk is gone"):
            train(cfg, collate_fn=FailsAt(batches_before))
    train(cfg)
    assert losses(cfg) == losses(whole)
    assert_same(final_params(cfg), final_params(whole))


@pytest.mark.slow
def test_a_clock_that_jumps_changes_nothing(whole, tmp_path, monkeypatch):
    """By years, back in the first session and forth in the second; no time in the report is below zero."""
    cfg, now, jumped = rerun(whole, tmp_path), time.time, [0.0]
    add = StepLog.add
    monkeypatch.setattr(time, "time", lambda: now() + jumped[-1])
    for jump in (-1e9, 1e9):
        monkeypatch.setattr(StepLog, "add", lambda *args, jump=jump: jumped.append(jump) or add(*args))
        with contextlib.suppress(DataError):
            train(cfg, collate_fn=FailsAt(7 if jump < 0 else 99))
    assert losses(cfg) == losses(whole)
    assert_same(final_params(cfg), final_params(whole))
    report.write(pathlib.Path(cfg.workdir), tmp_path / "report.html")
    assert gather.read(pathlib.Path(cfg.workdir)).log.seconds >= 0.0


def test_a_run_that_goes_on_reads_no_weights_again(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Devices, "all", lambda *_: Devices.first())
    weights = shutil.copytree(PARITY / "more" / "bert_post_norm", tmp_path / "bert")
    blocks = TransformerPostEncoder(num_layers=2, d_model=16, num_heads=2, d_ff=24, weights=str(weights))
    task = dataclasses.replace(tiny.CTC_TASK, postencoder=blocks)
    cfg = tiny.config(tmp_path, task=task, test=(), epochs=1)
    train(cfg)
    assert "32 tensors of 2 blocks; left out: bert.embeddings" in " ".join(capsys.readouterr().out.split())
    shutil.rmtree(weights)
    train(dataclasses.replace(cfg, epochs=2))
    said = capsys.readouterr().out
    assert "going on from step" in said
    assert "left out: bert" not in said
    assert checkpoint.load_model(cfg.workdir)[0].postencoder == blocks


def test_weights_that_do_not_fit_are_refused_before_data_is_read(tmp_path):
    weights = str(PARITY / "more" / "bert_post_norm")
    blocks = TransformerPostEncoder(num_layers=3, d_model=16, num_heads=2, d_ff=24, weights=weights)
    task = dataclasses.replace(tiny.CTC_TASK, postencoder=blocks)
    with pytest.raises(CheckpointError, match=r"no bert\.encoder\.layer\.2\."):
        train(tiny.config(tmp_path, task=task, train=("none.jsonl",), epochs=1))
    assert not (tmp_path / "run").exists()


def test_a_reporter_is_given_the_log_and_may_end_the_run(whole, tmp_path):
    cfg, seen, threads = rerun(whole, tmp_path), [], set()

    def report(record):
        seen.append(record)
        threads.add(threading.get_ident())
        if len([r for r in seen if r["split"] == "valid"]) == 2:  # the first one's state is saved
            raise ValueError("enough")

    with pytest.raises(ValueError, match="enough"):
        train(cfg, reporter=report)
    train(cfg, reporter=seen.append)
    assert seen == [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [r["step"] for r in seen if r["split"] == "session"][1] > 0
    assert threads == {threading.get_ident()} and {"memory", "kept"} <= {r["split"] for r in seen}
    assert_same(final_params(cfg), final_params(whole))


def test_a_damaged_state_falls_back_to_the_one_before(whole, tmp_path, capsys):
    shutil.copytree(whole.workdir, tmp_path / "run")
    cfg = rerun(whole, tmp_path)
    states = sorted((tmp_path / "run" / "checkpoints").iterdir(), key=lambda path: int(path.name))
    for file in states[-1].rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    train(cfg)
    said = " ".join(capsys.readouterr().out.split())
    assert f"it is kept as damaged-{states[-1].name}" in said
    assert f"going on from step {states[-2].name} " in said
    assert_same(final_params(cfg), final_params(whole))


def test_damaged_sound_is_left_out_and_counted(tmp_path, capsys):
    cfg = tiny.config(tmp_path)
    sound = np.zeros(4000, np.float32)
    sound[-1] = np.nan
    soundfile.write(tmp_path / "train" / "bad.wav", sound, 8000, subtype="FLOAT")
    for name, line in {
        "wav.scp": "bad bad.wav",
        "segments": "bad bad 0.0 0.5",
        "text": "bad ONE",
        "utt2spk": "bad x",
    }.items():
        with (tmp_path / "train" / name).open("a") as file:
            file.write(line + "\n")
    console = rich.console.Console(width=1000)
    data = prepare(resumed(cfg), tmp_path / "run", Devices.all(), console)
    said = " ".join(capsys.readouterr().out.split())
    assert "bad" not in {u.id for u in data.train.selection.utterances}
    assert " + 1 unreadable (bad)" in said
    assert "bad.wav (utterance bad): infinite or NaN samples; " in said
    assert f"all 1 left out: {tmp_path}/run/left_out.jsonl" in said
    assert json.loads((tmp_path / "run" / "left_out.jsonl").read_text())["reason"] == "unreadable"
    train_set, valid_set = read_manifests(dataclasses.replace(cfg, valid=()), console)
    assert "bad" in {u.id for u in train_set} - {u.id for u in valid_set}  # to be counted, never to validate with
    with pytest.raises(DataError, match=r"bad\.wav"):
        prepare(dataclasses.replace(cfg, test=cfg.train), tmp_path / "run", Devices.all(), console)


def test_corpora_are_mixed_by_weights(tmp_path, capsys):
    corpora = tuple(tiny.corpus(tmp_path / split, split, every) for split, every in (("train", 20), ("test", 10)))
    task = dataclasses.replace(tiny.TASK, normalizer=None)
    soundfile.write(tmp_path / "noise.wav", np.ones(800), 8000)
    task = dataclasses.replace(task, preprocess=CommonPreprocessor(noise=str(tmp_path / "noise.wav")))
    cfg = tiny.config(tmp_path, task=task, train=corpora, train_weights=(1.0, 4.0), valid=(), test=())
    data = prepare(cfg, tmp_path / "run", Devices.all(), rich.console.Console(width=200))
    said = capsys.readouterr().out
    used, held_out = ({u.corpus for u in inputs.selection.utterances} for inputs in (data.train, data.valid))
    assert used == held_out == {0, 1}
    assert "--preprocess: 1 sound files of noises and rooms" in said
    total = len(data.train.selection.utterances)
    assert re.search(rf"{corpora[1]} +│ +\d+ │ +0\.0\d │ +{round(0.8 * total)} │ +80\.\d", said)
    assert sum(len(planned.indices) for planned in data.train.epoch(0).plan) == total


def test_a_finished_run_started_again_changes_nothing(finished):
    """On more devices neither."""
    cfg, _ = finished
    before = final_params(cfg)
    train(dataclasses.replace(cfg, report=True))
    assert_same(final_params(cfg), before)
    report = (pathlib.Path(cfg.workdir) / "report.html").read_text()
    assert "finished" in report and "attention_greedy" in report and "data:audio/flac" in report


@pytest.mark.parametrize("mode", ["jit", "pmap"])
def test_one_device_equals_eight(whole, tmp_path, mode, monkeypatch):
    assert jax.device_count() == 8
    if mode == "jit":
        monkeypatch.setattr(Devices, "all", lambda *_: Devices.first())
    other = rerun(whole, tmp_path, parallel=mode)
    train(other)
    ours, theirs = losses(whole), losses(other)
    np.testing.assert_allclose(list(ours.values()), list(theirs.values()), rtol=2e-6)


def test_options_of_another_run_are_refused(whole):
    changed = dataclasses.replace(whole, batch_seconds=4.0)
    with pytest.raises(CheckpointError, match=r"batch_seconds was 9.0 and is now 4.0"):
        train(changed)


def test_one_run_a_workdir(finished):
    cfg, _ = finished
    message = "another run is at work there"
    with checkpoint.claimed(pathlib.Path(cfg.workdir)), pytest.raises(CheckpointError, match=message):
        train(cfg)


def test_a_run_that_another_one_began_meanwhile_is_looked_at_again(whole, tmp_path, monkeypatch):
    cfg = rerun(whole, tmp_path, batch_seconds=4.0, train=("none.jsonl",))
    monkeypatch.setattr(compiled, "use_persistent_cache", lambda: shutil.copytree(whole.workdir, cfg.workdir))
    with pytest.raises(CheckpointError, match=r"batch_seconds was 9.0 and is now 4.0"):
        train(cfg)


def test_other_data_is_refused(whole):
    folder = pathlib.Path(whole.train[0])
    files = {folder / name: (folder / name).read_text() for name in ("segments", "text", "utt2spk")}
    try:
        for file, text in files.items():  # the same folder, an utterance less
            file.write_text("".join(text.splitlines(keepends=True)[:-1]))
        with pytest.raises(CheckpointError, match="not those that the run was started with"):
            train(whole)
    finally:
        for file, text in files.items():
            file.write_text(text)


def test_infinite_gradients_change_nothing_and_stop_the_run(tmp_path):
    cfg = tiny.config(tmp_path, nonfinite_limit=3, test=())
    with pytest.raises(TrainingError, match=r"3 steps in a row, last on the bucket of \d+ rows x \d+\.\d\d s with \w+"):
        train(cfg, collate_fn=Poison())
    skipped = records(cfg, "skipped")
    assert len(skipped) == 3 and all(r["ids"] for r in skipped)


class Poison(Collate):
    """Batches whose loss is NaN, from the `first` that is made on and as long as it is `on`."""

    def __init__(self, first=0):
        self.on = True
        self.calls = itertools.count()
        self.first = first

    def __call__(self, examples, shape):
        batch = super().__call__(examples, shape)
        bad = self.on and next(self.calls) >= self.first and examples
        return batch._replace(weights=batch.weights * np.float32(np.nan if bad else 1))


def test_a_run_goes_back_to_the_last_good_state_with_half_the_rate(whole, tmp_path, monkeypatch, capsys):
    """And the step at which it went wrong is repeated by its file."""
    poison, back = Poison(first=7), Checkpoints.forget_from
    cfg = rerun(whole, tmp_path, nonfinite_limit=2, rollbacks=1, valid_steps=2)
    begun, init = weakref.WeakSet(), Validator.__init__

    def forget_from(*args):
        poison.on = False
        assert not begun, "the state, the threads and the processes of the run before are still held"
        back(*args)

    monkeypatch.setattr(Checkpoints, "forget_from", forget_from)
    monkeypatch.setattr(Validator, "__init__", lambda self, *args: begun.add(self) or init(self, *args))
    train(cfg, collate_fn=poison)
    assert "--rollbacks=1: back to the last good state." in " ".join(capsys.readouterr().out.split())
    rates = [(r["step"], r["learning_rate"]) for r in records(cfg, "train") if "learning_rate" in r]  # of good steps
    skipped = records(cfg, "skipped")
    again = next(i for i, (step, _) in enumerate(rates) if i and step <= rates[i - 1][0])
    assert rates[again][0] % 2 == 1 and rates[again][0] < skipped[0]["step"]  # after a state, and before the fault
    before = dict(rates[:again])
    assert all(rate == pytest.approx(before[step] / 2) for step, rate in rates[again:] if step in before)
    assert len(rates) - again > len(skipped) == 2
    assert all(np.isfinite(value).all() for value in final_params(cfg).values())

    files = sorted((tmp_path / "run" / "nonfinite").iterdir())
    assert [json.loads(file.read_bytes())["batches"][0]["ids"] for file in files] == [r["ids"] for r in skipped]
    assert json.loads(files[0].read_bytes())["command"] == f"python -m jaxasr.replay {files[0]}"
    options = config.read_yaml(tmp_path / "run" / "config.yaml") | {"fsdp": {"devices": 16}}  # more than there are now
    (tmp_path / "run" / "config.yaml").write_text(json.dumps(options))
    kept = {file: file.read_bytes() for file in (tmp_path / "run").rglob("*") if file.is_file() and file.stat().st_size}
    bad = replay(files[0], collate_fn=Poison())
    assert set(bad.utterances) == set(skipped[0]["ids"]) and bad.parameters
    assert not any(np.isfinite([bad.loss, bad.grad_norm, *sum(bad.utterances.values(), ())]))
    assert "not finite" in "\n".join(bad.lines())
    good = replay(files[0])
    assert np.isfinite([good.loss, good.grad_norm, *sum(good.utterances.values(), ())]).all() and not good.parameters
    assert {file: file.read_bytes() for file in kept} == kept


def test_minutes_become_steps_once(tmp_path):
    cfg = tiny.config(tmp_path, epochs=None, minutes=0.06, valid_steps=40, test=(), log_steps=10)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validator, "timed", lambda *_: signal.raise_signal(signal.SIGTERM) or time.sleep(60))
        with pytest.raises(Stopped):
            train(cfg)
    train(cfg)
    said = max(r["step"] for r in records(cfg, "valid"))
    state = Checkpoints(pathlib.Path(cfg.workdir) / "checkpoints")
    assert said == state._newest > 20
    state.close()
    before = final_params(cfg)
    train(cfg)
    assert_same(final_params(cfg), before)


def test_the_first_end_counts(whole, tmp_path):
    cfg = rerun(whole, tmp_path, epochs=1, minutes=5.0)
    train(cfg)
    assert max(losses(cfg)) == max(losses(whole)) // 2
    before = final_params(cfg)
    train(dataclasses.replace(cfg, minutes=6.0))
    assert_same(final_params(cfg), before)


def test_a_call_that_was_interrupted_can_be_made_again(whole, tmp_path):
    """As in a notebook: once saves and ends, twice ends; nothing of it is left, and the same call goes on."""
    cfg, before = rerun(whole, tmp_path), signal.default_int_handler
    signal.signal(signal.SIGINT, before)  # a job in the background ignores it
    threads = set(threading.enumerate())

    def interrupting(step, times):
        def reporter(record):
            if record["split"] == "train" and record["step"] == step:
                for _ in range(times):
                    signal.raise_signal(signal.SIGINT)

        return reporter

    for step, times, error in ((2, 1, Stopped), (4, 2, KeyboardInterrupt), (4, 1, Stopped)):
        with pytest.raises(error) as stopped:
            train(cfg, reporter=interrupting(step, times))
        assert signal.getsignal(signal.SIGINT) is before
        assert not [path for path in open_files() if path.startswith(cfg.workdir)]
        if error is Stopped:
            assert stopped.value.exit_status == 130
            assert "the same command or call goes on" in str(stopped.value)
    train(cfg)
    ended = time.monotonic() + 20
    while set(threading.enumerate()) - threads and time.monotonic() < ended:  # what was being compiled
        time.sleep(0.05)
    assert set(threading.enumerate()) <= threads
    assert losses(cfg) == losses(whole)
    assert_same(final_params(cfg), final_params(whole))


def open_files() -> list[str]:
    """What this process has open."""
    return [os.readlink(link) for link in pathlib.Path("/proc/self/fd").iterdir() if link.is_symlink()]


def test_a_validation_that_was_put_off_is_made_up_for(whole, tmp_path):
    batches = max(losses(whole)) // whole.epochs

    cfg = rerun(whole, tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepLog, "add", stop_at(batches, StepLog.add))
        with pytest.raises(Stopped):
            train(cfg)
    assert not records(cfg, "valid")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validator, "score", lambda *_: signal.raise_signal(signal.SIGTERM) or time.sleep(60))
        with pytest.raises(Stopped, match=rf"stopped at step {batches};"):
            train(cfg)
    assert not records(cfg, "valid")
    train(cfg)
    assert [r["step"] for r in records(cfg, "valid")] == [r["step"] for r in records(whole, "valid")]
    assert_same(final_params(cfg), final_params(whole))


@pytest.mark.slow
def test_patience_ends_a_run_of_groups_and_averages_wherever_it_was_stopped(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Devices, "all", lambda *_: Devices.first())
    course = [0.6, 0.5, 0.5, float("nan"), 0.6]
    scores = [*course]
    monkeypatch.setattr(Validator, "score", lambda *_: {"wer": scores.pop(0) if scores else 0.7, "loss": 1.0})
    options = {"epochs": 9, "valid_steps": 3, "accumulate": 4, "average": Running(share=0.75), "keep_best": 1}
    cfg = tiny.config(tmp_path, **options, patience=3, test=())
    train(cfg)
    assert [r["step"] for r in records(cfg, "valid")] == [3, 6, 9, 12, 15]  # two of them an epoch
    said = " ".join(capsys.readouterr().out.split())
    assert "--patience=3: no better wer for so long; the run ends at step 15" in said
    assert "the model of step 6 is kept" in said

    cfg_2 = rerun(cfg, tmp_path / "other")
    scores += course
    with pytest.raises(DataError, match="the disk is gone"):
        train(cfg_2, collate_fn=FailsAt(33))  # step 9 ends with batch 29, step 12 with 37
    assert [r["step"] for r in records(cfg_2, "valid")] == [3, 6, 9]  # saved within an epoch, between its groups
    train(cfg_2)
    assert losses(cfg_2) == losses(cfg)
    assert_same(final_params(cfg_2), final_params(cfg))
    train(cfg_2)  # is at its end
    assert len(records(cfg_2, "valid")) == 5


def stop_at(step: int, add):
    """A `StepLog.add` that asks the run to stop when it comes to `step`."""

    def add_and_stop(self, number, *rest):
        add(self, number, *rest)
        if number == step:
            signal.raise_signal(signal.SIGTERM)

    return add_and_stop


def test_no_valid_holds_out_training_utterances(finished, capsys):
    cfg, _ = finished
    train_set, valid_set = read_manifests(dataclasses.replace(cfg, valid=()), rich.console.Console())
    assert re.search(r"no --valid: \d+ training utterances \(\d+\.\d %, .*\) are held out", capsys.readouterr().out)
    assert {u.id for u in train_set} | {u.id for u in valid_set} == {u.id for u in manifest.read_all(cfg.train)}
    assert train_set and valid_set
    longest = max(u.seconds for u in valid_set)
    both = read_manifests(dataclasses.replace(cfg, valid=(), max_seconds=longest - 0.01), rich.console.Console())
    assert max(u.seconds for u in both[0]) >= longest > max(u.seconds for u in both[1])  # to be counted as too long


def test_evaluation_leaves_nothing_out(finished):
    cfg, _ = finished
    task, _ = checkpoint.load_model(cfg.workdir)
    utterances = decode.read_inputs(cfg.test, "sound")
    inputs = evaluation_inputs(task, utterances, batch_seconds=10.0, rows=7)
    ids = [inputs.selection.utterances[i].id for b in inputs.epoch(0).plan for i in b.indices]
    assert sorted(ids) == sorted(u.id for u in utterances)
