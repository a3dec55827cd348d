import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.nn.attention import (
    DotProductAttention,
    MultiHeadAttention,
    RelativeAttention,
    attend,
    merge_heads,
    relative_scores,
    split_heads,
)
from jaxasr.nn.dropout import keep_mask
from jaxasr.nn.positions import sinusoids_of


@functools.partial(jax.jit, static_argnums=4)
def attended(q, k, v, mask, dropout=0.0, key=None):
    rngs = None if key is None else {"dropout": key}
    return DotProductAttention(dropout).apply({}, q, k, v, mask, train=key is not None, rngs=rngs)


@jax.jit
def gradients(q, k, v, mask):
    return jax.grad(lambda *qkv: jnp.sum(jnp.sin(attended(*qkv, mask))), argnums=(0, 1, 2))(q, k, v)


def by_hand(q, k, v, mask):
    """Query by query in float64, looking only at what the mask allows."""
    B, H, T, K = q.shape
    out = np.zeros((B, H, T, v.shape[-1]))
    mask = np.broadcast_to(mask, (B, T, k.shape[2]))
    q, k, v = (np.asarray(x, np.float64) for x in (q, k, v))
    for b, h, t in np.ndindex(B, H, T):
        seen = mask[b, t]
        if seen.any():
            scores = k[b, h, seen] @ q[b, h, t] / np.sqrt(K)
            weights = np.exp(scores - scores.max())
            out[b, h, t] = weights / weights.sum() @ v[b, h, seen]
    return out


def random_case(seed, B=3, H=2, T=7, S=9, K=4, scale=1.0):
    rng = np.random.default_rng(seed)
    q, k, v = (rng.normal(scale=scale, size=(B, H, n, K)).astype(np.float32) for n in (T, S, S))
    mask = rng.random((B, T, S)) < 0.6
    mask[0, 2] = False
    mask[1] = False
    return q, k, v, mask


@pytest.mark.parametrize("scale", [1.0, 10.0])
def test_equals_a_float64_reference(scale):
    case = random_case(0, scale=scale)
    np.testing.assert_allclose(attended(*case), by_hand(*case), rtol=2e-5, atol=1e-5)


def test_one_mask_for_all_queries():
    q, k, v, mask = random_case(1)
    mask = mask[:, :1]
    np.testing.assert_allclose(attended(q, k, v, mask), by_hand(q, k, v, mask), rtol=2e-5, atol=1e-5)


def test_a_query_that_may_look_at_nothing_gets_zeros_and_finite_gradients():
    q, k, v, mask = random_case(2)
    out = np.asarray(attended(q, k, v, mask))
    assert not np.any(out[0, :, 2])
    assert not np.any(out[1])
    dq, dk, dv = jax.device_get(gradients(q, k, v, mask))
    assert all(np.all(np.isfinite(x)) for x in (dq, dk, dv))
    assert not np.any(dq[0, :, 2])
    assert not any(np.any(x[1]) for x in (dq, dk, dv))
    assert np.any(dq[0, :, 3])


def test_what_is_masked_changes_nothing():
    q, k, v, mask = random_case(3)
    mask = np.broadcast_to(np.arange(9) < np.array([9, 5, 1])[:, None], mask[:, 0].shape)[:, None]
    hidden = ~mask[:, 0][:, None, :, None]
    garbage = [np.where(hidden, np.float32(1e4), x) for x in (k, v)]
    np.testing.assert_array_equal(attended(q, *garbage, mask), attended(q, k, v, mask))


def test_the_softmax_of_bfloat16_is_taken_in_float32():
    q, k, v, mask = random_case(4)
    half = [jnp.asarray(x, jnp.bfloat16) for x in (q, k, v)]
    out = attended(*half, mask)
    assert out.dtype == jnp.bfloat16
    np.testing.assert_allclose(out.astype(jnp.float32), by_hand(q, k, v, mask), atol=0.03)


def test_dropout_hits_the_weights():
    q, k, v, _ = random_case(5, T=200)
    mask, v = np.ones((3, 1, 9), bool), np.ones_like(v)
    out = np.asarray(attended(q, k, v, mask, 0.25, jax.random.key(0)))
    assert abs(out.mean() - 1.0) < 0.05  # the weights that stay are scaled up
    assert out.std() > 0.05
    np.testing.assert_array_equal(out[..., 0], out[..., 1])  # one draw a weight, not one a channel


def test_heads_are_split_and_merged():
    x = np.arange(2 * 3 * 8, dtype=np.float32).reshape(2, 3, 8)
    heads = split_heads(x, 4)
    assert heads.shape == (2, 4, 3, 2)
    np.testing.assert_array_equal(heads[:, 1], x[:, :, 2:4])
    np.testing.assert_array_equal(merge_heads(heads), x)


