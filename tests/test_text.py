"""Cleaners, symbols and sub-words from the options of a run to its model."""

import dataclasses
import json
import pathlib
import pickle
import re
import shutil

import numpy as np
import pytest
import rich.console

import jaxasr
from jaxasr import checkpoint, command_line
from jaxasr.data import manifest, subwords
from jaxasr.data.lexicon import LookupTokenizer, PhoneTokenizer, SegDictTokenizer
from jaxasr.data.manifest import Utterance
from jaxasr.data.selection import select
from jaxasr.data.source import Header
from jaxasr.data.tokenizer import TOKENIZERS, BpeTokenizer, Vocabulary
from jaxasr.errors import CheckpointError, ConfigError, JaxasrError
from jaxasr.evaluate import EvaluateOptions, evaluate
from jaxasr.hypothesis import Hypothesis
from jaxasr.inputs import evaluation_inputs, measures
from jaxasr.loop import check_same_data
from jaxasr.parallel import Devices
from jaxasr.prepare import prepare, resumed
from jaxasr.scoring import score_cleaned
from jaxasr.states import Progress
from jaxasr.tasks import AsrTask
from jaxasr.train import train
from jaxasr.validate import score_of

from . import tiny

TEXTS = ["One, <noise> two!", "THREE - four", "five... [LAUGHTER] six?", "seven eight"]
CLEANED = ["one <noise> two", "three four", "five [LAUGHTER] six", "seven eight"]
SYMBOLS = ("<noise>", "[LAUGHTER]")
CLEANERS = ("lower", "punctuation")


def utterances(texts):
    return [Utterance(f"u{number}", f"{number}.wav", text) for number, text in enumerate(texts)]


def prepared(name, texts=TEXTS, **options):
    changes = {"size": 20, "algorithm": "bpe"} if name == "bpe" else {}
    if issubclass(TOKENIZERS[name], LookupTokenizer):
        changes = {
            "lines": tuple(
                f"{word} {word}" for word in ["one", "two", "three", "four", "five", "six", "seven", "eight", "x"]
            )
        }
    tokenizer = TOKENIZERS[name](**changes)
    return dataclasses.replace(tiny.TASK, normalizer=None, tokenizer=tokenizer, **options).prepared(utterances(texts))


every_tokenizer = pytest.mark.parametrize("name", list(TOKENIZERS))


@every_tokenizer
def test_everything_sees_the_clean_text(name):
    task = prepared(name, cleaners=CLEANERS, non_linguistic_symbols=SYMBOLS)
    plain = prepared(name, CLEANED, non_linguistic_symbols=SYMBOLS)
    assert task.vocabulary == plain.vocabulary
    assert {*SYMBOLS} <= {*task.vocabulary.tokens}
    texts = [*TEXTS, "SEVEN, seven!", "x <NOISE>", "", " ?! "]
    for text in texts:
        clean = task.cleaning(text)
        assert task.num_tokens(text) == plain.num_tokens(clean)
        assert task.frames_needed(text) == plain.frames_needed(clean)
        assert task.unknown(text) == plain.unknown(clean)
        encode, expected = (t.preprocess_fn(train=True).encode for t in (task, plain))
        np.testing.assert_array_equal(encode(text), expected(clean))
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(encode))(text), expected(clean))
    for text, clean in zip(TEXTS, CLEANED, strict=True):
        assert task.unknown(text) == []
        assert task.text(task.preprocess_fn(train=True).encode(text).tolist()) == clean


