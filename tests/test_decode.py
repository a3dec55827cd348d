import errno
import json
import os
import pathlib
import shutil
import sys
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import soundfile

import jaxasr
from jaxasr import __main__, checkpoint, corpora, decode
from jaxasr.data import manifest
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.decode import DecodeOptions
from jaxasr.errors import CheckpointError, ConfigError, DataError
from jaxasr.hypothesis import Hypothesis
from jaxasr.nn.normalize import Cmvn
from jaxasr.outputs import files
from jaxasr.parallel import Devices
from jaxasr.searching import SearchFlags
from jaxasr.states import Progress
from jaxasr.validate import Validator, lowest

from . import tiny
from .slow import slow


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    """A model that never learnt anything, with outputs all over the vocabulary."""
    task = tiny.TASK.prepared(manifest.read(corpora.digits() / "train"))
    task = task.with_resources(cmvn=Cmvn(np.full(80, -9.0, np.float32), np.full(80, 0.4, np.float32)))
    params = jax.jit(task.model().init)(jax.random.key(1), task.batch_spec(jaxasr.BucketShape(1, 8000, 1)))
    params = jax.tree.map(lambda x: 3.0 * x, jax.device_get(params))
    folder = tmp_path_factory.mktemp("model")
    checkpoint.save_model(folder, task, params)
    return str(folder)


@pytest.fixture(scope="module")
def kaldi(tmp_path_factory) -> str:
    return tiny.corpus(tmp_path_factory.mktemp("test"), "test", 18)


@pytest.mark.parametrize("search", slow(["ctc_greedy", "ctc_beam", "attention_greedy"], "ctc_greedy"))
def test_text_depends_on_neither_rows_nor_padding(model, kaldi, search):
    found = [
        decode.decode(
            DecodeOptions((kaldi,), model, SearchFlags(search=search), rows=rows, extra_padding=extra, max_buckets=1)
        )
        for rows, extra in ((1, 0.0), (7, 3.0))  # the last of seven are filler
    ]
    alone, together = found
    assert len({h.text for h in alone}) > 3
    assert [(h.id, h.text) for h in together] == [(h.id, h.text) for h in alone]
    np.testing.assert_allclose([h.score for h in together], [h.score for h in alone], rtol=1e-4, atol=1e-4)


def test_what_is_written(model, kaldi, tmp_path):
    hypotheses = decode.decode(DecodeOptions((kaldi,), model, output=str(tmp_path / "out")))
    lines = [json.loads(line) for line in (tmp_path / "out" / "hyp.jsonl").read_text().splitlines()]
    assert [(r["id"], r["text"], r["tokens"]) for r in lines] == [(h.id, h.text, h.tokens) for h in hypotheses]
    for row, said in zip(lines, hypotheses, strict=True):
        np.testing.assert_allclose(row["times"], np.reshape(said.times, (-1, 2)), atol=6e-4)
        np.testing.assert_allclose(row["confidences"], said.confidences, atol=6e-5)
        assert [w["word"] for w in row["words"]] == said.text.split()
        shown = [time for time, token in zip(row["times"], said.tokens, strict=True) if token > Vocabulary.EOS]
        assert [[w["start"], w["end"]] for w in row["words"]] == shown  # every token of the text is a word
    assert (tmp_path / "out" / "text").read_text().splitlines() == [f"{h.id} {h.text}".rstrip() for h in hypotheses]


@pytest.fixture
def sounds(tmp_path) -> pathlib.Path:
    rng = np.random.default_rng(0)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    for name, rate in (("a.wav", 8000), ("deep/a.flac", 16000), ("deep/er/b\tc d.wav", 44100)):
        soundfile.write(tmp_path / name, rng.normal(size=rate) * 0.1, rate)
    return tmp_path


def test_inputs_of_every_kind(model, sounds, kaldi, tmp_path):
    (tmp_path / "m.jsonl").write_text(json.dumps({"audio_filepath": "a.wav", "text": "x", "id": "m"}) + "\n")
    inputs = (str(sounds / "a.wav"), str(sounds / "deep"), kaldi, str(tmp_path / "m.jsonl"), str(sounds / "a.wav"))
    ids = [h.id for h in decode.decode(DecodeOptions(inputs, model))]
    assert ids[:3] == ["a", "a-2", "er/b_c_d"] and ids[-2:] == ["m", "a-3"]
    assert len(ids) == len(set(ids))


