"""CTC prefix beam search: against all paths, and against the same search over strings in a dictionary."""

import functools
import itertools
import math

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.search.choices import Fusion, Search
from jaxasr.search.ctc_beam import ctc_beam
from jaxasr.search.scorers import Scorer, Weighted

EOS = 2
searched = functools.partial(jax.jit, static_argnames=("search", "left_out", "blank_id"))(ctc_beam)


class Bigram(flax.struct.PyTreeNode, Scorer):
    """By the last two tokens, of which the first is 0 at the start."""

    table: jax.Array

    def start(self, rows, max_tokens):
        return jnp.zeros((rows, 2), jnp.int32)

    def score(self, state, tokens):
        return self.table[state[:, :1], state[:, 1:], tokens]

    def advance(self, state, tokens):
        return jnp.stack([state[:, 1], tokens], axis=1)


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def random_logits(seed, *shape, scale=2.0):
    return np.random.default_rng(seed).normal(scale=scale, size=shape).astype(np.float32)


def bigram(seed, size):
    return np.random.default_rng(seed).normal(scale=1.5, size=(size, size, size)).astype(np.float32)


def fused_score(prefix, table, weight, bonus, *, end=False):
    """What a scorer and the length bonus add to a prefix."""
    said = (0, 0, *prefix, *((EOS,) if end else ()))
    return bonus * len(prefix) + weight * float(sum(table[said[i], said[i + 1], t] for i, t in enumerate(said[2:])))


def nothing(prefix, *, end=False):
    del prefix, end
    return 0.0


def by_paths(logits, silent, fused=nothing):
    """All texts with their scores, the best first, from all paths one by one."""
    log_probs, found = log_softmax(logits), {}
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        text = tuple(k for k, _ in itertools.groupby(path) if k != silent[0])
        if not set(text) & set(silent):
            found.setdefault(text, []).append(sum(log_probs[t, k] for t, k in enumerate(path)))
    scored = [(np.logaddexp.reduce(s) + fused(text, end=True), text) for text, s in found.items()]
    return sorted(scored, reverse=True)


def by_strings(logits, beam, *, token_beam=0, blank_skip=1.0, fused=nothing):
    """Prefix beam search over strings: what the beam keeps and in which order, the best first."""
    log_probs, never = log_softmax(logits), -math.inf
    prefixes = {(): (0.0, never)}
    for frame in log_probs:
        passed = math.exp(frame[0]) > blank_skip
        best = sorted(range(1, len(frame)), key=lambda k: -frame[k])[: token_beam or len(frame)]
        new = {}
        for prefix, (blank, token) in prefixes.items():
            total = np.logaddexp(blank, token)
            ways = [(prefix, 0, total + frame[0])]
            if not passed:
                if prefix:
                    ways.append((prefix, 1, token + frame[prefix[-1]]))
                for k in range(1, len(frame)):
                    longer = (*prefix, k)
                    if k in best or longer in prefixes or prefix[-1:] == (k,):
                        ways.append((longer, 1, (blank if prefix[-1:] == (k,) else total) + frame[k]))
            for text, place, score in ways:
                before = new.setdefault(text, [never, never])
                before[place] = np.logaddexp(before[place], score)
        kept = sorted(new, key=lambda text: -np.logaddexp(*new[text]) - fused(text))
        prefixes = {text: new[text] for text in kept[:beam] if np.logaddexp(*new[text]) > never}
    scored = [(np.logaddexp(*parts) + fused(text, end=True), text) for text, parts in prefixes.items()]
    return sorted(scored, reverse=True)


