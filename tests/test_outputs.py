"""Every format is read again, by readers that know nothing of what wrote it."""

import dataclasses
import hashlib
import html
import json
import os
import re
from types import SimpleNamespace

import jax
import numpy as np
import pytest
import yaml
from rich.cells import cell_len

from jaxasr.data.tokenizer import CharTokenizer, Vocabulary
from jaxasr.decode import DecodeOptions
from jaxasr.errors import DataError
from jaxasr.hypothesis import Alternative, Hypothesis, Word, hypothesis_of, with_words
from jaxasr.outputs import files
from jaxasr.outputs.formats import FORMATS, needing_times, use_times
from jaxasr.outputs.subtitles import cues
from jaxasr.search.alignment import ctc_align
from jaxasr.searching import SearchFlags

from . import tiny

ROWS, TOKENS = 1000, 40
SYMBOLS = (*"abcdefg<>&\"'.", "<space>", "你", "好")

# --- readers -----------------------------------------------------------------------------------------------------


def seconds(stamp: str, point: str) -> float:
    hours, minutes, rest = re.fullmatch(rf"(\d\d+):([0-5]\d):([0-5]\d\{point}\d\d\d)", stamp).groups()
    return 3600 * int(hours) + 60 * int(minutes) + float(rest.replace(point, "."))


def read_cues(body: str, point: str, numbered: bool):
    """(start, end, lines) of blocks that end in an empty line."""
    found = []
    blocks = body.split("\n\n")
    assert blocks.pop() == ""
    for number, block in enumerate(blocks, 1):
        first, *rest = block.split("\n")
        if numbered:
            assert first == str(number)
            first, *rest = rest
        start, end = first.split(" --> ")
        assert rest and all(line.strip() == line != "" for line in rest)
        found.append((seconds(start, point), seconds(end, point), rest))
    return found


def read_srt(content: str):
    return read_cues(content, ",", numbered=True)


def read_vtt(content: str):
    head, body = content.split("\n\n", 1)
    assert head == "WEBVTT" and not re.search(r"[<>](?!.*\d\d:)|&(?!amp;|lt;|gt;)", body.replace(" --> ", " "))
    return [(start, end, list(map(html.unescape, lines))) for start, end, lines in read_cues(body, ".", numbered=False)]


def read_tsv(content: str):
    head, *rows = content.removesuffix("\n").split("\n")
    assert head == "start\tend\ttext"
    return [(int(start) / 1000, int(end) / 1000, text) for start, end, text in (row.split("\t") for row in rows)]


def read_ctm(content: str):
    rows = [re.fullmatch(r"(\S+) 1 (\d+\.\d{3}) (\d+\.\d{3}) (\S+) ([01]\.\d{4})", r) for r in content.splitlines()]
    return [(r[1], float(r[2]), float(r[3]), r[4], float(r[5])) for r in rows]


def read_textgrid(content: str):
    """Tiers by name, each of intervals that follow one another from 0 to the end."""
    lines = iter(content.removesuffix("\n").split("\n"))

    def value(pattern: str) -> str:
        line = next(lines)
        match = re.fullmatch(pattern, line.strip())
        assert match, (pattern, line)
        return match[1] if match.groups() else ""

    value('File type = "ooTextFile"'), value('Object class = "TextGrid"'), value(""), value("xmin = 0")
    end, _ = float(value(r"xmax = (.*)")), value(r"tiers\? <exists>")
    tiers = {}
    size, _ = int(value(r"size = (\d+)")), value(r"item \[\]:")
    for tier in range(1, size + 1):
        value(rf"item \[{tier}\]:"), value('class = "IntervalTier"')
        name, _ = value('name = "(.*)"'), value("xmin = 0")
        assert float(value("xmax = (.*)")) == end
        found, at = [], 0.0
        for number in range(1, int(value(r"intervals: size = (\d+)")) + 1):
            value(rf"intervals \[{number}\]:")
            start, stop, text = float(value("xmin = (.*)")), float(value("xmax = (.*)")), value('text = "(.*)"')
            assert start == at < stop and not re.search('(?<!")"("")*(?!")', text)
            found.append((start, stop, text.replace('""', '"')))
            at = stop
        assert at == end
        tiers[name] = found
    assert next(lines, None) is None
    return tiers, end


