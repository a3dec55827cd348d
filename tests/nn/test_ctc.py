import functools
import itertools
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxasr.nn.ctc import ctc_feasible, ctc_loss

feasible_of = jax.jit(ctc_feasible)
loss_of = jax.jit(ctc_loss)


@functools.partial(jax.jit, static_argnames="blank_id")
def loss_and_gradient(logits, lengths, tokens, token_lengths, weights=1.0, *, blank_id=0):
    """The losses, and the gradient of their weighted sum."""
    loss, vjp = jax.vjp(lambda x: ctc_loss(x, lengths, tokens, token_lengths, blank_id=blank_id), logits)
    return loss, vjp(jnp.broadcast_to(weights, loss.shape))[0]


def random_batch(seed, B=4, T=20, V=7, U=5, *, scale=1.0):
    """Logits and tokens, the first row full."""
    rng = np.random.default_rng(seed)
    lengths = np.r_[T, rng.integers(T // 2, T + 1, B - 1)]
    token_lengths = np.r_[U, rng.integers(0, U + 1, B - 1)]
    logits = rng.normal(scale=scale, size=(B, T, V)).astype(np.float32)
    return logits, lengths, rng.integers(1, V, (B, U)), token_lengths


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


@functools.cache
def alignments(T, V, blank_id):
    """Every path of T symbols (N, T), by the tokens it spells."""
    spelt = {}
    for path in itertools.product(range(V), repeat=T):
        tokens = tuple(symbol for symbol, _ in itertools.groupby(path) if symbol != blank_id)
        spelt.setdefault(tokens, []).append(path)
    return {tokens: np.array(paths, np.int64).reshape(len(paths), T) for tokens, paths in spelt.items()}


def brute_force(logits, tokens, blank_id):
    """Whether any path spells the tokens, their NLL and its gradient, by summing over all paths."""
    T, V = logits.shape
    paths = alignments(T, V, blank_id).get(tuple(tokens))
    if paths is None:
        return False, 0.0, np.zeros((T, V))
    log_probs = log_softmax(logits)
    scores = log_probs[np.arange(T), paths].sum(axis=1)
    log_likelihood = np.logaddexp.reduce(scores)
    if log_likelihood == -np.inf:
        return True, np.inf, np.zeros((T, V))
    posterior = np.einsum("n,ntv->tv", np.exp(scores - log_likelihood), np.eye(V)[paths])
    return True, -log_likelihood, np.exp(log_probs) - posterior


def textbook(logits, tokens):
    """NLL and gradient of one row in float64 by the two recursions over 2U + 1 states (Graves et al., 2006)."""
    T = len(logits)
    states = np.zeros(2 * len(tokens) + 1, np.int64)
    states[1::2] = tokens
    log_probs = log_softmax(logits)

    def alpha(emissions, states):
        skip = np.where((states[2:] != 0) & (states[2:] != states[:-2]), 0.0, -np.inf)
        scores = np.full((T, len(states)), -np.inf)
        scores[0, :2] = emissions[0, :2]
        for t in range(1, T):
            scores[t] = scores[t - 1]
            scores[t, 1:] = np.logaddexp(scores[t, 1:], scores[t - 1, :-1])
            scores[t, 2:] = np.logaddexp(scores[t, 2:], scores[t - 1, :-2] + skip)
            scores[t] += emissions[t]
        return scores

    emissions = log_probs[:, states]
    forward = alpha(emissions, states)
    backward = alpha(emissions[::-1, ::-1], states[::-1])[::-1, ::-1]
    nll = -np.logaddexp.reduce(forward[-1, -2:])
    gradient = np.exp(log_probs)
    np.subtract.at(gradient.T, states, np.exp(forward + backward - emissions + nll).T)
    return nll, gradient


def random_case(rng, T, V, U, blank_id):
    """One row padded to T frames and U tokens; in one of four, one symbol is impossible throughout."""
    logits = rng.normal(scale=rng.choice([0.3, 1.0, 5.0, 20.0]), size=(T, V)).astype(np.float32)
    if rng.random() < 0.25:
        logits[:, rng.integers(V)] = -np.inf
    symbols = [v for v in range(V) if v != blank_id]
    return logits, rng.integers(T + 1), rng.choice(symbols, U), rng.integers(U + 1)


@pytest.mark.parametrize(("V", "blank_id"), [(2, 0), (3, 2), (4, 0)])
def test_equals_the_sum_over_all_alignments(V, blank_id):
    T, U = 6, 3
    rng = np.random.default_rng(V + 10 * blank_id)
    cases = [random_case(rng, T, V, U, blank_id) for _ in range(800)]
    logits, lengths, tokens, token_lengths = (np.stack(column) for column in zip(*cases, strict=True))
    loss, gradient = loss_and_gradient(logits, lengths, tokens, token_lengths, blank_id=blank_id)
    expected = [brute_force(x[:t], y[:u], blank_id) for x, t, y, u in cases]
    feasible, nll, expected_gradient = zip(*expected, strict=True)
    padded = [np.pad(x, ((0, T - len(x)), (0, 0))) for x in expected_gradient]
    np.testing.assert_array_equal(feasible_of(lengths, tokens, token_lengths), feasible)
    np.testing.assert_allclose(loss, nll, rtol=2e-6, atol=2e-6)
    np.testing.assert_allclose(gradient, padded, atol=2e-5)
    assert not np.any(gradient[np.arange(T) >= lengths[:, None]])


def test_the_references_agree_with_central_differences():
    rng = np.random.default_rng(0)
    logits, tokens = rng.normal(size=(5, 4)), [1, 1, 3]
    _, nll, gradient = brute_force(logits, tokens, 0)
    other_nll, other_gradient = textbook(logits, tokens)
    np.testing.assert_allclose(other_nll, nll, rtol=1e-12)
    np.testing.assert_allclose(other_gradient, gradient, atol=1e-12)
    for index in np.ndindex(logits.shape):
        step = np.zeros_like(logits)
        step[index] = 1e-5
        rise = brute_force(logits + step, tokens, 0)[1] - brute_force(logits - step, tokens, 0)[1]
        np.testing.assert_allclose(gradient[index], rise / 2e-5, atol=1e-9)


def test_equals_optax_where_optax_is_right():
    logits, lengths, tokens, token_lengths = random_batch(1)
    frame_padding = (np.arange(20) >= lengths[:, None]).astype(np.float32)
    token_padding = (np.arange(5) >= token_lengths[:, None]).astype(np.float32)

    @jax.jit
    @jax.value_and_grad
    def total(x):
        return optax.ctc_loss(x, frame_padding, tokens, token_padding).sum()

    loss, gradient = loss_and_gradient(logits, lengths, tokens, token_lengths)
    assert np.all(feasible_of(lengths, tokens, token_lengths))
    expected_loss, expected_gradient = total(logits)
    np.testing.assert_allclose(loss.sum(), expected_loss, rtol=1e-5)
    np.testing.assert_allclose(gradient, expected_gradient, atol=1e-4)


@pytest.mark.parametrize("scale", [1.0, 8.0])
def test_long_rows_stay_close_to_float64(scale):
    logits, lengths, tokens, token_lengths = random_batch(2, 4, 400, 100, 60, scale=scale)
    loss, gradient = loss_and_gradient(logits, lengths, tokens, token_lengths)
    for row, (t, u) in enumerate(zip(lengths, token_lengths, strict=True)):
        nll, expected = textbook(logits[row, :t], tokens[row, :u])
        np.testing.assert_allclose(loss[row], nll, rtol=1e-5)
        np.testing.assert_allclose(gradient[row, :t], expected, atol=2e-4 * scale)


def test_certain_rows_have_no_negative_loss():
    # https://github.com/google-deepmind/optax/issues/1771
    rng = np.random.default_rng(3)
    paths = rng.integers(0, 5, (64, 30))
    peaks = rng.choice([3.0, 10.0, 16.0, 30.0, 100.0, 1e4], 64)
    logits = rng.normal(size=(64, 30, 5)) + peaks[:, None, None] * np.eye(5)[paths]
    spelt = [[int(v) for v, _ in itertools.groupby(path) if v] for path in paths]
    tokens = np.array([row + [-1] * (30 - len(row)) for row in spelt])
    loss = loss_of(logits.astype(np.float32), np.full(64, 30), tokens, np.array([len(row) for row in spelt]))
    assert np.all(loss >= 0)
    assert np.all(loss[peaks >= 100] < 1e-6)


def test_feasibility_by_hand():
    tokens = np.array([[1, 2, 3], [1, 1, 2], [1, 1, 1], [1, 1, 1], [1, 2, -1], [4, -1, -1], [-1, -1, -1]])
    token_lengths = np.array([3, 3, 3, 3, 2, 1, 0])
    lengths = np.array([3, 4, 5, 4, 1, 0, 0])
    expected = [True, True, True, False, False, False, True]
    np.testing.assert_array_equal(feasible_of(lengths, tokens, token_lengths), expected)


def test_infeasible_rows_have_no_loss_and_no_gradient_whatever_they_hold():
    logits, _, tokens, _ = random_batch(4)
    tokens[0] = 2
    logits[3] = np.nan
    lengths, token_lengths = np.array([8, 3, 0, 2]), np.array([5, 4, 1, 3])
    loss, gradient = loss_and_gradient(logits, lengths, tokens, token_lengths)
    assert not np.any(loss) and not np.any(gradient)


def test_padding_changes_nothing():
    logits, lengths, tokens, token_lengths = random_batch(5)
    frames = np.arange(20) >= lengths[:, None]
    places = np.arange(5) >= token_lengths[:, None]
    loss, gradient = loss_and_gradient(logits, lengths, tokens, token_lengths)
    for garbage, wrong_id in itertools.product([np.nan, np.inf, -np.inf, 1e30], [-1, 7, 10**6]):
        dirty = np.where(frames[:, :, None], np.float32(garbage), logits)
        other_loss, other_gradient = loss_and_gradient(
            dirty, lengths, np.where(places, wrong_id, tokens), token_lengths
        )
        np.testing.assert_array_equal(other_loss, loss)
        np.testing.assert_array_equal(other_gradient, gradient)
        assert not np.any(other_gradient[frames])
    wide = np.pad(logits, ((0, 0), (0, 3), (0, 0))), lengths, np.pad(tokens, ((0, 0), (0, 2))), token_lengths
    other_loss, other_gradient = loss_and_gradient(*wide)
    np.testing.assert_allclose(other_loss, loss, rtol=1e-6)
    np.testing.assert_allclose(other_gradient[:, :20], gradient, atol=1e-6)


def test_nothing_to_say_is_all_blanks():
    logits, lengths, _, _ = random_batch(6)
    expected = [-log_softmax(logits[row, :t])[:, 0].sum() for row, t in enumerate(lengths)]
    for U in (0, 5):
        loss, gradient = loss_and_gradient(logits, lengths, np.full((4, U), -1), np.zeros(4, int))
        np.testing.assert_allclose(loss, expected, rtol=1e-6)
        assert np.all(gradient[:, :, 0] <= 0) and np.all(gradient[:, :, 1:] >= 0)


def test_one_frame():
    logits = np.random.default_rng(7).normal(size=(2, 1, 4)).astype(np.float32)
    loss = loss_of(logits, np.ones(2, int), np.array([[3], [-1]]), np.array([1, 0]))
    expected = [-log_softmax(logits[0, 0])[3], -log_softmax(logits[1, 0])[0]]
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


def test_nan_in_real_frames_shows():
    logits, lengths, tokens, token_lengths = random_batch(8)
    logits[0, 3, 1] = np.nan
    loss, gradient = loss_and_gradient(logits, lengths, tokens, token_lengths)
    assert np.isnan(loss[0]) and np.any(np.isnan(gradient[0]))
    assert np.all(np.isfinite(loss[1:])) and np.all(np.isfinite(gradient[1:]))


def test_half_precision_logits_are_computed_in_float32():
    logits, lengths, tokens, token_lengths = random_batch(9)
    logits = jnp.asarray(logits, jnp.bfloat16)
    loss, gradient = loss_and_gradient(logits, lengths, tokens, token_lengths)
    expected_loss, expected = loss_and_gradient(logits.astype(jnp.float32), lengths, tokens, token_lengths)
    assert loss.dtype == jnp.float32 and gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    np.testing.assert_allclose(gradient.astype(jnp.float32), expected, rtol=2**-8, atol=1e-5)


def test_the_gradient_scales_with_the_weight_of_its_row():
    logits, lengths, tokens, token_lengths = random_batch(10)
    weights = np.array([2.0, 0.0, -0.5, 1.0], np.float32)
    _, gradient = loss_and_gradient(logits, lengths, tokens, token_lengths, np.ones(4, np.float32))
    _, weighted = loss_and_gradient(logits, lengths, tokens, token_lengths, weights)
    np.testing.assert_allclose(weighted, weights[:, None, None] * gradient, atol=1e-6)


def test_under_vmap():
    batch = random_batch(11)
    loss, gradient = loss_and_gradient(*batch)
    pairs = jax.vmap(loss_and_gradient)(*(x.reshape(2, 2, *x.shape[1:]) for x in batch))
    np.testing.assert_allclose(pairs[0].ravel(), loss, rtol=1e-5)
    np.testing.assert_allclose(pairs[1].reshape(gradient.shape), gradient, atol=1e-5)


def test_rows_spread_over_devices_stay_where_they_are():
    mesh = jax.make_mesh((2,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices("cpu")[:2])
    spec = PartitionSpec("data")
    batch = random_batch(12)
    mapped = jax.jit(jax.shard_map(loss_and_gradient, mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False))
    spread = jax.device_put(batch, NamedSharding(mesh, spec))
    partitioned = loss_and_gradient.lower(*spread).compile()
    assert not re.search("all-gather|all-reduce|all-to-all|collective-permute", partitioned.as_text())
    loss, gradient = loss_and_gradient(*batch)
    for other_loss, other_gradient in (mapped(*spread), partitioned(*spread)):
        np.testing.assert_allclose(other_loss, loss, rtol=1e-5)
        np.testing.assert_allclose(other_gradient, gradient, atol=1e-5)