def test_a_text_of_which_nothing_is_left_is_empty():
    task = prepared("char", cleaners=CLEANERS)
    found = utterances(["one", " ...", "?"])
    infos = {u.audio: Header(8000, 8000, 1) for u in found}
    selection = select(found, infos, measures(task))
    assert selection.left_out == {"with empty text": ["u1", "u2"]}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cleaners": ("lowr",)}, r"--cleaners: cleaner 'lowr': not known; .* Did you mean 'lower'\?"),
        ({"non_linguistic_symbols": ("absent.txt",)}, r"--non_linguistic_symbols=absent.txt: no such file"),
        ({"non_linguistic_symbols": ("<space>",)}, r"--non_linguistic_symbols: '<space>': a token with a meaning"),
        ({"tokenizer": BpeTokenizer(size=-1)}, r"--tokenizer.size=-1: "),
        ({"tokenizer": BpeTokenizer(model="absent.model")}, r"absent.model: No such file or directory; "),
    ],
)
def test_faults_show_before_any_data_is_read(changes, message):
    with pytest.raises(ConfigError, match=message):
        dataclasses.replace(AsrTask(), **changes).check()


def test_options_on_the_command_line():
    flags = ["--cleaners", "lower", "nfc", "--tokenizer=bpe", "--tokenizer.size=20", "--non_linguistic_symbols=<noise>"]
    task = command_line.parse(type(tiny.config(pathlib.Path("/tmp"))), flags, prog="", description="").task  # type: ignore
    assert (task.cleaners, task.non_linguistic_symbols) == (("lower", "nfc"), ("<noise>",))
    assert task.tokenizer == BpeTokenizer(size=20)


@every_tokenizer
def test_a_model_folder_needs_nothing_else(name, tmp_path):
    file = tmp_path / "nlsyms.txt"
    file.write_text("\n".join(SYMBOLS))
    task = prepared(name, cleaners=CLEANERS, non_linguistic_symbols=(str(file),))
    file.unlink()
    checkpoint.save_model(tmp_path / "model", task, None)
    loaded = checkpoint.load_task(tmp_path / "model")
    assert loaded == task
    assert loaded.resources_hash() == task.resources_hash()
    for text, clean in zip(TEXTS, CLEANED, strict=True):
        ids = task.preprocess_fn(train=False).encode(text)
        np.testing.assert_array_equal(loaded.preprocess_fn(train=False).encode(text), ids)
        assert loaded.text(ids.tolist()) == clean
    assert loaded.prepared([]).vocabulary == task.vocabulary  # and lacks nothing


@pytest.mark.parametrize(("name", "file"), [("phn", "lexicon.txt"), ("seg_dict", "seg_dict"), ("bpe", "bpe.model")])
def test_a_model_without_its_file_of_words(name, file, tmp_path):
    task = prepared(name, cleaners=CLEANERS, non_linguistic_symbols=SYMBOLS)
    checkpoint.save_model(tmp_path / "model", task, None)
    path = tmp_path / "model" / file
    path.write_bytes(path.read_bytes() + b"y y\n")
    with pytest.raises((CheckpointError, ConfigError), match=file):
        checkpoint.load_task(tmp_path / "model")
    path.unlink()
    with pytest.raises(JaxasrError, match=f"model/{file}: No such file or directory"):
        checkpoint.load_task(tmp_path / "model")


@pytest.mark.parametrize("file", ["bpe.model", "non_linguistic_symbols.txt", "tokens.txt"])
def test_files_of_another_model_are_refused(file, tmp_path):
    first = prepared("bpe", cleaners=CLEANERS, non_linguistic_symbols=SYMBOLS)
    other = prepared("bpe", TEXTS[::-1] * 2, cleaners=CLEANERS, non_linguistic_symbols=(*SYMBOLS[::-1], "<x>"))
    for task, folder in ((first, "first"), (other, "other")):
        checkpoint.save_model(tmp_path / folder, task, None)
    shutil.copy(tmp_path / "other" / file, tmp_path / "first" / file)
    with pytest.raises((CheckpointError, ConfigError), match=r"tokens.txt: not the token list that the model was trai"):
        checkpoint.load_task(tmp_path / "first")


def test_a_token_list_and_a_tokenizer_that_learns_its_own():
    with pytest.raises(ConfigError, match=r"--token_list=tokens.txt with a tokenizer that learns its tokens: "):
        AsrTask(tokenizer=BpeTokenizer(), token_list="tokens.txt").check()


