import dataclasses
import functools
import re

import jax
import numpy as np
import pytest

from jaxasr.errors import ConfigError
from jaxasr.nn.noise import row_uniforms
from jaxasr.nn.specaug import Masks, SpecAugment, SpecAugmentLfr, warp_points, warped_in_time


@functools.partial(jax.jit, static_argnums=(0, 3))
def hidden(masks, key, lengths, size):
    return masks.hidden(row_uniforms(key, (len(lengths), 2 * masks.number)), lengths, size)


@functools.partial(jax.jit, static_argnums=(0, 3))
def augmented(specaug, x, lengths, num_bands, key):
    return specaug(x, lengths, num_bands=num_bands, key=key)


stretched = jax.jit(warped_in_time)


def at_most(number, width, **changes):
    return Masks(number, 0, width, 0.0, None)._replace(**changes)


def assert_uniform(values, size):
    """Every number below `size` about equally often: chi-square within five standard deviations."""
    counts = np.bincount(values, minlength=size)
    assert len(counts) == size
    expected = len(values) / size
    assert np.sum((counts - expected) ** 2) / expected < (size - 1) + 5 * np.sqrt(2 * (size - 1))


# --- masks ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("low", [0, 2])
def test_widths_and_positions_are_uniform(low):
    high, length = 6, 20
    found = np.asarray(hidden(at_most(1, high, min_width=low), jax.random.key(0), np.full(40_000, length), 25))
    assert not found[:, length:].any()
    widths, starts = found.sum(axis=1), found.argmax(axis=1)
    assert np.all(np.abs(np.diff(np.pad(found, ((0, 0), (1, 1))).astype(int), axis=1)).sum(axis=1) <= 2)  # one span
    assert widths.min() == low
    assert_uniform(widths - low, high - low + 1)
    for width in range(max(low, 1), high + 1):
        assert_uniform(starts[widths == width], length - width + 1)


@pytest.mark.parametrize(("count", "low", "high", "length"), [(1, 0, 8, 30), (2, 3, 10, 30), (4, 5, 5, 12)])
def test_share_of_hidden_positions(count, low, high, length):
    rows, position, size = 20_000, np.arange(length), 40
    found = np.asarray(hidden(at_most(count, high, min_width=low), jax.random.key(1), np.full(rows, length), size))
    seen = 0.0  # by one mask, at each position: the mean over widths of the share of places that leave it
    for width in range(low, high + 1):
        starts = np.arange(length - width + 1)
        inside = (position[:, None] >= starts) & (position[:, None] < starts + width)
        seen = seen + (1 - inside.mean(axis=1)) / (high - low + 1)
    expected = 1 - seen**count
    deviation = np.sqrt(np.maximum(expected * (1 - expected), 1e-9) / rows)
    assert np.max(np.abs(found[:, :length].mean(axis=0) - expected) / deviation) < 5
    assert not found[:, length:].any()


@pytest.mark.parametrize(("widest", "length"), [(0, 10), (5, 0), (30, 10), (10, 10), (3, 1)])
def test_masks_stay_within_the_length(widest, length):
    found = np.asarray(hidden(at_most(3, widest), jax.random.key(1), np.full(500, length), 12))
    assert not found[:, length:].any()
    if min(widest, length) == 0:
        assert not found.any()
    else:
        assert found[:, :length].any(axis=0).all()  # every position is hidden now and then


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ({"max_width": 9}, {100: (0, 9), 40: (0, 9), 5: (0, 5)}),
        ({"max_width": None, "max_share": 0.2}, {100: (0, 20), 43: (0, 8), 4: (0, 0)}),
        ({"max_width": 9, "max_share": 0.2}, {100: (0, 9), 40: (0, 8), 4: (0, 0)}),
        ({"max_width": None, "min_share": 0.1, "max_share": 0.2}, {100: (10, 20), 40: (4, 8)}),
        ({"max_width": 9, "min_width": 2, "min_share": 0.05}, {100: (5, 9), 20: (2, 9), 1: (1, 1)}),
        ({"max_width": 9, "min_width": 4, "max_share": 0.2}, {100: (4, 9), 25: (4, 5), 10: (2, 2)}),
        ({"max_width": 9, "min_share": 0.5, "max_share": 0.6}, {10: (5, 6), 100: (9, 9)}),
    ],
)
def test_of_two_limits_the_tighter_one_holds(limits, expected):
    lengths = np.repeat(list(expected), 2000)
    widths = np.asarray(hidden(at_most(1, 0, **limits), jax.random.key(2), lengths, 100)).sum(axis=1)
    for length, (low, high) in expected.items():
        mine = widths[lengths == length]
        assert (mine.min(), mine.max()) == (low, high), length
        if high > low:
            assert_uniform(mine - low, high - low + 1)


