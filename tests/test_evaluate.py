import io
import json
import math
import random
import subprocess
import sys

import jiwer
import pytest
import rich.console
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxasr import evaluate
from jaxasr.errors import ConfigError, DataError
from jaxasr.evaluate import print_score, read_texts
from jaxasr.scoring import ErrorCounts, align, bootstrap_interval, count_errors, score

WORDS = ("the", "a", "cat", "cats", "sat", "今天", "天气", "很好", "好", "naïve", "😀", "👍🏽", "x")


def random_text(rng):
    return " ".join(rng.choices(WORDS, k=rng.choice([0, 0, 1, 2, 5, 12])))


def random_pairs(count):
    """References and hypotheses, half of these their reference with a few words changed."""
    rng = random.Random(0)
    references, hypotheses = {}, {}
    for number in range(count):
        text = random_text(rng)
        kept = " ".join(rng.choice([word] * 6 + ["", *WORDS[:3]]) for word in text.split())
        references[f"u{number}"] = text
        hypotheses[f"u{number}"] = kept if rng.random() < 0.5 else random_text(rng)
    return references, hypotheses


def shown(found, **options):
    file = io.StringIO()
    print_score(found, rich.console.Console(file=file, width=80), **options)
    return file.getvalue()


def test_totals_equal_jiwers():
    references, hypotheses = random_pairs(2000)
    found = score(references, hypotheses)
    texts = list(references.values()), list(hypotheses.values())
    by_words, by_characters = jiwer.process_words(*texts), jiwer.process_characters(*texts)
    for counts, theirs in ((found.wer, by_words), (found.cer, by_characters)):
        edits = (theirs.substitutions, theirs.deletions, theirs.insertions)
        assert counts == (*edits, theirs.hits + theirs.substitutions + theirs.deletions)
    assert found.wer.rate == by_words.wer and found.cer.rate == by_characters.cer
    assert list(references.values()).count("") > 100


def test_counts_by_hand():
    assert count_errors("abc", "axcd") == (1, 0, 1, 3)
    assert count_errors("abc", "") == (0, 3, 0, 3)
    assert count_errors("", "ab") == (0, 0, 2, 0)
    found = score({"1": "今天 好", "2": "ok"}, {"1": "今天好", "2": "ok"})
    assert found.wer == (1, 1, 0, 3) and found.cer == (0, 1, 0, 6)
    assert found.ser == 0.5
    assert score({"1": "今天 好"}, {"1": "今天好"}, spaces=False).cer == (0, 0, 0, 3)


def test_without_reference_words_the_rate_is_zero_or_infinite():
    assert ErrorCounts(0, 0, 0, 0).rate == 0.0
    found = score({"1": "", "2": " "}, {"1": "noise", "2": ""})
    assert found.wer == (0, 0, 1, 0) and found.wer.rate == math.inf
    assert found.wer_interval == (0.0, math.inf)
    assert "inf %" in shown(found)
    assert json.loads(json.dumps(evaluate.as_json(found), allow_nan=False))["wer"]["rate"] is None


tokens = st.lists(st.sampled_from(WORDS), max_size=12)


@settings(max_examples=200, deadline=None)
@given(tokens, tokens)
def test_an_alignment_holds_both_sides(reference, hypothesis):
    steps = align(reference, hypothesis)
    assert [step.reference for step in steps if step.operation != "insert"] == reference
    assert [step.hypothesis for step in steps if step.operation != "delete"] == hypothesis
    counts = count_errors(reference, hypothesis)
    assert sum(step.operation != "equal" for step in steps) == counts.errors
    for operation, left, right in steps:
        assert (left is None) == (operation == "insert")
        assert (right is None) == (operation == "delete")
        assert (left == right) == (operation == "equal")