def test_multi_head_attention_equals_a_float64_reference():
    rng = np.random.default_rng(6)
    x, memory = (rng.normal(size=(2, n, 8)).astype(np.float32) for n in (5, 6))
    mask = rng.random((2, 5, 6)) < 0.7
    attention = MultiHeadAttention(num_heads=2, d_model=8, dropout=0.5)
    shapes = jax.eval_shape(lambda key: attention.init(key, x, memory, mask, train=False), jax.random.key(0))["params"]
    params = jax.tree.map(lambda s: rng.normal(scale=0.5, size=s.shape).astype(np.float32), shapes)
    assert set(params) == {"q", "k", "v", "out"}

    def dense(name, x):
        return x.astype(np.float64) @ params[name]["kernel"] + params[name]["bias"]

    def heads(x):
        return x.reshape(2, -1, 2, 4).swapaxes(1, 2)

    y = by_hand(heads(dense("q", x)), heads(dense("k", memory)), heads(dense("v", memory)), mask)
    expected = dense("out", y.swapaxes(1, 2).reshape(2, 5, 8))
    found = jax.jit(lambda params: attention.apply({"params": params}, x, memory, mask, train=False))(params)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=1e-5)


def plainly(q, k, v, mask, key=None, rate=0.0, bias=0.0):
    """The same by JAX's own derivatives, in float32."""
    scores = jnp.einsum("bhtk,bhsk->bhts", q, k) * q.shape[-1] ** -0.5 + bias
    weights = jax.nn.softmax(jnp.where(mask[:, None], scores, -1e9), axis=-1)
    if key is not None:
        weights = jnp.where(keep_mask(key, weights.shape, rate), weights / (1 - rate), 0.0)
    return jnp.einsum("bhts,bhsk->bhtk", weights, v)


@functools.partial(jax.jit, static_argnums=(0, 5, 6))
def gradients_by(function, q, k, v, mask, rate=0.0, dtype=jnp.float32):
    key = jax.random.key(3) if rate else None
    qkv = [x.astype(dtype) for x in (q, k, v)]
    loss = lambda *qkv: jnp.sum(jnp.sin(function(*qkv, mask, key, rate).astype(jnp.float32)))  # noqa: E731
    return [x.astype(jnp.float32) for x in jax.grad(loss, argnums=(0, 1, 2))(*qkv)]


def ours(*args):
    return attend(*args)[0]


@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_gradients_are_those_of_the_formula(rate):
    q, k, v, mask = random_case(5)
    mask[0, 2, 0] = mask[1, :, 0] = True  # what may look at nothing has no formula
    expected = gradients_by(plainly, q, k, v, mask, rate)
    for found, wanted in zip(gradients_by(ours, q, k, v, mask, rate), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_the_gradient_of_a_bias_is_that_of_the_formula():
    q, k, v, mask = random_case(7)
    mask[0, 2, 0] = mask[1, :, 0] = True
    bias = np.random.default_rng(8).normal(size=(3, 2, 7, 9)).astype(np.float32)

    def gradient(function):
        loss = lambda bias: jnp.sum(jnp.sin(function(q, k, v, mask, jax.random.key(3), 0.3, bias)))  # noqa: E731
        return jax.jit(jax.value_and_grad(loss))(bias)

    for found, wanted in zip(gradient(ours), gradient(plainly), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


def test_bfloat16_gradients_stand_a_common_mean_of_keys_and_values():
    rng = np.random.default_rng(6)
    q, k, v = (rng.normal(size=(1, 2, 200, 64)).astype(np.float32) for _ in range(3))
    k, v = (x + 3 * rng.normal(size=64).astype(np.float32) for x in (k, v))
    mask = np.ones((1, 200, 200), bool)
    exact = gradients_by(plainly, q, k, v, mask)
    for found, wanted in zip(gradients_by(ours, q, k, v, mask, 0.0, jnp.bfloat16), exact, strict=True):
        assert np.linalg.norm(found - wanted) < 0.03 * np.linalg.norm(wanted)


def test_biases_of_relative_attention_are_drawn_as_matrices_of_heads_and_channels():
    x, lengths = jnp.zeros((1, 2, 256)), jnp.array([2])
    init = functools.partial(RelativeAttention(4, 256, 0.0).init, train=False)
    params = jax.jit(init)(jax.random.key(0), x, lengths)["params"]
    limit = np.sqrt(6 / (4 + 64))
    for name in ("content_bias", "position_bias"):
        assert 0.9 * limit < np.max(np.abs(params[name])) <= limit


@pytest.mark.parametrize("width", [12, 15])
def test_relative_scores_are_products_with_the_encodings_of_distances(width):
    T, H = 50, 3
    rng = np.random.default_rng(0)
    q = rng.normal(size=(2, H, T, width // H)).astype(np.float32)
    kernel = rng.normal(size=(width, width)).astype(np.float32)
    found = jax.jit(lambda q: relative_scores(q, jnp.array([T, T]), lambda x: split_heads(x @ kernel, H)))(q)
    distance = np.arange(T)[:, None] - np.arange(T)[None]
    keys = (sinusoids_of(distance.reshape(-1), width) @ kernel).reshape(T, T, H, -1)
    np.testing.assert_allclose(found, np.einsum("bhtk,tshk->bhts", q, keys), rtol=1e-4, atol=1e-4)