def test_what_a_folder_has(sounds):
    """Links too; but no hidden files, as other systems leave them beside each file."""
    (sounds / "deep" / "._a.flac").write_bytes(b"no sound")
    (sounds / "deep" / "linked").symlink_to(sounds)
    ids = [u.id for u in decode.read_inputs([str(sounds / "deep")], "sound")]
    assert ids == ["a", "er/b_c_d", "linked/a"]


def test_ids_of_what_is_no_file(tmp_path):
    urls = ["http://a.org/x/my%20talk.wav?v=1&f=b.wav", "http://a.org", "-"]
    assert [u.id for u in decode.read_inputs(urls, "sound", dict.fromkeys(urls, "x"))] == ["my_talk", "a.org", "-"]


def test_a_name_that_is_not_utf8(sounds):
    os.rename(sounds / "a.wav", os.fsencode(sounds) + b"/caf\xe9.wav")
    with pytest.raises(DataError, match=r"/caf\\udce9.wav: a name that is not UTF-8; .*; rename the file"):
        decode.read_inputs([str(sounds)], "sound")


def test_transcribe_takes_files_and_arrays(model, sounds):
    speech = jaxasr.load(model)
    path = sounds / "a.wav"
    samples, _ = soundfile.read(path, dtype="float32")
    text = speech.transcribe(path)
    assert isinstance(text, str)
    assert speech.transcribe([str(path), samples, soundfile.read(path, dtype="int16")[0]]) == [text] * 3
    assert speech.transcribe([]) == []
    assert speech.transcribe(np.zeros(3, np.int16)) == ""


@pytest.mark.parametrize("search", ["ctc_greedy", "attention_greedy"])
def test_timestamps_say_more_than_the_text(model, sounds, search):
    """Of attention CTC tells the times."""
    speech, how = jaxasr.load(model), {"search": search, "timestamps": True}
    paths = [sounds / "a.wav", sounds / "deep" / "a.flac"]
    found = speech.transcribe(paths, **how)
    assert [said.text for said in found] == speech.transcribe(paths, search=search)
    alone = speech.transcribe(paths[0], **how)
    assert (alone.tokens, alone.times, alone.text) == (found[0].tokens, found[0].times, found[0].text)
    for said in found:
        assert len(said.confidences) == len(said.tokens) > 0 and all(0.0 < p <= 1.0 for p in said.confidences)
        if said.times is None:  # more tokens than CTC has frames for
            assert search == "attention_greedy" and said.words is None
            continue
        bounds = np.ravel(said.times)
        assert bounds[0] >= 0.0 and bounds[-1] <= 1.0 and np.all(np.diff(bounds)[::2] > 0.0)
        assert [word.text for word in said.words] == said.text.split()


def test_sounds_of_many_lengths_share_a_few_shapes(model):
    speech = jaxasr.load(model)
    rng = np.random.default_rng(0)
    for samples in range(6000, 9000, 500):
        speech.transcribe(rng.normal(scale=3000, size=samples).astype(np.int16))
    [recognizer] = speech._recognizers.values()
    assert len(recognizer.compiled) == 2


def test_a_token_list_of_another_model_is_refused(model, tmp_path):
    shutil.copytree(model, tmp_path / "model")
    tokens = tmp_path / "model" / "tokens.txt"
    tokens.write_text(tokens.read_text().replace("ONE", "WON"))
    with pytest.raises(CheckpointError, match=r"tokens.txt: not the token list that the model was trained with"):
        jaxasr.load(tmp_path / "model")


@pytest.mark.parametrize("wrong", [np.zeros((2, 5)), np.zeros(5, np.int32), np.array([0.0, np.nan]), np.array([-9.0])])
def test_arrays_that_are_no_sound_are_refused(model, wrong):
    with pytest.raises(DataError, match="transcribe: "):
        jaxasr.load(model).transcribe(wrong)
    with pytest.raises(DataError, match="transcribe: item 1: "):
        jaxasr.load(model).transcribe([np.zeros(5), wrong])


@pytest.mark.parametrize("rate", ["8000", np.inf, np.nan, 0.5])
def test_rates_that_are_none_are_refused(model, rate):
    with pytest.raises(DataError, match=r"^transcribe: "):
        jaxasr.load(model).transcribe((np.zeros(5), rate))