def test_missing_hypotheses_are_deletions_and_named():
    references = {f"u{number}": "one two" for number in range(8)}
    found = score(references, {"u0": "one two"})
    assert found.wer == (0, 14, 0, 16)
    assert found.missing == [f"u{number}" for number in range(1, 8)]
    text = shown(found, worst=1)
    assert "7 without a hypothesis, counted as deletions: 'u1', 'u2', 'u3', ..." in text
    assert "u1: no hypothesis in 2 words" in text


def test_hypotheses_without_reference_are_an_error():
    hypotheses = {f"v{number}": "x" for number in range(7)}
    with pytest.raises(DataError, match=r"7 of 8 ids have no reference \('v0', 'v1', 'v2', \.\.\.\)"):
        score({"u": "x"}, {"u": "x"} | hypotheses)
    with pytest.raises(DataError, match="references: there are none"):
        score({}, {})


def test_the_interval_holds_the_rate_and_shrinks_with_more_utterances():
    rng = random.Random(1)
    counts = [ErrorCounts(rng.choice([0, 0, 1, 3]), 0, 0, 10) for _ in range(1600)]
    widths = []
    for size in (25, 100, 400, 1600):
        low, high = bootstrap_interval(counts[:size])
        assert low <= sum(count.errors for count in counts[:size]) / (10 * size) <= high
        widths.append(high - low)
    assert widths == sorted(widths, reverse=True)
    # 1.96 standard errors of a mean of 1,600 draws, to either side
    assert widths[-1] == pytest.approx(2 * 1.96 * 1.2247 / 10 / 40, rel=0.15)
    assert bootstrap_interval(counts) == bootstrap_interval(counts)
    assert bootstrap_interval(counts[:1]) == (counts[0].rate, counts[0].rate)


def test_the_worst_utterances_are_shown_aligned():
    references = {"one": "the [b]cat[/b] sat", "han": "今天天气很好", "right": "x"}
    hypotheses = {"one": "a [b]cat[/b] sat on", "han": "今天气很好啊呀", "right": "x"}
    lines = shown(score(references, hypotheses), worst=5).splitlines()
    assert lines[lines.index("one: 2 errors in 3 words") :] == [
        "one: 2 errors in 3 words",
        "REF: the [b]cat[/b] sat **",
        "HYP: a   [b]cat[/b] sat on",
        "OPS: S                  I",
    ]
    start = lines.index("han: 3 errors in 6 characters")
    columns = {line[:4]: line[5:].split() for line in lines[start + 1 : start + 4]}
    assert "".join(columns["REF:"]).replace("*", "") == references["han"]
    assert "".join(columns["HYP:"]).replace("*", "") == hypotheses["han"]
    assert sorted(columns["OPS:"]) == ["D", "I", "I"]
    assert not any(line.startswith("right") for line in lines)


def test_long_utterances_are_shown_in_pieces():
    reference = " ".join(f"word{number}" for number in range(40))
    lines = shown(score({"u": reference}, {"u": reference.replace("word7 ", "")}), worst=1).splitlines()
    pieces = [line[5:] for line in lines if line.startswith("REF: ")]
    assert max(map(len, lines)) <= 80 and len(pieces) > 3
    assert " ".join(pieces) == reference


FORMS = {
    "text": "u1 今天 好\nu2\nu3  a  b \r\n",
    "hyp.jsonl": '{"id": "u1", "text": "今天 好"}\n{"key": "u2", "text": ""}\n{"utt_id": "u3", "text": "a  b"}\n',
    "hyp": '\ufeff{"id": "u1", "text": "今天 好"}\n{"id": "u2", "text": ""}\n{"id": "u3", "text": "a  b"}\n\n',
    "manifest.jsonl": '{"audio_filepath": "d/u1.wav", "text": "今天 好"}\n{"audio_filepath": "u2.wav", "text": ""}\n'
    '{"audio_filepath": "u3.wav", "text": "a  b"}\n',
    "results.csv": "id,text\nu1,今天 好\nu2,\nu3,a  b\n",
    "pipes.jsonl": '{"id": "u1", "key": "x", "source": "sox a.sph - |", "target": "今天 好"}\n'
    '{"utt_id": "u2", "key": "x", "source": "s3://b/c.wav", "target": ""}\n{"key": "u3", "sentence": "a  b"}\n',
    "features.csv": "path,sentence\nd/u1.npy,今天 好\nu2.ark:12,\nu3.npy,a  b\n",
    "table.tsv": "path\tsentence\tclient_id\nu1.wav\t今天 好\ts\nu2.wav\t\t\nu3.wav\ta  b\t\n",
    "funasr.json": '{"key": "u1", "source": "x.wav", "target": "今天 好"}\n{"key": "u2", "source": "y.wav", '
    '"target": ""}\n{"key": "u3", "source": "z.wav", "target": "a  b"}',
}


