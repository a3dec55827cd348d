"""Forced alignment, against all paths one by one."""

import itertools

import jax
import numpy as np
import pytest

from jaxasr.nn.ctc import ctc_loss
from jaxasr.search.alignment import ctc_align, with_spans
from jaxasr.search.greedy import ctc_greedy
from jaxasr.search.hypotheses import Hypotheses

aligned = jax.jit(ctc_align, static_argnames="blank_id")


def log_softmax(logits):
    shifted = np.float64(logits) - np.max(logits, axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def drawn(rows, frames, tokens, symbols, seed):
    """Logits, lengths from 0 on, tokens that may repeat, and their lengths from 0 on."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(scale=2.0, size=(rows, frames, symbols)).astype(np.float32)
    ids, counts = rng.integers(1, symbols, (rows, tokens)), rng.integers(0, tokens + 1, rows)
    ids[np.arange(tokens) >= counts[:, None]] = -1
    return logits, rng.integers(0, frames + 1, rows), ids.astype(np.int32), counts


def fits(ids, frames):
    return len(ids) + sum(a == b for a, b in itertools.pairwise(ids)) <= frames


def best_of_all(log_probs, ids, blank_id):
    """(score, log-probabilities, spans) of the best path that says the tokens, of all there are; None without one."""
    best = None
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        runs = [(k, [t for t, _ in run]) for k, run in itertools.groupby(enumerate(path), lambda step: step[1])]
        runs = [(k, frames) for k, frames in runs if k != blank_id]
        score = sum(log_probs[t, k] for t, k in enumerate(path))
        if [k for k, _ in runs] == ids and (best is None or score > best[0]):
            each = [max(log_probs[t, k] for t in frames) for k, frames in runs]
            best = score, each, [(frames[0], frames[-1] + 1) for _, frames in runs]
    return best


@pytest.mark.parametrize("blank_id", [0, 2])
def test_the_best_of_all_paths(blank_id):
    logits, lengths, tokens, counts = drawn(60, 6, 3, 3, seed=blank_id)
    if blank_id:
        tokens = np.where(tokens == blank_id, 0, tokens)
    found = jax.device_get(aligned(logits, lengths, tokens, counts, blank_id=blank_id))
    impossible = 0
    for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        expected = best_of_all(log_softmax(logits[row, :length]), tokens[row, :count].tolist(), blank_id)
        if expected is None:
            impossible += 1
            assert found.scores[row] == -np.inf and np.all(found.log_probs[row, :count] == -np.inf)
            assert np.all(np.isnan(found.spans[row, :count]))
        else:
            np.testing.assert_allclose(found.scores[row], expected[0], rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(found.log_probs[row, :count], expected[1], rtol=1e-5, atol=1e-5)
            assert [tuple(span) for span in found.spans[row, :count].tolist()] == expected[2]
        assert not np.any(found.spans[row, count:]) and not np.any(found.log_probs[row, count:])
    assert 5 < impossible < 40
    np.testing.assert_array_equal(found.tokens, tokens)


def test_a_thousand_alignments():
    """One span a token, in their order, within the sound; of what CTC's loss counts the best path is the greatest."""
    logits, lengths, tokens, counts = drawn(1000, 60, 20, 7, seed=3)
    found = jax.device_get(aligned(logits, lengths, tokens, counts))
    losses = jax.jit(ctc_loss)(logits, lengths, np.maximum(tokens, 0), counts)
    log_probs, possible = log_softmax(logits), 0
    for row, (length, count) in enumerate(zip(lengths, counts, strict=True)):
        ids = tokens[row, :count]
        assert (found.scores[row] > -np.inf) == fits(ids, length)
        if not fits(ids, length):
            continue
        possible += 1
        spans = found.spans[row, :count].astype(int)
        bounds = spans.ravel()
        assert np.all(bounds >= 0) and np.all(bounds <= length) and np.all(np.diff(bounds)[::2] > 0)
        gaps = spans[1:, 0] - spans[:-1, 1]
        assert np.all(gaps >= (ids[1:] == ids[:-1]))  # a blank between two that are alike
        said = [log_probs[row, a:b, k].max() for (a, b), k in zip(spans, ids, strict=True)]
        np.testing.assert_allclose(found.log_probs[row, :count], said, rtol=1e-4, atol=1e-5)
        assert found.scores[row] <= -losses[row] + 1e-3
    assert 400 < possible < 1000


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_rows_alone_and_padding(garbage):
    logits, lengths, tokens, counts = drawn(8, 12, 4, 5, seed=5)
    together = jax.device_get(aligned(logits, lengths, tokens, counts))
    wide = np.pad(logits, ((0, 0), (0, 5), (0, 0)))
    for row, length in enumerate(lengths):
        wide[row, length:] = garbage
        alone = aligned(wide[row, None], lengths[row, None], np.pad(tokens, ((0, 0), (0, 3)))[row, None], counts[[row]])
        np.testing.assert_array_equal(alone.scores[0], together.scores[row])
        np.testing.assert_array_equal(alone.log_probs[0, :4], together.log_probs[row])
        np.testing.assert_array_equal(alone.spans[0, :4], together.spans[row])


def test_frames_that_say_nothing_certain():
    logits, lengths = np.zeros((3, 4, 3), np.float32), np.full(3, 4)
    logits[0, :, 1], logits[1, 2] = -np.inf, np.nan
    found = aligned(logits, lengths, np.ones((3, 1), np.int32), np.ones(3, np.int32))
    assert found.scores[0] == -np.inf and found.scores[1] == -np.inf
    np.testing.assert_allclose(found.scores[2], 4 * np.log(1 / 3), rtol=1e-6)
    assert np.all(np.isnan(found.spans[:2]))


def test_what_greedy_search_found_is_where_it_found_it():
    logits, lengths, *_ = drawn(30, 20, 1, 4, seed=9)
    found = jax.jit(ctc_greedy)(logits, lengths)
    times = jax.jit(with_spans)(found._replace(spans=None, log_probs=None), logits, lengths)
    np.testing.assert_array_equal(times.spans, found.spans)
    np.testing.assert_allclose(times.log_probs, found.log_probs, rtol=1e-6)
    assert with_spans(found, logits, lengths) is found
    kept = with_spans(found._replace(spans=None), logits, lengths)
    assert kept.log_probs is found.log_probs and isinstance(kept, Hypotheses)