# --- what is written ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def aligned() -> list[Hypothesis]:
    """1,000 random texts, each somewhere in a sound of its own."""
    task = dataclasses.replace(tiny.TASK, tokenizer=CharTokenizer()).with_resources(
        vocabulary=Vocabulary(("<blank>", "<s>", "</s>", *SYMBOLS, "<unk>"))
    )
    rng = np.random.default_rng(0)
    samples = rng.integers(24_000, 64_000, ROWS)
    lengths, size = np.asarray(task.frames(samples)), len(task.vocabulary)
    logits = rng.normal(scale=3.0, size=(ROWS, lengths.max(), size)).astype(np.float32)
    tokens, counts = rng.integers(3, size, (ROWS, TOKENS)).astype(np.int32), rng.integers(0, TOKENS + 1, ROWS)
    tokens[rng.random((ROWS, TOKENS)) < 0.2] = 3 + SYMBOLS.index("<space>")
    found = jax.device_get(jax.jit(ctc_align)(logits, lengths, tokens, counts))
    return [with_words(task, hypothesis_of(task, found, row, f"u{row}", int(n))) for row, n in enumerate(samples)]


def test_formats_of_1000_alignments(aligned):
    for said in aligned:
        assert [w.text for w in said.words] == re.findall(r"[一-龥]|[^\s一-龥]+", said.text)
        shown = [(w.start, w.end, w.text) for w in said.words]
        rows = read_ctm(FORMATS["ctm"].of(said))
        assert [(name, word) for name, _, _, word, _ in rows] == [(said.id, text) for *_, text in shown]
        times = [(start, start + duration) for _, start, duration, _, _ in rows]
        np.testing.assert_allclose(np.reshape(times, (-1, 2)), np.reshape([s[:2] for s in shown], (-1, 2)), atol=1.1e-3)
        tiers, end = read_textgrid(FORMATS["TextGrid"].of(said))
        assert end == round(said.seconds, 6)
        assert [i for i in tiers["words"] if i[2]] == [(round(a, 6), round(b, 6), text) for a, b, text in shown]
        tokens = [(round(a, 6), round(b, 6), p) for (a, b), p in zip(said.times, said.pieces, strict=True)]
        assert [i for i in tiers["tokens"] if i[2]] == [token for token in tokens if token[2]]
        row = json.loads(FORMATS["json"].of(said))
        assert row == json.loads(FORMATS["jsonl"].of(said)) and row["text"] == said.text
        assert [w["word"] for w in row["words"]] == [w.text for w in said.words]
        srt, vtt, tsv = (read(FORMATS[name].of(said)) for name, read in READERS.items())
        assert srt == vtt and [(start, end, " ".join(lines)) for start, end, lines in srt] == tsv
        assert re.sub(r"\s", "", "".join(text for *_, text in tsv)) == re.sub(r"\s", "", said.text)


READERS = {"srt": read_srt, "vtt": read_vtt, "tsv": read_tsv}


def test_words_are_within_their_cues(aligned):
    several = 0
    for said in aligned:
        words, before = list(said.words), 0.0
        for cue in cues(said):
            text = re.sub(r"\s", "", "".join(cue.lines))
            mine = []
            while text:
                mine.append(words.pop(0))
                assert text.startswith(mine[-1].text)
                text = text.removeprefix(mine[-1].text)
            assert before <= cue.start == mine[0].start and mine[-1].end <= cue.end <= said.seconds
            assert len(mine) == 1 or (cue.end - cue.start <= 7.0 and max(map(cell_len, cue.lines)) <= 42)
            assert len(cue.lines) <= 2
            before, several = cue.end, several + (len(mine) > 1)
        assert not words
    assert several > ROWS // 2


def spoken(text: str, *times: tuple[float, float], seconds: float = 60.0) -> Hypothesis:
    words = [Word(word, *time, 1.0) for word, time in zip(re.findall(r"[一-龥]|[^\s一-龥]+", text), times, strict=True)]
    return Hypothesis("u", text, 0.0, [], [], [], words, seconds=seconds)


