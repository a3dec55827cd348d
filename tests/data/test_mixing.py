import collections

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from jaxasr.data import mixing
from jaxasr.errors import DataError

CORPORA = st.lists(st.tuples(st.integers(1, 40), st.floats(1e-3, 1e3)), min_size=1, max_size=5)


@given(CORPORA)
@settings(deadline=None)
def test_counts_are_the_shares_rounded_and_add_up(corpora):
    sizes, weights = zip(*corpora, strict=True)
    exact = sum(sizes) * np.array(weights) / sum(weights)
    try:
        found = mixing.counts(sizes, weights)
    except DataError:
        assert exact.min() < 1
        return
    assert sum(found) == sum(sizes)
    assert all(np.floor(e - 1e-9) <= n <= np.ceil(e + 1e-9) for e, n in zip(exact, found, strict=True))
    assert min(found) >= 1


def test_the_largest_remainders_are_rounded_up():
    assert mixing.counts([4, 3, 3], [0.26, 0.37, 0.37]) == [2, 4, 4]
    assert mixing.counts([5, 5], [0.5, 0.3]) == [6, 4]
    assert mixing.counts([1, 9], [1e308, 1e308]) == [5, 5]


@given(CORPORA, st.integers(0, 2**64), st.integers(0, 10**6))
@settings(max_examples=60, deadline=None)
def test_over_epochs_every_utterance_of_a_corpus_comes_equally_often(corpora, seed, first):
    sizes, weights = zip(*corpora, strict=True)
    exact = sum(sizes) * np.array(weights) / sum(weights)
    assume(exact.min() >= 1)
    of = np.repeat(np.arange(len(sizes)), sizes)
    total = collections.Counter()
    for epoch in range(first, first + 5):
        drawn = mixing.draw(of, weights, seed, epoch)
        assert len(drawn.indices) == len(of)
        assert np.bincount(of[drawn.indices]).tolist() == mixing.counts(sizes, weights)
        assert len(set(zip(*map(np.ndarray.tolist, drawn), strict=True))) == len(of)
        for a, b in zip(drawn, mixing.draw(of, weights, seed, epoch), strict=True):
            np.testing.assert_array_equal(a, b)
        here = np.bincount(drawn.indices, minlength=len(of))
        assert drawn.repeats.tolist() and (drawn.repeats < here[drawn.indices]).all()
        total.update(drawn.indices.tolist())
        for corpus in range(len(sizes)):
            counts = [total[i] for i in np.flatnonzero(of == corpus)]
            assert max(counts) - min(counts) <= 1
    assert mixing.uses(of, weights).sum() == pytest.approx(len(of))


def test_the_order_is_of_the_seed_and_of_the_corpus():
    of = np.repeat([0, 1], 100)
    parts = [mixing.draw(of, (1.0, 3.0), seed, 0).indices[:50].tolist() for seed in (0, 1)]
    parts.append((mixing.draw(of, (3.0, 1.0), 0, 0).indices[-50:] - 100).tolist())
    assert len({tuple(part) for part in parts}) == 3
    assert parts[0] != list(range(50))


def test_without_weights_every_utterance_comes_once():
    indices, repeats = mixing.draw(np.array([2, 0, 1]), (), 3, 5)
    assert (indices.tolist(), repeats.tolist()) == ([0, 1, 2], [0, 0, 0])
    assert mixing.uses(np.array([2, 0, 1]), ()).tolist() == [1, 1, 1]