@pytest.mark.parametrize("name", FORMS)
def test_forms_of_files(tmp_path, name):
    (tmp_path / name).write_text(FORMS[name], encoding="utf-8", newline="")
    assert read_texts(tmp_path / name) == {"u1": "今天 好", "u2": "", "u3": "a  b"}


def test_a_folder_stands_for_its_text(tmp_path):
    (tmp_path / "text").write_text("u1 a b\n")
    assert read_texts(str(tmp_path)) == {"u1": "a b"}


FAULTS = {
    "empty file": ("text", b"", "text: no lines"),
    "only blanks": ("text", b" \n\n", "text: no lines"),
    "blank line": ("text", b"u1 a\n\nu2 b\n", "text:2: a blank line"),
    "id twice": ("text", b"u1 a\nu2 b\nu1 c\n", "text:3: id 'u1' is already at "),
    "id twice in JSON": ("h.jsonl", b'{"id": "u", "text": ""}\n{"id": "u", "text": ""}', "h.jsonl:2: id 'u'"),
    "latin-1": ("text", "u1 a\nu2 é\n".encode("latin-1"), "text:2: byte 0xe9 is not UTF-8"),
    "bad JSON": ("h.jsonl", b'{"id": "u", "text": "a"}\n{"id": \n', "h.jsonl:2: not JSON"),
    "JSON list": ("h.json", b"[1]\n", "h.json:1: a JSON list"),
    "no text": (
        "h.jsonl",
        b'{"id": "u", "txt": "a"}\n',
        "h.jsonl:1: no field 'text', 'target', 'sentence' or 'transcription', but",
    ),
    "no id": ("h.jsonl", b'{"text": "a"}\n', "h.jsonl:1: no field 'id', 'utt_id' or 'key', but 'text'; an id was "),
    "no id in a table": ("h.csv", b"text\na\n", "h.csv:1: no field 'id', 'utt_id' or 'key', but 'text'; an id was "),
    "number as text": ("h.jsonl", b'{"id": "u", "text": 3}\n', "h.jsonl:1: field 'text' is a number; a string was"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_faults_name_file_and_line(tmp_path, name):
    file, content, message = FAULTS[name]
    (tmp_path / file).write_bytes(content)
    with pytest.raises(DataError) as caught:
        read_texts(tmp_path / file)
    assert str(caught.value).startswith(f"{tmp_path}/{message}")


def test_no_file(tmp_path):
    with pytest.raises(DataError, match="absent: No such file"):
        read_texts(tmp_path / "absent")


def test_the_command_line(tmp_path):
    (tmp_path / "ref").write_text("u1 the cat sat\nu2 a\n")
    (tmp_path / "hyp").write_text("u1 the cats sat\n")
    output = tmp_path / "new" / "score.json"
    command = [sys.executable, "-m", "jaxasr.evaluate", str(tmp_path / "ref"), str(tmp_path / "hyp")]
    found = subprocess.run([*command, f"--output={output}"], capture_output=True, text=True, check=True)
    assert " ".join(found.stdout.splitlines()[1].split()) == "WER 50.00 % 33.33 - 100.00 2 1 1 0 4 words"
    assert "HYP: the cats sat" in found.stdout and "\x1b" not in found.stdout
    content = json.loads(output.read_text())
    assert content["wer"]["errors"] == 2 and content["missing"] == ["u2"]
    assert content["utterances"][1]["characters"]["deletions"] == 1


def test_texts_are_cleaned_on_both_sides(tmp_path, capsys):
    (tmp_path / "ref").write_text("u1 The, <NOISE> cat’s - ﬁne.\nu2 a [b] <noise>\n")
    (tmp_path / "hyp").write_text("u1 the cat's fine\nu2 A [b]!\n")
    (tmp_path / "symbols").write_text("<NOISE>\n<noise>\n")
    paths = [str(tmp_path / name) for name in ("ref", "hyp")]
    assert evaluate.evaluate(evaluate.EvaluateOptions(*paths)).wer == (5, 3, 0, 8)
    for symbols in (["<noise>", "<NOISE>"], [str(tmp_path / "symbols")]):
        cleaners = ["--cleaners", "lower", "punctuation", "nfkc", "whitespace"]
        evaluate.main([*paths, *cleaners, "--ignore", *symbols, f"--output={tmp_path / 'score.json'}"])
        lines = capsys.readouterr().out.splitlines()
        assert lines[0].startswith("texts: cleaned by lower, punctuation, nfkc, whitespace; errors counted without '<")
        assert " ".join(lines[2].split()).startswith("WER 0.00 % 0.00 - 0.00 0 0 0 0 5 words")
        assert " ".join(lines[3].split()).startswith("CER 0.00 % 0 0 0 0 17 characters")
        content = json.loads((tmp_path / "score.json").read_text())
        assert content["cleaners"] == cleaners[1:]
        assert set(content["ignore"]) == {"<noise>", "<NOISE>"}


def test_a_cleaner_of_a_module(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from jaxasr.data.cleaners import CLEANERS, Cleaner\n\n"
        "@CLEANERS.register('no_uh')\n"
        "class NoUh(Cleaner):\n    def __call__(self, text):\n        return text.replace('uh ', '')\n"
    )
    (tmp_path / "ref").write_text("u1 a uh b\n")
    (tmp_path / "hyp").write_text("u1 uh a b\n")
    command = [sys.executable, "-m", "jaxasr.evaluate", "ref", "hyp", "--import", "mine", "--cleaners", "no_uh"]
    found = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert found.stdout.startswith("texts: cleaned by no_uh")
    assert " ".join(found.stdout.splitlines()[2].split()).startswith("WER 0.00 %")


def test_cleaners_and_symbols_that_are_none(tmp_path, capsys):
    (tmp_path / "ref").write_text("u1 a\n")
    ref = str(tmp_path / "ref")
    for flags, message in {
        ("--cleaners", "lowr"): "error: --cleaners: cleaner 'lowr': not known; ",
        ("--ignore", "uh", "um"): "error: --ignore: 'uh': not a symbol; symbols that begin with a mark",
    }.items():
        with pytest.raises(SystemExit) as caught:
            evaluate.main([ref, ref, *flags])
        assert caught.value.code == 2
        assert capsys.readouterr().err.startswith(message)
    evaluate.main([ref, ref, "--cleaners", "none"])
    assert "texts" not in capsys.readouterr().out


def test_errors_end_the_command_line_with_status_2(tmp_path, capsys):
    (tmp_path / "ref").write_text("u1 a\nu1 b\n")
    with pytest.raises(SystemExit) as caught:
        evaluate.main([str(tmp_path / "ref"), str(tmp_path / "ref")])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path}/ref:2: id 'u1'")


def test_options_that_cannot_be(tmp_path):
    (tmp_path / "ref").write_text("u1 a\n")
    ref = str(tmp_path / "ref")
    with pytest.raises(ConfigError, match="--worst=-1"):
        evaluate.evaluate(evaluate.EvaluateOptions(ref, ref, worst=-1))
    with pytest.raises(ConfigError, match="--output="):
        evaluate.evaluate(evaluate.EvaluateOptions(ref, ref, output=f"{ref}/below/a/file"))
