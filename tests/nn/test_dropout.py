import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxasr.nn.dropout import Dropout, keep_mask, relu_dropped
from jaxasr.nn.rows import DATA_AXIS
from jaxasr.parallel import Devices, pmapped

mask_of = jax.jit(keep_mask, static_argnums=(1, 2))


@functools.partial(jax.jit, static_argnums=(0, 2))
def dropped(rate, x, train, key):
    return Dropout(rate).apply({}, x, train=train, rngs={"dropout": key})


def standardised(mask, rate):
    """Zero mean and unit variance under the hypothesis of independent draws."""
    return (np.asarray(mask, np.float64) - (1 - rate)) / np.sqrt(rate * (1 - rate))


def z_score(values):
    """Of the mean, over every value; a standard normal deviate for independent standardised values."""
    return np.sum(values) / np.sqrt(np.size(values))


@pytest.mark.parametrize("rate", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("seed", [0, 1])
def test_draws_look_independent(rate, seed):
    rows = 64
    z = standardised(mask_of(jax.random.key(seed), (rows, 32, 4, 16), rate), rate)
    assert abs(z_score(z)) < 5
    per_row = z.reshape(rows, -1).sum(axis=1) / np.sqrt(z[0].size)
    assert np.max(np.abs(per_row)) < 5
    assert 0.5 < np.mean(per_row**2) < 1.7  # chi-square of 64 degrees: neither too uneven nor too even
    for axis, lag in itertools.product(range(4), (1, 2, 3)):
        a, b = np.take(z, range(lag, z.shape[axis]), axis), np.take(z, range(z.shape[axis] - lag), axis)
        assert abs(z_score(a * b)) < 5, (axis, lag)
    flat = z.reshape(rows, -1)
    between_rows = (flat @ flat.T / np.sqrt(flat.shape[1]))[np.triu_indices(rows, 1)]
    assert np.max(np.abs(between_rows)) < 5.5  # of 2016 pairs
    assert 0.85 < np.mean(between_rows**2) < 1.15


def test_patterns_of_neighbours_are_equally_likely():
    """Chi-square over the 256 patterns of 8 consecutive draws, along each axis."""
    mask = np.asarray(mask_of(jax.random.key(2), (64, 64, 64), 0.5))
    for axis in range(3):
        bits = np.moveaxis(mask, axis, -1).reshape(-1, 8)
        counts = np.bincount(np.packbits(bits, axis=1)[:, 0], minlength=256)
        expected = bits.shape[0] / 256
        chi_square = np.sum((counts - expected) ** 2) / expected
        assert abs(chi_square - 255) < 5 * np.sqrt(2 * 255), axis


def test_padding_and_further_rows_change_nothing():
    key = jax.random.key(3)
    wide = np.asarray(mask_of(key, (6, 40, 3, 20), 0.3))
    np.testing.assert_array_equal(mask_of(key, (4, 17, 3, 9), 0.3), wide[:4, :17, :, :9])


def test_devices_change_nothing():
    key, devices = jax.random.key(4), Devices.all()
    share = pmapped(lambda key: keep_mask(key, (2, 9, 5), 0.3), devices.mesh, PartitionSpec(), PartitionSpec(DATA_AXIS))
    whole = np.asarray(mask_of(key, (16, 9, 5), 0.3))
    np.testing.assert_array_equal(share(key), whole)
    spread = jax.jit(keep_mask, static_argnums=(1, 2), out_shardings=devices.by_row)
    np.testing.assert_array_equal(spread(key, (16, 9, 5), 0.3), whole)


def test_other_keys_give_other_masks():
    masks = np.stack([mask_of(jax.random.key(k), (8, 32, 32), 0.5) for k in range(16)])
    for a, b in itertools.combinations(masks, 2):
        assert abs(z_score(standardised(a == b, 0.5))) < 5


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_dropout_scales_what_it_keeps(dtype):
    x = jnp.asarray(np.random.default_rng(0).uniform(1.0, 2.0, (8, 50, 40)), dtype)
    y = dropped(0.2, x, True, jax.random.key(5))
    assert y.dtype == dtype
    y, scaled = np.asarray(y), np.asarray(jax.jit(lambda x: x / (1.0 - 0.2))(x))
    kept = y != 0
    assert 0.78 < kept.mean() < 0.82
    np.testing.assert_array_equal(y[kept], scaled[kept])


def test_dropout_does_nothing_without_training_or_rate():
    x = np.ones((2, 3, 4), np.float32)
    key = jax.random.key(6)
    np.testing.assert_array_equal(dropped(0.5, x, False, key), x)
    np.testing.assert_array_equal(dropped(0.0, x, True, key), x)
    np.testing.assert_array_equal(jax.jit(lambda x: Dropout(0.5).apply({}, x, train=False))(x), x)


def test_a_dropped_element_gets_no_gradient_and_lets_no_nan_through():
    x = np.ones((2, 30, 4), np.float32)
    key = jax.random.key(7)
    kept = np.asarray(dropped(0.5, x, True, key)) != 0
    gradient = jax.jit(jax.grad(lambda x: jnp.sum(Dropout(0.5).apply({}, x, train=True, rngs={"dropout": key}))))
    np.testing.assert_array_equal(gradient(x), 2.0 * kept)
    np.testing.assert_array_equal(gradient(np.where(kept, x, np.nan)), 2.0 * kept)


def test_relu_and_dropout_in_one_are_one_after_the_other():
    x = np.random.default_rng(1).normal(size=(3, 20, 5)).astype(np.float32)
    key = jax.random.key(8)

    @functools.partial(jax.jit, static_argnums=0)
    def value_and_gradient(function, x):
        return function(x), jax.grad(lambda x: jnp.sum(jnp.sin(function(x))))(x)

    def plainly(x):
        return jnp.where(keep_mask(key, x.shape, 0.3), jnp.maximum(x, 0.0) / 0.7, 0.0)

    for found, expected in zip(
        value_and_gradient(lambda x: relu_dropped(x, key, 0.3), x), value_and_gradient(plainly, x), strict=True
    ):
        np.testing.assert_allclose(found, expected, rtol=1e-6)
        assert 0.2 < np.mean(np.asarray(found) != 0) < 0.5
    assert np.isnan(relu_dropped(jnp.full((1, 50), jnp.nan), key, 0.3)).any()  # a fault stays one
