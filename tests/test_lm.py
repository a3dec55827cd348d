"""Language models from text to the search that asks them."""

import dataclasses
import json
import pathlib

import jax
import numpy as np
import pytest

from jaxasr import checkpoint, info, tuning
from jaxasr.data import manifest
from jaxasr.data.batch import BucketShape, TextExample, collate_text
from jaxasr.data.tokenizer import Vocabulary, WordTokenizer
from jaxasr.decode import DecodeOptions, decode, read_inputs
from jaxasr.errors import ConfigError, DataError
from jaxasr.inputs import evaluation_inputs
from jaxasr.language_models import neural_lm
from jaxasr.nn.lms import TransformerLm
from jaxasr.parallel import Devices
from jaxasr.paths import unflatten
from jaxasr.recognizer import Recognizer
from jaxasr.scoring import score
from jaxasr.searching import SearchFlags
from jaxasr.tasks import LmTask
from jaxasr.train import train
from jaxasr.tuning import tune
from tests import tiny

SENTENCES = ["one two three", "two", "three two one four", "", "four one", "one one two five"] * 4


def config(folder: pathlib.Path):
    (folder / "text.txt").write_text("\n".join(SENTENCES) + "\n")
    (folder / "test").mkdir()
    (folder / "test" / "text").write_text("a one two\nb four\nc seven one\n")
    task = LmTask(lm=TransformerLm(num_layers=1, d_embed=8, d_model=8, num_heads=2, d_ff=16), tokenizer=WordTokenizer())
    options = {"train": (str(folder / "text.txt"),), "valid": (str(folder / "test"),), "test": (str(folder / "test"),)}
    plain = {"batch_seconds": 80.0, "batch_tokens": 30, "rows_multiple": 8, "report": True}
    return tiny.config(folder, task=task, **options, **plain)


@pytest.fixture(autouse=True, scope="module")
def _one_device():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Devices, "all", lambda *_: Devices.first())
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    cfg = config(tmp_path_factory.mktemp("lm"))
    train(cfg)
    return cfg


def records(cfg, split):
    rows = (pathlib.Path(cfg.workdir) / "log.jsonl").read_text().splitlines()
    return [row for row in map(json.loads, rows) if row["split"] == split]


def test_a_whole_run(finished):
    workdir = pathlib.Path(finished.workdir)
    (session,) = records(finished, "session")
    used = session["data"]["train"]
    assert used["left_out"]["with empty text"]["count"] == 4
    assert used["tokens"] == sum(len(text.split()) for text in SENTENCES)
    (tested,) = records(finished, "test")
    assert tested["perplexity"] == pytest.approx(np.exp(tested["loss"]))
    valid = records(finished, "valid")
    assert valid[-1]["loss"] < valid[0]["loss"] and "wer" not in valid[-1]
    assert "tokens_per_second" in records(finished, "train")[0]
    report = (workdir / "report.html").read_text()
    assert "Perplexity" in report and "Error rates" not in report and "cannot be decoded" not in report
    said = dict(info.lines(info.describe(workdir)))
    assert said["reads"] == "text" and "perplexity" in said["test"] and said["best"].startswith("validation loss")


def test_resume_is_exact(finished, tmp_path):
    left = [3]

    def fails(examples, shape):
        left[0] -= 1
        if left[0] < 0:
            raise DataError("the disk is gone")
        return collate_text(examples, shape)

    cfg = dataclasses.replace(finished, workdir=str(tmp_path / "run"), test=(), report=False)
    with pytest.raises(DataError, match="the disk is gone"):
        train(cfg, collate_fn=fails)
    train(cfg)
    ours, theirs = (
        checkpoint.flatten(checkpoint.load_params(pathlib.Path(c.workdir) / "model" / checkpoint.PARAMS_FILE))
        for c in (cfg, finished)
    )
    for name in theirs:
        np.testing.assert_array_equal(ours[name], theirs[name], err_msg=name)


def test_a_model_with_other_tokens_asks_no_such_lm(finished):
    task, _ = checkpoint.load_model(finished.workdir)
    assert neural_lm(finished.workdir, task.vocabulary).vocab_size == len(task.vocabulary)
    tokens = list(task.vocabulary.tokens)
    with pytest.raises(ConfigError, match=f"{tokens[3]!r} is number 3 of its tokens; 'zero', as in the list"):
        neural_lm(finished.workdir, Vocabulary([*tokens[:3], "zero", *tokens[4:]]))
    with pytest.raises(ConfigError, match="'<unk>' is number 8 of its tokens; 'zero', as in the list"):
        neural_lm(finished.workdir, Vocabulary([*tokens[:8], "zero", tokens[8]]))
    with pytest.raises(ConfigError, match="a LmTask, which decodes nothing; a model that hears speech was expected"):
        SearchFlags().choices(task)


