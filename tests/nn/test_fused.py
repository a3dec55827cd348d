import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.nn import fused
from jaxasr.nn.attention import DotProductAttention, attend
from jaxasr.parallel import Devices, pmapped


@functools.cache
def multiplies_bfloat16():
    """Whether XLA does so on this machine's CPU; that of jax 0.7 does not."""
    x = jnp.ones((2, 2, 63, 8), jnp.bfloat16)
    try:
        jax.block_until_ready(fused._and_gradients("xla")(x, x, x, np.ones((2, 63, 63), bool)))
    except RuntimeError:
        return False
    return True


@pytest.fixture
def gpu(monkeypatch):
    """This machine taken for a GPU, with XLA's attention in the place of cuDNN's."""
    called = []

    def by_xla(q, k, v, *, mask, implementation):
        called.append(implementation)
        assert q.shape[1] % 2 == k.shape[1] % 2 == 0
        assert mask.shape == (q.shape[0], 1, q.shape[1], k.shape[1])
        return jax_attention(q, k, v, mask=mask, implementation="xla")

    jax_attention = jax.nn.dot_product_attention
    if not multiplies_bfloat16():
        pytest.skip("fused attention: the XLA of this version has no products of bfloat16 on a CPU to put in its place")
    monkeypatch.setattr(jax.nn, "dot_product_attention", by_xla)
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    monkeypatch.setattr(fused, "_AMPERE", 0.0)
    fused._agrees.cache_clear()
    yield called
    fused._agrees.cache_clear()


def random_case(T=7, S=9, B=3, H=2, K=8, dtype=jnp.bfloat16):
    rng = np.random.default_rng(0)
    q, k, v = (jnp.asarray(rng.normal(size=(B, H, n, K)), dtype) for n in (T, S, S))
    mask = rng.random((B, T, S)) < 0.6
    mask[0, 2] = False
    mask[1] = False
    return q, k, v, mask


def outcome(attention, q, k, v, mask):
    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2), has_aux=True)
    def summed(q, k, v):
        y = attention(q, k, v, mask)
        return jnp.sum(jnp.sin(y.astype(jnp.float32))), y

    (_, y), gradients = summed(q, k, v)
    return [np.float32(x) for x in (y, *gradients)]


def ours(q, k, v, mask):
    return attend(q, k, v, mask, None, 0.0)[0]


def module(q, k, v, mask, **options):
    return DotProductAttention(0.0).apply({}, q, k, v, mask, train=True, **options)


@pytest.mark.parametrize("sizes", [(7, 9), (8, 6), (3, 1)])
def test_equals_attention_and_its_gradients(gpu, sizes):
    case = random_case(*sizes)
    found, expected = outcome(module, *case), outcome(ours, *case)
    assert "cudnn" in gpu
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=0.05, atol=0.05)
    assert not np.any(found[0][0, :, 2])
    assert not np.any(found[0][1])


def test_one_mask_for_all_queries_and_rows(gpu):
    q, k, v, mask = random_case()
    mask = mask[2:, :1]
    np.testing.assert_allclose(np.float32(module(q, k, v, mask)), np.float32(ours(q, k, v, mask)), rtol=0.05, atol=0.05)
    assert "cudnn" in gpu


def test_only_where_it_holds(gpu, monkeypatch):
    q, k, v, mask = random_case()
    wide = [x.astype(jnp.float32) for x in (q, k, v)]
    module(*wide, mask)
    module(q[:, :, :1], k, v, mask[:, :1])
    module(q, k, v, mask, bias=jnp.zeros((3, 2, 7, 9)))
    module(q, k, v, mask, mutable=["intermediates"])
    DotProductAttention(0.5).apply({}, q, k, v, mask, train=True, rngs={"dropout": jax.random.key(0)})
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    module(q, k, v, mask)
    assert not gpu


def test_not_on_old_gpus(gpu, monkeypatch):
    monkeypatch.setattr(fused, "_AMPERE", 8.0)
    module(*random_case())
    assert not gpu


@pytest.mark.parametrize("wrong", ["refuses", "differs"])
def test_a_kernel_that_does_not_do_it_is_not_used(gpu, monkeypatch, wrong):
    right = jax.nn.dot_product_attention

    def kernel(q, k, v, *, mask, implementation):
        if implementation == "cudnn" and wrong == "refuses":
            raise RuntimeError("no execution plan")
        y = right(q, k, v, mask=mask, implementation=implementation)
        return y * 1.1 if implementation == "cudnn" else y

    monkeypatch.setattr(jax.nn, "dot_product_attention", kernel)
    case = random_case()
    np.testing.assert_array_equal(np.float32(module(*case)), np.float32(ours(*case)))


def test_the_trial_does_not_depend_on_what_is_traced_around_it(gpu):
    q, k, v, mask = random_case()
    spread = pmapped(module, Devices.first().mesh, jax.P("data"), jax.P("data"))
    scanned = jax.jit(lambda *qkv: jax.lax.scan(lambda x, _: (jax.checkpoint(module)(x, *qkv), None), q, None, 2)[0])
    for traced in (lambda: spread(q, k, v, mask), lambda: scanned(k, v, mask)):
        fused._agrees.cache_clear()
        gpu.clear()
        traced()
        assert fused._agrees("bfloat16", 8)
        assert "cudnn" in gpu
