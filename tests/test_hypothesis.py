"""From a row of a search to seconds and words."""

import dataclasses
import functools

import numpy as np
import pytest

from jaxasr.data import subwords
from jaxasr.data.lexicon import SegDictTokenizer
from jaxasr.data.tokenizer import BpeTokenizer, CharTokenizer, Tokenizer, Vocabulary, WordTokenizer
from jaxasr.hypothesis import Alternative, Hypothesis, Word, hypothesis_of, with_words
from jaxasr.nn.frontends import WavFrontend
from jaxasr.search.hypotheses import Hypotheses, NBest

from . import tiny


@functools.cache
def sub_words() -> Tokenizer:
    content = subwords.train(
        ["HELLO WORLD", "WORLD OF WORDS"] * 9, size=12, algorithm="unigram", character_coverage=1.0, symbols=()
    )
    return BpeTokenizer(content=content)


TOKENIZERS = {
    "char": CharTokenizer,
    "word": WordTokenizer,
    "bpe": sub_words,
    "seg_dict": lambda: SegDictTokenizer(lines=("hello he@@ llo", "好 好", "ok ok")),
}
CASES = {
    "letters": ("char", "he llo", [("he", 0, 2, 0.1), ("llo", 3, 6, 0.4)]),
    "spaces at the ends": ("char", " a ", [("a", 1, 2, 0.2)]),
    "hanzi": ("char", "你ab好 c", [("你", 0, 1, 0.1), ("ab", 1, 3, 0.2), ("好", 3, 4, 0.4), ("c", 5, 6, 0.6)]),
    "hanzi in words": ("bpe", "HELLO好 WORDS", [("HELLO", 1, 6, 0.2), ("好", 6, 7, 0.7), ("WORDS", 7, 8, 0.8)]),
    "words": ("word", "a bc", [("a", 0, 1, 0.1), ("bc", 1, 2, 0.2)]),
    "two in a token": ("word", "今天 x", [("今", 0, 0.5, 0.1), ("天", 0.5, 1, 0.1), ("x", 1, 2, 0.2)]),
    "glued": ("seg_dict", "hello 好 ok", [("hello", 0, 2, 0.1), ("好", 2, 3, 0.3), ("ok", 3, 4, 0.4)]),
    "pieces": ("bpe", "HELLO WORDS", [("HELLO", 1, 6, 0.2), ("WORDS", 6, 7, 0.7)]),  # the first is a space alone
    "nothing": ("char", "", []),
}


def said_of(tokenizer: Tokenizer, text: str):
    """A task, and a hypothesis in which token k lasts from k to k + 1 and its confidence is (k + 1) / 10."""
    tokens = tokenizer.split(text)
    task = dataclasses.replace(tiny.TASK, tokenizer=tokenizer).with_resources(
        vocabulary=Vocabulary(("<blank>", "<s>", "</s>", *dict.fromkeys(tokens), "<unk>"))
    )
    ids = task.vocabulary.encode(tokens).tolist()
    times = [(float(k), k + 1.0) for k in range(len(ids))]
    return task, Hypothesis("u", task.text(ids), 0.0, ids, [(k + 1) / 10 for k in range(len(ids))], times)


@pytest.mark.parametrize("case", CASES)
def test_words(case):
    name, text, expected = CASES[case]
    assert with_words(*said_of(TOKENIZERS[name](), text)).words == [Word(*word) for word in expected]


def test_an_unknown_token_is_a_word():
    task, said = said_of(sub_words(), "HELLO")
    with_unknown = said._replace(tokens=[*said.tokens, task.vocabulary.unk], confidences=[*said.confidences, 0.5])
    words = with_words(task, with_unknown._replace(times=[*said.times, (50.0, 51.0)])).words
    assert words[-1].end == 51.0
    assert "".join(word.text for word in words) == "HELLO<unk>"


@pytest.mark.parametrize(("samples", "frames"), [(8000, 33), (680, 3), (8140, 34)])
def test_frames_become_seconds_of_the_sound(samples, frames):
    """Of 30 ms each; pressed together where the last one would end behind the sound."""
    task = said_of(WordTokenizer(), "a")[0]
    assert (task.frames(samples), task.frame_ms) == (frames, 30.0)
    spans = np.array([[[0.0, 1.0], [1.5, frames], [0.0, 0.0]]], np.float32)
    log_probs = np.log(np.array([[0.5, 0.25, 1.0]], np.float32))
    found = Hypotheses(np.array([[3, 3, -1]]), np.array([2]), np.array([-1.5], np.float32), log_probs, spans)
    said = hypothesis_of(task, found, 0, "u", samples)
    second = min(0.03, samples / 8000 / frames)
    np.testing.assert_allclose(said.times, second * spans[0, :2], rtol=1e-6)
    assert said.times[-1][1] <= samples / 8000 and (said.times[-1][1] == frames * 0.03) == (samples == 8000)
    np.testing.assert_allclose(said.confidences, [0.5, 0.25], rtol=1e-6)


def test_a_row_that_does_not_fit_has_no_times():
    task = said_of(WordTokenizer(), "a b")[0]
    log_probs, nan = np.log(np.array([[0.5, 0.25]])), np.full((1, 2, 2), np.nan)
    found = Hypotheses(np.array([[3, 4]]), np.array([2]), np.zeros(1), log_probs, nan)
    said = with_words(task, hypothesis_of(task, found, 0, "u", 8000))
    assert said.times is None and said.words is None and said.pieces == ["a", "b"] and said.seconds == 1.0


def test_hypotheses_beside_the_best():
    """Those that a beam did not fill are none."""
    task = said_of(WordTokenizer(), "a b")[0]
    ranked = NBest(np.array([[[3, 4], [4, -1], [-1, -1]]]), np.array([[2, 1, 0]]), np.array([[-1.0, -2.0, -np.inf]]))
    found = Hypotheses(np.array([[3, 4]]), np.array([2]), np.array([-1.0]), nbest=ranked)
    expected = [Alternative("a b", -1.0, [3, 4]), Alternative("b", -2.0, [4])]
    assert hypothesis_of(task, found, 0, "u", 8000).nbest == expected


def test_frames_of_a_frontend_without_stacking():
    task = dataclasses.replace(said_of(WordTokenizer(), "a")[0], frontend=WavFrontend(num_mels=16, lfr_m=1, lfr_n=1))
    found = Hypotheses(np.array([[3]]), np.array([1]), np.zeros(1), None, np.array([[[3.0, 4.0]]]))
    assert hypothesis_of(task, found, 0, "u", 8000).times == [(pytest.approx(0.03), pytest.approx(0.04))]
