import contextlib
import dataclasses
import json
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator

import numpy as np
import pytest

from jaxasr import checkpoint, corpora
from jaxasr.data import check, manifest
from jaxasr.data.check import CheckOptions
from jaxasr.data.checks import CHECKS, advice
from jaxasr.data.checks.hearing import Ears
from jaxasr.data.checks.part import Part, Row, Settings
from jaxasr.data.checks.texts import mended
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.errors import DataError
from tests import tiny
from tests.data.check_cases import CASES, NAMES, TEXTS, build, noise, put, sound

ALL = ("k", "s", "m.jsonl", "m.csv", "m.tsv")


def contents(folder: pathlib.Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def corpus(tmp_path, monkeypatch) -> pathlib.Path:
    build(tmp_path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def given_a_model(monkeypatch) -> None:
    """What a model would tell, of one that takes 16,000 samples a second."""
    monkeypatch.setattr(check, "_of_model", lambda plain, _: dataclasses.replace(plain, rate=16_000))


@pytest.mark.parametrize("name", CHECKS)
def test_a_check_finds_its_fault_and_a_copy_is_rid_of_it(corpus, monkeypatch, name):
    case, wanted = CASES[name], CHECKS[name]
    given_a_model(monkeypatch)
    case.change(corpus)
    Vocabulary.from_texts(TEXTS, check.CharTokenizer()).save("tokens.txt")
    options = CheckOptions(case.paths, sound=case.sound, workers=1, **case.options)
    found, _, _ = check.check(options)
    result = next(r for r in found.results if r.check.name == name)
    assert (result.first.where, result.first.id.removeprefix(f"{corpus}/")) == (case.where, case.id)
    assert found.status == max({"error": 4, "warning": 3, "info": 0}[r.check.severity] for r in found.results)
    before, options = contents(corpus), dataclasses.replace(options, fix="clean")
    if case.lost:
        with pytest.raises(DataError, match="no utterance is left"):
            check.check(options)
        return
    _, copies, again = check.check(options)
    assert again is not None and again.status == 0
    assert wanted.severity == "info" or name not in {r.check.name for r in again.results}
    assert before.items() <= contents(corpus).items()
    told = [json.loads(line) for line in (corpus / "clean" / "left_out.jsonl").read_text().splitlines()]
    assert sum(copy.lines for copy in copies) == len(told) + sum(kept_lines(copy) for copy in copies)
    if wanted.cure == "left out":
        assert case.where in {row["where"] for row in told if row["check"] == name} or any(
            row["check"] == name and row["id"] == result.first.id for row in told
        )
    elif wanted.cure == "written anew":
        assert sum(len(copy.part.rows) for copy in copies) == sum(len(part.rows) for part in found.parts)


def kept_lines(copy) -> int:
    """Lines of a copy that come from its original."""
    if copy.part.form == "kaldi":
        files = [path for path in pathlib.Path(copy.path).iterdir() if path.name != "spk2utt"]
        return sum(len(path.read_text().splitlines()) for path in files)
    return len(manifest.read(copy.path))


def test_every_case_is_that_of_a_check():
    assert CASES.keys() == CHECKS.keys() and len(CHECKS) >= 40


def test_nothing_is_found_where_nothing_is_wrong(corpus):
    Vocabulary.from_texts(TEXTS, check.CharTokenizer()).save("tokens.txt")
    for path in ALL:
        found, copies, again = check.check(
            CheckOptions((path,), tokens="tokens.txt", frame_ms=10, fix=f"clean/{path}", workers=1)
        )
        assert (found.results, again and again.results) == ([], [])
        assert not found.lacking and found.ran == len(CHECKS)
        one, other = manifest.read(path), manifest.read(copies[0].path)
        assert one == other


def test_the_bundled_digits_pass():
    parts = [str(corpora.digits() / split) for split in ("train", "valid", "test")]
    found, _, _ = check.check(CheckOptions(tuple(parts)))
    assert {r.check.severity for r in found.results} == {"info"} and found.status == 0
    assert sum(len(part.rows) for part in found.parts) == 1380


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("plain", "plain"), ("a\tb\n", "a b"), ("soft\u00adly", "softly"), ("cafe\u0301", "caf\u00e9"),
        ("\u200etwo\u200f", "two"), ("\u0645\u06cc\u200c\u0631\u0648\u0645", "\u0645\u06cc\u200c\u0631\u0648\u0645"),
        ("a\u200cb", "ab"), ("\u200b", ""), ("wide\u3000space", "wide\u3000space"),
    ],
)  # fmt: skip
def test_mending(text, clean):
    assert mended(text) == clean == mended(clean)


