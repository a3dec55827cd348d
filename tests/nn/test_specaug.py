import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.nn.specaug import SpecAugment, spans


@functools.partial(jax.jit, static_argnums=(1, 4))
def many_spans(keys, count, widest, length, size):
    return jax.vmap(lambda key: spans(key, count, jnp.asarray(widest), jnp.asarray(length), size))(keys)


@functools.partial(jax.jit, static_argnums=(0, 3))
def augmented(specaug, x, lengths, num_bands, key):
    return specaug(x, lengths, num_bands=num_bands, key=key)


def assert_uniform(values, size):
    """Every number below `size` about equally often: chi-square within five standard deviations."""
    counts = np.bincount(values, minlength=size)
    assert len(counts) == size
    expected = len(values) / size
    assert np.sum((counts - expected) ** 2) / expected < (size - 1) + 5 * np.sqrt(2 * (size - 1))


def test_widths_and_positions_are_uniform():
    widest, length = 6, 20
    found = np.asarray(many_spans(jax.random.split(jax.random.key(0), 40_000), 1, widest, length, 25))
    assert not found[:, length:].any()
    widths, starts = found.sum(axis=1), found.argmax(axis=1)
    assert np.all(np.abs(np.diff(np.pad(found, ((0, 0), (1, 1))).astype(int), axis=1)).sum(axis=1) <= 2)  # one span
    assert_uniform(widths, widest + 1)
    for width in range(1, widest + 1):
        assert_uniform(starts[widths == width], length - width + 1)


@pytest.mark.parametrize(("widest", "length"), [(0, 10), (5, 0), (30, 10), (10, 10), (3, 1)])
def test_spans_stay_within_the_length(widest, length):
    found = np.asarray(many_spans(jax.random.split(jax.random.key(1), 500), 3, widest, length, 12))
    assert not found[:, length:].any()
    if min(widest, length) == 0:
        assert not found.any()
    else:
        assert found[:, :length].any(axis=0).all()  # every position is hidden now and then


def test_number_of_spans():
    # 200 positions and one span of at most 1: the runs can be counted
    found = np.asarray(many_spans(jax.random.split(jax.random.key(2), 300), 4, 1, 200, 200))
    assert found.sum(axis=1).max() == 4
    assert abs(found.sum(axis=1).mean() - 2.0) < 0.2  # each has width 0 or 1


def hidden_parts(y, length):
    """Of one row without zeros of its own: which frames are hidden whole and which columns."""
    real = np.asarray(y[:length]) == 0
    frames = real.all(axis=1)
    return frames, real[~frames].all(axis=0)


def test_limits_hold_and_bands_go_through_stacked_frames():
    specaug = SpecAugment(num_freq_masks=2, max_freq_width=5, num_time_masks=3, max_time_width=8, max_time_share=0.1)
    rows, num_bands, stack = 200, 20, 3
    lengths = np.tile([100, 64, 47, 9, 0], rows // 5)
    x = np.ones((rows, 100, num_bands * stack), np.float32)
    y = np.asarray(augmented(specaug, x, lengths, num_bands, jax.random.key(3)))
    most_frames, most_bands = 0, 0
    for row, length in zip(y, lengths, strict=True):
        frames, columns = hidden_parts(row, length)
        expected = np.where(frames[:, None] | columns[None], 0.0, 1.0)
        np.testing.assert_array_equal(row[:length], expected)  # masks are zeros and nothing else changes
        np.testing.assert_array_equal(row[length:], 1.0)
        assert frames.sum() <= 3 * min(8, length * 0.1)
        if not frames.all():
            bands = columns.reshape(stack, num_bands)
            assert np.all(bands == bands[0])
            assert bands[0].sum() <= 10
            most_frames, most_bands = max(most_frames, frames.sum()), max(most_bands, bands[0].sum())
    assert most_frames > 16
    assert most_bands > 6


def test_rows_get_masks_of_their_own():
    x, lengths = np.ones((16, 80, 40), np.float32), np.full(16, 80)
    y = np.asarray(augmented(SpecAugment(), x, lengths, 40, jax.random.key(4)))
    assert len({row.tobytes() for row in y}) == 16


def test_no_masks_change_nothing():
    x = np.random.default_rng(0).normal(size=(2, 30, 40)).astype(np.float32)
    specaug = SpecAugment(num_freq_masks=0, num_time_masks=0)
    np.testing.assert_array_equal(augmented(specaug, x, np.array([30, 20]), 40, jax.random.key(5)), x)


def test_a_band_mask_may_be_wider_than_the_bands():
    x = np.ones((200, 5, 6), np.float32)
    y = np.asarray(augmented(SpecAugment(num_time_masks=0), x, np.full(200, 5), 6, jax.random.key(6)))
    assert {hidden_parts(row, 5)[1].sum() for row in y if row.any()} >= {0, 1, 5}
