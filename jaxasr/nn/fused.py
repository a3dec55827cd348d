"""Attention in cuDNN's one kernel, which never writes the weights to memory, where it holds."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxasr.nn.rows import on_own_rows
from jaxasr.typing import Array, Bool, Float

_AMPERE = 8.0


def fused_holds(q: Float[Array, "B H T K"], v: Float[Array, "B H S K"]) -> bool:
    """Whether `fused_attend` may compute these: on a GPU, in 16 bits, and once it was seen to do so rightly.

    >>> fused_holds(jnp.array([[[[1.0], [2.0]]]]), jnp.array([[[[1.0], [2.0]]]]))
    False
    """
    narrow = q.dtype == v.dtype and q.dtype in (jnp.bfloat16, jnp.float16)
    return narrow and q.shape[2] > 1 and jax.default_backend() == "gpu" and _agrees(q.dtype.name, q.shape[3])


def fused_attend(
    q: Float[Array, "B H T K"],
    k: Float[Array, "B H S K"],
    v: Float[Array, "B H S K"],
    mask: Bool[Array, "B T S"],
) -> Float[Array, "B H T K"]:
    """What `attention.attend` finds without dropout or bias. There are no weights to see."""
    mask = jnp.broadcast_to(mask, (len(q), *mask.shape[1:]))
    return on_own_rows(functools.partial(_attend, implementation="cudnn"), q, k, v, mask)


def _attend(q: Array, k: Array, v: Array, mask: Array, implementation: Any) -> Array:
    B, _, T, _ = q.shape
    S = k.shape[2]
    mask = jnp.broadcast_to(mask, (B, T, S))
    seen = jnp.any(mask, axis=-1)[:, None, :, None]
    mask = jnp.pad(mask, ((0, 0), (0, T % 2), (0, S % 2)))[:, None]
    y = jax.nn.dot_product_attention(_even(q), _even(k), _even(v), mask=mask, implementation=implementation)
    return jnp.where(seen, y.swapaxes(1, 2)[:, :, :T], jnp.zeros((), v.dtype))


def _even(x: Float[Array, "B H T K"]) -> Float[Array, "B T2 H K"]:
    """As cuDNN has them; with one more of an odd number of frames, for which it has no gradient."""
    return jnp.pad(x, ((0, 0), (0, 0), (0, x.shape[2] % 2), (0, 0))).swapaxes(1, 2)


@functools.cache
def _agrees(dtype: str, width: int) -> bool:
    """Whether this machine's kernel, tried on a few numbers, gives what the definition gives, and its gradients."""
    if float(getattr(jax.local_devices()[0], "compute_capability", 0.0)) < _AMPERE:
        return False
    rng = np.random.default_rng(0)
    case = [rng.normal(size=(2, 2, 63, width)).astype(jnp.dtype(dtype)) for _ in range(3)]
    frames = np.arange(63)
    mask = (frames <= frames[:, None]) & (frames < np.reshape([40, 63], (2, 1, 1))) & (frames[:, None] > 2)
    try:
        with jax.ensure_compile_time_eval():
            found, expected = (_and_gradients(name)(*case, mask) for name in ("cudnn", "xla"))
    except (ValueError, RuntimeError, NotImplementedError):  # JAX's, XLA's and cuDNN's ways to refuse
        return False
    near = 8 * float(jnp.finfo(dtype).eps)
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    return all(np.allclose(np.float32(ours), np.float32(theirs), rtol=near, atol=near) for ours, theirs in pairs)


def _and_gradients(implementation: str) -> Any:
    def summed(q: Array, k: Array, v: Array, mask: Array) -> tuple[Array, Array]:
        y = _attend(q, k, v, mask, implementation)
        return jnp.sum(jnp.sin(y.astype(jnp.float32))), y

    return jax.jit(jax.value_and_grad(summed, argnums=(0, 1, 2), has_aux=True))
