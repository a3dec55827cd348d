"""N-gram models: the numbers of lmplz, probabilities that sum to 1, ARPA files."""

import gzip
import pathlib

import numpy as np
import pytest

from jaxasr.data import arpa, kneser_ney
from jaxasr.errors import DataError
from jaxasr.ngram import numbered, read_sentences

LMPLZ = pathlib.Path(__file__).parent / "lmplz"
"""Text, and what lmplz of KenLM 0.3.0 made of it: `lmplz -o ORDER < text.txt`."""


def sentences(lines):
    ids = {word: number for number, word in enumerate(kneser_ney.SPECIAL)}
    found = numbered((("text", line) for line in lines), str.split, lambda word: ids.setdefault(word, len(ids)))
    return list(ids), found.tokens, found.positions


def estimated(lines, order, fallback=None):
    return kneser_ney.estimate(*sentences(lines), order, fallback)


def by_gram(model):
    """(log10 probability, log10 back-off) of each n-gram, by its words."""
    found, grams = {}, []
    for order in model.orders:
        last = [model.words[word] for word in order.words]
        grams = [f"{grams[p]} {w}" for p, w in zip(order.prefixes, last, strict=True)] if grams else last
        found |= dict(zip(grams, zip(order.log10_probs, order.log10_backoffs, strict=True), strict=True))
    return found


def check_same(ours, theirs, atol=1e-6):
    ours, theirs = by_gram(ours), by_gram(theirs)
    assert ours.keys() == theirs.keys()
    np.testing.assert_allclose([ours[gram] for gram in theirs], list(theirs.values()), atol=atol)


@pytest.mark.parametrize("order", [1, 3, 4])
def test_the_numbers_are_those_of_lmplz(order):
    lines = (LMPLZ / "text.txt").read_text().splitlines()
    model, discounts = estimated(lines, order)
    check_same(model, arpa.read(LMPLZ / f"order{order}.arpa.gz"))
    if order == 3:  # as lmplz prints them
        np.testing.assert_allclose(discounts[1], (0.607692, 0.856109, 2.08846), rtol=1e-5)


def test_tiny_text_needs_the_fallback_which_is_that_of_lmplz():
    """`head -5 text.txt | lmplz -o 3 --discount_fallback`."""
    lines = (LMPLZ / "text.txt").read_text().splitlines()[:5]
    with pytest.raises(DataError, match="none of its 1-grams has a count of 2"):
        estimated(lines, 3)
    model, discounts = estimated(lines, 3, kneser_ney.FALLBACK)
    assert discounts == [kneser_ney.FALLBACK] * 3
    check_same(model, arpa.read(LMPLZ / "fallback.arpa"))


def test_a_case_by_hand():
    """Of 'a b' and 'a': a has 1 left neighbour, b 1, </s> 2; of 4 bigrams 1 counts 2."""
    model, _ = estimated(["a b", "a"], 2, kneser_ney.FALLBACK)
    found = by_gram(model)
    taken = (0.5 + 0.5 + 1.0) / 4.0
    p_a, p_end = 0.5 / 4 + taken / 4, 1.0 / 4 + taken / 4
    assert 10 ** found["a"][0] == pytest.approx(p_a)
    assert 10 ** found["<unk>"][0] == pytest.approx(taken / 4)
    assert 10 ** found["<s> a"][0] == pytest.approx(1.0 / 2 + 1.0 / 2 * p_a)
    assert 10 ** found["a </s>"][0] == pytest.approx(0.5 / 2 + 1.0 / 2 * p_end)
    assert 10 ** found["a"][1] == pytest.approx(0.5)


@pytest.mark.parametrize("seed", range(5))
def test_what_may_follow_any_context_sums_to_1(seed):
    rng = np.random.default_rng(seed)
    order = int(rng.integers(1, 5))
    lines = [" ".join(rng.choice(list("abcdef"), rng.integers(1, 9))) for _ in range(rng.integers(3, 40))]
    model, _ = estimated(lines, order, kneser_ney.FALLBACK)
    words = len(model.words)
    for line in ["", "a b", "f f f f", "a c e b", "zzz a"]:
        context = [kneser_ney.BEGIN, *(model.ids.get(word, kneser_ney.UNK) for word in line.split())]
        tokens = np.array([[*context, word] for word in range(words) if word != kneser_ney.BEGIN])
        positions = np.tile(np.arange(tokens.shape[1]), len(tokens))
        scores = model.log10_scores(tokens.reshape(-1), positions).reshape(tokens.shape)[:, -1]
        assert np.sum(10.0**scores) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize("name", ["a.arpa", "a.arpa.gz"])
