import contextlib
import dataclasses
import io
import itertools
import json
import re
from typing import Any

import numpy as np
import pytest
import rich.console
import soundfile

from jaxasr import inputs
from jaxasr.data import manifest, pipeline, sounds
from jaxasr.data.batch import BucketShape
from jaxasr.data.manifest import Utterance
from jaxasr.data.pack import PackOptions, pack
from jaxasr.data.perturb import CommonPreprocessor
from jaxasr.data.selection import INFEASIBLE
from jaxasr.data.tokenizer import WordTokenizer
from jaxasr.errors import DataError
from jaxasr.inputs import Inputs, check_feasible, evaluation_inputs, training_inputs
from jaxasr.nn.frontends import WavFrontend
from jaxasr.tasks import AsrTask
from tests.data import loading

TASK = AsrTask(frontend=WavFrontend(num_mels=8, lfr_m=1, lfr_n=1), tokenizer=WordTokenizer())
RATES = (8000, 11_025, 16_000, 44_100)


@pytest.fixture(scope="module")
def utterances(tmp_path_factory) -> list[Utterance]:
    """Forty clips of 0.1 to 0.6 s at four rates, of one to four words."""
    folder, rng = tmp_path_factory.mktemp("sounds"), np.random.default_rng(0)
    made = []
    for number in range(40):
        rate = RATES[number % 4]
        frames = int(rng.uniform(0.1, 0.6) * rate)
        soundfile.write(folder / f"{number}.wav", rng.integers(-999, 999, frames).astype(np.int16), rate)
        text = " ".join(["one", "two", "three", "four"][: 1 + number % 4])
        made.append(Utterance(f"u{number}", str(folder / f"{number}.wav"), text))
    return made


@pytest.fixture(scope="module")
def task(utterances) -> AsrTask:
    return TASK.prepared(utterances)


def training(task: AsrTask, utterances: list[Utterance], **changes: Any) -> Inputs:
    options = {"batch_seconds": 3.0, "max_buckets": 3, "rows_multiple": 2, "max_seconds": 10.0}
    return training_inputs(task, utterances, **(options | changes))


def table(made: Inputs) -> list[list[str]]:
    """The rows of the printed table."""
    console = rich.console.Console(file=io.StringIO(), width=120)
    made.print_buckets(console, "Title")
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Title" in text
    lines = [re.split(r"\s*[│┃]\s*", line.strip().strip("│┃").strip()) for line in text.splitlines()]
    return [line for line in lines if len(line) > 1]


# Training


def test_an_epoch_is_a_function_of_its_number(task, utterances):
    first, second = training(task, utterances), training(task, utterances)
    for number in (0, 1, 7):
        one, two = first.epoch(number), second.epoch(number)
        assert [b.shape for b in one.plan] == [b.shape for b in two.plan]
        assert all((a.indices == b.indices).all() for a, b in zip(one.plan, two.plan, strict=True))
        np.testing.assert_array_equal(one.speeds, two.speeds)
        assert first.num_batches(number) == len(one.plan)
    np.testing.assert_array_equal(one(0).batch.audio, two(0).batch.audio)


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_groups_are_of_one_epoch_each(task, utterances, size):
    made = training(task, utterances, batch_seconds=1.5)
    counts = [made.num_batches(epoch) for epoch in range(2)]
    expected = [(epoch, min(size, n - start)) for epoch, n in enumerate(counts) for start in range(0, n, size)]
    stream = inputs.groups(made, 0, 0, 0, size)
    found = [next(stream) for _ in expected]
    stream.close()
    assert [(position.epoch, len(hosts)) for position, hosts, _ in found] == expected
    ids = [host.ids for _, hosts, _ in found for host in hosts]
    assert ids == [host.ids for epoch in range(2) for host in made.epoch(epoch)]
    for (before, _, _), (_, after, _) in itertools.pairwise(found):  # goes on where a group ended
        again = inputs.groups(made, *before.next(), 0, size)
        assert [host.ids for host in next(again)[1]] == [host.ids for host in after]
        again.close()


def test_epochs_and_seeds_differ(task, utterances):
    made = training(task, utterances)
    plans = [made.epoch(0), made.epoch(1), training(task, utterances, seed=1).epoch(0)]
    for a, b in ((0, 1), (0, 2), (1, 2)):
        assert [i.tolist() for _, i in plans[a].plan] != [i.tolist() for _, i in plans[b].plan]
        assert (plans[a].speeds != plans[b].speeds).any()


