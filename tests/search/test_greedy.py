import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxasr.search.greedy import attention_greedy, ctc_greedy, parallel_greedy

SOS, EOS, FORBIDDEN = 1, 2, (0, 1)
B, N, V = 6, 12, 7


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def random_logits(seed, *shape):
    return np.random.default_rng(seed).normal(scale=2.0, size=shape).astype(np.float32)


def unpadded(hypotheses):
    """Each row's tokens as a list; what stands after them is -1."""
    tokens, lengths, scores, log_probs, spans, _ = jax.device_get(hypotheses)
    assert (tokens.dtype, lengths.dtype, scores.dtype, log_probs.dtype) == (np.int32, np.int32, np.float32, np.float32)
    assert np.all(log_probs <= 0.0)
    for of_tokens in (log_probs, spans):
        assert of_tokens is None or not np.any(of_tokens[tokens < 0])
    for row, length in zip(tokens, lengths, strict=True):
        assert np.all(row[length:] == -1)
    return [row[:length].tolist() for row, length in zip(tokens, lengths, strict=True)], scores


# --- CTC ---------------------------------------------------------------------------------------------------------

by_frame = functools.partial(jax.jit, static_argnames="blank_id")(ctc_greedy)


def collapse(logits, blank_id):
    """Tokens, score, and each token's log-probability and span, of one row without padding."""
    path, surest = logits.argmax(axis=-1), log_softmax(logits).max(axis=-1)
    runs = [(int(k), [t for t, _ in run]) for k, run in itertools.groupby(enumerate(path), lambda step: step[1])]
    said = [(k, max(surest[run]), (run[0], run[-1] + 1)) for k, run in runs if k != blank_id]
    tokens, log_probs, spans = map(list, zip(*said, strict=True)) if said else ([], [], [])
    return tokens, surest.sum(), log_probs, spans


@pytest.mark.parametrize("blank_id", [0, 3])
@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), lengths=st.lists(st.integers(0, N), min_size=B, max_size=B))
def test_ctc_collapses_the_best_path(blank_id, seed, lengths):
    logits = random_logits(seed, B, N, 4)  # few symbols: blanks and repeats are many
    found = by_frame(logits, np.array(lengths), blank_id=blank_id)
    tokens, scores = unpadded(found)
    expected = [collapse(row[:length], blank_id) for row, length in zip(logits, lengths, strict=True)]
    assert tokens == [t for t, *_ in expected]
    np.testing.assert_allclose(scores, [s for _, s, *_ in expected], rtol=1e-5, atol=1e-5)
    for row, (_, _, log_probs, spans) in enumerate(expected):
        np.testing.assert_allclose(found.log_probs[row, : len(spans)], log_probs, rtol=1e-4, atol=1e-5)
        assert [tuple(span) for span in found.spans[row, : len(spans)].tolist()] == spans


@pytest.mark.parametrize(
    ("path", "tokens"),
    [
        ([1, 1, 0, 1, 2, 2], [1, 1, 2]),
        ([0, 0, 0, 0, 0, 0], []),
        ([1, 2, 3, 1, 2, 3], [1, 2, 3, 1, 2, 3]),
        ([0, 3, 3, 0, 0, 3], [3, 3]),
    ],
)
def test_ctc_by_hand(path, tokens):
    logits = np.eye(4, dtype=np.float32)[path][None]
    found, scores = unpadded(by_frame(logits, np.array([6])))
    assert found == [tokens]
    np.testing.assert_allclose(scores, 6 * log_softmax(logits).max(), rtol=1e-5)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_ctc_does_not_look_at_padding(garbage):
    logits, lengths = random_logits(1, B, N, V), np.array([N, 7, 1, 0, 5, 11])
    expected = by_frame(logits, lengths)
    wide = np.pad(logits, ((0, 0), (0, 5), (0, 0)))
    for row, length in zip(wide, lengths, strict=True):
        row[length:] = garbage
    found = by_frame(wide, lengths)
    np.testing.assert_array_equal(found.tokens[:, :N], expected.tokens)
    assert unpadded(found)[0] == unpadded(expected)[0]
    np.testing.assert_array_equal(found.scores, expected.scores)


def test_ctc_of_bfloat16_is_scored_in_float32():
    logits, lengths = random_logits(2, B, N, V), np.full(B, N)
    half = jnp.asarray(logits, jnp.bfloat16)
    found, expected = by_frame(half, lengths), by_frame(half.astype(jnp.float32), lengths)
    assert unpadded(found)[0] == unpadded(expected)[0]
    np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-6)


# --- all tokens at once ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("garbage", [None, np.nan, 1e30])
def test_parallel_greedy(garbage):
    """The best of each token, those left out aside; what lies behind a row's tokens does not count."""
    logits, lengths = random_logits(3, B, N, V), np.array([N, 7, 1, 0, 5, 11])
    given = logits.copy()
    for row, length in zip(given, lengths, strict=True):
        row[length:] = row[length:] if garbage is None else garbage
    spans = np.arange(2.0 * N).reshape(1, N, 2).repeat(B, axis=0)
    hypotheses = jax.jit(functools.partial(parallel_greedy, left_out=(0, 2)))(given, lengths, np.float32(spans))
    found, scores = unpadded(hypotheses)
    best = [np.argmax(row[:length], axis=-1) for row, length in zip(logits, lengths, strict=True)]
    assert found == [[i for i in row.tolist() if i not in (0, 2)] for row in best]
    expected = [log_softmax(row[:length]).max(axis=-1).sum() for row, length in zip(logits, lengths, strict=True)]
    np.testing.assert_allclose(scores, expected, rtol=1e-5)
    assert len(set(map(len, found))) > 3
    for row, tokens in enumerate(best):
        kept = np.flatnonzero(~np.isin(tokens, (0, 2)))
        np.testing.assert_array_equal(hypotheses.spans[row, : len(kept)], spans[row, kept])
        surest = log_softmax(logits[row, kept]).max(axis=-1)
        np.testing.assert_allclose(hypotheses.log_probs[row, : len(kept)], surest, rtol=1e-5)