def test_what_is_written_is_read_again(tmp_path, name):
    model, _ = estimated((LMPLZ / "text.txt").read_text().splitlines(), 3)
    arpa.write(tmp_path / name, model)
    read = arpa.read(tmp_path / name)
    assert read.words == model.words
    check_same(read, model)
    content = (tmp_path / name).read_bytes()
    assert (gzip.decompress(content) if name.endswith(".gz") else content).startswith(b"\\data\\\nngram 1=43\n")


OTHERS = """a comment

\\data\\
ngram 1= 4
ngram 2 = 2

\\1-grams:
-99 <s> -0.5
-1 </s>
-0.5   b
-0.25\tc\xa0d\t-0.125

\\2-grams:
-0.25 <s> c\xa0d
-0.75 <s> b

\\end\\
"""


def test_the_forms_of_others_are_read(tmp_path):
    (tmp_path / "a.arpa").write_text(OTHERS, encoding="utf-8")
    model = arpa.read(tmp_path / "a.arpa")
    assert model.words == ("<s>", "</s>", "b", "c\xa0d")
    found = by_gram(model)
    assert found["<s>"] == (-99.0, -0.5) and found["c\xa0d"] == (-0.25, -0.125) and found["</s>"] == (-1.0, 0.0)
    assert found["<s> c\xa0d"] == (-0.25, 0.0) and found["<s> b"] == (-0.75, 0.0)


def test_a_file_is_read_in_pieces(tmp_path, monkeypatch):
    """Faults have the lines that they have in the file as a whole."""
    whole = arpa.read(LMPLZ / "order3.arpa.gz")
    monkeypatch.setattr(arpa, "PIECE", 3)
    check_same(arpa.read(LMPLZ / "order3.arpa.gz"), whole, atol=0.0)
    lines = (gzip.decompress((LMPLZ / "order3.arpa.gz").read_bytes())).decode().splitlines()
    first = lines.index("\\2-grams:") + 1
    faulty = {"for the second time": lines[first], "has a word": "-1 a zzz 0", "'x'; a finite": "x <s> </s>", "''": ""}
    for fault, line in faulty.items():
        (tmp_path / "a.arpa").write_text("\n".join([*lines[: first + 7], line, *lines[first + 8 :]]))
        with pytest.raises(DataError, match=f":{first + 8}: .*{fault}"):
            arpa.read(tmp_path / "a.arpa")


def test_unknown_words_as_cmu_writes_them(tmp_path):
    (tmp_path / "a.arpa").write_text(OTHERS.replace("   b", " <UNK>").replace("<s> b", "<s> <UNK>"), encoding="utf-8")
    model = arpa.read(tmp_path / "a.arpa")
    assert model.words[2] == "<unk>" and by_gram(model)["<s> <unk>"] == (-0.75, 0.0)
    (tmp_path / "a.arpa").write_text(
        OTHERS.replace("   b", " <UNK>").replace("<s> b", "<s> <UNK>").replace("c\xa0d", "<unk>")
    )
    assert arpa.read(tmp_path / "a.arpa").words[2:] == ("<UNK>", "<unk>")


def test_sentences_of_files_and_manifests(tmp_path):
    (tmp_path / "a.txt").write_text("a b\n\nc\n")
    (tmp_path / "a.jsonl").write_text('{"id": "u", "audio_filepath": "u.wav", "text": "a b"}\n')
    (tmp_path / "text").write_text("u a b\n")
    texts = [list(read_sentences(str(path))) for path in (tmp_path / "a.txt", tmp_path / "a.jsonl", tmp_path)]
    assert [[text for _, text in found] for found in texts] == [["a b", "", "c"], ["a b"], ["a b"]]
    found = numbered(texts[0], str.split, {"a": 3, "b": 4, "c": 5}.__getitem__)
    assert found.tokens.tolist() == [1, 3, 4, 2, 1, 5, 2] and found.positions.tolist() == [0, 1, 2, 3, 0, 1, 2]
    assert (found.number, found.blank) == (2, 1)
