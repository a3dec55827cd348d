"""Hot words: bonuses as a search of strings finds them, and the words that they begin and end at."""

import jax
import numpy as np
import pytest

from jaxasr.data.lexicon import SegDictTokenizer
from jaxasr.data.tokenizer import BpeTokenizer, CharTokenizer, Vocabulary, WordTokenizer
from jaxasr.errors import DataError
from jaxasr.search.hotwords import automaton, read_hotwords

EOS = 2


def by_strings(said, phrases, begins, ends, finished):
    """The bonus of a hypothesis; `finished` where its end is said."""

    def apart(place):
        """Whether a word may begin before this place."""
        if place in (0, len(said)):
            return place == 0 or finished or ends[said[-1]]
        return ends[said[place - 1]] or begins[said[place]]

    def covered(first, last):
        """The weight of each token from `first` by whole phrases up to `last`."""
        weights = np.zeros(len(said))
        for low in range(first, last):
            for high in range(low + 1, last + 1):
                weight = phrases.get(tuple(said[low:high]), 0.0)
                if weight and apart(low) and apart(high):
                    weights[low:high] = np.maximum(weights[low:high], weight)
        return weights

    def begun(low, high):
        return (
            [w for phrase, w in phrases.items() if phrase[: high - low] == tuple(said[low:high])] if high > low else []
        )

    total = 0.0
    for high in range(1, len(said) + 1):
        low = next(low for low in range(high + 1) if low == high or (apart(low) and begun(low, high)))
        total += np.sum(covered(low, high)) - np.sum(covered(low, high - 1))
        if high == len(said) and not finished and low < high:
            total += np.sum(np.maximum(max(begun(low, high)) - covered(low, high)[low:high], 0.0))
    return total


@pytest.mark.parametrize("seed", range(12))
def test_bonuses_are_those_of_a_search_of_strings(seed):
    rng = np.random.default_rng(seed)
    letters = int(rng.integers(2, 4))
    tokens = np.arange(3, 3 + letters)
    begins, ends = (np.ones(3 + letters, bool) if seed % 3 == 0 else rng.random(3 + letters) < 0.4 for _ in range(2))
    phrases = {
        tuple(rng.choice(tokens, rng.integers(1, 6)).tolist()): float(rng.choice([0.5, 1.0, 2.0])) for _ in range(6)
    }
    scorer = automaton(phrases, begins, ends, eos=EOS)
    score, advance, cut_off = (jax.jit(f) for f in (type(scorer).score, type(scorer).advance, type(scorer).cut_off))
    said = rng.choice(tokens, (40, 12))
    state, totals = scorer.start(len(said), 99), np.zeros(len(said))
    for length in range(1, said.shape[1] + 1):
        last = said[:, length - 1]
        totals += np.asarray(score(scorer, state, last[:, None]))[:, 0]
        state = advance(scorer, state, last)
        end = np.asarray(score(scorer, state, np.full((len(said), 1), EOS)))[:, 0]
        np.testing.assert_allclose(cut_off(scorer, state), end, atol=1e-5)
        ended = totals + end
        for row in range(len(said)):
            given = said[row, :length].tolist(), phrases, begins, ends
            assert totals[row] == pytest.approx(by_strings(*given, False), abs=1e-5), given
            assert ended[row] == pytest.approx(by_strings(*given, True), abs=1e-5), given


CHARS = Vocabulary(("<blank>", "<s>", "</s>", "<space>", *"abcsty", "今", "天", "<unk>"))
SEG = SegDictTokenizer(lines=("cat ca@@ t", "cats ca@@ ts", "scat s@@ ca@@ t", "今 今", "天 天"))


def read(path, vocabulary, tokenizer):
    return read_hotwords(path, vocabulary, tokenizer.tokens, tokenizer.bounds(vocabulary.tokens))


@pytest.mark.parametrize(
    ("tokenizer", "vocabulary", "phrase", "text", "bonus"),
    [
        (CharTokenizer(), CHARS, "cat", "a cat", 3),
        (CharTokenizer(), CHARS, "cat", "cat cat", 6),
        (CharTokenizer(), CHARS, "cat", "cats scat", 0),
        (CharTokenizer(), CHARS, "a cat", "say a cat", 5),
        (CharTokenizer(), CHARS, "今天", "天今天今", 2),
        (CharTokenizer(), CHARS, "今天", "cat今天cat", 2),
        (CharTokenizer(), Vocabulary(("<blank>", "<s>", "</s>", *"acts", "<unk>")), "cat", "scats", 3),
        (WordTokenizer(), Vocabulary(("<blank>", "<s>", "</s>", "cat", "cats", "<unk>")), "cat", "cat cats cat", 2),
        (
            SEG,
            Vocabulary(("<blank>", "<s>", "</s>", "ca@@", "s@@", "t", "ts", "今", "天", "<unk>")),
            "cat",
            "cats scat cat",
            2,
        ),
    ],
)
def test_phrases_are_whole_words(tmp_path, tokenizer, vocabulary, phrase, text, bonus):
    (tmp_path / "words.txt").write_text(f"{phrase}\n", encoding="utf-8")
    scorer = read(tmp_path / "words.txt", vocabulary, tokenizer)
    assert total(scorer, vocabulary.encode(tokenizer.split(text))) == bonus


@jax.jit
def said(scorer, state, token):
    """The token's bonus, and the state behind it."""
    return scorer.score(state, token[:, None])[0, 0], scorer.advance(state, token)


def total(scorer, ids):
    state, found = scorer.start(1, 99), 0.0
    for token in [*ids, EOS]:
        bonus, state = said(scorer, state, np.array([token]))
        found += float(bonus)
    return found


def test_sub_words_begin_where_their_mark_is():
    begins, ends = BpeTokenizer().bounds(["▁ca", "t", "<unk>"])
    assert (begins, ends) == ([True, False, False], [False] * 3)


def test_weights_stand_behind_a_tab(tmp_path):
    (tmp_path / "words.txt").write_text(" cat \t2.5\na cat \n")  # spaces around a phrase are none of its tokens
    scorer = read(tmp_path / "words.txt", CHARS, CharTokenizer())
    assert total(scorer, CHARS.encode(CharTokenizer().split("cat"))) == pytest.approx(7.5)
    assert total(scorer, CHARS.encode(CharTokenizer().split("a cat"))) == pytest.approx(2 + 7.5)
    (tmp_path / "words.txt").write_text("cat\t1e999\n")
    with pytest.raises(DataError, match="weight '1e999' of 'cat'"):
        read(tmp_path / "words.txt", CHARS, CharTokenizer())
