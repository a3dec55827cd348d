import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jaxasr.nn import cif

ROWS, FRAMES, WIDTH, ROOM = 3, 9, 2, 7
GRID = 64  # weights are whole numbers of parts of this, so that sums are exact and often whole


def shares_by_the_loop(alphas, room):
    """(U, T): what token k gets of frame t, frame by frame in float64."""
    shares = np.zeros((room + 1, len(alphas)))
    token, held = 0, 0.0
    for t, alpha in enumerate(alphas):
        while held + alpha >= 1.0:
            shares[min(token, room), t] += 1.0 - held
            alpha, token, held = alpha - (1.0 - held), token + 1, 0.0
        shares[min(token, room), t] += alpha
        held += alpha
    return shares[:room]


def slopes_by_the_loop(alphas, x, slope):
    """What a little more of each weight adds to sum(embeddings * slope): exact, for up to the next cut it is linear."""
    step = 0.25 / GRID

    def value(alphas):
        return np.sum(shares_by_the_loop(alphas, ROOM) @ x * slope)

    return [(value(alphas + step * (np.arange(len(alphas)) == t)) - value(alphas)) / step for t in range(len(alphas))]


@jax.jit
def fired(x, alphas, slope):
    """Embeddings, and the gradients by `x` and `alphas`."""
    embeddings, pull = jax.vjp(lambda x, alphas: cif.integrate_and_fire(x, alphas, ROOM), x, alphas)
    return embeddings, *pull(slope)


@settings(max_examples=60, deadline=None)
@given(
    parts=arrays(np.int64, (ROWS, FRAMES), elements=st.one_of(st.integers(0, GRID // 2), st.integers(0, 3 * GRID))),
    lengths=arrays(np.int64, ROWS, elements=st.integers(0, FRAMES)),
    seed=st.integers(0, 99),
)
def test_equals_the_loop(parts, lengths, seed):
    """Weights above 1, sums that end a token exactly, more tokens than room, rows of no frame."""
    rng = np.random.default_rng(seed)
    x, slope = (rng.normal(size=(ROWS, n, WIDTH)).astype(np.float32) for n in (FRAMES, ROOM))
    alphas = np.where(np.arange(FRAMES) < lengths[:, None], parts, 0) / GRID
    embeddings, of_x, of_alphas = fired(x, np.float32(alphas), slope)
    for row in range(ROWS):
        shares = shares_by_the_loop(alphas[row], ROOM)
        np.testing.assert_allclose(embeddings[row], shares @ x[row], atol=1e-5)
        np.testing.assert_allclose(of_x[row], shares.T @ slope[row], atol=1e-5)
        expected = slopes_by_the_loop(alphas[row], np.float64(x[row]), slope[row])
        np.testing.assert_allclose(of_alphas[row], expected, atol=5e-5)


@pytest.mark.parametrize("most", [1, 4])
def test_equals_the_loop_in_2000_rows(most):
    """Of weights as they come, up to `most`; more room than tokens, or less."""
    rng, rows, frames, room = np.random.default_rng(most), 2000, 24, 16
    lengths = rng.integers(0, frames + 1, rows)
    alphas = np.float32(np.where(np.arange(frames) < lengths[:, None], most * rng.random((rows, frames)), 0.0))
    x = rng.normal(size=(rows, frames, WIDTH)).astype(np.float32)
    found = jax.jit(cif.integrate_and_fire, static_argnums=2)(x, alphas, room)
    shares = np.stack([shares_by_the_loop(row, room) for row in np.float64(alphas)])
    np.testing.assert_allclose(found, shares @ np.float64(x), atol=5e-5)


@pytest.mark.parametrize("lengths", [[0, 1], [0, 0], [1, 1]])
def test_the_shortest_rows(lengths):
    """Scaled to their tokens: one frame is all of a token; where there is none, nothing is, and no gradient."""
    lengths, tokens = np.array(lengths), np.array([0, 1])
    x = np.random.default_rng(0).normal(size=(2, 3, WIDTH)).astype(np.float32)

    @jax.jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(alphas):
        alphas = cif.scaled_to(jnp.where(np.arange(3) < lengths[:, None], alphas, 0.0), tokens)
        embeddings = cif.integrate_and_fire(x, alphas, 2)
        return jnp.sum(embeddings), (embeddings, cif.fires(alphas, tokens))

    (_, (embeddings, fires)), gradient = run(np.full((2, 3), 0.3, np.float32))
    whole = (lengths > 0) & (tokens > 0)
    np.testing.assert_allclose(embeddings[:, 0], np.where(whole[:, None], x[:, 0], 0.0), atol=1e-6)
    assert not np.any(embeddings[:, 1])
    np.testing.assert_array_equal(fires, whole[:, None] & (np.arange(3) == 0))
    np.testing.assert_allclose(gradient, 0.0, atol=1e-5)  # whatever the one frame's weight, it is scaled to the token


@pytest.mark.parametrize(("frames", "most"), [(20, 6), (20, 60), (333, 111)])
def test_every_token_fires_once(frames, most):
    """Also where the sum of weights ends below a whole number, or falls in the padding, by rounding."""
    rng = np.random.default_rng(0)
    lengths, tokens = rng.integers(frames // 2, frames + 1, 200), rng.integers(1, most, 200)
    drawn = np.where(np.arange(frames) < lengths[:, None], rng.random((200, frames)), 0.0)
    alphas = jax.jit(cif.scaled_to)(np.float32(drawn), tokens)
    assert np.any(np.cumsum(alphas, axis=1, dtype=np.float32)[:, -1] < tokens)
    fires = np.asarray(jax.jit(cif.fires)(alphas, tokens))
    np.testing.assert_array_equal(np.sum(np.floor(fires), axis=1), tokens)
    assert not np.any(fires >= 1.0, where=np.arange(frames) >= lengths[:, None])
    sums = np.cumsum(np.float64(alphas), axis=1)
    before = np.where(fires >= 1.0, sums - fires, 0.0)  # a whole number of tokens, where one ends
    np.testing.assert_allclose(before, np.round(before), atol=1e-3)
    worth = jax.jit(cif.integrate_and_fire, static_argnums=2)(np.ones((200, frames, 1), np.float32), alphas, most)
    np.testing.assert_allclose(worth[:, :, 0], np.arange(most) < tokens[:, None], atol=1e-3)


def test_what_is_left_is_no_token():
    """Sums that end above the number of tokens, or well below the next, stay what they are."""
    alphas = np.float32([[0.5, 0.5, 0.9, 0.0], [0.75, 0.75, 0.25, 0.125]])
    fires = jax.jit(cif.fires)(alphas, np.float32([1, 1]))
    np.testing.assert_allclose(fires, [[0.5, 1.0, 0.9, 0.9], [0.75, 1.5, 0.75, 0.875]], rtol=1e-6)


def test_several_tokens_end_in_one_frame():
    fires = jax.jit(cif.fires)(np.float32([[0.5, 2.75, 0.75]]), np.array([4]))
    np.testing.assert_array_equal(fires, [[0.5, 3.25, 1.0]])