def test_no_silence_is_too_short(model, tmp_path):
    soundfile.write(tmp_path / "short.wav", np.zeros(50), 8000)
    assert [h.text for h in decode.decode(DecodeOptions((str(tmp_path / "short.wav"),), model))] == [""]


def test_faults_are_named(model, kaldi, tmp_path):
    with pytest.raises(ConfigError, match=r"--search=beam: this model has ctc_greedy, attention_greedy"):
        decode.decode(DecodeOptions((kaldi,), model, SearchFlags(search="beam")))
    for option in (
        {"rows": 0},
        {"batch_seconds": 0.0},
        {"batch_seconds": np.inf},
        {"max_buckets": 0},
        {"extra_padding": -1.0},
        {"extra_padding": np.inf},
    ):
        with pytest.raises(ConfigError, match=f"--{next(iter(option))}="):
            decode.decode(DecodeOptions((kaldi,), model, **option))
    with pytest.raises(ConfigError, match=r"INPUT: none.* before --formats, --allow_url and --import,"):
        decode.decode(DecodeOptions((), model))
    with pytest.raises(ConfigError, match=r"^--beam=5 with --stream: it would change nothing; 10 was expected"):
        decode.decode(DecodeOptions((kaldi,), model, SearchFlags(beam=5), stream=True))
    (tmp_path / "talk.m4a").touch()
    with pytest.raises(DataError, match=r"talk.m4a: neither a sound file \(.wav, .*, nor a manifest \(.jsonl, "):
        decode.decode(DecodeOptions((str(tmp_path / "talk.m4a"),), model))
    with pytest.raises(CheckpointError, match="no model there"):
        decode.decode(DecodeOptions((kaldi,), str(tmp_path)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="without sound files"):
        decode.decode(DecodeOptions((str(tmp_path / "empty"),), model))
    with pytest.raises(DataError, match=r"nowhere\.wav"):
        decode.decode(DecodeOptions((str(tmp_path / "nowhere.wav"),), model))
    for name in "ab":
        (tmp_path / f"{name}.wav").touch()
    with pytest.raises(
        DataError, match=r"^2 of 2 utterances cannot be read \('a', 'b'\): .*a.wav .utterance a.: begins like"
    ):
        decode.decode(DecodeOptions((str(tmp_path),), model))
    with pytest.raises(ConfigError, match=r"--output=.*: File exists; a folder to write in was expected"):
        decode.decode(DecodeOptions((str(tmp_path / "nowhere.wav"),), model, output=f"{model}/config.yaml"))


def test_nothing_is_computed_that_cannot_be_written(model, sounds, monkeypatch):
    monkeypatch.setattr(decode, "recognized", None)
    (sounds / "m.jsonl").write_text('{"path": "a.wav", "id": "../a"}\n')
    options = DecodeOptions((str(sounds / "m.jsonl"),), model, output=str(sounds / "out"), formats=("text", "txt"))
    with pytest.raises(DataError, match=r"^'../a': an id that names no file"):
        decode.decode(options)

    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(files.tempfile, "TemporaryFile", refuse)
    with pytest.raises(ConfigError, match=r"^--output=.*out: Permission denied; a folder to write in was expected"):
        decode.decode(options)


def test_a_reader_may_stop_reading(monkeypatch):
    reading, writing = os.pipe()
    os.close(reading)
    monkeypatch.setattr(decode, "decode", lambda options: [Hypothesis("a", "b", 0.0, [])])
    with open(writing, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        with pytest.raises(SystemExit, match="141"):
            decode.main(["--model=m", "a.wav"])


def test_standard_input_may_be_closed(model, sounds, monkeypatch):
    monkeypatch.setattr(sys, "stdin", None)
    assert len(decode.decode(DecodeOptions((str(sounds / "a.wav"),), model))) == 1
    with pytest.raises(DataError, match=r"^-: begins like no known"):
        decode.decode(DecodeOptions(("-",), model))


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), KeyboardInterrupt()])
def test_what_cannot_be_written_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, fault):
    def fail(_):
        raise fault

    (tmp_path / "a").write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises((CheckpointError, KeyboardInterrupt), match=r"No space left on device; a file to write|^$"):
        checkpoint.write_atomically(tmp_path / "a", b"new")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("a", b"old")]


