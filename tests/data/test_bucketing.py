import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxasr.data import bucketing
from jaxasr.data.batch import BucketShape
from jaxasr.errors import DataError

SECOND = 16_000


@st.composite
def corpora(draw):
    """(samples, tokens) of some utterances, now and then of very different lengths."""
    longest = draw(st.sampled_from([1, 5, 100, 10**6]))
    count = draw(st.integers(1, 60))
    samples = draw(st.lists(st.integers(0, longest), min_size=count, max_size=count))
    tokens = draw(st.lists(st.integers(0, 20), min_size=count, max_size=count))
    return np.array(samples, np.int64), np.array(tokens, np.int64)


limits = st.fixed_dictionaries(
    {"batch_samples": st.integers(1, 10**6), "max_buckets": st.integers(1, 8), "rows_multiple": st.integers(1, 9)}
)


@settings(max_examples=150, deadline=None)
@given(corpus=corpora(), limit=limits, seed=st.none() | st.integers(0, 3))
def test_every_utterance_once_in_a_shape_it_fits(corpus, limit, seed):
    samples, tokens = corpus
    shapes = bucketing.choose(samples, tokens, **limit)
    plan = bucketing.plan(samples, tokens, shapes, None if seed is None else np.random.default_rng(seed))

    assert sorted(i for batch in plan for i in batch.indices) == list(range(len(samples)))
    for shape, indices in plan:
        assert shape in shapes
        assert samples[indices].max() <= shape.samples
        assert tokens[indices].max() <= shape.tokens
        assert 1 <= len(indices) <= shape.rows
        assert len(indices) == shape.rows or shape == shapes[-1]
    assert sum(len(indices) < shape.rows for shape, indices in plan) <= 1


@settings(max_examples=150, deadline=None)
@given(corpus=corpora(), limit=limits, variants=st.integers(1, 3))
def test_shapes(corpus, limit, variants):
    samples, tokens = (np.repeat(x, variants) for x in corpus)
    shapes = bucketing.choose(samples, tokens, **limit, variants=variants)

    assert 1 <= len(shapes) <= limit["max_buckets"]
    assert len(shapes) == min(limit["max_buckets"], len(np.unique(np.maximum(samples, 1))))
    assert all(small.samples < large.samples and small.tokens <= large.tokens for small, large in _pairs(shapes))
    assert shapes[-1].samples == max(samples.max(), 1)
    assert shapes[-1].tokens == tokens.max()
    multiple = limit["rows_multiple"]
    for shape in shapes:
        assert shape.rows % multiple == 0
        assert shape.rows == multiple or shape.rows * shape.samples <= limit["batch_samples"]
        assert shape.rows < len(corpus[0]) + multiple


def _pairs(shapes):
    return itertools.pairwise(shapes)


@settings(max_examples=50, deadline=None)
@given(corpus=corpora(), limit=limits, seed=st.integers(0, 3))
def test_the_same_call_gives_the_same_plan(corpus, limit, seed):
    samples, tokens = corpus
    first, second = (bucketing.choose(samples, tokens, **limit) for _ in range(2))
    assert first == second
    plans = [bucketing.plan(samples, tokens, first, np.random.default_rng(seed)) for _ in range(2)]
    assert [b.shape for b in plans[0]] == [b.shape for b in plans[1]]
    assert all((a.indices == b.indices).all() for a, b in zip(*plans, strict=True))


@settings(max_examples=150, deadline=None)
@given(lengths=st.lists(st.integers(0, 40), min_size=1, max_size=12), max_buckets=st.integers(1, 4))
def test_edges_are_the_best_there_are(lengths, max_buckets):
    samples = np.array(lengths)
    edges = _edges(samples, max_buckets)
    assert edges.tolist() == sorted(set(edges.tolist()))
    known = np.unique(np.maximum(samples, 1))
    choices = (
        [*chosen, known[-1]]
        for count in range(max_buckets)
        for chosen in itertools.combinations(known[:-1], min(count, len(known) - 1))
    )
    assert _padded(samples, edges) == min(_padded(samples, np.array(chosen)) for chosen in choices)


def _edges(samples: np.ndarray, max_buckets: int) -> np.ndarray:
    return bucketing._best_edges(samples, np.ones(len(samples)), max_buckets)