def test_a_model_tells_tokens_frames_and_rate(tmp_path):
    task = tiny.CTC_TASK.with_resources(vocabulary=Vocabulary(tiny.TOKENS))
    task = dataclasses.replace(task, normalizer=None)
    checkpoint.save_model(tmp_path, task, {"w": np.zeros(1, np.float32)})
    settings = check.settings_of(CheckOptions(("k",), model=str(tmp_path)))
    assert settings.unknown and settings.needed and settings.frames
    assert (settings.rate, settings.unknown("a b"), settings.needed("a a a")) == (8000, ["b"], 5)
    assert settings.frames(1.5) == task.frames(12_000)


def test_the_command(corpus, capsys):
    put("m.jsonl", "two", "tw\\u200bo")(corpus)
    sound("3.wav", 0 * noise(3))(corpus)
    (corpus / "own_checks.py").write_text(
        "from jaxasr.data.checks.table import warning\n"
        "@warning('good', 'the word good', fix='be bad')\n"
        "def good(part):\n"
        "    return (part.at_text(row, row.text) for row in part.rows if 'good' in row.text)\n"
    )
    flags = ["m.jsonl", "--import", "own_checks", "--fix=clean", "--findings=all.jsonl", "--ignore", "silent", "--json"]
    with pytest.raises(SystemExit) as status:
        check.main(flags)
    CHECKS.pop("good")
    told = json.loads(capsys.readouterr().out)
    assert status.value.code == told["exit_status"] == told["copy"]["exit_status"] == 0
    found = [(f["check"], f["count"], f["line"], f["id"]) for f in told["findings"]]
    assert found == [("good", 2, 1, NAMES[0]), ("zero-width", 1, 2, NAMES[1])]
    assert told["copies"] == [{"path": "clean/m.jsonl", "lines": 5, "left_out": 2, "changed": 0}]
    listed = [json.loads(line) for line in (corpus / "all.jsonl").read_text().splitlines()]
    assert [(row["check"], row["line"]) for row in listed] == [("zero-width", 2), ("good", 1), ("good", 2)]
    with pytest.raises(SystemExit) as status:
        check.main(["m.jsonl"])
    shown = capsys.readouterr().out
    assert status.value.code == 3
    assert "m.jsonl:2" in shown and "zero-width" in shown and "without --model or --tokens: unknown-symbols" in shown
    options = "--valid --test --config=an4_sanm --tokenizer=char --encoder.subsampling=conv2d --workdir=exp/mine"
    assert shown.endswith(f"\nNext:\n  python -m jaxasr.train --train m.jsonl {options}\n")


@pytest.mark.parametrize(
    ("paths", "sets"),
    [
        ("a", "--train a --valid --test"),
        ("a b", "--train a --valid --test b"),
        ("a b c", "--train a --valid b --test c"),
        ("a b c d", "--train a b --valid c --test d"),
    ],
)
def test_a_training_comes_next(paths, sets):
    parts = [of_texts(800, "good day", "good day", path=path) for path in paths.split()]
    told = check.next_command(CheckOptions(("k",)), check.Checked(parts, [], 0, {}))
    assert told == f"python -m jaxasr.train {sets} --config=an4_sanm --workdir=exp/mine"