def test_a_hash_without_cleaners_and_the_like_is_the_token_lists(tmp_path):
    for name in ("char", "word"):
        task = prepared(name)
        assert task.resources_hash() == task.vocabulary.hash
        assert [p.name for p in saved(task, tmp_path / name)] == ["config.yaml", "tokens.txt"]


def saved(task, folder):
    checkpoint.save_model(folder, task, None)
    return sorted(folder.iterdir())


def test_errors_are_counted_in_clean_texts_without_symbols():
    folder = manifest.read(jaxasr.corpora.digits() / "test")[:4]
    said = [dataclasses.replace(u, text=text) for u, text in zip(folder, TEXTS, strict=True)]
    task = prepared("char", cleaners=CLEANERS, non_linguistic_symbols=SYMBOLS)
    inputs = evaluation_inputs(task, said, batch_seconds=10.0)
    heard = ["one two", "three <noise> four", "[LAUGHTER] five six", "seven ate"]
    hypotheses = [Hypothesis(u.id, text, 0.0, []) for u, text in zip(said, heard, strict=True)]
    found = score_of(inputs, hypotheses)
    assert found.wer == (1, 0, 0, 8)
    assert found.cer.reference == len("".join(["one two", "three four", "five six", "seven eight"]))


# --- a whole run -------------------------------------------------------------------------------------------------


def test_a_run_with_subwords(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Devices, "all", lambda *_: Devices.first())
    (tmp_path / "nlsyms.txt").write_text("<noise>\n")
    task = dataclasses.replace(
        tiny.TASK,
        encoder=dataclasses.replace(tiny.TASK.encoder, num_layers=1),
        decoder=None,
        ctc_weight=1.0,
        cleaners=CLEANERS,
        non_linguistic_symbols=(str(tmp_path / "nlsyms.txt"),),
        tokenizer=BpeTokenizer(size=20, algorithm="bpe"),
    )
    cfg = tiny.config(tmp_path, task=task, test=(), steps=1, max_infeasible=0.5)
    text = pathlib.Path(cfg.train[0]) / "text"
    text.write_text("".join(f"{line}, <noise>\n" for line in text.read_text().splitlines()))
    train(cfg)
    said = " ".join(capsys.readouterr().out.split())
    assert "texts: cleaned by lower, punctuation; errors counted without '<noise>'" in said

    monkeypatch.setattr(subwords, "train", None)  # a run that goes on learns no sub-words anew
    quiet = rich.console.Console(quiet=True)
    again = prepare(resumed(dataclasses.replace(cfg, steps=2)), tmp_path / "run", Devices.all(), quiet)
    text.write_text(text.read_text().replace(", <noise>", "", 1))
    changed = prepare(resumed(cfg), tmp_path / "run", Devices.all(), quiet)
    assert changed.task.resources_hash() == again.task.resources_hash()
    with pytest.raises(CheckpointError, match="not those that the run was started with"):  # as `train` finds out
        check_same_data(Progress(data_hash=again.train.fingerprint()), changed.train.fingerprint(), tmp_path)

    shutil.copytree(tmp_path / "run" / "model", tmp_path / "alone")
    for gone in (tmp_path / "run", tmp_path / "train", tmp_path / "nlsyms.txt"):
        shutil.rmtree(gone) if gone.is_dir() else gone.unlink()
    model = jaxasr.load(tmp_path / "alone")
    assert model.task.resources_hash() == again.task.resources_hash()
    assert len(model.task.vocabulary) == 20 + 4 + 1
    heard = model.transcribe(manifest.read(cfg.valid[0])[0].audio)
    assert set(heard) <= set("abcdefghijklmnopqrstuvwxyz <>'")


WORDS = ("ZERO", "ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX", "SEVEN", "EIGHT", "NINE")
LEXICON = "".join(f"{word} {' '.join(word[:2].lower())}\n" for word in WORDS)


