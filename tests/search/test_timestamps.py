"""Spans of tokens, against loops in float64; FunASR's own are in parity/test_predictors.py."""

import functools
import itertools

import jax
import numpy as np
import pytest

from jaxasr.search.timestamps import spans_of_fires, spans_of_weights

ROWS, FRAMES, GRID = 2000, 24, 64
by_weights = functools.partial(jax.jit, static_argnums=2)(spans_of_weights)
by_fires = functools.partial(jax.jit, static_argnums=(3, 4))(spans_of_fires)


def assert_spans(spans, counts, lengths):
    """One for each token, of some size, none before the one before it has ended, all within the sound."""
    for row, count, length in zip(np.asarray(spans, np.float64), counts, lengths, strict=True):
        bounds = row[:count].ravel()
        assert np.all(np.isfinite(bounds)) and np.all(bounds >= 0.0) and np.all(bounds <= length)
        assert np.all(np.diff(bounds)[::2] > 0.0) and np.all(np.diff(bounds)[1::2] >= 0.0), bounds


# --- weights that sounds are cut by ------------------------------------------------------------------------------


def drawn(most, rng):
    """Weights up to `most` in parts of GRID, so that sums are exact and often whole, some 0; with a tail."""
    lengths = rng.integers(0, FRAMES + 1, ROWS)
    parts = rng.integers(0, most * GRID + 1, (ROWS, FRAMES + 1)) * (rng.random((ROWS, FRAMES + 1)) < 0.7)
    frame = np.arange(FRAMES + 1)
    alphas = np.where(frame < lengths[:, None], parts, np.where(frame == lengths[:, None], 29, 0)) / GRID
    return np.float32(alphas), lengths, np.floor(alphas.sum(axis=1)).astype(int)


def spans_by_the_loop(alphas, length, count):
    """Frame by frame: where each token gets its first weight, and where it is whole."""
    spans, begin, held = [], None, 0.0
    for frame, alpha in enumerate(np.float64(alphas)):
        used = 0.0
        while used < alpha and len(spans) < count:
            begin = frame + used / alpha if begin is None else begin
            part = min(1.0 - held, alpha - used)
            used, held = used + part, held + part
            if held == 1.0:
                spans.append((min(begin, length), min(frame + used / alpha, length)))
                begin, held = None, 0.0
    return np.array(spans).reshape(-1, 2)


@pytest.mark.parametrize("most", [1, 4])
def test_spans_are_those_that_integrate_and_fire_cuts(most):
    """2,000 rows, weights above 1 among them."""
    alphas, lengths, counts = drawn(most, np.random.default_rng(most))
    found = np.asarray(by_weights(alphas, lengths, counts.max()))
    for row, spans in enumerate(found):
        expected = spans_by_the_loop(alphas[row], lengths[row], counts[row])
        assert len(expected) == counts[row]
        np.testing.assert_allclose(spans[: counts[row]], expected, atol=1e-5, err_msg=str(row))
    assert_spans(found, counts, lengths)
    assert np.any(counts == 0) and np.any(counts > FRAMES) == (most > 1)


def test_spans_of_weights_that_round():
    rng = np.random.default_rng(5)
    lengths = rng.integers(1, 301, 300)
    alphas = np.float32(np.where(np.arange(301) < lengths[:, None], 1.3 * rng.random((300, 301)) ** 3, 0.0))
    alphas[np.arange(300), lengths] = 0.45
    counts = np.floor(alphas.sum(axis=1)).astype(int)
    assert_spans(by_weights(alphas, lengths, counts.max()), counts, lengths)


def test_spans_do_not_depend_on_room():
    alphas, lengths, counts = drawn(1, np.random.default_rng(7))
    wide = np.pad(alphas, ((0, 0), (0, 7)))
    found, wide = jax.device_get((by_weights(alphas, lengths, 9), by_weights(wide, lengths, 20)))
    for row, count in enumerate(np.minimum(counts, 9)):
        np.testing.assert_allclose(wide[row, :count], found[row, :count], rtol=1e-6)


