import functools

import jax
import numpy as np
import pytest

from jaxasr.nn.glancing import glanced

SYMBOLS = 5
glanced_by = functools.partial(jax.jit, static_argnums=4)(glanced)


def random_batch():
    """Logits that have 2, 1 and 0 of 9, 4 and 0 tokens right."""
    rng = np.random.default_rng(0)
    targets, lengths, right = rng.integers(0, SYMBOLS, (3, 9)), np.array([9, 4, 0]), np.array([2, 1, 0])
    said = np.where(np.arange(9) < right[:, None], targets, (targets + 1) % SYMBOLS)
    return np.eye(SYMBOLS, dtype=np.float32)[said], targets, lengths


@pytest.mark.parametrize(
    ("ratio", "expected"), [(0.0, [0, 0, 0]), (0.5, [3, 1, 0]), (0.75, [5, 2, 0]), (1.0, [7, 3, 0])]
)
def test_as_many_as_a_share_of_what_is_wrong(ratio, expected):
    shown = glanced_by(jax.random.key(0), *random_batch(), ratio)
    assert (shown.shape, shown.dtype) == ((3, 9), np.bool_)
    np.testing.assert_array_equal(np.sum(shown, axis=1), expected)


def drawn(number, *batch):
    """(keys, B, U): what is shown by each of so many keys."""
    keys = jax.random.split(jax.random.key(1), number)
    return np.array(jax.jit(jax.vmap(lambda key: glanced(key, *batch)))(keys))


def chi_square(counts):
    """Of counts that are all expected to be the same."""
    mean = np.mean(counts)
    return np.sum((counts - mean) ** 2) / mean


def test_any_tokens_of_the_row_alike():
    """Right ones too: each of the 84 sets of 3 of 9, and of the 4; bounds that one draw of 1,000 is above."""
    logits, targets, lengths = random_batch()
    shown = drawn(8000, logits, targets, lengths, 0.5)
    assert not np.any(shown[:, np.arange(9) >= lengths[:, None]])
    _, sets = np.unique(shown[:, 0] @ 2 ** np.arange(9), return_counts=True)
    assert len(sets) == 84 and chi_square(sets) < 128.6
    assert chi_square(np.sum(shown[:, 1, :4], axis=0)) < 16.3


def test_rows_are_drawn_apart():
    """One of 4 in each of two rows: all 16 pairs alike."""
    logits, targets = np.eye(SYMBOLS, dtype=np.float32)[np.ones((2, 4), int)], np.zeros((2, 4), int)
    first, second = np.argmax(drawn(8000, logits, targets, np.array([4, 4]), 0.25), axis=2).T
    pairs = np.bincount(4 * first + second, minlength=16)
    assert chi_square(pairs) < 37.7


def test_key_and_place_alone_decide():
    logits, targets, lengths = random_batch()
    shown = glanced_by(jax.random.key(0), logits, targets, lengths, 0.75)
    padded = np.pad(logits, ((0, 0), (0, 4), (0, 0)), constant_values=np.nan), np.pad(targets, ((0, 0), (0, 4)))
    wide = glanced_by(jax.random.key(0), *padded, lengths, 0.75)
    np.testing.assert_array_equal(wide, np.pad(shown, ((0, 0), (0, 4))))
    assert np.any(shown != glanced_by(jax.random.key(1), logits, targets, lengths, 0.75))
    others = np.roll(logits, 1, axis=2), targets, np.array([5, 4, 9])
    mixed = [
        np.where(np.array([True, False, True]).reshape(-1, *(1,) * (new.ndim - 1)), new, old)
        for new, old in zip(others, (logits, targets, lengths), strict=True)
    ]
    np.testing.assert_array_equal(glanced_by(jax.random.key(0), *mixed, 0.75)[1], shown[1])
