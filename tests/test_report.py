import contextlib
import dataclasses
import functools
import html.parser
import itertools
import json
import pathlib
import re
import shutil
import socket
import struct
import threading
import zlib

import jax
import numpy as np
import pytest
import rich.console
import yaml
from flax import linen as nn

from jaxasr import __main__, checkpoint, command_line, config, info, report
from jaxasr.data.batch import AsrExample, BucketShape
from jaxasr.errors import ConfigError
from jaxasr.hypothesis import Hypothesis
from jaxasr.logs import RunLog
from jaxasr.memory import StepMemory, teller
from jaxasr.nn.batch_norm import with_stats
from jaxasr.nn.frontends import GivenFeatures
from jaxasr.outputs import files
from jaxasr.parallel import Devices
from jaxasr.prepare import Prepared, prepare
from jaxasr.reporting import browser, charts, gather, heat, looks, page, words
from jaxasr.reporting.html import count, el
from jaxasr.scoring import score
from jaxasr.session import session
from jaxasr.train_config import TrainConfig
from jaxasr.validate import score_of

from . import tiny

EVIL_ID = "<script>alert(1)</script>"
LONG_WORD = 300 * "W"
EVIL_TEXT = LONG_WORD + " \"><img src=x onerror=alert(2)> &lt; '</style>"
SECTIONS = ["curves", "errors", "words", "worst", "looks", "data", "buckets", "configuration", "machine"]


class Page(html.parser.HTMLParser):
    """Elements with their attributes, and the text of each section."""

    def __init__(self, text: str):
        super().__init__()
        self.elements: list[tuple[str, dict]] = []
        self.sections: dict[str, str] = {"": ""}
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))
        if tag == "section":
            self._in = dict(attrs)["id"]
            self.sections[self._in] = ""

    def handle_data(self, data):
        self.sections[self._in] += data

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.elements if name == tag]


def read(workdir: pathlib.Path) -> tuple[str, Page]:
    text = (workdir / "report.html").read_text()
    return text, Page(text)