# --- attention ---------------------------------------------------------------------------------------------------


def next_logits(table, last, history, position):
    """A toy decoder: scores hang on the row, the last token, the place and the sum of all tokens so far."""
    return table[(last + 3 * history + 5 * position) % len(table)]


@functools.partial(jax.jit, static_argnames=("forbidden", "max_tokens"))
def searched(tables, max_lengths, *, forbidden=FORBIDDEN, max_tokens=N):
    def step(last, cache, position):
        history = (cache["history"] if isinstance(cache, dict) else cache) + last
        logits = jax.vmap(next_logits, (0, 0, 0, None))(tables, last, history, position)
        return logits, {"history": history, "steps": position}  # the first step adds to the cache

    return attention_greedy(
        step,
        jnp.zeros(tables.shape[0], jnp.int32),
        max_lengths,
        max_tokens=max_tokens,
        sos=SOS,
        eos=EOS,
        forbidden=forbidden,
    )


def loop(table, max_length, forbidden=FORBIDDEN):
    """Tokens, score and log-probabilities of one row, token by token."""
    last, history, score, tokens, each = SOS, 0, 0.0, [], []
    for position in range(max_length):
        history += last
        log_probs = log_softmax(next_logits(table, last, history, position))
        log_probs[list(forbidden)] = -np.inf
        last = int(log_probs.argmax())
        score += log_probs[last]
        if last == EOS:
            break
        tokens.append(last)
        each.append(log_probs[last])
    return tokens, score, each


@settings(deadline=None)
@given(seed=st.integers(0, 2**32 - 1), max_lengths=st.lists(st.integers(0, N), min_size=B, max_size=B))
def test_attention_equals_a_loop(seed, max_lengths):
    tables = random_logits(seed, B, 40, V)
    found = searched(tables, np.array(max_lengths, np.int32))
    tokens, scores = unpadded(found)
    expected = [loop(table, length) for table, length in zip(tables, max_lengths, strict=True)]
    assert tokens == [t for t, *_ in expected]
    np.testing.assert_allclose(scores, [s for _, s, _ in expected], rtol=1e-5, atol=1e-5)
    for row, (_, _, each) in enumerate(expected):
        np.testing.assert_allclose(found.log_probs[row, : len(each)], each, rtol=1e-4, atol=1e-5)
    assert found.spans is None


def test_attention_keeps_to_its_limits():
    tables = random_logits(3, B, 40, V)
    tables[:, :, [0, SOS]] += 20.0  # forbidden, and by far the best
    tables[:3, :, EOS] = -20.0  # these rows never end by themselves
    tables[3, :, EOS] = 30.0  # this one at once
    max_lengths = np.array([N, 4, 0, N, 9, N], np.int32)
    tokens, scores = unpadded(searched(tables, max_lengths))
    assert [len(row) for row in tokens[:4]] == [N, 4, 0, 0]
    assert scores[2] == 0.0
    assert not set(itertools.chain(*tokens)) & {*FORBIDDEN, EOS}
    np.testing.assert_allclose(scores[3], log_softmax(tables[3])[SOS + 3 * SOS, EOS], rtol=1e-5, atol=1e-6)


def test_attention_without_forbidden_tokens():
    tables = random_logits(4, B, 40, V)
    tables[:, :, EOS] = -20.0
    tokens, _ = unpadded(searched(tables, np.full(B, N, np.int32), forbidden=()))
    assert tokens == [loop(table, N, ())[0] for table in tables]
    assert set(itertools.chain(*tokens)) >= {0, SOS}


def test_attention_with_more_room_finds_the_same():
    tables, max_lengths = random_logits(5, B, 40, V), np.array([N, 4, 0, 7, 9, N], np.int32)
    found, wide = searched(tables, max_lengths), searched(tables, max_lengths, max_tokens=N + 9)
    assert wide.tokens.shape == (B, N + 9)
    assert unpadded(found)[0] == unpadded(wide)[0]
    np.testing.assert_array_equal(found.scores, wide.scores)


def test_attention_stops_when_every_row_has_ended():
    tables = random_logits(6, B, 40, V)
    tables[:, :, EOS] = 30.0
    steps = []

    @jax.jit
    def search(tables):
        def step(last, cache, position):
            jax.debug.callback(lambda p: steps.append(int(p)), position)
            return tables[:, 0], cache

        return attention_greedy(step, (), jnp.full(B, N), max_tokens=N, sos=SOS, eos=EOS)

    assert unpadded(search(tables))[0] == [[]] * B
    jax.effects_barrier()
    assert steps == [0]