# --- weights that were learnt for it -----------------------------------------------------------------------------


def fires_by_the_loop(alphas, count):
    """(places, how near a sum came to firing): FunASR's frames; several that fire in one share it."""
    scaled = np.float64(alphas) * (count + 1) / np.sum(alphas, dtype=np.float64)
    places, held, nearest = [], 0.0, 1.0
    for frame, alpha in enumerate(scaled):
        held += alpha
        number = int(held // (1.0 - 1e-4))
        nearest = min(nearest, abs(held / (1.0 - 1e-4) - round(held / (1.0 - 1e-4))) if held > 0.5 else 1.0)
        held -= number * (1.0 - 1e-4)
        places += [frame + part / number for part in range(number)]
    return np.array(places), nearest


def fine_by_the_loop(places, frames):
    """FunASR's rules for frames of 20 ms; what would begin before the sound is pressed together behind its start."""
    places = places - 1.5
    spans = [[a, min(b, a + 12)] for a, b in itertools.pairwise(places)]
    if places[-1] - places[-2] <= 12:
        spans[-1][1] = (frames + places[-1]) / 2 if frames - places[-1] > 5 else frames
    return np.maximum(spans, (np.array(spans) + 1.5) / 4)


@pytest.mark.parametrize("crowded", [False, True])
def test_fine_spans_are_those_of_the_loop(crowded):
    """2,000 rows; crowded, most frames have several tokens."""
    rng = np.random.default_rng(3)
    frames = 12 if crowded else 60
    lengths, counts = rng.integers(frames // 2, frames + 1, ROWS), rng.integers(0, 21 if crowded else 8, ROWS)
    alphas = np.float32(np.where(np.arange(frames) < lengths[:, None], rng.random((ROWS, frames)) ** 4, 0.0))
    found = np.asarray(by_fires(alphas, lengths, counts, 21, 20.0))
    assert_spans(found, counts, lengths)
    compared = 0
    for row, count in enumerate(counts):
        assert not np.any(found[row, count:])
        places, nearest = fires_by_the_loop(alphas[row], count)
        if count and nearest > 1e-5:  # else rounding decides
            compared += 1
            assert len(places) == count + 1
            expected = fine_by_the_loop(places, lengths[row])
            np.testing.assert_allclose(found[row, :count], expected, atol=1e-4, err_msg=str(row))
    assert compared > 0.98 * np.sum(counts > 0)


def test_fine_spans_do_not_depend_on_room_or_padding():
    rng = np.random.default_rng(4)
    lengths, counts = rng.integers(0, 31, 50), rng.integers(0, 6, 50)
    alphas = np.float32(np.where(np.arange(30) < lengths[:, None], rng.random((50, 30)), 0.0))
    found = by_fires(alphas, lengths, counts, 5, 20.0)
    wide = by_fires(np.pad(alphas, ((0, 0), (0, 9))), lengths, counts, 8, 20.0)
    np.testing.assert_allclose(wide[:, :5], found, rtol=1e-6)
    assert_spans(found, np.where(lengths, counts, 0), lengths)


def test_rules_are_of_milliseconds():
    """Frames of 10 ms, twice as many, with the weights of 20 ms in every second one: the same times."""
    alphas = np.zeros((1, 40), np.float32)
    alphas[0, [5, 9, 25, 36]] = 1.0
    half = np.zeros((1, 80), np.float32)
    half[0, ::2] = alphas[0]
    found, finer = (
        by_fires(a, np.array([a.shape[1]]), np.array([3]), 3, ms) for a, ms in ((alphas, 20.0), (half, 10.0))
    )
    np.testing.assert_allclose(found[0], [[3.5, 7.5], [7.5, 19.5], [23.5, 37.25]])
    np.testing.assert_allclose(finer / 2.0, found)
