import functools
import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from jaxasr.nn.noise import row_bits, row_normals, row_uniforms
from jaxasr.nn.rows import DATA_AXIS
from jaxasr.parallel import Devices, pmapped

DRAWS = [row_bits, row_uniforms, row_normals]
drawn = jax.jit(lambda draw, key, shape: draw(key, shape), static_argnums=(0, 2))
KEYS, ROWS, COUNT = 6000, 8, 6


@functools.cache
def uniforms(source):
    """(KEYS, ROWS * COUNT) numbers, under keys as a step has them (split from another) or under keys 0, 1, 2, ..."""
    if source == "folded":
        keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(jax.random.key(0), np.arange(KEYS))
    else:
        keys = jax.vmap(jax.random.key)(np.arange(KEYS))
    found = jax.jit(jax.vmap(lambda key: row_uniforms(key, (ROWS, COUNT))))(keys)
    return np.asarray(found, np.float64).reshape(KEYS, -1)


def chi_square_z(counts, expected):
    """How many standard deviations chi-square is off its mean."""
    degrees = counts.shape[-1] - 1
    return (np.sum((counts - expected) ** 2, axis=-1) / expected - degrees) / math.sqrt(2 * degrees)


every_source = pytest.mark.parametrize("source", ["folded", "counted"])


@every_source
def test_numbers_are_uniform(source):
    """Under every place (row, index), over keys."""
    u = uniforms(source)
    assert np.all((u >= 0) & (u < 1))
    assert np.max(np.abs(np.sum(u - 0.5, axis=0))) < 5 * math.sqrt(KEYS / 12)
    counts = np.stack([np.bincount(np.int64(column * 50), minlength=50) for column in u.T])
    assert np.max(np.abs(chi_square_z(counts, KEYS / 50))) < 5.5
    variance = np.mean((u - 0.5) ** 2, axis=0)
    np.testing.assert_allclose(variance, 1 / 12, atol=5 * math.sqrt(1 / 180 / KEYS))


@every_source
def test_rows_indices_and_keys_are_independent(source):
    z = (uniforms(source) - 0.5) * math.sqrt(12)
    places = z.shape[1]
    for values in (z, (z**2 - 1) / math.sqrt(0.8)):  # the squares show what a correlation does not
        between = (values.T @ values / math.sqrt(KEYS))[np.triu_indices(places, 1)]
        assert np.max(np.abs(between)) < 5.5  # of 1128 pairs
        assert 0.8 < np.mean(between**2) < 1.2
        for lag in (1, 2, 3):
            assert np.max(np.abs(np.sum(values[lag:] * values[:-lag], axis=0))) < 5 * math.sqrt(KEYS)
    cell = np.int64(uniforms(source) * 8)
    for a, b in itertools.combinations(range(0, places, 5), 2):
        counts = np.bincount(cell[:, a] * 8 + cell[:, b], minlength=64)
        assert abs(chi_square_z(counts, KEYS / 64)) < 5.5, (a, b)


def test_a_long_row_looks_random():
    z = (np.asarray(drawn(row_uniforms, jax.random.key(1), (4, 100_000)), np.float64) - 0.5) * math.sqrt(12)
    for row in z:
        counts = np.bincount(np.int64((row / math.sqrt(12) + 0.5) * 1000), minlength=1000)
        assert abs(chi_square_z(counts, 100)) < 5
        for lag in (1, 2, 3, 7, 64, 160):
            assert abs(np.sum(row[lag:] * row[:-lag])) < 5 * math.sqrt(len(row)), lag
    between = z @ z.T / math.sqrt(z.shape[1])
    assert np.max(np.abs(between[np.triu_indices(4, 1)])) < 5


def test_normals_are_normal():
    x = np.asarray(drawn(row_normals, jax.random.key(2), (8, 50_000)), np.float64)
    assert abs(np.sum(x)) < 5 * math.sqrt(x.size)
    assert abs(np.mean(x**2) - 1) < 5 * math.sqrt(2 / x.size)
    assert abs(np.mean(x**3)) < 5 * math.sqrt(15 / x.size)
    assert abs(np.mean(x**4) - 3) < 5 * math.sqrt(96 / x.size)
    below = np.linspace(-3, 3, 61)
    probabilities = np.array([0.5 * math.erfc(-b / math.sqrt(2)) for b in below])
    found = np.searchsorted(np.sort(x, axis=None), below) / x.size
    assert np.max(np.abs(found - probabilities) / np.sqrt(probabilities * (1 - probabilities) / x.size)) < 5


def test_normals_are_finite_and_symmetric_at_the_ends(monkeypatch):
    ends = jnp.asarray([[0, 2**32 - 1]], jnp.uint32)
    monkeypatch.setattr("jaxasr.nn.noise.row_bits", lambda key, shape: ends)
    monkeypatch.setattr("jaxasr.nn.noise._mix", lambda x: x)
    low, high = np.asarray(row_normals(jax.random.key(0), (1, 2)))[0]
    assert -5.5 < low == -high < -5.0


@pytest.mark.parametrize("draw", DRAWS)
def test_padding_rows_and_devices_change_nothing(draw):
    key, devices = jax.random.key(3), Devices.all()
    whole = np.asarray(drawn(draw, key, (16, 9, 5)))
    np.testing.assert_array_equal(drawn(draw, key, (3, 4, 2)), whole[:3, :4, :2])
    np.testing.assert_array_equal(drawn(draw, key, (2, 9, 5)), whole[:2])  # a trace that no device may take for its own
    share = pmapped(lambda key: draw(key, (2, 9, 5)), devices.mesh, PartitionSpec(), PartitionSpec(DATA_AXIS))
    np.testing.assert_array_equal(share(key), whole)


def test_no_axis_is_left_out():
    """Four axes are told apart; a fifth, which has no stride, is refused."""
    bits = np.asarray(drawn(row_bits, jax.random.key(4), (3, 4, 5, 6)))
    assert len(np.unique(bits)) == bits.size
    with pytest.raises(ValueError, match="shorter"):
        row_bits(jax.random.key(4), (1, 2, 2, 2, 2))