def records(workdir: pathlib.Path) -> list[dict]:
    return [json.loads(line) for line in (workdir / "log.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def workdir(tmp_path_factory) -> pathlib.Path:
    """What a run leaves, its training left out: of every fourth test utterance nothing is recognised, of one markup."""
    folder = tmp_path_factory.mktemp("run")
    cfg = tiny.config(folder, task=tiny.TASK)
    for name, value in (("segments", None), ("text", EVIL_TEXT), ("utt2spk", "s")):
        file = pathlib.Path(cfg.test[0]) / name
        first, *rest = file.read_text().splitlines()
        rest.insert(0, f"{EVIL_ID} {value or first.split(maxsplit=1)[1]}")
        file.write_text("\n".join(rest) + "\n")
    console = rich.console.Console(quiet=True)
    with checkpoint.claimed(pathlib.Path(cfg.workdir)) as workdir:
        data = prepare(cfg, workdir, Devices.first(), console)
        batch = data.task.batch_spec(BucketShape(1, 8000, 1))
        params = jax.device_get(jax.jit(data.task.model().init)(jax.random.key(0), batch))
        checkpoint.save_model(workdir / "model", data.task, params)
        with contextlib.closing(RunLog(workdir, console)) as log:
            written(log, cfg, data, workdir)
    report.write(workdir, workdir / "report.html")
    return workdir


def written(log: RunLog, cfg: TrainConfig, data: Prepared, workdir: pathlib.Path) -> None:
    """The log of a run of 40 steps, and the hypotheses of its end."""
    log.event(split="session", step=0, **session(cfg, data, Devices.first()))
    teller(data.task.source, log)(data.train.shapes[0], StepMemory(2**28, 2**27, 2**30))
    for step in range(1, 41):
        losses = {"loss": 40 / step, "loss/ctc": 50 / step, "loss/att": 30 / step, "acc/token": step / 50}
        speed = {"audio_seconds_per_second": 90.0, "padding_percent": 20.0, "waiting_percent": 1.0}
        log.steps(losses | speed | {"grad_norm": 5.0, "learning_rate": 1e-3 * step}, step, 40, step / 20)
        if step % 20 == 0:
            log.validation(losses | {"wer": 10 / step, "cer": 5 / step}, step, step / 20, "")
    log.event(split="kept", step=40, note="the model of step 40 is kept, the only one")
    vocabulary = data.task.vocabulary
    for search, every in (("ctc_greedy", 4), ("attention_greedy", 3)):
        hypotheses = []
        for number, utterance in enumerate(data.tests[0].selection.utterances):
            said = LONG_WORD[1:] if number == 1 else "" if number % every == 0 else utterance.text
            hypotheses.append(Hypothesis(utterance.id, said, -1.5, vocabulary.encode(said.split()).tolist()))
        files.write(workdir / "test" / search, hypotheses)
        found = score_of(data.tests[0], hypotheses)
        log.event(split="test", search=search, wer=found.wer.rate, cer=found.cer.rate, path=cfg.test[0])


@pytest.fixture
def copied(workdir, tmp_path) -> pathlib.Path:
    shutil.copytree(workdir, tmp_path / "copy", ignore=shutil.ignore_patterns("checkpoints", "tensorboard"))
    return tmp_path / "copy"


def log_of(workdir: pathlib.Path, keep) -> None:
    """Keeps the records that `keep` is true of, or what it makes of them."""
    found = [kept for record in records(workdir) if (kept := keep(record))]
    (workdir / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in found))


def test_what_a_report_holds(workdir):
    _, page = read(workdir)
    assert [attributes["id"] for attributes in page.all("section")] == SECTIONS
    logged = {r["search"]: r for r in records(workdir) if r["split"] == "test"}
    assert set(logged) == {"ctc_greedy", "attention_greedy"}
    for search, record in logged.items():
        assert f"WER, test by {search}{100 * record['wer']:.2f} %" in page.sections[""]
        assert f"{100 * record['cer']:.2f} %" in page.sections["errors"]
    assert "finished" in page.sections[""] and "sanm, 2 layers of 16" in page.sections[""]
    assert "Left out of" in page.sections["data"] or "none is left out" in page.sections["data"]
    assert "1.375" in page.sections["buckets"]
    assert f"jax{jax.__version__}" in page.sections["machine"] and "Sessions" in page.sections["machine"]
    assert "num_layers: 2" in page.sections["configuration"] and "Seed 0." in page.sections["configuration"]
    assert len([a for a in page.all("audio") if a["src"].startswith("data:audio/flac")]) >= 4
    assert len(page.all("image")) == 3 * (1 + 1 + 1 + 2)  # spectrogram, posteriors, mean and two heads, three times


def test_the_page_can_be_read_without_eyes_and_moved_through_by_keys(workdir):
    text, page = read(workdir)
    assert page.all("html") == [{"lang": "en"}] and "<title>run: training report</title>" in text
    assert len(page.all("main")) == 1 and all(nav["aria-label"] for nav in page.all("nav"))
    levels = [int(tag[1]) for tag, _ in page.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == levels.count(1) == 1 and all(b - a <= 1 for a, b in itertools.pairwise(levels))
    titled = {attributes["id"] for tag, attributes in page.elements if "id" in attributes}
    assert all(section["aria-labelledby"] in titled for section in page.all("section"))
    assert all(a["href"].removeprefix("#") in titled for a in page.all("a"))
    assert all(th["scope"] for th in page.all("th")) and page.all("th")
    pictures = [svg for svg in page.all("svg") if "aria-hidden" not in svg]
    assert pictures and all(svg["role"] == "img" and svg["aria-label"] for svg in pictures)
    assert any(
        re.match(r"Loss: training from 40 to 1, between 1 and 40, steps 1 to 40", s["aria-label"]) for s in pictures
    )
    assert page.all("audio") and all(sound["aria-label"] and "controls" in sound for sound in page.all("audio"))
    reached = [attributes for _, attributes in page.elements if "tabindex" in attributes]
    assert reached and all(one["tabindex"] == "0" for one in reached)  # in the order of the page
    assert all(one.get("aria-label") for one in reached if one.get("role") == "group")


def test_what_has_the_focus_shows_and_text_stands_out():
    style = (page.HERE / "report.css").read_text()
    assert ":focus-visible { outline: 2px solid var(--c0)" in style and "outline: none" not in style
    light, dark = (
        dict(re.findall(r"--([\w-]+): (#\w{6});", block))
        for block in re.findall(r":root \{(.*?)\n *\}", style, re.DOTALL)
    )
    assert light.keys() == dark.keys()
    for colours in (light, dark):
        for text in ("ink", "quiet", "c0", "c1", "sub", "del", "ins"):
            for field in {"sub", "del", "ins"} & {text} or {"page", "field"}:
                behind = colours[f"{field}-field"] if field == text else colours[field]
                least = 3.0 if text in ("c0", "c1") else 4.5  # lines, and text (WCAG 2.2, 1.4.3 and 1.4.11)
                assert contrast(colours[text], behind) >= least, (text, field)


def contrast(one: str, other: str) -> float:
    """The ratio of two colours' luminances (WCAG 2.2)."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_curves_have_the_numbers_of_the_log(workdir):
    _, page = read(workdir)
    pictures = [attributes for attributes in page.all("svg") if "data-chart" in attributes]
    drawn = {a["aria-label"].partition(":")[0]: json.loads(a["data-chart"]) for a in pictures}
    log = gather.read_log(workdir / "log.jsonl")
    train_loss, valid_loss = drawn["Loss"]
    assert [p[2:] for p in train_loss["points"]] == [[r["step"], charts.figure(r["loss"])] for r in log.train]
    assert [p[2:] for p in valid_loss["points"]] == [[r["step"], charts.figure(r["loss"])] for r in log.valid]
    assert [p[3] for p in drawn["Validation errors"][0]["points"]] == ["50.00 %", "25.00 %"]
    assert {"Gradient norm", "Learning rate", "Audio seconds per second", "Loss, ctc part"} <= drawn.keys()


def test_it_is_one_file_and_escapes_what_is_not_its_own(workdir):
    text, page = read(workdir)
    for _, attributes in page.elements:
        for name in ("src", "href"):
            assert attributes.get(name, "data:").startswith(("data:", "#"))
        assert not any(name.startswith("on") for name in attributes)
    assert "http:" not in text and "https:" not in text and "@import" not in text and "url(" not in text
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'")
    assert len(page.all("script")) == 1 and not page.all("img") and len(page.all("style")) == 1
    assert EVIL_ID in page.sections["worst"] and "onerror=alert(2)>" in page.sections["worst"]


def test_sums_of_looks(workdir):
    task, params = checkpoint.load_model(workdir)
    rng = np.random.default_rng(0)
    sounds = [rng.integers(-3000, 3000, size, dtype=np.int16) for size in (8000, 4000)]
    examples = [AsrExample("a", sounds[0], np.array([3, 4, 5])), AsrExample("b", sounds[1], np.array([6]))]
    found = looks.look(task, params, examples)
    for one, example in zip(found, examples, strict=True):
        frames = task.frames(len(example.audio))
        assert one.ctc.shape == (frames, len(task.vocabulary))
        assert one.attention.shape == (2, len(example.tokens) + 1, frames)
        np.testing.assert_allclose(one.ctc.sum(axis=1), 1.0, rtol=1e-5)
        np.testing.assert_allclose(one.attention.sum(axis=2), 1.0, rtol=1e-5)


def test_a_look_without_ctc(workdir):
    task, params = checkpoint.load_model(workdir)
    alone = dataclasses.replace(task, ctc_weight=0.0)
    silence = AsrExample("a", np.zeros(4000, np.int16), np.zeros(0, np.int32))
    [found] = looks.look(alone, {name: params[name] for name in ("encoder", "decoder")}, [silence])
    assert found.ctc is None and found.attention.shape == (2, 1, task.frames(4000))


def test_a_run_of_ctc_alone_without_a_test_set(workdir, tmp_path):
    """As it is after the first validation: a model, and nothing decoded."""
    cfg = config.from_mapping(TrainConfig, config.read_yaml(workdir / "config.yaml"), where="test")
    task, params = checkpoint.load_model(workdir)
    changes = {"decoder": None, "ctc_weight": 1.0}
    task, cfg_task = dataclasses.replace(task, **changes), dataclasses.replace(tiny.TASK, **changes)
    checkpoint.save_model(tmp_path / "model", task, {name: params[name] for name in ("encoder", "ctc")})
    cfg = dataclasses.replace(cfg, task=cfg_task, test=(), workdir=str(tmp_path))
    (tmp_path / "config.yaml").write_text(config.to_yaml(cfg))
    report.write(tmp_path, tmp_path / "report.html", worst=2)
    text, page = read(tmp_path)
    assert "not started" in page.sections[""] and "The run has no test set" in page.sections[""]
    assert "CTC posteriors of" in text and "Attention of" not in text
    assert "curves" not in page.sections and "buckets" not in page.sections


def test_an_interrupted_run(copied):
    log_of(copied, lambda r: r if r["split"] not in ("kept", "test") else None)
    shutil.rmtree(copied / "test")
    report.write(copied, copied / "report.html", worst=3)
    _, page = read(copied)
    assert "interrupted" in page.sections[""] and "No test set has been scored" in page.sections[""]
    assert "WER, valid by ctc_greedy" in page.sections[""]
    with checkpoint.claimed(copied):
        assert gather.read(copied).status == "running"
    shutil.rmtree(copied / "model")
    report.write(copied, copied / "report.html")
    _, page = read(copied)
    assert "no model there" in page.sections[""] and "worst" not in page.sections and "curves" in page.sections


@pytest.mark.parametrize(
    ("name", "content", "message", "scored"),
    [
        ("tokens.txt", None, "tokens.txt: No such file or directory; a list of tokens", False),
        ("config.yaml", ": [", "config.yaml:1: ", False),
        ("config.yaml", "task: asr\nwidth: 3\n", "no such option", False),
        ("am.mvn", None, "am.mvn: no such file; the feature statistics", False),
        ("params.safetensors", "", "parameters in a safetensors file were expected", True),
    ],
)
def test_a_model_that_cannot_be_read(copied, name, content, message, scored):
    (copied / "model" / name).unlink()
    if content is not None:
        (copied / "model" / name).write_text(content)
    report.write(copied, copied / "report.html")
    _, page = read(copied)
    assert message in page.sections[""] and "curves" in page.sections and "worst" not in page.sections
    assert ("as the run logged it" in page.sections["errors"]) == (not scored)
    assert "run the report in the folder" not in page.sections["errors"]


def test_damaged_records(copied):
    log_of(copied, lambda r: r["data"]["train"].pop("speeds") and r if r["split"] == "session" else r)
    log = copied / "log.jsonl"
    log.write_text(log.read_text() + '{"split": "train", "step": null}\n')
    for file in copied.glob("test/*/hyp.jsonl"):
        first, second, third, *rest = map(json.loads, file.read_text().split("\n")[:-1])
        del first["tokens"]
        second["text"] += "\u2028"
        third["tokens"] = [1000]
        rows = [first, second, third, *rest]
        file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    report.write(copied, copied / "report.html", worst=1)
    _, page = read(copied)
    assert "damaged: 1 line (" in page.sections[""] and "finished" in page.sections[""]
    assert "Not as this version logs it." in page.sections["data"]
    assert "as the run logged it" not in page.sections["errors"] and "looks" in page.sections


def test_what_cannot_be_looked_at(copied, monkeypatch):
    monkeypatch.setattr(report, "LONGEST_LOOK", 0.01)
    report.write(copied, copied / "report.html", worst=0)
    _, page = read(copied)
    assert "No closer look: the utterances are all longer than 0.01 s." in page.sections[""]
    assert "looks" not in page.sections
    file = copied / "test" / "ctc_greedy" / "hyp.jsonl"
    file.write_text(file.read_text().replace('"tokens"', '"ids"'))
    report.write(copied, copied / "report.html", worst=0)
    assert "No closer look: no hypothesis comes with its tokens" in read(copied)[1].sections[""]


def test_a_closer_look_at_given_features(workdir, tmp_path):
    cfg = config.from_mapping(TrainConfig, config.read_yaml(workdir / "config.yaml"), where="test")
    task, params = checkpoint.load_model(workdir)
    changes = {"frontend": GivenFeatures(width=16, lfr_m=5, lfr_n=3), "preprocess": None}
    checkpoint.save_model(tmp_path / "model", dataclasses.replace(task, **changes), params)
    rows = [{"id": name, "path": f"{name}.npy", "text": "ONE"} for name in "abc"]
    (tmp_path / "valid.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for row in rows:
        np.save(tmp_path / row["path"], np.random.default_rng(0).normal(size=(90, 16)).astype(np.float32))
    cfg = dataclasses.replace(cfg, valid=(str(tmp_path / "valid.jsonl"),), test=(), workdir=str(tmp_path))
    cfg = dataclasses.replace(cfg, task=dataclasses.replace(tiny.TASK, **changes))
    (tmp_path / "config.yaml").write_text(config.to_yaml(cfg))
    report.write(tmp_path, tmp_path / "report.html", worst=1)
    text, page = read(tmp_path)
    assert "No sound: the model reads features." in page.sections["looks"] and "<audio" not in text
    assert "CTC posteriors of" in text and "Attention of" in text and ">Spectrogram" not in text


def test_sound_or_references_that_are_gone(copied, tmp_path, monkeypatch):
    manifest = tmp_path / "moved"
    shutil.copytree(copied.parent / "copy", tmp_path / "unused")
    test = next(r["path"] for r in records(copied) if r["split"] == "test")
    shutil.copytree(test, manifest)
    recordings = [line.split()[0] for line in (manifest / "wav.scp").read_text().splitlines()]
    (manifest / "wav.scp").write_text("".join(f"{name} gone-{name}.flac\n" for name in recordings))
    monkeypatch.chdir(tmp_path)
    log_of(copied, lambda r: r | {"path": "moved"} if r["split"] == "test" else r)
    report.write(copied, copied / "report.html", worst=2)
    _, page = read(copied)
    assert "No sound: " in page.sections["worst"] and not page.all("audio")
    shutil.rmtree(manifest)
    report.write(copied, copied / "report.html", worst=2)
    _, page = read(copied)
    assert "moved: no such file or folder" in page.sections["errors"]
    assert "as the run logged it" in page.sections["errors"]
    assert "WER, valid by ctc_greedy" in page.sections[""]


def test_relative_paths_are_those_of_the_folder_that_the_run_was_started_in(copied, monkeypatch, tmp_path):
    test = next(r["path"] for r in records(copied) if r["split"] == "test")
    folder = pathlib.Path(test).parent

    def moved(record):
        return record | {"session": {"folder": str(folder)}, "test": {"path": "test"}}.get(record["split"], {})

    log_of(copied, moved)
    monkeypatch.chdir(tmp_path)
    assert all(item.score is not None for item in gather.read(copied).tests)


def test_references_are_cleaned_as_the_training_text_was(copied):
    file = copied / "model" / "config.yaml"
    file.write_text(yaml.safe_dump(config.read_yaml(file) | {"cleaners": ["lower"]}))
    [first, _] = gather.read(copied).tests
    assert first.score.wer.rate == 1.0  # of hypotheses that are as they were, in capitals
    assert all(u.reference == u.reference.lower() for u in first.score.utterances)


def test_a_log_of_two_sessions(tmp_path):
    def line(split, step, **more):
        return json.dumps({"time": 100.0 + step, "split": split, "step": step, "loss": 1.0, **more})

    first = [line("session", 0), line("train", 10), line("valid", 10), line("train", 20), line("train", 30)]
    second = [line("session", 15, time=500.0), line("train", 20, loss=2.0, time=510.0), '{"split": "tr']
    (tmp_path / "log.jsonl").write_text("\n".join([*first, "\0\0power cut", *second]))
    log = gather.read_log(tmp_path / "log.jsonl")
    assert [(r["step"], r["loss"]) for r in log.train] == [(10, 1.0), (20, 2.0)]
    assert [s.last_step for s in log.sessions] == [30, 20] and log.seconds == 30.0 + 10.0
    assert log.damaged == [6] and log.kept is None
    assert gather.read_log(tmp_path / "absent.jsonl").train == []


def test_scores_are_those_of_the_model_that_was_kept_last():
    log = gather.Log()

    def add(split, step=0, **more):
        log.add({"split": split, "step": step, "time": 1.0, **more})

    for split in ("train", "valid", "kept"):
        add(split, 10)
    add("test", search="ctc_greedy", wer=0.3)
    assert log.kept is not None and len(log.tests) == 1
    add("valid", 11)  # before any line of the steps since
    assert log.kept is None and len(log.tests) == 1
    add("kept", 11)
    for name in ("test0", "test1"):
        add(name, search="ctc_greedy", wer=0.1)
    assert [record["wer"] for record in log.tests.values()] == [0.1, 0.1]


def test_a_report_that_fails_does_not_fail_the_run(tmp_path):
    said = []
    report.at_end(tmp_path, said.append)
    assert len(said) == 1
    assert (
        said[0].startswith("report: ConfigError: ") and f"to try again: python -m jaxasr.report {tmp_path}" in said[0]
    )


def test_the_command_line(copied, capsys):
    __main__.main(["report", str(copied), "--worst=0", f"--output={copied}/deep/r.html"])
    assert capsys.readouterr().out == f"{copied}/deep/r.html\n"
    assert "worst" not in Page((copied / "deep" / "r.html").read_text()).sections
    for arguments, message in (
        ([f"{copied}/model"], "no run there; the workdir of one"),
        ([str(copied), "--worst=-1"], "--worst=-1"),
        ([str(copied), "--picture_width=499"], "at least 500 pixels"),
        ([str(copied), f"--output={copied}/log.jsonl/r.html"], "a file to write was expected"),
    ):
        with pytest.raises(SystemExit) as caught:
            report.main(arguments)
        assert caught.value.code == 2 and message in capsys.readouterr().err


def test_sowing_attention_costs_training_nothing(monkeypatch):
    decoder, rows = tiny.TASK.decoder, (np.zeros((2, 3), np.int32), np.zeros((2, 9, 16), np.float32), np.full(2, 9))
    init = functools.partial(decoder.init, vocab_size=5, train=False)
    variables = jax.eval_shape(init, jax.random.key(0), *rows)
    assert set(variables) == {"params"}

    def program() -> str:
        def total(variables):
            keys = {"dropout": jax.random.key(0)}
            return decoder.apply(variables, *rows, vocab_size=5, train=True, rngs=keys)[0].sum()

        return jax.jit(jax.grad(total)).lower(variables).as_text()

    sowing = program()
    monkeypatch.setattr(nn.Module, "sow", lambda *_, **__: False)
    assert program() == sowing


# --- in a browser ------------------------------------------------------------------------------------------------

needs_chromium = pytest.mark.skipif(
    browser.find() is None,
    reason="no chromium: the report was not looked at in a browser (Debian: apt install chromium)",
)


@needs_chromium
def test_in_a_browser(workdir, tmp_path):
    page = browser.picture(workdir / "report.html", tmp_path / "report.png", width=900)
    assert page.console == []
    assert 3000 < page.height < browser.TALLEST  # which its script measured, so the policy lets it run
    content = (tmp_path / "report.png").read_bytes()
    assert struct.unpack(">II", content[16:24]) == (900, page.height)
    assert len(set(rows_of(content, page.height))) > 500  # a blank page has one or two


def rows_of(png: bytes, height: int) -> list[bytes]:
    """The rows of a PNG, still filtered."""
    packed, position = b"", 8
    while position < len(png):
        size, kind = struct.unpack(">I4s", png[position : position + 8])
        packed += png[position + 8 : position + 8 + size] if kind == b"IDAT" else b""
        position += 12 + size
    raw = zlib.decompress(packed)
    width = len(raw) // height
    return [raw[i : i + width] for i in range(0, len(raw), width)]


POINTER = """
const chart = document.querySelector("svg[data-chart]"), box = chart.getBoundingClientRect();
const at = { clientX: box.left + box.width / 2, clientY: box.top + 20 };
chart.dispatchEvent(new PointerEvent("pointermove", at));
addEventListener("load", () => {
  document.body.dataset.wide = document.documentElement.scrollWidth;
  const sounds = [...document.querySelectorAll("audio")];
  document.body.dataset.heard = sounds.filter((audio) => audio.duration > 0.1).length;
  const audio = document.querySelector(".look audio");
  Object.defineProperty(audio, "currentTime", { value: 0.1 });
  audio.dispatchEvent(new Event("seeked"));
});
"""


@needs_chromium
def test_the_page_asks_the_network_for_nothing(workdir, tmp_path):
    """All that Chromium sends goes through a proxy of ours, which hears nothing of the page, but of one that asks."""
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        asked: list[bytes] = []

        def listen():
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = proxy.accept()
                    asked.append(connection.recv(1000))
                    connection.close()

        threading.Thread(target=listen, daemon=True).start()
        through = f"--proxy-server=127.0.0.1:{proxy.getsockname()[1]}"
        browser.load(workdir / "report.html", through)
        ours = [request for request in asked if b"google" not in request]
        (tmp_path / "asks.html").write_text("<img src='http://example.com/a.png'>")
        browser.load(tmp_path / "asks.html", through)
        assert ours == [] and any(b"http://example.com/a.png" in request for request in asked)
        proxy.shutdown(socket.SHUT_RDWR)


@needs_chromium
def test_values_under_the_pointer_and_a_line_that_follows_the_sound(workdir, tmp_path):
    text = (workdir / "report.html").read_text()
    text = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)  # or this script would not run
    (tmp_path / "page.html").write_text(text.replace("</body>", f"<script>{POINTER}</script></body>"))
    assert 'data-wide="500"' in browser.load(tmp_path / "page.html", width=500).dom  # a long word makes it no wider
    page = browser.load(tmp_path / "page.html")
    assert page.console == [] and 'data-wide="1120"' in page.dom
    assert f'data-heard="{text.count("<audio")}"' in page.dom
    tip = re.search(r'<div class="tip"[^>]*>(.*?)</div></div>', page.dom)
    assert re.match(r"<div>step \d+</div><div>training [\d.]+", tip[1])
    assert "visibility: visible" in re.search(r'<line [^>]*class="playhead"[^>]*>', page.dom)[0]


def test_without_chromium_a_picture_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(browser, "find", lambda: None)
    with pytest.raises(ConfigError, match=r"PNG: no chromium .* Debian's and Ubuntu's package chromium"):
        browser.picture(tmp_path / "a.html", tmp_path / "a.png")


@pytest.mark.parametrize("name", ["", "file/x.png"])
def test_a_picture_that_cannot_be_written_is_refused(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match=r"; a file to write was expected; choose another\."):
        browser.picture(tmp_path / "a.html", tmp_path / name)


def test_what_is_left_out_of_a_picture_is_said(monkeypatch, tmp_path, capsys):
    def draw(page, *flags):
        assert "--window-size=700,16000" in flags
        (tmp_path / "a.png").touch()

    monkeypatch.setattr(browser, "load", lambda *_, **__: browser.Loaded('<html data-height="17000">', []))
    monkeypatch.setattr(browser, "_run", draw)
    browser.picture(tmp_path / "a.html", tmp_path / "a.png", width=700)
    assert "a.png: the upper 16000 of the page's 17000 pixels" in capsys.readouterr().err


# --- parts -------------------------------------------------------------------------------------------------------


def test_elements_escape_text_and_attributes():
    made = el("p", "<b>", el("i", "&"), None, ["x", 1.50], class_='"', data_a="'", hidden=True, id=None)
    assert made == '<p class="&quot;" data-a="&#x27;" hidden>&lt;b&gt;<i>&amp;</i>x1.5</p>'


def test_counts_are_rounded_before_their_unit_is_chosen():
    numbers = [3, 9999, 12_345, 999_400, 999_700, 2_154_000, 999.96e6, 1.5e9]
    assert list(map(count, numbers)) == ["3", "9999", "12.3 k", "999 k", "1 M", "2.15 M", "1 G", "1.5 G"]


def test_png_is_one_colour_of_growing_opacity():
    values = np.array([[0.0, 0.5, 1.0], [2.0, -1.0, 0.25]])
    content = heat.png(values, (1, 2, 3))
    assert struct.unpack(">II", content[16:24]) == (3, 2)
    assert [list(row[1:]) for row in rows_of(content, 2)] == [[0, 128, 255], [255, 0, 64]]
    assert b"PLTE" + bytes((1, 2, 3)) * 256 in content and b"tRNS" + bytes(range(256)) in content


def test_a_tone_is_in_its_place_of_the_spectrogram():
    rate = 8000
    sound = (8000 * np.sin(2 * np.pi * 1000 * np.arange(rate) / rate)).astype(np.int16)
    panel = heat.spectrogram(sound, rate)
    rows = panel.values[:, 50]
    assert rows.argmax() == pytest.approx(0.75 * len(rows), abs=1.5)  # 1 kHz of 4, the lowest row at the bottom
    assert panel.seconds == pytest.approx(1.0, abs=0.01)
    assert heat.spectrogram(np.zeros(1, np.int16), rate).values.shape[1] == 1


@pytest.mark.parametrize(
    ("low", "high", "logarithmic", "expected"),
    [
        (0.0, 100.0, False, [0, 20, 40, 60, 80, 100]),
        (0.31, 0.62, False, [0.4, 0.5, 0.6]),
        (0.5, 70.0, True, [0.5, 1, 2, 5, 10, 20, 50]),
        (1e-4, 1e4, True, [1e-4, 1e-2, 1, 100, 1e4]),
    ],
)
def test_ticks(low, high, logarithmic, expected):
    found = charts.Axis(low, high, 0.0, 100.0, logarithmic).ticks(6)
    np.testing.assert_allclose(found, expected)


def test_charts_of_odd_curves():
    assert charts.line_chart("none", [charts.Series("a", [])]) is None
    assert charts.line_chart("no numbers", [charts.Series("a", [(1, float("nan"))])]) is None
    for points in ([(5, 0.0)], [(5, 1.0), (6, 1.0)], [(i, float(i % 7)) for i in range(5000)]):
        drawn = charts.line_chart("some", [charts.Series("a", points)], wide=True)
        shown = json.loads(Page(drawn).all("svg")[-1]["data-chart"])[0]["points"]
        assert len(shown) <= charts.MOST_POINTS + 1 and shown[-1][2] == points[-1][0]


def test_errors_by_word_by_hand():
    texts = {"a": ("one two three", "one too three extra"), "b": ("two two", "too"), "c": ("红 绿", "红 蓝")}
    found = score({k: v[0] for k, v in texts.items()}, {k: v[1] for k, v in texts.items()})
    by_word = {entry.word: entry for entry in words.by_word(found.utterances)}
    two = by_word["two"]
    assert (two.count, two.substituted, two.deleted, two.wrong) == (3, 2, 1, 3) and two.heard_as == {"too": 2}
    assert by_word["extra"].inserted == 1 and by_word["one"].wrong == 0
    assert by_word["绿"].heard_as == {"蓝": 1}  # by characters
    assert words.confusions(by_word.values()) == [("two", "too", 2), ("绿", "蓝", 1)]
    assert sum(entry.wrong for entry in by_word.values()) == 5


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["--encoder=transformer", "--normalizer=none", "--preprocess.speeds", "1.0", "--schedule=warmup_linear"],
        ["--decoder=none", "--ctc_weight=1.0", "--train", "a", "b", "--workdir=x"],
    ],
)
def test_changed_options_make_the_same_configuration(argv):
    cfg = command_line.parse(TrainConfig, argv, prog="test", description="")
    found = config.changed(cfg)
    assert config.from_mapping(TrainConfig, found, where="test") == cfg
    assert len(found) <= 1 + len([a for a in argv if a.startswith("--")])


# --- info --------------------------------------------------------------------------------------------------------


def test_info_of_a_workdir_and_of_a_model_alone(workdir, tmp_path, capsys):
    found = info.describe(workdir)
    task, params = checkpoint.load_model(workdir)
    assert found["parameters"]["total"] == sum(leaf.size for leaf in jax.tree.leaves(params))
    assert set(found["parameters"]["parts"]) == {"encoder", "decoder", "ctc"}
    assert found["layers"] == {name: getattr(task, name).num_layers for name in ("encoder", "decoder")}
    assert found["resources"]["hash"] == task.resources_hash()
    assert {t["search"]: t["wer"] for t in found["run"]["tests"]} == {
        r["search"]: r["wer"] for r in records(workdir) if r["split"] == "test"
    }
    alone = info.describe(workdir / "model")
    assert alone == found | {"run": None}
    shutil.copytree(workdir / "model", tmp_path / "m" / "model")
    assert info.describe(tmp_path / "m") == alone | {"model": str(tmp_path / "m" / "model")}
    __main__.main(["info", str(workdir), "--json"])
    assert json.loads(capsys.readouterr().out) == found
    __main__.main(["info", str(workdir)])
    said = capsys.readouterr().out
    for line in (
        r"encoder +sanm: num_layers 2, d_model 16, num_heads 2, d_ff 32, kernel_size 5",
        r"tokenizer +word",
        r"sound +8000 Hz, 30 ms per encoder frame",
        r"vocabulary +\d+ tokens: <blank> <s> </s> EIGHT",
        r"trained +40 steps, 2.0 epochs, .*; finished",
        r"best +validation wer 25.00 % at step 40",
        r"test +WER [\d.]+ % \(95 % interval [\d.]+ % to [\d.]+ %\) by ctc_greedy",
    ):
        assert re.search(rf"^{line}", said, re.MULTILINE), line


def test_running_statistics_are_no_parameters(workdir, tmp_path):
    shutil.copytree(workdir / "model", tmp_path / "model")
    before = info.describe(tmp_path / "model")
    assert before["parameters"]["statistics"] == 0
    file = tmp_path / "model" / checkpoint.PARAMS_FILE
    checkpoint.save_params(file, with_stats(checkpoint.load_params(file), {"encoder": {"mean": np.zeros(7)}}))
    found = info.describe(tmp_path / "model")
    for name in ("total", "parts"):
        assert found["parameters"][name] == before["parameters"][name]
    assert ("statistics", "7 numbers that run along, of batch norms") in list(info.lines(found))


def test_info_compiles_nothing(workdir):
    compiled = []
    jax.monitoring.register_event_duration_secs_listener(lambda name, *_, **__: compiled.append(name))
    assert info.describe(workdir)["task"] == "asr"
    assert not [name for name in compiled if "backend_compile" in name]
    jax.jit(lambda x: x + 4321)(1)
    assert [name for name in compiled if "backend_compile" in name]  # which it would have been told of