def test_number_of_masks():
    # spans of 1 position out of 200: seldom one over the other
    lengths = np.tile([200, 150, 99, 49, 0], 400)
    masks = Masks(4, 1, 1, 0.0, None)
    every = np.asarray(hidden(masks, jax.random.key(2), lengths, 200)).sum(axis=1)
    adaptive = np.asarray(hidden(masks._replace(per_position=0.02), jax.random.key(2), lengths, 200)).sum(axis=1)
    for length, most in {200: 4, 150: 3, 99: 1, 49: 0, 0: 0}.items():
        assert every[lengths == length].max() == min(4, length)
        assert adaptive[lengths == length].max() == most
        assert adaptive[lengths == length].mean() > 0.95 * most - 1e-9


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


def test_widths_of_bands_are_shares_of_one_frame():
    specaug = SpecAugment(
        num_freq_masks=1, max_freq_width=None, min_freq_share=0.25, max_freq_share=0.5, num_time_masks=0
    )
    y = np.asarray(augmented(specaug, np.ones((300, 4, 60), np.float32), np.full(300, 4), 20, jax.random.key(4)))
    widths = {int((row[0] == 0).sum()) for row in y}
    assert widths == {3 * width for width in range(5, 11)}


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


def test_specaug_lfr_differs_from_specaug_in_its_defaults_alone():
    options = dataclasses.asdict(SpecAugmentLfr())
    assert options != dataclasses.asdict(SpecAugment())
    x, lengths, key = np.ones((8, 30, 6), np.float32), np.full(8, 30), jax.random.key(7)
    expected = augmented(SpecAugment(**options), x, lengths, 3, key)
    np.testing.assert_array_equal(augmented(SpecAugmentLfr(), x, lengths, 3, key), expected)


# --- time warp -----------------------------------------------------------------------------------------------------


def cubic(distance, a=-0.75):
    d = abs(distance)
    if d <= 1:
        return (a + 2) * d**3 - (a + 3) * d**2 + 1
    return a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a if d < 2 else 0.0


def interpolated(x, size):
    """torch's interpolate(mode="bicubic", align_corners=False) along the first axis, one sample after another."""
    y = np.zeros((size, *x.shape[1:]))
    for i in range(size):
        place = (i + 0.5) * len(x) / size - 0.5
        for tap in range(int(np.floor(place)) - 1, int(np.floor(place)) + 3):
            y[i] += cubic(place - tap) * x[min(max(tap, 0), len(x) - 1)]
    return y


def warped_by_hand(x, center, warped):
    return np.concatenate([interpolated(x[:center], warped), interpolated(x[center:], len(x) - warped)])


def test_warp_equals_interpolation_of_both_parts():
    rng = np.random.default_rng(0)
    rows = [(length, c, w) for length in (2, 3) for c in range(1, length) for w in range(1, length)]
    for length in rng.integers(4, 70, 150):
        rows.append((length, *rng.integers(1, length, 2)))
    lengths, center, warped = np.array(rows, np.int32).T
    x = rng.normal(size=(len(rows), 75, 3)).astype(np.float32)
    for row, length in zip(x, lengths, strict=True):
        row[length:] = np.nan
    y = np.asarray(stretched(x, lengths, center, warped))
    for i, (length, c, w) in enumerate(rows):
        expected = warped_by_hand(np.float64(x[i, :length]), c, w)
        np.testing.assert_allclose(y[i, :length], expected, rtol=1e-5, atol=1e-5, err_msg=f"{rows[i]}")
        assert np.all(np.isnan(y[i, length:]))


def test_warp_is_exact_late_in_a_long_row():
    x = np.random.default_rng(1).normal(size=(1, 20_000, 1)).astype(np.float32)
    y = np.asarray(stretched(x, np.array([20_000]), np.array([9_000]), np.array([9_005])))
    np.testing.assert_allclose(y[0], warped_by_hand(np.float64(x[0]), 9_000, 9_005), rtol=1e-5, atol=1e-5)


def test_warp_to_the_same_place_changes_nothing():
    x = np.random.default_rng(2).normal(size=(40, 45, 4)).astype(np.float32)
    lengths, center = np.arange(5, 45), np.arange(40) // 2 + 1
    np.testing.assert_array_equal(stretched(x, lengths, center, center), x)


@pytest.mark.parametrize(("window", "length"), [(5, 12), (5, 30), (2, 30)])
def test_points_of_the_warp_are_uniform(window, length):
    points = jax.jit(lambda key, lengths: warp_points(row_uniforms(key, (40_000, 2)), lengths, window))
    center, warped = map(np.asarray, points(jax.random.key(8), np.full(40_000, length)))
    assert_uniform(center - window, length - 2 * window)
    assert_uniform(warped - center + window - 1, 2 * window)
    assert np.all((warped >= 1) & (warped < length))
    assert abs(np.corrcoef(center, warped - center)[0, 1]) < 5 / np.sqrt(40_000)


