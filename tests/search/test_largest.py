import jax
import numpy as np
import pytest

from jaxasr.search.largest import largest


@pytest.mark.parametrize("width", [7, 200, 333])
def test_the_largest_in_falling_order(width):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, width)).astype(np.float32)
    x[0, 0] = np.round(x[0, 0])  # many are equal
    x[0, 1, 3:] = -np.inf
    x[1, 2, 50:57] += 10.0  # neighbours
    values, places = jax.jit(largest, static_argnums=1)(x, 5)
    np.testing.assert_array_equal(values, -np.sort(-x, axis=-1)[..., :5])
    np.testing.assert_array_equal(np.take_along_axis(x, np.asarray(places), axis=-1), values)
    assert all(len(set(row)) == 5 for row in np.asarray(places).reshape(-1, 5).tolist())
