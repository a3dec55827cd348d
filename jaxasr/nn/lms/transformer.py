"""Transformer language model (Al-Rfou et al., 2019, https://arxiv.org/abs/1808.04444), pre-norm."""

from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.attention import MultiHeadAttention, check_stack
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.feedforward import FeedForward
from jaxasr.nn.layers import Dense, Head, LayerNorm
from jaxasr.nn.lms.base import LMS, Cache, LanguageModel
from jaxasr.nn.options import check_known
from jaxasr.nn.positions import sinusoids_interleaved
from jaxasr.typing import Array, Bool, Float, Int


class LmCache(NamedTuple):
    """Keys and values (B, L, H, U, K) of the first of U tokens, and how many there are (B,)."""

    keys: Array
    values: Array
    lengths: Array


class LmBlock(nn.Module):
    """Self-attention and feed-forward, in the form that `nn.scan` takes."""

    num_heads: int
    d_ff: int
    dropout: float
    attention_dropout: float

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B U D"],
        past: tuple[Array, Array] | None,
        here: Bool[Array, "B S"],
        mask: Bool[Array, "B U S"],
        train: bool,
    ) -> tuple[Float[Array, "B U D"], tuple[Array, Array] | None]:
        """`past` has keys and values (B, H, S, K), of which `here` says where those of `x` go."""
        drop = Dropout(self.dropout)
        attention = MultiHeadAttention(self.num_heads, x.shape[-1], self.attention_dropout, name="attention")
        y = LayerNorm(name="attention_norm")(x)
        found = attention.project(y)
        if past is not None:
            keys, values = (jnp.where(here[:, None, :, None], new, old) for new, old in zip(found, past, strict=True))
            found = keys, values
        x = x + drop(attention.attend(y, found[0], found[1], mask, train=train), train=train)
        y = FeedForward(self.d_ff, self.dropout, name="ff")(LayerNorm(name="ff_norm")(x), train=train)
        return x + drop(y, train=train), None if past is None else found


@LMS.register("transformer")
class TransformerLm(LanguageModel):
    """Transformer over the tokens so far; FunASR's and ESPnet's `transformer`."""

    num_layers: int = 4
    """Number of blocks."""
    d_embed: int = 128
    """Width of a token's embedding."""
    d_model: int = 256
    """Width of a token between blocks."""
    num_heads: int = 2
    """Attention heads; must divide d_model."""
    d_ff: int = 1024
    """Width inside the feed-forward networks."""
    positions: Literal["none", "absolute"] = "none"
    """Sinusoids added to tokens, or none: how many a token may look at tells it where it stands."""
    dropout: float = 0.1
    """Dropout probability of embeddings and of every sub-layer's output."""
    attention_dropout: float = 0.1
    """Dropout probability of attention weights."""

    def empty_cache(self, rows: int, max_tokens: int) -> Cache:
        zeros = jnp.zeros((rows, self.num_layers, self.num_heads, max_tokens, self.d_model // self.num_heads))
        return LmCache(zeros, zeros, jnp.zeros(rows, jnp.int32))

    @nn.compact
    def __call__(
        self, tokens: Int[Array, "B U"], *, vocab_size: int, train: bool, cache: Cache = None
    ) -> tuple[Float[Array, "B U V"], Cache]:
        self._check()
        rows, U = tokens.shape
        room = U if cache is None else cache.keys.shape[3]
        first = jnp.zeros(rows, jnp.int32) if cache is None else cache.lengths
        place = first[:, None] + jnp.arange(U)[None, :]  # (B, U)
        x = Dense(self.d_model, name="input")(nn.Embed(vocab_size, self.d_embed, name="embed")(tokens))
        x = LayerNorm(epsilon=1e-5, name="input_norm")(x)  # torch's epsilon, as theirs has it
        x = nn.relu(Dropout(self.dropout)(x, train=train))
        if self.positions == "absolute":
            table = jnp.asarray(sinusoids_interleaved(room, self.d_model))
            x = Dropout(self.dropout)(x * self.d_model**0.5 + table[jnp.minimum(place, room - 1)], train=train)
        here = jnp.arange(room)[None, :] == first[:, None]
        mask = jnp.arange(room)[None, None, :] <= place[:, :, None]
        past = None if cache is None else (cache.keys, cache.values)
        x, past = self._blocks()(x, past, here, mask, train)
        if cache is not None:
            cache = LmCache(past[0], past[1], cache.lengths + 1)
        return Head(vocab_size, name="output")(LayerNorm(name="norm")(x)), cache

    def _check(self) -> None:
        check_stack(self, "--lm")
        check_known("lm", self, "positions")
        if self.d_embed < 1:
            raise ConfigError(f"--lm.d_embed={self.d_embed}: 1 or more was expected; change it.")

    def _blocks(self) -> Any:
        return nn.scan(
            LmBlock,
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(1, nn.broadcast, nn.broadcast, nn.broadcast),  # pyright: ignore[reportArgumentType]
            out_axes=1,
            length=self.num_layers,
        )(self.num_heads, self.d_ff, self.dropout, self.attention_dropout, name="blocks")