@settings(max_examples=100, deadline=None)
@given(lengths=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 5)), min_size=1, max_size=12), limit=limits)
def test_an_entry_used_often_counts_as_so_many(lengths, limit):
    samples, uses = map(np.array, zip(*lengths, strict=True))
    found = bucketing.choose(samples, samples // 2, **limit, uses=uses)
    assert found == bucketing.choose(np.repeat(samples, uses), np.repeat(samples // 2, uses), **limit)


def _padded(samples: np.ndarray, edges: np.ndarray) -> int:
    return int(edges[np.searchsorted(edges, samples)].sum())


@pytest.mark.parametrize("max_buckets", [3, 10])
@pytest.mark.parametrize("kind", ["gamma", "lognormal", "pareto", "two_kinds"])
def test_edges_from_some_of_the_lengths_are_nearly_the_best(kind, max_buckets, monkeypatch):
    rng = np.random.default_rng(0)
    seconds = {
        "gamma": rng.gamma(9, 0.5, 1200),
        "lognormal": rng.lognormal(1, 1, 1200),
        "pareto": rng.pareto(1.5, 1200) + 0.1,
        "two_kinds": np.concatenate([rng.normal(3, 0.3, 1140), rng.uniform(20, 40, 60)]).clip(0.5),
    }[kind]
    samples = (seconds * SECOND).astype(int)
    fast = _padded(samples, _edges(samples, max_buckets))
    monkeypatch.setattr(bucketing, "_MAX_EDGES", len(samples))
    assert fast <= 1.01 * _padded(samples, _edges(samples, max_buckets))


@pytest.mark.parametrize("rng", [None, np.random.default_rng(0)])
def test_padding_of_a_large_corpus_is_small(rng):
    draw = np.random.default_rng(1)
    samples = (draw.gamma(9, 0.5, 30_000) * SECOND).astype(int)  # 4.5 s on average, as AISHELL-1
    tokens = samples // 5000
    shapes = bucketing.choose(samples, tokens, batch_samples=120 * SECOND, max_buckets=10, rows_multiple=8)
    plan = bucketing.plan(samples, tokens, shapes, rng)
    uses = bucketing.usage(plan, samples, shapes)
    room = sum(use.room for use in uses)
    assert sum(use.utterances for use in uses) == len(samples)
    assert sum(use.batches for use in uses) == len(plan)
    assert sum(use.samples for use in uses) == samples.sum()
    assert 1 - samples.sum() / room < 0.10
    assert max(use.padding for use in uses[1:-1]) < 0.15


def test_one_utterance():
    shapes = bucketing.choose(np.array([7]), np.array([2]), batch_samples=100, max_buckets=5, rows_multiple=8)
    assert shapes == [BucketShape(8, 7, 2)]
    (batch,) = bucketing.plan(np.array([7]), np.array([2]), shapes, np.random.default_rng(0))
    assert batch.indices.tolist() == [0]
    assert bucketing.usage([batch], np.array([7]), shapes)[0].padding == pytest.approx(1 - 1 / 8)


def test_no_utterance():
    none = np.zeros(0, np.int64)
    assert bucketing.choose(none, none, batch_samples=100, max_buckets=5, rows_multiple=8) == []
    assert bucketing.plan(none, none, [], None) == []


def test_equal_lengths_share_one_shape():
    samples, tokens = np.full(20, 10), np.arange(20)
    shapes = bucketing.choose(samples, tokens, batch_samples=85, max_buckets=5, rows_multiple=4)
    assert shapes == [BucketShape(8, 10, 19)]
    assert [len(b.indices) for b in bucketing.plan(samples, tokens, shapes, None)] == [8, 8, 4]


def test_rows_are_no_more_than_an_epoch_fills():
    samples = np.array([10] * 9 + [100] * 9)
    tokens = np.ones(18, int)
    shapes = bucketing.choose(samples, tokens, batch_samples=10**6, max_buckets=2, rows_multiple=8)
    # 16 rows would never fill the first; the second also takes what the first leaves over
    assert shapes == [BucketShape(8, 10, 1), BucketShape(16, 100, 1)]
    assert [len(b.indices) for b in bucketing.plan(samples, tokens, shapes, None)] == [8, 10]


def test_left_overs_move_to_the_next_larger_shape():
    shapes = [BucketShape(2, 10, 5), BucketShape(2, 20, 5), BucketShape(4, 30, 5)]
    samples = np.array([1, 2, 3, 12, 25])
    plan = bucketing.plan(samples, np.ones(5, int), shapes, None)
    assert [(b.shape.samples, b.indices.tolist()) for b in plan] == [(10, [0, 1]), (20, [2, 3]), (30, [4])]


def test_an_utterance_with_many_tokens_goes_to_a_larger_shape():
    shapes = [BucketShape(1, 10, 3), BucketShape(1, 20, 6)]
    assert bucketing.assign(np.array([1, 1, 11, 21]), np.array([3, 4, 1, 1]), shapes).tolist() == [0, 1, 1, 2]


def test_an_utterance_that_fits_no_shape_is_an_error():
    with pytest.raises(DataError, match="plan: utterance 1 has 21 samples and 1 tokens; at most those of the largest"):
        bucketing.plan(np.array([1, 21]), np.array([1, 1]), [BucketShape(1, 20, 6)], None)


def test_with_a_generator_the_order_changes_from_epoch_to_epoch():
    samples, tokens = np.arange(1, 101), np.ones(100, int)
    shapes = bucketing.choose(samples, tokens, batch_samples=400, max_buckets=4, rows_multiple=2)
    one, two = (bucketing.plan(samples, tokens, shapes, np.random.default_rng([0, epoch])) for epoch in (0, 1))
    assert [b.indices.tolist() for b in one] != [b.indices.tolist() for b in two]
    assert [b.shape for b in one] != [b.shape for b in two]
    assert len(one) == len(two)
    lengths = [samples[b.indices].max() for b in bucketing.plan(samples, tokens, shapes, None)]
    assert lengths == sorted(lengths)  # without one it goes by length