def test_every_epoch_holds_every_utterance_once_at_its_planned_length(task, utterances):
    made = training(task, utterances)
    assert len(made.selection.utterances) == len(utterances)
    for number in range(3):
        epoch = made.epoch(number)
        ids = []
        for host in pipeline.load(epoch):
            assert epoch.speeds is not None
            column = [made.selection.speeds.index(s) for s in epoch.speeds[host.planned.indices]]
            planned = made.selection.samples[host.planned.indices, column]
            rows = len(planned)
            np.testing.assert_array_equal(host.batch.audio_lengths[:rows], planned)
            np.testing.assert_array_equal(host.batch.audio_lengths[rows:], 0)
            assert host.batch.audio.shape == (host.planned.shape.rows, host.planned.shape.samples)
            assert host.planned.shape in made.shapes
            ids += host.ids
        assert sorted(ids) == sorted(u.id for u in utterances)


def test_shapes_keep_to_their_limits(task, utterances):
    made = training(task, utterances, rows_multiple=4)
    assert 1 <= len(made.shapes) <= 3
    assert all(s.rows % 4 == 0 and s.rows * s.samples <= 3.0 * 16_000 for s in made.shapes)
    assert made.size == pytest.approx(made.selection.plain_samples.sum() / 16_000 / 3600)


def test_what_cannot_be_used_is_counted(task, utterances):
    gone = Utterance("gone", "gone.wav", "one")
    strange = dataclasses.replace(utterances[0], id="strange", text="five")
    tight = dataclasses.replace(utterances[0], id="tight", text="one " * 99)
    made = training(task, [*utterances, gone, strange, tight])
    assert made.selection.left_out == {
        "unreadable": ["gone"], "with unknown symbols": ["strange"], INFEASIBLE: ["tight"]
    }  # fmt: skip
    lenient = dataclasses.replace(task, unknown_symbols="unk")
    assert "strange" in [u.id for u in training(lenient, [strange]).selection.utterances]


def test_nothing_left_is_an_error(task, utterances):
    message = "--train: nothing is left to train on: 40 in = 0 used [+] 40 too long .u0, u1, u2, ....; at least one "
    with pytest.raises(DataError, match=message):
        training(task, utterances, max_seconds=0.01)
    with pytest.raises(DataError, match="0 in = 0 used"):
        training(task, [])


def test_the_fingerprint_follows_the_data(task, utterances):
    def fingerprint(data: list[Utterance], **changes: Any) -> str:
        return training(task, data, **changes).fingerprint()

    base = fingerprint(utterances)
    assert fingerprint(list(utterances)) == base
    assert fingerprint(utterances, seed=5) == base  # the seed is of the run's options, not of its data
    renamed = [dataclasses.replace(utterances[0], id="other"), *utterances[1:]]
    longer = [dataclasses.replace(utterances[0], text="one two three"), *utterances[1:]]
    shorter = [dataclasses.replace(utterances[0], seconds=0.05), *utterances[1:]]
    changed = [utterances[:-1], utterances[::-1], renamed, longer, shorter]
    prints = [fingerprint(data) for data in changed] + [fingerprint(utterances, max_buckets=2)]
    assert len({base, *prints}) == len(prints) + 1


def test_the_fingerprint_follows_the_noises(task, utterances, tmp_path):
    def fingerprint() -> str:
        noisy = dataclasses.replace(task, preprocess=CommonPreprocessor(noise=str(tmp_path / "noises")))
        return training(noisy, utterances).fingerprint()

    (tmp_path / "noises").mkdir()
    soundfile.write(tmp_path / "noises" / "a.wav", np.ones(800), 8000)
    prints = [training(task, utterances).fingerprint(), fingerprint()]
    assert fingerprint() == prints[1]
    soundfile.write(tmp_path / "noises" / "b.wav", np.ones(800), 8000)
    assert fingerprint() not in prints


def test_the_feasible_share(task, utterances):
    tight = [dataclasses.replace(utterances[0], id=f"tight{i}", text="one " * 99) for i in range(10)]
    selection = training(task, [*utterances, *tight]).selection
    line = "10 ms per encoder frame; 20.00 % of the utterances have too few frames for CTC"
    assert check_feasible(selection, task.frame_ms, 0.2) == line
    with pytest.raises(DataError) as caught:
        check_feasible(selection, task.frame_ms, 0.01)
    assert str(caught.value).startswith(f"--train: {line}; at most 1 % was expected; take shorter encoder frames")
    assert check_feasible(training(task, utterances).selection, 10.0, 0.0).startswith("10 ms per encoder frame; 0.00 %")