def test_cues_by_hand():
    said = spoken("one two three", (0.5, 0.6), (1.0, 1.1), (2.0, 2.1))
    assert [(c.start, c.end, c.lines) for c in cues(said)] == [(0.5, 1.5, ["one two"]), (2.0, 3.0, ["three"])]
    assert [c.end for c in cues(said._replace(seconds=2.2))] == [1.5, 2.2]
    assert cues(spoken("")) == []
    long = " ".join(["sixteen-letters-"] * 9)
    times = [(0.3 * k, 0.3 * k + 0.2) for k in range(9)]
    lines = [cue.lines for cue in cues(spoken(long, *times))]
    assert lines == [["sixteen-letters- sixteen-letters-"] * 2] * 2 + [["sixteen-letters-"]]
    slow = [(0.7 * k, 0.7 * k + 0.2) for k in range(12)]
    assert [c.lines for c in cues(spoken(" ".join("abcdefghijkl"), *slow))] == [["a b c d e f g h i j"], ["k l"]]
    mixed = cues(spoken("你好 ok 吧", *[(k, k + 0.5) for k in range(4)]))
    assert [c.lines for c in mixed] == [["你好 ok 吧"]]
    endless = "x" * 50
    assert [c.lines for c in cues(spoken(f"a {endless} b", (0, 0.1), (0.2, 0.3), (0.4, 0.5)))] == [
        ["a"],
        [endless],
        ["b"],
    ]


def test_hours_are_written():
    (cue,) = read_srt(FORMATS["srt"].of(spoken("a", (36_000.0, 36_001.5), seconds=40_000.0)))
    assert cue == (36_000.0, 36_001.5, ["a"])


def test_what_a_search_cannot_say_is_not_written():
    said = Hypothesis("u", "a", -1.5, [3])
    assert FORMATS["jsonl"].of(said) == '{"id": "u", "text": "a", "score": -1.5, "tokens": [3]}\n'
    assert json.loads(FORMATS["json"].of(said._replace(score=-np.inf))) == {"id": "u", "text": "a", "tokens": [3]}
    row = json.loads(
        FORMATS["json"].of(said._replace(nbest=[Alternative("a", -1.5, [3]), Alternative("b", -2.0, [4])]))
    )
    assert row["nbest"][1] == {"text": "b", "score": -2.0, "tokens": [4]}


def test_files_of_a_folder(tmp_path, monkeypatch):
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    said = [spoken("a b", (0.0, 0.5), (0.5, 1.0))._replace(id=name) for name in ("one", "deep/er/two")]
    files.write(tmp_path, said, list(FORMATS))
    each = {f"{s.id}.{name}" for s in said for name in ("txt", "json", "srt", "vtt", "tsv", "TextGrid")}
    found = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*") if p.is_file()}
    assert found == each | {"text", "hyp.jsonl", "ctm"}
    assert (tmp_path / "text").read_text() == "one a b\ndeep/er/two a b\n"
    assert (tmp_path / "deep" / "er" / "two.txt").read_text() == "a b\n"
    assert len(synced) == 2 * 3  # a file and its folder; not one for every utterance
    assert use_times(["json"]) and not use_times(["text", "txt"]) and needing_times(FORMATS) == [
        "ctm", "srt", "vtt", "tsv", "TextGrid"
    ]  # fmt: skip


