"""FSMN memory: a depthwise filter over time."""

import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.masking import zero_padding
from jaxasr.typing import Array, Float, Int


def depthwise_filter(x: Float[Array, "B T D"], kernel: Float[Array, "K D"], past: int) -> Float[Array, "B T D"]:
    """Each channel filtered over time; frame t sees t - past to t - past + K - 1, zeros outside.

    A sum of shifted products, added up in float32: XLA fuses it into one pass on every backend, and on a CPU a
    depthwise convolution takes 18 times as long.
    """
    taps, frames = kernel.shape[0], x.shape[1]
    wide, kernel = x.astype(jnp.float32), kernel.astype(jnp.float32)
    padded = jnp.pad(wide, ((0, 0), (past, taps - 1 - past), (0, 0)))
    total = sum((padded[:, k : k + frames] * kernel[None, k : k + 1] for k in range(taps)), jnp.zeros_like(wide))
    return total.astype(x.dtype)


class FsmnMemory(nn.Module):
    """Each channel's weighted sum of its neighbours in time, plus itself.

    With kernel size K and shift s, frame t sees frames ``t - (K - 1)//2 - s`` to ``t + K//2 - s``;
    ``s = K//2`` sees no future. Padded frames are read as zeros and written as zeros.

    Reference: Gao et al., "SAN-M: Memory Equipped Self-Attention for End-to-End Speech Recognition",
    2020, equation 7. https://arxiv.org/abs/2006.01713
    """

    kernel_size: int = 11
    shift: int = 0

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], lengths: Int[Array, "B"]) -> Float[Array, "B T D"]:
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
        x = zero_padding(x, lengths)
        return zero_padding(x + depthwise_filter(x, kernel, past), lengths)
