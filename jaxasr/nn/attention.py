"""Multi-head attention."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.dropout import dropped
from jaxasr.nn.fused import fused_attend, fused_holds
from jaxasr.nn.layers import Dense
from jaxasr.nn.masking import length_mask
from jaxasr.nn.positions import sines_and_cosines
from jaxasr.nn.rows import row_index
from jaxasr.typing import Array, Bool, Float, Int, Key, UInt32


def check_stack(module: Any, option: str) -> None:
    """Raises ConfigError where a stack of attention blocks has sizes or probabilities that cannot be."""
    names = ("num_layers", "d_model", "num_heads", "d_ff", "d_gate")
    sizes = {name: getattr(module, name) for name in names if hasattr(module, name)}
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
    """The features of each head by themselves, head h those from h * K on.

    >>> split_heads(jnp.ones((1, 5, 8)), 2).shape
    (1, 2, 5, 4)
    """
    B, T, D = x.shape
    return x.reshape(B, T, num_heads, D // num_heads).swapaxes(1, 2)


def merge_heads(x: Float[Array, "B H T K"]) -> Float[Array, "B T D"]:
    """What `split_heads` takes apart.

    >>> merge_heads(jnp.ones((1, 2, 5, 4))).shape
    (1, 5, 8)
    """
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
        bias: Float[Array, "B H T S"] | None = None,
    ) -> Float[Array, "B H T K"]:
        """`mask` (B, T or 1, S) is True where the query may look; `bias` is added to the scaled scores."""
        drops = train and self.dropout > 0.0
        looked_at = self.is_mutable_collection("intermediates")
        if not (drops or looked_at) and bias is None and fused_holds(q, v):
            return fused_attend(q, k, v, mask)
        key = self.make_rng("dropout") if drops else None
        y, weights = attend(q, k, v, mask, key, self.dropout, bias)
        self.sow("intermediates", "weights", weights)
        return y


def attend(
    q: Float[Array, "B H T K"],
    k: Float[Array, "B H S K"],
    v: Float[Array, "B H S K"],
    mask: Bool[Array, "B T S"],
    key: Key | None,
    rate: float,
    bias: Float[Array, "B H T S"] | None = None,
) -> tuple[Float[Array, "B H T K"], Float[Array, "B H T S"]]:
    """What the queries find, and the weights before dropout, which have no gradient.

    Without a key there is no dropout. The weights are all that is kept of their size for the gradient.

    Args:
      bias: added to the scaled scores.

    >>> q = k = v = jnp.array([[[[1.0], [9.0]]]])
    >>> mask = jnp.array([[[True, False], [True, True]]])
    >>> jax.jit(attend, static_argnums=(4, 5))(q, k, v, mask, None, 0.0)[0].tolist()
    [[[[1.0], [9.0]]]]
    """
    return _attend(q, k, v, mask, None if key is None else Drawn(key, row_index(len(q))), rate, bias)


class Drawn(NamedTuple):
    """What dropout of the weights is drawn from."""

    key: Key
    rows: UInt32[Array, "B"]


def _attend_alone(
    q: Array, k: Array, v: Array, mask: Array, drawn: Drawn | None, rate: float, bias: Array | None
) -> tuple[Array, Array]:
    scores = jnp.einsum("bhtk,bhsk->bhts", q * q.shape[-1] ** -0.5, k, preferred_element_type=jnp.float32)
    scores = scores if bias is None else scores + bias
    scores = jnp.where(mask[:, None], scores, jnp.finfo(jnp.float32).min)
    weights = jnp.where(mask[:, None], jax.nn.softmax(scores, axis=-1), 0.0).astype(v.dtype)
    return jnp.einsum("bhts,bhsk->bhtk", _maybe_dropped(weights, drawn, rate), v), weights


def _maybe_dropped(x: Array, drawn: Drawn | None, rate: float) -> Array:
    return x if drawn is None else dropped(x, drawn.key, rate, drawn.rows)


def _attend_forward(
    q: Array, k: Array, v: Array, mask: Array, drawn: Drawn | None, rate: float, bias: Array | None
) -> tuple[tuple[Array, Array], tuple[Any, ...]]:
    y, weights = _attend_alone(q, k, v, mask, drawn, rate, bias)
    of_bias = None if bias is None else jnp.zeros((), bias.dtype)  # which type its gradient has
    return (y, weights), (q, k, v, drawn, weights, of_bias)


def _attend_backward(rate: float, residuals: tuple[Any, ...], cotangents: tuple[Array, Array]) -> tuple[Any, ...]:
    """By the chain rule; sums float32."""
    q, k, v, drawn, weights, of_bias = residuals
    g, _ = cotangents
    scale = q.shape[-1] ** -0.5
    of_weights = jnp.einsum("bhtk,bhsk->bhts", g, v, preferred_element_type=jnp.float32)
    of_weights = _maybe_dropped(of_weights, drawn, rate)
    wide = weights.astype(jnp.float32)
    # not by output and cotangent, as flash attention has it: rounded to bfloat16 that is off where keys share a mean
    mean = jnp.sum(wide * of_weights, axis=-1, keepdims=True)
    of_scores = wide * (of_weights - mean)
    of_bias = None if of_bias is None else of_scores.astype(of_bias.dtype)
    of_scores = of_scores.astype(q.dtype)
    return (
        jnp.einsum("bhts,bhsk->bhtk", of_scores, k) * scale,
        jnp.einsum("bhts,bhtk->bhsk", of_scores, q * scale),
        jnp.einsum("bhts,bhtk->bhsk", _maybe_dropped(weights, drawn, rate), g),
        None,
        None,
        of_bias,
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
        """What the frames find in those whose keys and values these are, where `mask` allows it."""
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


class RelativeAttention(nn.Module):
    """Self-attention whose scores know how far apart two frames are (Dai et al., 2019, section 3.3).

    https://arxiv.org/abs/1901.02860. FunASR's and ESPnet's `rel_selfattn`, the `latest` form; or `legacy`, see
    `legacy_scores`.
    """

    num_heads: int
    d_model: int
    dropout: float
    legacy: bool = False

    @nn.compact
    def __call__(self, x: Float[Array, "B T D"], lengths: Int[Array, "B"], *, train: bool) -> Float[Array, "B T D"]:
        q, k, v = (split_heads(Dense(self.d_model, name=name)(x), self.num_heads) for name in ("q", "k", "v"))
        to_keys = Dense(self.d_model, use_bias=False, name="positions")
        shape = (self.num_heads, 1, self.d_model // self.num_heads)
        init = nn.initializers.glorot_uniform(in_axis=0, out_axis=2)
        content, position = (
            self.param(name, init, shape).astype(x.dtype)[None] for name in ("content_bias", "position_bias")
        )
        scores_of = legacy_scores if self.legacy else relative_scores
        bias = scores_of(q + position, lengths, lambda table: split_heads(to_keys(table), self.num_heads))
        mask = length_mask(lengths, x.shape[1])[:, None, :]
        attention = DotProductAttention(self.dropout, name="attention")
        y = attention(q + content, k, v, mask, train=train, bias=bias * shape[-1] ** -0.5)
        return Dense(self.d_model, name="out")(merge_heads(y))


ToKeys = Callable[[Float[Array, "B R D"]], Float[Array, "B H R K"]]


def relative_scores(q: Float[Array, "B H T K"], lengths: Int[Array, "B"], to_keys: ToKeys) -> Float[Array, "B H T T"]:
    """Of each query with the encoding of its distance from each key, sinusoids of query minus key.

    Scores by distance would have to be shifted row by row. Here, by the angles' sums, each query is turned by its own
    time, and all are multiplied with the sinusoids of the keys' times.
    """
    del lengths
    T, D = q.shape[2], q.shape[1] * q.shape[3]
    alone = np.eye(D + D % 2, D)  # each sinusoid; an odd width has no last cosine
    to_sinusoids = to_keys(jnp.asarray(np.concatenate([alone[0::2], alone[1::2]]), q.dtype)[None])[0]  # (H, D, K)
    turned = jnp.einsum("bhtk,hdk->bhtd", q, to_sinusoids, preferred_element_type=jnp.float32)
    of_sin, of_cos = jnp.split(turned, 2, axis=-1)
    sin, cos = (table[None, None] for table in sines_and_cosines(np.arange(T), D))
    turned = jnp.concatenate([of_cos * sin - of_sin * cos, of_sin * sin + of_cos * cos], axis=-1).astype(q.dtype)
    times = jnp.concatenate([sin, cos], axis=-1)[0, 0].astype(q.dtype)
    return jnp.einsum("bhtd,sd->bhts", turned, times, preferred_element_type=jnp.float32)


def legacy_scores(q: Float[Array, "B H T K"], lengths: Int[Array, "B"], to_keys: ToKeys) -> Float[Array, "B H T T"]:
    """What ESPnet's first relative attention computes for a row of its own length L, and models trained with it expect.

    Its table begins at the far end: with P = max(5000, L), the distance r >= 0 of a past key reads the sinusoid of
    P - L + r. Of the future its shift makes something else: the next key gets 0, one r >= 2 frames ahead the score of
    the *next query* with P - 1 - (r - 2). In a padded batch L is theirs of the longest row; here it is each row's own.
    """
    T, D = q.shape[2], q.shape[1] * q.shape[3]
    every_length = np.arange(T + 1)
    far = np.maximum(_LEGACY_ROOM, every_length)
    past = to_keys(_sinusoids_from(far - every_length, lengths, np.arange(T), D).astype(q.dtype))
    ahead = to_keys(_sinusoids_from(far - 1, lengths, -np.arange(T), D).astype(q.dtype))
    score = functools.partial(jnp.einsum, "bhtk,bhrk->bhtr", preferred_element_type=jnp.float32)
    next_q = jnp.pad(q[:, :, 1:], ((0, 0), (0, 0), (0, 1), (0, 0)))
    by_distance = [score(q, past)[..., ::-1], jnp.zeros((*q.shape[:3], 1)), score(next_q, ahead)[..., : max(T - 2, 0)]]
    return _by_key(jnp.concatenate(by_distance, axis=-1)[..., : 2 * T - 1])


_LEGACY_ROOM = 5000


def _sinusoids_from(
    first: np.ndarray, lengths: Int[Array, "B"], steps: np.ndarray, width: int
) -> Float[Array, "B T D"]:
    """`sinusoids_of` the positions ``first[length] + steps``, by the angles' sum: float32 angles would be coarse."""
    sin, cos = (jnp.asarray(table)[lengths][:, None] for table in sines_and_cosines(first, width))
    sin_step, cos_step = (table[None] for table in sines_and_cosines(steps, width))
    both = jnp.stack([sin * cos_step + cos * sin_step, cos * cos_step - sin * sin_step], axis=-1)
    return both.reshape(*both.shape[:2], -1)[..., :width]


def _by_key(scores: Float[Array, "B H T R"]) -> Float[Array, "B H T T"]:
    """From scores by distance, T - 1 to -(T - 1), to scores by key: row t is shifted by t."""
    B, H, T, R = scores.shape
    padded = jnp.pad(scores, ((0, 0), (0, 0), (0, 0), (1, 0)))  # one more a row, read as rows one shorter
    return padded.reshape(B, H, R + 1, T)[:, :, 1:].reshape(B, H, T, R)[..., :T]
