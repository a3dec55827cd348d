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


def test_any_token_of_the_row_alike():
    """Right ones too; 400 draws of 3 of 9 show each about 133 times, by a deviation of 9.4."""
    batch = random_batch()
    keys = jax.random.split(jax.random.key(1), 400)
    shown = np.array(jax.jit(jax.vmap(lambda key: glanced(key, *batch, 0.5)))(keys))
    assert not np.any(shown[:, np.arange(9) >= batch[2][:, None]])
    assert np.all(np.abs(np.sum(shown[:, 0], axis=0) - 400 / 3) < 4 * 9.4)


def test_key_and_place_alone_decide():
    logits, targets, lengths = random_batch()
    shown = glanced_by(jax.random.key(0), logits, targets, lengths, 0.75)
    padded = np.pad(logits, ((0, 0), (0, 4), (0, 0)), constant_values=np.nan), np.pad(targets, ((0, 0), (0, 4)))
    wide = glanced_by(jax.random.key(0), *padded, lengths, 0.75)
    np.testing.assert_array_equal(wide, np.pad(shown, ((0, 0), (0, 4))))
    assert np.any(shown != glanced_by(jax.random.key(1), logits, targets, lengths, 0.75))
