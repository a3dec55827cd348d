import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.nn.losses import consistency_loss, count_loss, label_smoothing_loss, token_accuracy

loss_of = jax.jit(label_smoothing_loss, static_argnums=3)
accuracy_of = jax.jit(token_accuracy)


@functools.partial(jax.jit, static_argnums=3)
def gradient_of(logits, targets, target_lengths, smoothing, weights):
    return jax.grad(lambda x: weights @ label_smoothing_loss(x, targets, target_lengths, smoothing))(logits)


def random_batch(seed, B=3, U=6, V=8):
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(B, U, V)).astype(np.float32)
    return logits, rng.integers(0, V, (B, U)), np.array([U, 0, U // 2])


def divergence(logits, target, smoothing):
    """KL(p || q) in float64, term by term."""
    exponents = np.exp(logits.astype(np.float64) - logits.max())
    q = exponents / exponents.sum()
    p = np.full(len(q), smoothing / (len(q) - 1))
    p[target] = 1 - smoothing
    return sum(a * (math.log(a) - math.log(b)) for a, b in zip(p, q, strict=True) if a > 0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9, 1.0])
def test_equals_the_divergence_term_by_term(smoothing):
    logits, targets, lengths = random_batch(0)
    expected = [
        sum(divergence(logits[row, u], targets[row, u], smoothing) for u in range(length))
        for row, length in enumerate(lengths)
    ]
    np.testing.assert_allclose(loss_of(logits, targets, lengths, smoothing), expected, rtol=1e-5, atol=1e-6)


def test_is_zero_at_the_smoothed_targets():
    _, targets, lengths = random_batch(1)
    logits = np.log(np.where(np.eye(8)[targets] > 0, 0.9, 0.1 / 7)).astype(np.float32)
    np.testing.assert_allclose(loss_of(logits, targets, lengths, 0.1), 0, atol=1e-5)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, -np.inf, 1e30])
def test_padding_changes_nothing(garbage):
    logits, targets, lengths = random_batch(2)
    padded = np.arange(6) >= lengths[:, None]
    dirty = np.where(padded[:, :, None], np.float32(garbage), logits), np.where(padded, -1, targets), lengths
    weights = np.ones(3, np.float32)
    np.testing.assert_array_equal(loss_of(*dirty, 0.1), loss_of(logits, targets, lengths, 0.1))
    gradient = gradient_of(*dirty, 0.1, weights)
    np.testing.assert_array_equal(gradient, gradient_of(logits, targets, lengths, 0.1, weights))
    assert not np.any(gradient[padded])
    for found, expected in zip(accuracy_of(*dirty), accuracy_of(logits, targets, lengths), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_a_forbidden_symbol_costs_nothing_without_smoothing():
    logits, targets, lengths = random_batch(3)
    logits[:, :, 7] = -np.inf
    targets = targets % 7
    np.testing.assert_allclose(
        loss_of(logits, targets, lengths, 0.0), loss_of(logits[:, :, :7], targets, lengths, 0.0), rtol=1e-6
    )
    assert np.all(np.isfinite(gradient_of(logits, targets, lengths, 0.0, np.ones(3, np.float32))))


def test_half_precision_logits_are_computed_in_float32():
    logits, targets, lengths = random_batch(4)
    half = jnp.asarray(logits, jnp.bfloat16)
    loss = loss_of(half, targets, lengths, 0.1)
    assert loss.dtype == jnp.float32
    np.testing.assert_allclose(loss, loss_of(half.astype(jnp.float32), targets, lengths, 0.1), rtol=1e-6)


def test_accuracy_by_hand():
    logits = np.eye(4, dtype=np.float32)[[[1, 2, 3], [0, 0, 0]]]
    correct, count = accuracy_of(logits, np.array([[1, 3, 3], [0, -1, -1]]), np.array([3, 1]))
    np.testing.assert_array_equal(correct, [2, 1])
    np.testing.assert_array_equal(count, [3, 1])


def random_views(seed, B=3, T=5, V=6):
    rng = np.random.default_rng(seed)
    return rng.normal(scale=2.0, size=(2 * B, T, V)).astype(np.float32), np.array([T, 0, 3])


def softmax(logits):
    exponents = np.exp(logits.astype(np.float64) - logits.max(axis=-1, keepdims=True))
    return exponents / exponents.sum(axis=-1, keepdims=True)


@jax.jit
def pulled(logits, lengths):
    """The consistency loss and the gradient of its sum."""
    loss = lambda x: consistency_loss(x, lengths)  # noqa: E731
    return loss(logits), jax.grad(lambda x: jnp.sum(loss(x)))(logits)


def test_views_are_pulled_to_each_other_and_not_along():
    logits, lengths = random_views(0)
    loss, gradient = pulled(logits, lengths)
    p = softmax(logits)
    for row, length in enumerate(lengths):
        a, b = p[2 * row, :length], p[2 * row + 1, :length]
        np.testing.assert_allclose(loss[row], 0.5 * np.sum((a - b) * np.log(a / b)), rtol=1e-5, atol=1e-6)
        for view, mine, other in ((0, a, b), (1, b, a)):  # of cross entropy with what the other says
            np.testing.assert_allclose(gradient[2 * row + view, :length], 0.5 * (mine - other), atol=1e-6)
            assert not np.any(gradient[2 * row + view, length:])


def test_views_that_agree_cost_nothing():
    logits, lengths = random_views(1)
    loss, gradient = pulled(np.repeat(logits[::2], 2, axis=0), lengths)
    np.testing.assert_allclose(loss, 0, atol=1e-6)
    np.testing.assert_allclose(gradient, 0, atol=1e-7)


@pytest.mark.parametrize("garbage", [np.nan, np.inf, 1e30])
def test_padding_of_views_changes_nothing(garbage):
    logits, lengths = random_views(2)
    padded = np.arange(5) >= np.repeat(lengths, 2)[:, None]
    dirty = np.where(padded[:, :, None], np.float32(garbage), logits)
    for found, expected in zip(pulled(dirty, lengths), pulled(logits, lengths), strict=True):
        np.testing.assert_array_equal(found, expected)


def test_counts_by_hand():
    counts, lengths = np.float32([2.5, 4.0, 0.25]), np.array([4, 4, 0])
    loss, gradient = jax.jit(jax.vmap(jax.value_and_grad(count_loss)))(counts, lengths)
    np.testing.assert_array_equal(loss, [1.5, 0.0, 0.25])
    np.testing.assert_array_equal(gradient[::2], [-1.0, 1.0])
