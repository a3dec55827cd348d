"""FSMN memory: a depthwise filter over time."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxasr.errors import ConfigError
from jaxasr.nn.masking import zero_where_not
from jaxasr.typing import Array, Bool, Float


def depthwise_filter(x: Float[Array, "B T D"], kernel: Float[Array, "K D"], past: int) -> Float[Array, "B T D"]:
    """Each channel filtered over time; frame t sees t - past to t - past + K - 1, zeros outside.

    A sum of shifted products, added up in float32: XLA fuses it into one pass on every backend, and on a CPU a
    depthwise convolution takes 18 times as long.

    >>> x, kernel = jnp.array([[[1.0], [2.0], [3.0]]]), jnp.array([[1.0], [10.0]])
    >>> jax.jit(depthwise_filter, static_argnums=2)(x, kernel, 1).tolist()
    [[[10.0], [21.0], [32.0]]]
    """
    return _filter(x, kernel, past)


def _filter_alone(x: Array, kernel: Array, past: int) -> Array:
    taps = kernel.astype(jnp.float32)[:, None, None]
    total = sum(seen * tap for seen, tap in zip(_seen(x, len(taps), past), taps, strict=True))
    return jnp.asarray(total).astype(x.dtype)


def _seen(x: Array, taps: int, past: int) -> list[Array]:
    """The frames that each tap sees, float32 (B, T, D).

    The barrier has `x` computed once: fused into its reader, what makes it would be done again for every tap.
    """
    padded = jnp.pad(x.astype(jnp.float32), ((0, 0), (past, taps - 1 - past), (0, 0)))
    padded = lax.optimization_barrier(padded)
    return [padded[:, k : k + x.shape[1]] for k in range(taps)]


def _filter_forward(x: Array, kernel: Array, past: int) -> tuple[Array, tuple[Array, Array]]:
    return _filter_alone(x, kernel, past), (x, kernel)


def _filter_backward(past: int, residuals: tuple[Array, Array], cotangent: Array) -> tuple[Array, Array]:
    """The cotangent filtered by the taps in reverse, and its products with what each tap saw."""
    x, kernel = residuals
    cotangent = lax.optimization_barrier(cotangent)
    of_x = _filter_alone(cotangent, kernel[::-1], kernel.shape[0] - 1 - past)
    wide = cotangent.astype(jnp.float32)
    of_kernel = jnp.stack([jnp.sum(seen * wide, axis=(0, 1)) for seen in _seen(x, kernel.shape[0], past)])
    return of_x, of_kernel.astype(kernel.dtype)


_filter: Any = jax.custom_vjp(_filter_alone, nondiff_argnums=(2,))
_filter.defvjp(_filter_forward, _filter_backward)


class FsmnMemory(nn.Module):
    """Each channel's weighted sum of its neighbours in time, plus itself.

    With kernel size K and shift s, frame t sees frames ``t - (K - 1)//2 - s`` to ``t + K//2 - s``;
    ``s = K//2`` sees no future. Frames that are not in the mask are read as zeros and written as zeros.

    Reference: Gao et al., "SAN-M: Memory Equipped Self-Attention for End-to-End Speech Recognition",
    2020, equation 7. https://arxiv.org/abs/2006.01713
    """

    kernel_size: int = 11
    shift: int = 0

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T D"], mask: Bool[Array, "B T"], before: Float[Array, "B K-1 D"] | None = None
    ) -> Float[Array, "B T D"]:
        """Of the frames in the mask; `before` has those that came before the first, None for zeros."""
        if self.kernel_size < 1:
            raise ConfigError(f"FsmnMemory: kernel_size={self.kernel_size}; 1 or more taps were expected; change it.")
        past = (self.kernel_size - 1) // 2 + self.shift
        if not 0 <= past < self.kernel_size:
            raise ConfigError(
                f"FsmnMemory: shift {self.shift} with kernel_size {self.kernel_size}; the filter would miss "
                f"the current frame; choose a shift from {-((self.kernel_size - 1) // 2)} to "
                f"{self.kernel_size // 2}."
            )
        kernel = self.param("kernel", nn.initializers.normal(self.kernel_size**-0.5), (self.kernel_size, x.shape[-1]))
        x = zero_where_not(x, mask)
        if before is None:
            y = depthwise_filter(x, kernel, past)
        else:
            y = depthwise_filter(jnp.concatenate([before, x], axis=1), kernel, past)[:, before.shape[1] :]
        return zero_where_not(x + y, mask)