def test_no_training_comes_next_without_any_text():
    found = check.Checked([of_texts(9, "", "")], [], 0, {})
    assert check.next_command(CheckOptions(("a",)), found) == "python -m jaxasr.data.check a"
    assert check.next_command(CheckOptions(("a",), model="m"), found) == "python -m jaxasr.decode --model=m a"


def of_texts(seconds: float, *texts: str, path: str = "a") -> Part:
    """A manifest of utterances of so many seconds in all."""
    rows = [Row(line, "", "", text, line, seconds=seconds / len(texts)) for line, text in enumerate(texts, 1)]
    return Part(path, "none", Settings("no"), Ears(1), rows=rows)


@pytest.mark.parametrize(
    ("parts", "options"),
    [
        ([of_texts(9, "one two", "two", "one")], "--config=an4_sanm"),
        ([of_texts(9, "one two"), of_texts(9, "two one two")], "--config=an4_sanm"),
        ([of_texts(9, "a day", "to go")], "--config=an4_sanm --tokenizer=char"),
        ([of_texts(9, "a day"), of_texts(9, "to go")], "--config=an4_sanm --tokenizer=char"),
        ([of_texts(0.5, "a day", "to go")], "--config=an4_sanm --tokenizer=char --encoder.subsampling=conv2d"),
        ([of_texts(9, "一样", "一行")], "--config=an4_sanm --tokenizer=char --best_metric=cer"),
        ([of_texts(4000, "a day", "to go")], ""),
        ([of_texts(np.nan, "a day", "to go")], ""),
        ([of_texts(4000, "一样", "一行")], "--best_metric=cer"),
        ([of_texts(4000, *[f"it comes faster than frames {n}" for n in range(4000)])], "--tokenizer=bpe"),
        ([of_texts(4000, *["three seven three seven"] * 4000)], "--tokenizer=word"),
        (
            [of_texts(4000, *[f"{'一样' * 9}{n}" for n in range(4000)])],
            "--frontend.lfr_m=5 --frontend.lfr_n=4 --best_metric=cer",
        ),
    ],
)
def test_a_training_suits_the_texts(parts, options):
    assert " ".join(advice.options(parts[:1], parts[1:])) == options


def test_a_copy_or_decoding_comes_next(corpus):
    (corpus / "m.jsonl").write_text((corpus / "m.jsonl").read_text() + "{}\n")
    wrong, _, _ = check.check(CheckOptions(("m.jsonl",), sound="no"))
    assert check.next_command(CheckOptions(("m.jsonl",)), wrong).endswith("data.check m.jsonl --fix=clean")
    asked = CheckOptions(("m.jsonl",), sound="no", ignore=("pipe", "url"), imports=("mine", "yours"))
    flags = "--sound no --ignore pipe url --import=mine yours"
    assert check.next_command(asked, wrong).endswith(f"data.check m.jsonl --fix=clean {flags}")
    right = check.Checked(wrong.parts, [], 0, {})
    assert check.next_command(CheckOptions(("m.jsonl",), model="m"), right).endswith("decode --model=m m.jsonl")
    with_parts = CheckOptions(("m.jsonl",), model="m", imports=("mine",))
    assert check.next_command(with_parts, right).endswith("decode --model=m m.jsonl --import=mine")


@pytest.mark.parametrize("lines", ["{}\n", '{"path": "/a.wav", "text": "a"}\n{"path": "/b.wav", "text": "b"}\n'])
def test_the_same_check_comes_next_where_nothing_is_left_for_a_copy(corpus, lines):
    (corpus / "m.jsonl").write_text(lines)
    wrong, _, _ = check.check(CheckOptions(("m.jsonl",)))
    assert check.next_command(CheckOptions(("m.jsonl",)), wrong) == "python -m jaxasr.data.check m.jsonl"