def test_short_rows_are_not_warped():
    warp_alone = SpecAugment(time_warp_window=5, num_freq_masks=0, num_time_masks=0)
    x = np.random.default_rng(3).normal(size=(12, 30, 4)).astype(np.float32)
    lengths = np.arange(12)
    for row, length in zip(x, lengths, strict=True):
        row[length:] = np.nan
    for seed in range(5):
        y = np.asarray(augmented(warp_alone, x, lengths, 4, jax.random.key(seed)))
        np.testing.assert_array_equal(y[:11], x[:11])
    assert np.any(y[11] != x[11])


def test_the_warp_comes_before_the_masks():
    rng, key = np.random.default_rng(4), jax.random.key(9)
    x, lengths = rng.normal(size=(6, 50, 8)).astype(np.float32), np.array([50, 44, 31, 12, 10, 0])
    center, warped = jax.jit(lambda: warp_points(row_uniforms(key, (6, 2)), lengths, 5))()
    masked = np.asarray(augmented(SpecAugment(), np.ones_like(x), lengths, 4, key))
    found = np.asarray(augmented(SpecAugment(time_warp_window=5), x, lengths, 4, key))
    for i, length in enumerate(lengths):
        own = np.float64(x[i, :length])
        expected = warped_by_hand(own, center[i], warped[i]) if length > 10 else own
        np.testing.assert_allclose(found[i, :length], expected * masked[i, :length], rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(augmented(SpecAugment(), x, lengths, 4, key), x * masked)


# --- options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"time_warp_window": -1}, "--specaug.time_warp_window=-1: a number of frames, or 0 for no time warp, was"),
        ({"num_freq_masks": -1}, "--specaug: num_freq_masks=-1, min_freq_width=0, max_freq_width=27; whole numbers"),
        ({"min_freq_width": 28}, "--specaug: num_freq_masks=2, min_freq_width=28, max_freq_width=27; whole numbers"),
        ({"min_time_width": -1}, "--specaug: num_time_masks=2, min_time_width=-1, max_time_width=40; whole numbers"),
        ({"min_time_share": 0.3}, "--specaug: min_time_share=0.3, max_time_share=0.2; shares from 0 to 1 were"),
        ({"min_freq_share": -0.1}, "--specaug: min_freq_share=-0.1, max_freq_share=None; shares from 0 to 1 were"),
        ({"max_time_share": 1.1}, "--specaug: min_time_share=0.0, max_time_share=1.1; shares from 0 to 1 were"),
        ({"max_time_share": float("nan")}, "max_time_share=nan; shares from 0 to 1 were expected"),
        ({"max_freq_width": None}, "max_freq_width=None, max_freq_share=None; nothing limits a mask"),
        ({"max_time_width": None, "max_time_share": None}, "give --specaug.max_time_width or --specaug.max_time_share"),
        ({"time_masks_per_frame": 2.0}, "--specaug.time_masks_per_frame=2.0: from 0 to 1 was expected, or none"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ConfigError, match=re.escape(message)):
        SpecAugment(**options).check()


@pytest.mark.parametrize(
    "specaug",
    [
        SpecAugment(),
        SpecAugmentLfr(),
        SpecAugment(max_freq_width=None, max_freq_share=0.3, min_freq_share=0.3),
        SpecAugment(num_time_masks=0, max_time_width=None, max_time_share=None),
        SpecAugment(time_masks_per_frame=0.04, max_time_width=None, max_time_share=0.04, num_time_masks=20),
        SpecAugment(min_time_width=5, max_time_width=None),
    ],
)
def test_options_that_mean_something_are_taken(specaug):
    specaug.check()


def test_views_are_warped_alike_and_masked_each_in_its_own_way():
    x = np.random.default_rng(0).normal(size=(4, 60, 8)).astype(np.float32)
    lengths = np.array([60, 60, 45, 30])

    def views(**options):
        specaug = SpecAugment(time_warp_window=5, max_freq_width=3, **options)
        found = jax.jit(lambda key: specaug(x, lengths, num_bands=8, key=key, views=2))(jax.random.key(3))
        return np.asarray(found).reshape(4, 2, 60, 8)

    warped = views(num_freq_masks=0, num_time_masks=0)
    np.testing.assert_array_equal(warped[:, 0], warped[:, 1])
    assert np.any(warped[:, 0] != x, axis=(1, 2)).all()
    masked = views()
    seen = masked != 0
    assert np.any(seen[:, 0] != seen[:, 1], axis=(1, 2)).all()
    np.testing.assert_allclose(masked[seen], warped[seen], atol=1e-5)  # of two programs