def test_a_collate_function_of_the_users_own(task, utterances):
    made = training(task, utterances, collate=loading.ids_only)
    hosts = list(pipeline.load(made.epoch(0)))
    assert [host.batch["names"] for host in hosts] == [host.ids for host in hosts]
    assert [host.batch["rows"] for host in hosts] == [host.planned.shape.rows for host in hosts]
    assert dataclasses.replace(made, task=task).epoch(0).collate is loading.ids_only


def test_preprocessing_of_the_users_own(task, utterances):
    made = dataclasses.replace(training(task, utterances), preprocess=loading.Noise())
    assert {int(x) for host in pipeline.load(made.epoch(0)) for x in host.batch.audio_lengths} <= {0, 4}


def test_each_process_reads_its_share(task, utterances, monkeypatch):
    made = training(task, utterances)
    whole = made.epoch(0)(0).batch
    monkeypatch.setattr(inputs.jax, "process_count", lambda: 2)
    shares = []
    for index in range(2):
        monkeypatch.setattr(inputs.jax, "process_index", lambda index=index: index)
        shares.append(made.epoch(0)(0).batch)
    np.testing.assert_array_equal(np.concatenate([s.audio for s in shares]), whole.audio)


def test_noises_are_looked_for_once_and_before_the_sound_is_read(task, utterances, tmp_path, monkeypatch):
    noisy = dataclasses.replace(task, preprocess=CommonPreprocessor(noise=str(tmp_path)))
    missing = [*utterances, Utterance("gone", "gone.wav", "one")]
    with pytest.raises(DataError, match=r"^--preprocess.noise=.*: no sound file; "):
        training(noisy, missing)
    soundfile.write(tmp_path / "noise.wav", np.random.default_rng(0).uniform(-1, 1, 900), 8000)
    searches, find = [], sounds.find
    monkeypatch.setattr(sounds, "find", lambda *args: searches.append(args) or find(*args))
    made = dataclasses.replace(training(noisy, utterances), task=task)
    plain = training(task, utterances)
    for number in range(3):
        assert (made.epoch(number)(0).batch.audio != plain.epoch(number)(0).batch.audio).any()
    assert searches == [(str(tmp_path), 16_000, "--preprocess.noise")]


# Weights


def mixed(task: AsrTask, utterances: list[Utterance], *weights: float, **changes: Any) -> Inputs:
    """Every fourth utterance is of corpus 0, the others of corpus 1."""
    data = [dataclasses.replace(u, corpus=int(number % 4 > 0)) for number, u in enumerate(utterances)]
    return training(task, data, weights=weights, **changes)


def test_an_epoch_of_weights(task, utterances):
    made = mixed(task, utterances, 3.0, 1.0)  # 30 of 10 and 10 of 30
    loader = made.epoch(2)
    assert loader.repeats is not None and loader.speeds is not None
    hosts = list(pipeline.load(loader))
    ids = [name for host in hosts for name in host.ids]
    assert sorted(len(list(same)) for _, same in itertools.groupby(sorted(ids))) == [1] * 10 + [3] * 10
    for host in hosts:
        column = [made.selection.speeds.index(s) for s in loader.speeds[host.planned.indices]]
        rows = [int(name[1:]) for name in host.ids]
        planned = made.selection.samples[rows, column]
        np.testing.assert_array_equal(host.batch.audio_lengths[: len(rows)], planned)
    again = mixed(task, utterances, 3.0, 1.0).epoch(2)
    assert [u.id for u in again.utterances] == [u.id for u in loader.utterances]
    assert made.fingerprint() == mixed(task, utterances, 3.0, 1.0).fingerprint()
    others = [mixed(task, utterances), mixed(task, utterances, 1.0, 3.0), mixed(task, utterances[1:], 3.0, 1.0)]
    assert len({m.fingerprint() for m in (made, *others)}) == 4


def test_each_time_in_an_epoch_an_utterance_is_another(task, utterances):
    made = dataclasses.replace(mixed(task, utterances, 3.0, 1.0), preprocess=loading.Noise())
    found: dict[str, set[bytes]] = {}
    speeds: dict[str, set[float]] = {}
    for epoch in range(4):
        loader = made.epoch(epoch)
        for host in pipeline.load(loader):
            for row, (name, index) in enumerate(zip(host.ids, host.planned.indices, strict=True)):
                found.setdefault(name, set()).add(host.batch.audio[row].tobytes())
                speeds.setdefault(f"{epoch} {name}", set()).add(float(loader.speeds[index]))
    thrice = [f"u{number}" for number in range(0, 40, 4)]
    assert all(len(found[name]) == 12 for name in thrice)
    assert sum(len(speeds[f"{epoch} {name}"]) > 1 for epoch in range(4) for name in thrice) > 25  # 8 of 9


