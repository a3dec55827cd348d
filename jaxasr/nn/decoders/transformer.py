"""Transformer decoder (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762), pre-norm."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxasr.nn.attention import MultiHeadAttention, check_stack
from jaxasr.nn.decoders.base import DECODERS, Cache, Decoder
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.feedforward import FeedForward
from jaxasr.nn.layers import Head, LayerNorm
from jaxasr.nn.masking import length_mask, zero_padding
from jaxasr.nn.positions import sinusoids_interleaved
from jaxasr.typing import Array, Bool, Float, Int


class DecoderCache(NamedTuple):
    """Keys and values of tokens seen (L, B, H, U, K) and of encoded frames (L, B, H, T, K; None before use)."""

    keys: Array
    values: Array
    memory_keys: Array | None = None
    memory_values: Array | None = None


class DecoderBlock(nn.Module):
    """Self-attention, attention to the encoded frames and feed-forward, in the form that `nn.scan` takes."""

    d_model: int
    num_heads: int
    d_ff: int
    dropout: float
    attention_dropout: float

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B U D"],
        cache: DecoderCache | None,
        memory: Float[Array, "B T D"],
        memory_mask: Bool[Array, "B 1 T"],
        position: Int[Array, ""] | int,
        train: bool,
    ) -> tuple[Float[Array, "B U D"], DecoderCache | None]:
        drop = Dropout(self.dropout)
        attention = (self.num_heads, self.d_model, self.attention_dropout)
        self_attention = MultiHeadAttention(*attention, name="self_attention")
        memory_attention = MultiHeadAttention(*attention, name="memory_attention")

        y = LayerNorm(name="self_norm")(x)
        keys, values = self_attention.project(y)
        if cache is not None:
            keys = lax.dynamic_update_slice_in_dim(cache.keys, keys, position, axis=2)
            values = lax.dynamic_update_slice_in_dim(cache.values, values, position, axis=2)
        seen = jnp.arange(keys.shape[2])[None, :] <= position + jnp.arange(x.shape[1])[:, None]
        x = x + drop(self_attention.attend(y, keys, values, seen[None], train=train), train=train)

        y = LayerNorm(name="memory_norm")(x)
        if cache is not None and cache.memory_keys is not None and cache.memory_values is not None:
            memory_keys, memory_values = cache.memory_keys, cache.memory_values
        else:
            memory_keys, memory_values = memory_attention.project(memory)
        y = memory_attention.attend(y, memory_keys, memory_values, memory_mask, train=train)
        x = x + drop(y, train=train)

        y = FeedForward(self.d_ff, self.dropout, name="ff")(LayerNorm(name="ff_norm")(x), train=train)
        x = x + drop(y, train=train)
        return x, None if cache is None else DecoderCache(keys, values, memory_keys, memory_values)


@DECODERS.register("transformer")
class TransformerDecoder(Decoder):
    """Transformer decoder; FunASR's and ESPnet's `transformer` with `input_layer=embed`."""

    num_layers: int = 2
    """Number of blocks."""
    d_model: int = 256
    """Width of a token between blocks."""
    num_heads: int = 4
    """Attention heads; must divide d_model."""
    d_ff: int = 1024
    """Width inside the feed-forward networks."""
    dropout: float = 0.1
    """Dropout probability of embeddings and of every sub-layer's output."""
    attention_dropout: float = 0.0
    """Dropout probability of attention weights."""

    def empty_cache(self, rows: int, max_tokens: int, dtype: Any) -> Cache:
        shape = (self.num_layers, rows, self.num_heads, max_tokens, self.d_model // self.num_heads)
        return DecoderCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype))

    @nn.compact
    def __call__(
        self,
        tokens: Int[Array, "B U"],
        memory: Float[Array, "B T D"],
        memory_lengths: Int[Array, "B"],
        *,
        vocab_size: int,
        train: bool,
        cache: Cache = None,
        position: Int[Array, ""] | int = 0,
    ) -> tuple[Float[Array, "B U V"], Cache]:
        check_stack(self, "--decoder")
        room = tokens.shape[1] if cache is None else cache.keys.shape[3]
        positions = jnp.asarray(sinusoids_interleaved(room, self.d_model))
        init = nn.initializers.normal(self.d_model**-0.5)  # of unit variance after the scaling
        x = nn.Embed(vocab_size, self.d_model, embedding_init=init, name="embed")(tokens) * self.d_model**0.5
        x = x + lax.dynamic_slice_in_dim(positions, position, tokens.shape[1])[None]  # (B, U, D)
        x = Dropout(self.dropout)(x.astype(memory.dtype), train=train)
        blocks = nn.scan(
            DecoderBlock,
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast, nn.broadcast),  # pyright: ignore[reportArgumentType]
            length=self.num_layers,
        )(self.d_model, self.num_heads, self.d_ff, self.dropout, self.attention_dropout, name="blocks")
        memory_mask = length_mask(memory_lengths, memory.shape[1])[:, None, :]
        memory = zero_padding(memory, memory_lengths)  # a weight of 0 does not stop a NaN
        x, cache = blocks(x, cache, memory, memory_mask, position, train)
        return Head(vocab_size, name="output")(LayerNorm(name="norm")(x)), cache