@pytest.mark.parametrize(
    ("loss_of_average", "loss_of_best", "kept"), [(1.0, 2.0, 1.5), (2.0, 1.0, 1.0), (1.0, 1.0, 1.5), (np.nan, 1.0, 1.0)]
)
def test_the_average_of_the_best_is_kept_unless_the_best_alone_has_a_lower_loss(
    tmp_path, loss_of_average, loss_of_best, kept
):
    """The error rates say the opposite of the losses."""
    progress = Progress(best=[(0.1, 4), (0.2, 8)])
    for step, value in ((4, 1.0), (8, 2.0)):
        checkpoint.save_params(tmp_path / f"{step}", {"w": np.float32(value)})
    validator = object.__new__(Validator)
    validator._cfg, validator._progress, validator._devices = SimpleNamespace(metric="wer"), progress, Devices.first()
    validator._best = SimpleNamespace(path=lambda step: tmp_path / f"{step}")
    losses = {1.5: loss_of_average, 1.0: loss_of_best}
    validator.score = lambda params: {"loss": losses[float(params["w"])], "wer": -losses[float(params["w"])]}
    params, note, record = validator._choose()
    assert params["w"] == kept
    assert record == {"loss": losses[kept], "wer": -losses[kept]}
    assert ("the average is kept" in note) == (kept == 1.5)


def test_the_lowest_loss_is_a_number():
    nan, infinity = float("nan"), float("inf")
    assert [lowest(losses) for losses in ([1.0, 2.0], [2.0, 1.0], [1.0, 1.0])] == [0, 1, 0]
    assert [lowest(losses) for losses in ([nan, 1.0], [1.0, nan], [nan, nan], [infinity, 1.0])] == [1, 0, 0, 1]


def test_parameters_of_another_model_are_refused(model, tmp_path):
    task, params = checkpoint.load_model(model)
    params["ctc"]["kernel"] = params["ctc"]["kernel"][:, :-1]
    checkpoint.save_model(tmp_path, task, params)
    with pytest.raises(CheckpointError, match=r"ctc/kernel has shape \(16, 13\)"):
        checkpoint.load_model(tmp_path)
    (tmp_path / checkpoint.PARAMS_FILE).write_bytes(b"rubbish")
    with pytest.raises(CheckpointError, match="a safetensors file were expected"):
        checkpoint.load_model(tmp_path)


def test_average_is_the_mean(tmp_path):
    trees = [{"a": {"b": np.full(3, i, np.float32)}, "c": np.arange(2.0, dtype=np.float32) * i} for i in (1, 2, 6)]
    paths = [tmp_path / f"{i}.safetensors" for i in range(3)]
    for path, tree in zip(paths, trees, strict=True):
        checkpoint.save_params(path, tree)
    mean = checkpoint.average(paths)
    np.testing.assert_array_equal(mean["a"]["b"], np.full(3, 3, np.float32))
    np.testing.assert_array_equal(mean["c"], np.array([0, 3], np.float32))


def test_the_best_models_on_disk_outlive_the_list_being_saved(tmp_path):
    best = checkpoint.BestModels(tmp_path, 2, [])
    ranked: list[tuple[float, int]] = []
    for step, metric in ((1, 0.5), (2, 0.4)):
        ranked = best.add(ranked, metric, step, {"a": np.zeros(1, np.float32)})
    best.remove_others(ranked)
    newer = best.add(ranked, 0.1, 3, {"a": np.zeros(1, np.float32)})
    best.remove_others(newer)  # the state on disk still has the list before
    assert newer == [(0.1, 3), (0.4, 2)]
    assert {p.name for p in tmp_path.iterdir()} == {f"step_{i:08d}.safetensors" for i in (1, 2, 3)}
    best.remove_others(newer)
    assert {p.name for p in tmp_path.iterdir()} == {f"step_{i:08d}.safetensors" for i in (2, 3)}


def test_the_command_has_subcommands(capsys, model, sounds):
    __main__.main(["--help"])
    assert "decode" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        __main__.main(["decod"])
    assert "Did you mean 'decode'?" in capsys.readouterr().err
    __main__.main(["decode", f"--model={model}", str(sounds / "a.wav")])
    assert capsys.readouterr().out.startswith("a")
    assert all(callable(__main__.main_of(command)) for command in __main__.COMMANDS)