def check(found, expected, *, rtol=1e-5):
    """All hypotheses of every row as expected: (score, text), the best first."""
    found = jax.device_get(found)
    tokens, lengths, scores = found.nbest
    assert (tokens.dtype, lengths.dtype, scores.dtype) == (np.int32, np.int32, np.float32)
    for best, of_all in zip(found[:3], found.nbest, strict=True):
        np.testing.assert_array_equal(best, of_all[:, 0])
    for row, hypotheses in enumerate(expected):
        hypotheses = hypotheses[: tokens.shape[1]]
        said = [tuple(t[:n].tolist()) for t, n in zip(tokens[row], lengths[row], strict=True)]
        assert said[: len(hypotheses)] == [text for _, text in hypotheses]
        np.testing.assert_allclose(scores[row, : len(hypotheses)], [s for s, _ in hypotheses], rtol=rtol, atol=rtol)
        assert np.all(scores[row, len(hypotheses) :] == -np.inf)
        assert not lengths[row, len(hypotheses) :].any()
        for t, n in zip(tokens[row], lengths[row], strict=True):
            assert np.all(t[n:] == -1)


# --- a beam for all prefixes -------------------------------------------------------------------------------------


@pytest.mark.parametrize("fused", [False, True])
def test_all_paths(fused):
    """With room for every prefix all texts come out, and their scores are sums over all paths."""
    B, T, V = 6, 4, 4
    logits, lengths = random_logits(0, B, T, V), np.array([4, 4, 3, 2, 1, 0])
    logits[1, 1, 0] = logits[1, 2, 3] = -np.inf
    search = Search("ctc_beam", beam=121, nbest=121)
    fusion, expected = Fusion(), nothing
    if fused:
        table = bigram(1, V)
        fusion = Fusion(length_bonus=0.7, scorers=(Weighted(Bigram(jnp.asarray(table)), 0.6),))
        expected = functools.partial(fused_score, table=table, weight=0.6, bonus=0.7)
    by_row = [by_paths(row[:n], (0,), expected) for row, n in zip(logits, lengths, strict=True)]
    check(searched(logits, lengths, search, fusion), [[s for s in row if s[0] > -np.inf] for row in by_row])


def test_tokens_that_are_left_out():
    logits, lengths = random_logits(2, 3, 4, 5), np.array([4, 4, 2])
    by_row = [by_paths(row[:n], (3, 1), nothing) for row, n in zip(logits, lengths, strict=True)]
    check(searched(logits, lengths, Search("ctc_beam", 121, 121), blank_id=3, left_out=(1,)), by_row)


# --- a narrow beam -----------------------------------------------------------------------------------------------

NARROW = {
    "one": Search("ctc_beam", beam=1),
    "three": Search("ctc_beam", beam=3, nbest=3),
    "eight": Search("ctc_beam", beam=8, nbest=8),
    "two tokens a frame": Search("ctc_beam", beam=4, nbest=4, token_beam=2),
}


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("fused", [False, True])
def test_prefixes_are_those_of_strings(name, fused):
    """Flat scores of few tokens: prefixes leave the beam and come back, before and behind longer ones."""
    B, T, V, search = 24, 14, 5, NARROW[name]
    logits = random_logits(3, B, T, V, scale=1.5)
    lengths = np.random.default_rng(4).integers(0, T + 1, B)
    lengths[:3] = T
    fusion, expected = Fusion(length_bonus=0.3), lambda prefix, end=False: 0.3 * len(prefix)
    if fused:
        table = bigram(5, V)
        fusion = fusion._replace(scorers=(Weighted(Bigram(jnp.asarray(table)), 0.5),))
        expected = functools.partial(fused_score, table=table, weight=0.5, bonus=0.3)
    options = {"token_beam": search.token_beam, "fused": expected}
    by_row = [by_strings(row[:n], search.beam, **options) for row, n in zip(logits, lengths, strict=True)]
    check(searched(logits, lengths, search, fusion), by_row)


def test_prefixes_that_come_back():
    """One leaves the beam, comes back before a longer one that it begins, and what is added to it goes on into that."""
    B, T, V, search = 40, 16, 3, Search("ctc_beam", beam=8, nbest=8)
    sure = np.random.default_rng(8).choice([0.2, 2.0], size=(B, T, 1))
    logits = np.float32(random_logits(9, B, T, V, scale=4.0) * sure - [4.0, 0.0, 0.0])
    check(searched(logits, np.full(B, T), search), [by_strings(row, 8) for row in logits])