def test_an_utterance_without_an_id_is_called_as_in_training(corpus):
    rows = [
        {"audio_filepath": "audio/1.wav", "text": ""},
        {"audio_filepath": "audio/long.wav", "text": "", "offset": 1},
    ]
    (corpus / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found, _, _ = check.check(CheckOptions(("m.jsonl",), sound="no"))
    names = [row.name for row in found.parts[0].rows]
    assert names == [u.id for u in manifest.read("m.jsonl")] == ["1", "long-0001000"]


def test_a_row_over_several_lines_is_one(corpus):
    put("m.csv", "two good night", '"two\n\ngood night"')(corpus)
    found, (copy,), _ = check.check(CheckOptions(("m.csv",), sound="no", fix="clean"))
    assert [(r.check.name, r.first.line) for r in found.results] == [("control-character", 3)]
    assert (copy.lines, copy.left_out, [row["to"] for row in copy.changed]) == (5, [], ["two good night"])


def test_line_ends_of_csv_are_no_fault(corpus):
    path = corpus / "m.csv"
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    found, _, _ = check.check(CheckOptions(("m.csv",), sound="no"))
    assert "crlf" not in [result.check.name for result in found.results]


def test_a_table_that_begins_with_no_header(corpus):
    content = (corpus / "m.csv").read_text()
    (corpus / "m.csv").write_text(f'"a"b\n\n{content}')
    found, (copy,), again = check.check(CheckOptions(("m.csv",), sound="no", fix="clean"))
    assert [(r.check.name, r.first.line) for r in found.results] == [("blank-line", 2), ("not-csv", 1)]
    assert (copy.lines, [row["where"] for row in copy.left_out]) == (6, ["m.csv:1"])
    assert again is not None and again.status == 0 and len(manifest.read(copy.path)) == 5


def test_a_line_that_is_not_json_says_nothing_of_the_next(corpus):
    content = (corpus / "m.jsonl").read_text()
    (corpus / "m.jsonl").write_text('{"a": 1, "a": 2} x\n' + content)
    found, (copy,), _ = check.check(CheckOptions(("m.jsonl",), sound="no", fix="clean"))
    assert [r.check.name for r in found.results] == ["not-json"] and len(copy.left_out) == 1


def test_odd_lines_take_no_long(corpus):
    names = "".join(f', "{number}": 0' for number in [*range(40_000), 39_999])
    put("m.jsonl", '"speaker"', f'"other": {{"": 0{names}}}, "speaker"')(corpus)
    put("m.jsonl", "two", "<b " * 20_000)(corpus)
    began = time.thread_time()
    found, _, _ = check.check(CheckOptions(("m.jsonl",), sound="no", workers=1))
    assert "field-twice" in {r.check.name for r in found.results} and time.thread_time() - began < 3.0


# Whatever stands in the files


FILES = ["k/wav.scp", "k/text", "k/utt2spk", "k/utt2dur", "s/wav.scp", "s/segments", "s/text", *ALL[2:]]
PIECES = [
    b"\n", b"\r\n", b"\0", b"\xff", b" ", b"\t", b'"', b"'", b",", b"{", b"}", b"[]", b"\\", b"|", b"://", b"-1",
    b"1e999", b"nan", b"null", b"../", b"/", b"\xef\xbb\xbf", b"\xe2\x80\x8b", b"e\xcc\x81", b"\xc2\xa0",
    b"\xe2\x80\xa8", b"\\ud800", b"text", b"duration", b"ofset", b"id", b"anna-1", b"long", b"<s>", b"\x1c", b"\x85",
    b"\xc2\x85", b"\x0c", b"0",
]  # fmt: skip


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """A file with up to three places changed: something put in, or taken out, or lines moved, doubled or joined."""
    for _ in range(rng.integers(1, 4)):
        first, last = sorted(rng.integers(0, len(content) + 1, 2).tolist())
        lines = content.splitlines(keepends=True) or [b""]
        line = int(rng.integers(len(lines)))
        match rng.integers(6):
            case 0:
                content = content[:first] + PIECES[rng.integers(len(PIECES))] + content[first:]
            case 1:
                content = content[:first] + content[min(last, first + 9) :]
            case 2:
                content = b"".join([*lines[:line], lines[line], *lines[line:]])
            case 3:
                content = b"".join([*lines[:line], *lines[line + 1 :]])
            case 4:
                content = b"".join([*lines[:line], *lines[line + 1 :], lines[line]])
            case 5:
                content = content[:last]
    return content


@contextlib.contextmanager
def nothing_may_be_left() -> Iterator[None]:
    try:
        yield
    except DataError as error:
        if "no utterance is left" not in str(error):
            raise


def checked_after(change: int, corpus: pathlib.Path, clean: dict[str, bytes]) -> None:
    """A file is changed, by that seed: the check says what the loader refuses, and its copy loads and passes."""
    rng = np.random.default_rng(change)
    name = FILES[rng.integers(len(FILES))]
    (corpus / name).write_bytes(mutated(clean[name], rng))
    path = name.split("/")[0]
    try:
        manifest.read(path)
        refused = ""
    except DataError as error:
        refused = str(error)
    options = CheckOptions((path,), sound="no")
    found, _, _ = check.check(options)
    errors = [result for result in found.results if result.check.severity == "error"]
    assert bool(refused) == bool(errors), (refused, errors)
    with nothing_may_be_left():
        _, _, again = check.check(dataclasses.replace(options, fix=f"clean/{change}"))
        assert again is not None and again.status == 0
    (corpus / name).write_bytes(clean[name])


def checked_after_all(changes: range, corpus: pathlib.Path) -> None:
    clean = {name: (corpus / name).read_bytes() for name in FILES}
    for change in changes:
        try:
            checked_after(change, corpus, clean)
        except Exception as error:
            raise AssertionError(f"change {change}") from error


def test_whatever_a_manifest_holds_the_check_agrees_with_the_loader(corpus):
    checked_after_all(range(100), corpus)


@pytest.mark.slow
@pytest.mark.timeout(2400)
def test_whatever_manifests_hold_the_check_agrees_with_the_loader(corpus):
    checked_after_all(range(100, 10_000), corpus)


# A million lines


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("path", ["m.jsonl", "k"])
def test_a_million_lines_take_less_than_a_minute(tmp_path, path):
    rng = np.random.default_rng(0)
    words = np.array(["".join(map(chr, rng.integers(97, 123, n))) for n in rng.integers(2, 9, 5000)] + ["caf\u00e9"])
    said = [" ".join(row) for row in words[rng.integers(len(words), size=(1_000_000, 9))]]
    names = [f"s{i // 500:05d}-{i:07d}" for i in range(1_000_000)]
    lines = {"text": said, "wav.scp": [f"../{n}.flac" for n in names], "utt2spk": [n[:6] for n in names]}
    if path == "k":
        (tmp_path / path).mkdir()
        for file, values in (lines | {"utt2dur": ["5.5"] * len(names)}).items():
            content = "".join(f"{n} {v}\n" for n, v in zip(names, values, strict=True))
            (tmp_path / path / file).write_text(content)
    else:
        with open(tmp_path / path, "w") as file:
            for name, text in zip(names, said, strict=True):
                row = {"id": name, "audio_filepath": f"{name}.flac", "text": text, "duration": 5.5, "speaker": name[:6]}
                file.write(json.dumps(row) + "\n")
    command = [sys.executable, "-m", "jaxasr.data.check", str(tmp_path / path), "--sound=no", "--json"]
    began = time.monotonic()
    done = subprocess.run(command, capture_output=True, check=False)
    assert time.monotonic() - began < 60
    assert (done.returncode, json.loads(done.stdout)["parts"][0]["utterances"]) == (0, 1_000_000)