NO_NAMES = [
    "", ".", "..", "/", "//", "/etc/a", "/etc/passwd", "//server/share/a", "../a", "../../a", "../../../../../../etc/a",
    "a/../../b", "a/../b", "a/..", "a/.", "./a", "a/./b", "a//b", "a/", "../", "./", "..//a", "a/../../../b", "/../a",
    "a\0b", "\0", "../a\0", "a/\0", "é" * 101, "x" * 201, "x" * 300, "a/" + "x" * 300, "😀" * 80, "x/" * 1500 + "x",
    "\ud800", "a/\udcff", "\udc2e\udc2e/a", "away/a", "away/deep/a", "up/a", "deep/up/a",
]  # fmt: skip
NAMES = [
    "a", "a-1", "a_b", "a.b", "a..b", "..a", "a..", "...", ".hidden", "~", "~root", "~/a", "$HOME", "$(id)", "`id`",
    "a;b", "a|b", "a&b", "a>b", "a<b", "*", "?", "[a]", "{a}", "!", "#", "%2e%2e%2fa", "..%2fa", "..%c0%afa", "%00",
    "%s%n", "..\\a", "..\\..\\a", "C:\\a", "C:a", "\\\\server\\share", "CON", "NUL", "aux", "a\nb", "\r\n", "\t",
    "\x1b[2J", "\x7f", "\x01", "\u202egpj", "\u200b", "\ufeffa", "．．／a", "‥/a", "é" * 100, "e\u0301", "日本語", "😀",
    "👩‍👩‍👧", "-", "--", "-rf", "--output=b", "text", "hyp.jsonl", "decode.yaml", "'", '"', "a b", " a", "a ",
    "x" * 200, "a/b", "a/b/c/d", "deep/a",
]  # fmt: skip


def test_a_hundred_hostile_ids_name_no_file_outside_of_the_folder(tmp_path):
    assert len(NO_NAMES) + len(NAMES) >= 100
    for folder in ("out/deep", "outside/deep"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "out" / "away").symlink_to("../outside")
    (tmp_path / "out" / "up").symlink_to("..")
    (tmp_path / "out" / "deep" / "up").symlink_to("../..")
    before = {*tmp_path.rglob("*")}
    for name in NO_NAMES:
        with pytest.raises(DataError, match=r"an id that names no file in .*; change it, or take text, jsonl or ctm"):
            files.check_ids(tmp_path / "out", [name], ["text", "txt"])
        with pytest.raises(DataError, match="an id that names no file in"):
            files.write(tmp_path / "out", [spoken("")._replace(id=name)], ["txt"])
    assert {*tmp_path.rglob("*")} == before
    files.write(tmp_path / "out", [spoken("")._replace(id=name) for name in NAMES], ["txt", "text"])
    made = {path for path in {*tmp_path.rglob("*")} - before if path.is_file()}
    assert made == {tmp_path / "out" / f"{name}.txt" for name in NAMES} | {tmp_path / "out" / "text"}
    assert all(path.resolve().is_relative_to(tmp_path / "out") for path in made)


def test_what_was_asked_is_kept_beside_the_options(tmp_path):
    for folder in ("asr", "lm"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "config.yaml").touch()
        (tmp_path / folder / "params.safetensors").write_text(folder)
    words = tmp_path / "words.txt"
    words.write_text("ONE\n")
    searching = SearchFlags("ctc_beam", lm=str(tmp_path / "lm"), hotwords=str(words))
    files.write_options(tmp_path / "decode.yaml", DecodeOptions(("a.wav",), str(tmp_path / "asr"), searching))
    kept = yaml.safe_load((tmp_path / "decode.yaml").read_text())
    assert kept["hotwords"] == {"file": str(words), "sha256": hashlib.sha256(b"ONE\n").hexdigest()}
    for name, folder in (("model", "asr"), ("lm", "lm")):
        assert kept[name] == {"folder": str(tmp_path / folder), "sha256": hashlib.sha256(folder.encode()).hexdigest()}
    assert kept["options"]["search"] == "ctc_beam" and "ngram" not in kept and kept["versions"]


def test_what_is_told_at_the_end():
    lines: list[str] = []
    console = SimpleNamespace(print=lambda line, **_: lines.append(line))
    timed, untimed = spoken("a", (0.0, 1.0), seconds=10.0), Hypothesis("v", "a", 0.0, [3], seconds=10.0)
    files.tell([timed, untimed], 4.0, console)
    assert lines[0].endswith(
        "20.0 s of sound in 4.0 s, compiling included: 5.0 audio seconds per second, real-time factor 0.2000"
    )
    assert lines[1:] == ["1 of them without times, for CTC has no path of their tokens: 'v'"]
    files.tell([], 1.0, console)
    assert len(lines) == 3