def test_blanks_are_passed_over():
    """Exact where blank is certain, and as if it were so where it is likelier than that."""
    B, T, V, search = 24, 16, 4, Search("ctc_beam", beam=6, nbest=6)
    logits, rng = random_logits(6, B, T, V), np.random.default_rng(7)
    certain = rng.random((B, T)) < 0.4
    logits[certain, 1:] = -np.inf
    lengths = rng.integers(0, T + 1, B)
    by_row = [by_strings(row[:n], 6) for row, n in zip(logits, lengths, strict=True)]
    for threshold in (1.0, 0.999):
        check(searched(logits, lengths, search, Fusion(blank_skip=threshold)), by_row)
    by_row = [by_strings(row[:n], 6, blank_skip=0.7) for row, n in zip(logits, lengths, strict=True)]
    check(searched(logits, lengths, search, Fusion(blank_skip=0.7)), by_row)


def test_wide_vocabularies():
    """More tokens than are looked at of a frame."""
    B, T, V, search = 3, 12, 700, Search("ctc_beam", beam=5, nbest=5)
    logits, lengths = random_logits(8, B, T, V), np.array([T, 9, 1])
    logits[0, 3:6, 40] = logits[0, 3:6].max() + 1.0
    check(searched(logits, lengths, search), [by_strings(r[:n], 5) for r, n in zip(logits, lengths, strict=True)])


# --- what changes nothing ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [0.0, np.nan, np.inf])
def test_neither_padding_nor_other_rows_count(garbage):
    B, T, V, search = 5, 20, 30, Search("ctc_beam", beam=4, nbest=2)
    logits, lengths = random_logits(9, B, T, V), np.array([T, 7, 1, 0, 13])
    fusion = Fusion(length_bonus=0.1, blank_skip=0.2)
    expected = jax.device_get(searched(logits, lengths, search, fusion))
    wide = np.pad(logits, ((0, 0), (0, 6), (0, 0)))
    for row, length in zip(wide, lengths, strict=True):
        row[length:] = garbage
    found = jax.device_get(searched(wide, lengths, search, fusion))
    np.testing.assert_array_equal(found.nbest.tokens[:, :, :T], expected.nbest.tokens)
    np.testing.assert_allclose(found.nbest.scores, expected.nbest.scores, rtol=1e-6)
    assert np.all(found.nbest.tokens[:, :, T:] == -1)
    if garbage == 0.0:
        for row in range(B):
            alone = jax.device_get(searched(logits[row, None], lengths[row, None], search, fusion))
            np.testing.assert_array_equal(alone.nbest.tokens[0], expected.nbest.tokens[row])
            np.testing.assert_allclose(alone.nbest.scores[0], expected.nbest.scores[row], rtol=1e-6)


def test_rows_that_cannot_be_scored():
    """NaN is theirs alone, and what no path can say is not said."""
    logits, lengths = random_logits(10, 4, 5, 4), np.full(4, 5)
    search = Search("ctc_beam", beam=3, nbest=3)
    expected = jax.device_get(searched(logits, lengths, search))
    logits[1, 2, 1], logits[2, 3] = np.nan, -np.inf
    logits[3] = -np.inf
    logits[3, :, 1] = 0.0
    found = jax.device_get(searched(logits, lengths, search))
    np.testing.assert_array_equal(found.tokens[0], expected.tokens[0])
    assert np.isnan(found.scores[1:3]).all() and not found.lengths[1:3].any()
    assert found.tokens[3].tolist() == [1, -1, -1, -1, -1] and found.scores[3] == 0.0
    assert found.nbest.scores[3, 1:].tolist() == [-np.inf] * 2


def test_bfloat16_is_scored_in_float32():
    logits, lengths = jnp.asarray(random_logits(11, 3, 9, 6), jnp.bfloat16), np.array([9, 4, 0])
    search = Search("ctc_beam", beam=3)
    found, expected = searched(logits, lengths, search), searched(logits.astype(jnp.float32), lengths, search)
    np.testing.assert_array_equal(found.tokens, expected.tokens)
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)