def test_weights_as_the_sizes_change_nothing(task, utterances):
    data = [dataclasses.replace(u, corpus=int(number >= 10)) for number, u in enumerate(utterances)]
    one, two = training(task, data, weights=(1.0, 3.0)).epoch(3), training(task, data).epoch(3)
    assert [b.indices.tolist() for b in one.plan] == [b.indices.tolist() for b in two.plan]
    for x, y in zip(one(0).batch, two(0).batch, strict=True):
        np.testing.assert_array_equal(x, y)


def test_shapes_are_chosen_for_the_mixture(task, utterances):
    """Where one in four clips is long and comes seldom, the batches of the short ones get the room."""
    longest = max(made.samples for made in training(task, utterances).shapes)
    long = [dataclasses.replace(u, corpus=1) if i % 4 else u for i, u in enumerate(utterances)]
    rows = [training(task, long, weights=w).shapes for w in ((1.0, 3.0), (30.0, 1.0), (1.0, 30.0))]
    assert len({tuple(shapes) for shapes in rows}) == 3
    assert all(shapes[-1].samples == longest for shapes in rows)


def test_a_corpus_that_gives_nothing_is_an_error(task, utterances):
    with pytest.raises(DataError, match="manifest 2 of --train: no utterance can be used; "):
        training(task, utterances, weights=(1.0, 1.0))
    with pytest.raises(DataError, match=r"manifest 1 of --train: a weight of 0\.001 gives it none of 40 utterances; "):
        mixed(task, utterances, 0.001, 1.0)


def test_the_table_of_shares(task, utterances):
    console = rich.console.Console(file=io.StringIO(), width=120)
    made = mixed(task, utterances, 3.0, 1.0)
    made.print_shares(console, ["data/[a]", "b.csv"])
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    cells = [re.split(r"\s*│\s*", line.strip().strip("│").strip()) for line in lines if "│" in line]
    hours = made.selection.plain_samples[::4].sum() / 16_000 / 3600
    assert cells[0] == ["data/[a]", "10", f"{hours:.2f}", "30", "75.0"]
    assert cells[1] == ["b.csv", "30", f"{made.size - hours:.2f}", "10", "25.0"]


# The table


def test_the_table_adds_up(task, utterances):
    made = training(task, utterances)
    header, *rows, total = table(made)
    assert header == ["rows", "seconds", "tokens", "batches", "utterances", "padding %"]
    assert [(int(r[0]), float(r[1]), int(r[2])) for r in rows] == [
        (s.rows, round(s.samples / 16_000, 2), s.tokens) for s in made.shapes
    ]
    assert sum(int(r[3]) for r in rows) == int(total[3]) == made.num_batches(0)
    assert sum(int(r[4]) for r in rows) == int(total[4]) == len(utterances)
    room = [int(r[0]) * int(r[3]) * s.samples for r, s in zip(rows, made.shapes, strict=True)]
    padded = sum(float(r[5]) / 100 * n for r, n in zip(rows, room, strict=True))
    assert float(total[5]) == pytest.approx(100 * padded / sum(room), abs=0.1)
    real = sum(int(n) for host in pipeline.load(made.epoch(0)) for n in host.batch.audio_lengths)
    assert float(total[5]) == pytest.approx(100 * (1 - real / sum(room)), abs=0.06)


def test_the_table_of_nothing(task):
    assert table(evaluation_inputs(task, [], batch_seconds=1.0))[-1][2:] == ["all", "0", "0", "0.0"]


# Evaluation