@pytest.mark.parametrize("kind", ["folder", "jsonl", "txt"])
def test_text_of_any_manifest(tmp_path, kind):
    texts = {"a": "one two", "b": "three"}
    (tmp_path / "text").write_text("".join(f"{name} {text}\n" for name, text in texts.items()))
    (tmp_path / "m.jsonl").write_text("".join(json.dumps({"id": n, "text": t}) + "\n" for n, t in texts.items()))
    (tmp_path / "m.txt").write_text("".join(f"{text}\n" for text in texts.values()))
    path = {"folder": tmp_path, "jsonl": tmp_path / "m.jsonl", "txt": tmp_path / "m.txt"}[kind]
    found = manifest.read(path, kind="text")
    assert [u.text for u in found] == ["one two", "three"]
    assert [u.id for u in found] == (["m", "m-2"] if kind == "txt" else ["a", "b"])


def test_tuning_finds_the_least_and_tries_nothing_twice():
    asked = []

    def measure(weights):
        asked.append(weights)
        wrong = abs(weights[0] - 0.5) > 1e-6, abs(weights[1] - 1.0) > 1e-6
        return score({"u": "a b"}, {"u": " ".join("x" if bad else good for bad, good in zip(wrong, "ab", strict=True))})

    found = tune(("lm_weight", "length_bonus"), (0.3, 0.0), measure)
    assert found.best == (0.5, 1.0) and str(found) == "--lm_weight=0.5 --length_bonus=1"
    assert len(asked) == len(set(asked)) == len(found.tried)
    assert found.flags(SearchFlags()).lm_weight == 0.5
    assert found.table().row_count == len(asked)


def test_only_what_changes_no_program_is_tuned():
    """With `ctc_weight` 1 a joint search goes on with every token, with any other by the decoder's best."""
    task = dataclasses.replace(tiny.TASK, vocabulary=Vocabulary(tiny.TOKENS))
    assert tuning.tunable(task, SearchFlags("joint"), {}) == ("ctc_weight", "length_bonus")
    assert tuning.tunable(task, SearchFlags("joint", ctc_weight=1.0), {}) == ("length_bonus",)
    assert tuning.tunable(task, SearchFlags("ctc_greedy"), {}) == ()


def test_a_search_asks_it_and_is_tuned(finished, tmp_path, capsys, monkeypatch):
    """A little more weight changes scores by what the model says of the whole text."""
    lm_task, lm_params = checkpoint.load_model(finished.workdir)
    task = dataclasses.replace(tiny.CTC_TASK, vocabulary=lm_task.vocabulary, normalizer=None)
    rng, shapes = np.random.default_rng(0), checkpoint.flatten_shapes(task)
    drawn = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    checkpoint.save_model(tmp_path / "asr", task, unflatten(drawn))
    sounds = tiny.corpus(tmp_path / "sounds", "test", 60)

    flags = SearchFlags(search="ctc_beam", beam=4, lm=finished.workdir, lm_weight=0.5)

    scorers, devices = flags.scorers(task), Devices.first()
    recognizer = Recognizer(task, flags.choices(task), devices, fusion=flags.fusion(scorers))
    inputs = evaluation_inputs(task, read_inputs([sounds], "sound"), batch_seconds=200.0, max_buckets=1)
    params = jax.device_put(unflatten(drawn), devices.replicated)
    asked, _ = recognizer(params, inputs)
    recognizer.weighed(dataclasses.replace(flags, lm_weight=0.6).fusion(scorers))
    same = [(a, b) for a, b in zip(asked, recognizer(params, inputs)[0], strict=True) if a.tokens == b.tokens]
    assert same and len(recognizer.compiled) == 1
    loss, shape = jax.jit(lm_task.loss_fn()), BucketShape(1, 1, max(1, *(len(one.tokens) for one, _ in same)))
    for one, other in same:
        batch = collate_text([TextExample("", np.array(one.tokens, np.int32))], shape)
        nats = loss(lm_params, batch)[1]["loss"].total
        assert other.score - one.score == pytest.approx(-0.1 * float(nats), abs=1e-3)

    monkeypatch.setattr(tuning, "GRID", {"lm_weight": (0.0, 0.3), "length_bonus": (0.0,)})
    asked = DecodeOptions((), str(tmp_path / "asr"), flags, tune=sounds, max_buckets=1, output=str(tmp_path / "out"))
    assert decode(asked) == []
    assert [file.name for file in (tmp_path / "out").iterdir()] == ["decode.yaml"]
    assert "fewest errors: --lm_weight=0" in capsys.readouterr().err