def named(folder, kind):
    """Options that name a file of words, and the file."""
    if kind == "token_list":
        file = folder / "tokens.txt"
        Vocabulary(("<blank>", "<s>", "</s>", *WORDS, "<unk>")).save(file)
        return {"token_list": str(file)}, file
    if kind == "symbols":
        file = folder / "nlsyms.txt"
        file.write_text("<noise>\n")
        return {"non_linguistic_symbols": (str(file),)}, file
    if kind == "bpe":
        file = folder / "a.model"
        file.write_bytes(subwords.train(WORDS, size=30, algorithm="bpe", character_coverage=1.0, symbols=()))
        return {"tokenizer": BpeTokenizer(model=str(file))}, file
    file = folder / "words.txt"
    file.write_text(LEXICON if kind == "phn" else LEXICON.lower())
    return {"tokenizer": (PhoneTokenizer if kind == "phn" else SegDictTokenizer)(file=str(file))}, file


@pytest.mark.parametrize("kind", ["phn", "seg_dict", "bpe", "symbols", "token_list"])
def test_a_run_goes_on_without_the_files_that_it_was_started_with(kind, tmp_path):
    options, file = named(tmp_path, kind)
    task = dataclasses.replace(tiny.TASK, normalizer=None, **options)
    cfg = tiny.config(tmp_path, task=task, test=())
    quiet = rich.console.Console(quiet=True)
    cfg.check()
    first = prepare(resumed(cfg), tmp_path / "run", Devices.first(), quiet)
    (tmp_path / "run" / "checkpoints" / "1").mkdir(parents=True)
    content = file.read_bytes()
    file.write_bytes(content + b"\n")
    with pytest.raises(CheckpointError, match=f"^{re.escape(str(file))}: not the file that the run in .* was started"):
        resumed(cfg)
    file.unlink()
    with pytest.raises(JaxasrError, match=re.escape(file.name)):
        dataclasses.replace(task).prepared([])  # as a new run finds out
    going_on = resumed(cfg)
    assert going_on == cfg
    going_on.check()
    again = prepare(going_on, tmp_path / "run", Devices.first(), quiet)
    assert again.task.resources_hash() == first.task.resources_hash()
    assert again.train.fingerprint() == first.train.fingerprint()
    file.write_bytes(content)
    assert resumed(cfg).task.resources_hash() == first.task.resources_hash()


@pytest.mark.parametrize(
    ("name", "heard", "wer"),
    [
        ("phn", "ONE ONE TWO <noise> TWO TWO", (0, 0, 1, 4)),  # ONE and TWO are also words: they are not said again
        ("seg_dict", "one <noise> tow", (1, 0, 0, 2)),
    ],
)
def test_hypotheses_are_scored_as_in_validation(name, heard, wer, tmp_path):
    lines = ("ONE ONE ONE", "TWO TWO TWO") if name == "phn" else ("one o@@ ne", "two tw@@ o")
    cleaners = ("upper",) if name == "phn" else ()
    task = dataclasses.replace(tiny.TASK, normalizer=None, cleaners=cleaners, non_linguistic_symbols=SYMBOLS)
    task = dataclasses.replace(task, tokenizer=TOKENIZERS[name](lines=lines)).prepared([])
    checkpoint.save_model(tmp_path / "run" / "model", task, {"none": np.zeros(1)})
    (tmp_path / "ref").write_text("u One <noise> Two\n")
    (tmp_path / "hyp").write_text(f"u {heard}\n")
    ref, hyp, model, output = (str(tmp_path / file) for file in ("ref", "hyp", "run", "score.json"))
    found = evaluate(EvaluateOptions(ref, hyp, model=model, output=output))
    assert found.wer == wer == score_cleaned(task.cleaning, {"u": "One <noise> Two"}, {"u": heard}).wer
    assert json.loads(pathlib.Path(output).read_text())["model"] == model
    with pytest.raises(ConfigError, match=r"--model=.* with --cleaners or --ignore"):
        evaluate(EvaluateOptions(ref, hyp, model=model, cleaners=("lower",)))
