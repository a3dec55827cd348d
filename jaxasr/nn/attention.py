"""Multi-head attention."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.dropout import dropped
from jaxasr.nn.layers import Dense
from jaxasr.typing import Array, Bool, Float, Key


def check_stack(module: Any, option: str) -> None:
    """Raises ConfigError where a stack of attention blocks has sizes or probabilities that cannot be."""
    sizes = {name: getattr(module, name) for name in ("num_layers", "d_model", "num_heads", "d_ff")}
    if min(sizes.values()) < 1 or module.d_model % module.num_heads:
        raise ConfigError(
            f"{option}: {', '.join(f'{name}={size}' for name, size in sizes.items())}; 1 or more of each, and heads "
            f"that divide d_model, were expected; change {option}.num_layers, {option}.num_heads or the widths."
        )
    for name in ("dropout", "attention_dropout"):
        if not 0.0 <= (rate := getattr(module, name)) < 1.0:
            raise ConfigError(
                f"{option}.{name}={rate}: a probability from 0 up to, but not, 1 was expected; change it."
            )


def split_heads(x: Float[Array, "B T D"], num_heads: int) -> Float[Array, "B H T K"]:
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).swapaxes(1, 2)


def merge_heads(x: Float[Array, "B H T K"]) -> Float[Array, "B T D"]:
    B, H, T, K = x.shape
    return x.swapaxes(1, 2).reshape(B, T, H * K)


class DotProductAttention(nn.Module):
    """Scaled dot-product attention with dropout on the weights; no parameters.

    Scores and softmax are float32. A query that may look at nothing gets zeros. The weights (B, H, T, S) are sown
    as `weights` for a caller that collects "intermediates", to look at: no gradient flows through them.
    """

    dropout: float

    @nn.compact
    def __call__(
        self,
        q: Float[Array, "B H T K"],
        k: Float[Array, "B H S K"],
        v: Float[Array, "B H S K"],
        mask: Bool[Array, "B T S"],
        *,
        train: bool,
    ) -> Float[Array, "B H T K"]:
        """`mask` (B, T or 1, S) is True where the query may look."""
        drops = train and self.dropout > 0.0
        key = self.make_rng("dropout") if drops else None
        y, weights = attend(q, k, v, mask, key, self.dropout)
        self.sow("intermediates", "weights", weights)
        return y


def attend(
    q: Float[Array, "B H T K"],
    k: Float[Array, "B H S K"],
    v: Float[Array, "B H S K"],
    mask: Bool[Array, "B T S"],
    key: Key | None,
    rate: float,
) -> tuple[Float[Array, "B H T K"], Float[Array, "B H T S"]]:
    """What the queries find, and the weights before dropout, which have no gradient.

    Without a key there is no dropout. The weights are all that is kept of their size for the gradient.
    """
    return _attend(q, k, v, mask, key, rate)


def _attend_alone(q: Array, k: Array, v: Array, mask: Array, key: Key | None, rate: float) -> tuple[Array, Array]:
    scores = jnp.einsum("bhtk,bhsk->bhts", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
    scores = jnp.where(mask[:, None], scores, jnp.finfo(jnp.float32).min)
    weights = jnp.where(mask[:, None], jax.nn.softmax(scores, axis=-1), 0.0).astype(v.dtype)
    return jnp.einsum("bhts,bhsk->bhtk", _maybe_dropped(weights, key, rate), v), weights


def _maybe_dropped(x: Array, key: Key | None, rate: float) -> Array:
    return x if key is None else dropped(x, key, rate)


def _attend_forward(
    q: Array, k: Array, v: Array, mask: Array, key: Key | None, rate: float
) -> tuple[tuple[Array, Array], tuple[Any, ...]]:
    y, weights = _attend_alone(q, k, v, mask, key, rate)
    return (y, weights), (q, k, v, key, weights)


def _attend_backward(rate: float, residuals: tuple[Any, ...], cotangents: tuple[Array, Array]) -> tuple[Any, ...]:
    """By the chain rule; sums float32."""
    q, k, v, key, weights = residuals
    g, _ = cotangents
    scale = q.shape[-1] ** -0.5
    of_weights = jnp.einsum("bhtk,bhsk->bhts", g, v, preferred_element_type=jnp.float32)
    of_weights = _maybe_dropped(of_weights, key, rate)
    wide = weights.astype(jnp.float32)
    # not by output and cotangent, as flash attention has it: rounded to bfloat16 that is off where keys share a mean
    mean = jnp.sum(wide * of_weights, axis=-1, keepdims=True)
    of_scores = (wide * (of_weights - mean)).astype(q.dtype)
    return (
        jnp.einsum("bhts,bhsk->bhtk", of_scores, k) * scale,
        jnp.einsum("bhts,bhtk->bhsk", of_scores, q * scale),
        jnp.einsum("bhts,bhtk->bhsk", _maybe_dropped(weights, key, rate), g),
        None,
        None,
    )


_attend: Any = jax.custom_vjp(_attend_alone, nondiff_argnums=(5,))
_attend.defvjp(_attend_forward, _attend_backward)


class MultiHeadAttention(nn.Module):
    """Attention from `x` to `memory` with a projection each for queries, keys, values and output.

    `project` and `attend` are its halves, for decoders that keep keys and values from step to step.
    """

    num_heads: int
    d_model: int
    dropout: float

    def setup(self):
        self.q = Dense(self.d_model)
        self.k = Dense(self.d_model)
        self.v = Dense(self.d_model)
        self.out = Dense(self.d_model)
        self.attention = DotProductAttention(self.dropout)

    def project(self, memory: Float[Array, "B S D"]) -> tuple[Float[Array, "B H S K"], Float[Array, "B H S K"]]:
        """Keys and values."""
        return self._heads(self.k, memory), self._heads(self.v, memory)

    def attend(
        self,
        x: Float[Array, "B T D"],
        keys: Float[Array, "B H S K"],
        values: Float[Array, "B H S K"],
        mask: Bool[Array, "B T S"],
        *,
        train: bool,
    ) -> Float[Array, "B T D"]:
        y = self.attention(self._heads(self.q, x), keys, values, mask, train=train)
        return self.out(merge_heads(y))

    def __call__(
        self,
        x: Float[Array, "B T D"],
        memory: Float[Array, "B S D"],
        mask: Bool[Array, "B T S"],
        *,
        train: bool,
    ) -> Float[Array, "B T D"]:
        return self.attend(x, *self.project(memory), mask, train=train)

    def _heads(self, dense: Dense, x: Float[Array, "B T D"]) -> Float[Array, "B H T K"]:
        return split_heads(dense(x), self.num_heads)