@pytest.mark.parametrize("rows", [None, 1, 7, 32])
@pytest.mark.parametrize("extra_seconds", [0.0, 0.5])
def test_evaluation_leaves_nothing_out(task, utterances, rows, extra_seconds):
    strange = dataclasses.replace(utterances[0], id="strange", text="five " * 99)
    silent = dataclasses.replace(utterances[1], id="silent", text="")
    everything = [*utterances, strange, silent]
    made = evaluation_inputs(task, everything, batch_seconds=4.0, max_buckets=3, rows=rows, extra_seconds=extra_seconds)
    assert len(made.shapes) <= 3
    assert all(shape.rows == rows for shape in made.shapes) or rows is None
    plain = evaluation_inputs(task, everything, batch_seconds=4.0, max_buckets=3, rows=rows)
    padding = [a.samples - b.samples for a, b in zip(made.shapes, plain.shapes, strict=True)]
    assert padding == [int(extra_seconds * 16_000)] * len(made.shapes)
    loader = made.epoch(0)
    assert loader.speeds is not None and set(loader.speeds) == {1.0}
    order = np.concatenate([batch.indices for batch in loader.plan])
    assert sorted(order.tolist()) == list(range(len(everything)))
    lengths = made.selection.samples[order, 0]
    assert all(batch.shape.rows == rows for batch in loader.plan) or rows is None
    hosts = list(pipeline.load(loader))
    np.testing.assert_array_equal(np.concatenate([h.batch.audio_lengths[h.batch.weights > 0] for h in hosts]), lengths)
    assert made.epoch(1).plan[0].indices.tolist() == loader.plan[0].indices.tolist()


def test_evaluation_of_a_file_that_is_gone_is_an_error(task, utterances):
    with pytest.raises(DataError, match=r"gone\.wav \(utterance gone\): No such file"):
        evaluation_inputs(task, [*utterances, Utterance("gone", "gone.wav", "")], batch_seconds=4.0)


def test_evaluation_of_nothing(task):
    made = evaluation_inputs(task, [], batch_seconds=4.0)
    assert made.shapes == []
    assert list(pipeline.load(made.epoch(0))) == []


def test_evaluation_has_no_volume_and_no_speed(task, utterances):
    loud = dataclasses.replace(task, preprocess=CommonPreprocessor(speeds=(1.0,), volume_db=20.0))
    one, two = (evaluation_inputs(t, utterances[:1], batch_seconds=1.0).epoch(0)(0).batch for t in (task, loud))
    np.testing.assert_array_equal(one.audio, two.audio)
    changed = training(loud, utterances[:1]).epoch(0)(0).batch
    assert (changed.audio[0, : one.audio.shape[1]] != one.audio[0]).any()


def test_a_manifest_end_to_end(task, utterances, tmp_path):
    lines = [f'{{"audio_filepath": "{u.audio}", "text": "{u.text}", "id": "{u.id}"}}' for u in utterances]
    (tmp_path / "m.jsonl").write_text("\n".join(lines))
    made = training(task, manifest.read(tmp_path / "m.jsonl"))
    assert made.fingerprint() == training(task, utterances).fingerprint()
    assert all(isinstance(shape, BucketShape) for shape in made.shapes)


def test_a_pack_gives_the_same_batches(task, utterances, tmp_path):
    lines = ({"source": u.audio, "target": u.text, "id": u.id} for u in utterances)
    (tmp_path / "m.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    pack(PackOptions((str(tmp_path / "m.jsonl"), str(tmp_path / "packed"))))
    task = dataclasses.replace(task, preprocess=CommonPreprocessor(speeds=(0.9, 1.0, 1.1), volume_db=3.0))
    plain, packed = (training(task, manifest.read(tmp_path / name)) for name in ("m.jsonl", "packed"))
    assert packed.fingerprint() == plain.fingerprint()
    loader = packed.epoch(1)
    expected = [plain.epoch(1)(number) for number in range(2, len(loader.plan))]
    for workers in (0, 2):
        with contextlib.closing(pipeline.load(loader, start=2, workers=workers)) as loaded:
            for host, other in zip(loaded, expected, strict=True):
                assert host.ids == other.ids
                for one, two in zip(host.batch, other.batch, strict=True):
                    np.testing.assert_array_equal(one, two)


def test_stated_seconds_are_trusted_without_check_sound(task, utterances, tmp_path):
    def stated(utterance: Utterance) -> Utterance:
        header = soundfile.info(utterance.audio)
        return dataclasses.replace(utterance, seconds=header.frames / header.samplerate)

    measured = training(task, [stated(u) for u in utterances])
    gone = [dataclasses.replace(stated(u), audio=str(tmp_path / u.id)) for u in utterances]
    trusted = training(task, gone, check_sound=False)
    assert [u.id for u in trusted.selection.utterances] == [u.id for u in measured.selection.utterances]
    more = trusted.selection.samples - measured.selection.samples
    assert more.min() >= 0 and more.max() <= 0.002 * task.input_rate / 0.85
    assert training(task, gone, check_sound=False).fingerprint() == trusted.fingerprint()
    with pytest.raises(DataError, match="nothing is left"):
        training(task, gone)
