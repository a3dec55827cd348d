"""N-gram models in a search: what the ARPA file says, by its definition."""

import math

import jax
import numpy as np
import pytest

from jaxasr.data import arpa, kneser_ney
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.errors import ConfigError
from jaxasr.search.edges import Edges
from jaxasr.search.ngram import read_ngram
from tests.data.test_ngrams import by_gram, estimated

TOKENS = "abcdefgh"
VOCABULARY = Vocabulary(("<blank>", "<s>", "</s>", *TOKENS, "<unk>"))


def by_definition(grams, context, word):
    """log10 p(word | context) by back-off, of a table of words to (probability, back-off)."""
    if not context:
        return grams[word][0]
    if (gram := " ".join([*context, word])) in grams:
        return grams[gram][0]
    backoff = grams.get(" ".join(context), (0.0, 0.0))[1]
    return backoff + by_definition(grams, context[1:], word)


def written(path, seed, order):
    """A model that knows no g and h; some n-grams lack those without the first word, as pruning leaves them."""
    rng = np.random.default_rng(seed)
    lines = [" ".join(rng.choice(list("abcdef"), rng.integers(1, 9))) for _ in range(60)]
    arpa.write(path, estimated(lines, order, kneser_ney.FALLBACK)[0])
    grams = by_gram(arpa.read(path))
    leaves = [g for g in grams if len(g.split()) > 1 and not any(other.startswith(f"{g} ") for other in grams)]
    gone = set(rng.choice(leaves, len(leaves) // 3, replace=False)) if leaves else set()
    lines = path.read_text().split("\n")
    kept = [line for line in lines if line.split("\t")[1:2] == [] or line.split("\t")[1] not in gone]
    counts = [sum(len(g.split()) == n for g in grams.keys() - gone) for n in range(1, order + 1)]
    head = [f"ngram {number}={count}" for number, count in enumerate(counts, 1)]
    path.write_text("\n".join(["\\data\\", *head, *kept[1 + order :]]))
    return by_gram(arpa.read(path))


@pytest.mark.parametrize("order", [1, 2, 4])
def test_scores_are_those_of_the_file(tmp_path, order):
    grams = written(tmp_path / "a.arpa", order, order)
    assert len(grams) > 20 or order == 1
    scorer = read_ngram(tmp_path / "a.arpa", VOCABULARY, list)
    score, advance = jax.jit(type(scorer).score), jax.jit(type(scorer).advance)
    rng = np.random.default_rng(0)
    said = rng.integers(3, len(VOCABULARY), (6, 8))
    every = np.tile(np.arange(2, len(VOCABULARY)), (6, 1))
    names = ["</s>", *TOKENS[:6], "<unk>", "<unk>", "<unk>"]
    state = scorer.start(6, 9)
    for position in range(said.shape[1]):
        found = np.asarray(score(scorer, state, every))
        for row in range(6):
            before = ["<s>", *(names[token - 2] for token in said[row, :position])]
            context = before[max(0, len(before) - order + 1) :]
            wanted = [math.log(10.0) * by_definition(grams, context, name) for name in names]
            np.testing.assert_allclose(found[row], wanted, rtol=1e-5, atol=1e-5)
        state = advance(scorer, state, said[:, position])


def test_a_model_of_other_words_is_refused(tmp_path):
    arpa.write(tmp_path / "a.arpa", estimated(["bad cab", "cab"], 2, kneser_ney.FALLBACK)[0])
    with pytest.raises(ConfigError, match=r"its word 'bad' is 3 tokens of this model \('b', 'a', 'd'\)"):
        read_ngram(tmp_path / "a.arpa", VOCABULARY, list)


def test_tokens_that_are_not_in_it_are_told(tmp_path, caplog):
    arpa.write(tmp_path / "a.arpa", estimated(["a b", "b h"], 2, kneser_ney.FALLBACK)[0])
    read_ngram(tmp_path / "a.arpa", VOCABULARY, list)
    assert "5 of this model's 9 tokens are not in it and count as its <unk>: 'c', 'd', 'e', ..." in caplog.text


def test_words_that_the_model_does_not_have_may_be_more(tmp_path):
    vocabulary = Vocabulary(("<blank>", "<s>", "</s>", "cab", "<unk>"))
    arpa.write(tmp_path / "a.arpa", estimated(["bad cab", "cab"], 2, kneser_ney.FALLBACK)[0])
    scorer = read_ngram(tmp_path / "a.arpa", vocabulary, str.split)
    wanted = by_gram(arpa.read(tmp_path / "a.arpa"))["<s> cab"][0] * math.log(10.0)
    assert scorer.score(scorer.start(1, 9), np.array([[3]]))[0, 0] == pytest.approx(wanted, rel=1e-5)


def test_unk_of_a_model_without_it_is_next_to_impossible(tmp_path):
    (tmp_path / "a.arpa").write_text("\\data\\\nngram 1=3\n\\1-grams:\n-0.1\ta\n-99\t<s>\n-1\t</s>\n\\end\\\n")
    scorer = read_ngram(tmp_path / "a.arpa", Vocabulary(("<blank>", "<s>", "</s>", "a", "<unk>")), list)
    found = scorer.score(scorer.start(1, 9), np.array([[2, 3, 4]]))
    np.testing.assert_allclose(found[0], math.log(10.0) * np.array([-1.0, -0.1, -100.0]), rtol=1e-5)


def test_edges_of_states_that_have_many():
    """They are found, and what is compiled for it grows with no table."""
    rng, programs = np.random.default_rng(0), []
    for most in (3, 3000):
        numbers = [rng.choice(5000, n, replace=False) for n in (most, 0, most // 2, 1)]
        pairs = [(state, label) for state, labels in enumerate(numbers) for label in sorted(labels)]
        edges = Edges.of(*np.array(pairs).T, 4)
        asked = np.array([*pairs[:: max(1, most // 100)], (1, 7), (3, -1), (0, 5000)])
        wanted = [pairs.index(tuple(pair)) if tuple(pair) in pairs else -1 for pair in asked.tolist()]
        assert jax.jit(Edges.find)(edges, *asked.T).tolist() == wanted
        programs.append(len(str(jax.make_jaxpr(Edges.find)(edges, *asked[:3].T)).splitlines()))
    assert programs[0] == programs[1]
