"""Transformer decoder (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762), pre-norm."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxasr.nn.attention import MultiHeadAttention, check_stack
from jaxasr.nn.decoders.base import DECODERS, Cache, Decoder
from jaxasr.nn.decoders.parallel import PARALLEL_DECODERS, ParallelDecoder
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

    num_heads: int
    d_ff: int
    dropout: float
    attention_dropout: float

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B U D"],
        cache: DecoderCache | None,
        mask: Bool[Array, "B U S"],
        memory: Float[Array, "B T D"],
        memory_mask: Bool[Array, "B 1 T"],
        position: Int[Array, ""] | int,
        train: bool,
    ) -> tuple[Float[Array, "B U D"], DecoderCache | None]:
        """`mask` is True where a token may look at another."""
        drop = Dropout(self.dropout)
        self_attention = MultiHeadAttention(self.num_heads, x.shape[-1], self.attention_dropout, name="self_attention")
        y = LayerNorm(name="self_norm")(x)
        keys, values = self_attention.project(y)
        if cache is not None:
            keys = lax.dynamic_update_slice_in_dim(cache.keys, keys, position, axis=2)
            values = lax.dynamic_update_slice_in_dim(cache.values, values, position, axis=2)
        x = x + drop(self_attention.attend(y, keys, values, mask, train=train), train=train)

        x, of_memory = read_memory(self, x, cache, memory, memory_mask, train)
        return x, None if cache is None else DecoderCache(keys, values, *of_memory)


def read_memory(
    block: Any,
    x: Float[Array, "B U D"],
    cache: Any,
    memory: Float[Array, "B T D"],
    memory_mask: Bool[Array, "B 1 T"],
    train: bool,
) -> tuple[Float[Array, "B U D"], tuple[Array, Array]]:
    """Attention to the encoded frames and feed-forward, the second half of a decoder's block, in whose call it is.

    Also keys and values (B, H, T, K) of the frames: those in the `cache`, once they are there.
    """
    drop = Dropout(block.dropout)
    attention = MultiHeadAttention(block.num_heads, x.shape[-1], block.attention_dropout, name="memory_attention")
    y = LayerNorm(name="memory_norm")(x)
    if cache is not None and cache.memory_keys is not None:
        of_memory = cache.memory_keys, cache.memory_values
    else:
        of_memory = attention.project(memory)
    x = x + drop(attention.attend(y, *of_memory, memory_mask, train=train), train=train)
    y = FeedForward(block.d_ff, block.dropout, name="ff")(LayerNorm(name="ff_norm")(x), train=train)
    return x + drop(y, train=train), of_memory


def scanned_blocks(decoder: Any) -> Any:
    """The blocks of a decoder with these fields; its submodule `blocks`."""
    return nn.scan(
        DecoderBlock,
        variable_axes={"params": 0, "intermediates": 0},
        split_rngs={"params": True, "dropout": True},
        in_axes=(0, *(nn.broadcast,) * 5),  # pyright: ignore[reportArgumentType]
        length=decoder.num_layers,
    )(decoder.num_heads, decoder.d_ff, decoder.dropout, decoder.attention_dropout, name="blocks")


def embedded(
    decoder: Any, tokens: Int[Array, "B U"], vocab_size: int, position: Int[Array, ""] | int, room: int
) -> Float[Array, "B U D"]:
    """Embeddings of tokens from `position` on, of at most `room`, with sinusoids; in a compact call of `decoder`."""
    D = decoder.d_model
    init = nn.initializers.normal(D**-0.5)  # of unit variance after the scaling
    x = nn.Embed(vocab_size, D, embedding_init=init, name="embed")(tokens) * D**0.5
    positions = jnp.asarray(sinusoids_interleaved(room, D))
    return x + lax.dynamic_slice_in_dim(positions, position, tokens.shape[1])[None]


def readable(
    memory: Float[Array, "B T D"], lengths: Int[Array, "B"]
) -> tuple[Float[Array, "B T D"], Bool[Array, "B 1 T"]]:
    """Encoded frames without what stands in their padding, a NaN of which no weight of 0 would stop, and their mask.

    >>> from jax import jit
    >>> [x.tolist() for x in jit(readable)(jnp.array([[[3.0], [7.0]]]), jnp.array([1]))]
    [[[[3.0], [0.0]]], [[[True, False]]]]
    """
    return zero_padding(memory, lengths), length_mask(lengths, memory.shape[1])[:, None, :]


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
        x = embedded(self, tokens, vocab_size, position, room).astype(memory.dtype)
        x = Dropout(self.dropout)(x, train=train)
        seen = jnp.arange(room)[None, :] <= position + jnp.arange(tokens.shape[1])[:, None]
        x, cache = scanned_blocks(self)(x, cache, seen[None], *readable(memory, memory_lengths), position, train)
        return Head(vocab_size, name="output")(LayerNorm(name="norm")(x)), cache


@PARALLEL_DECODERS.register("paraformer_san")
class ParaformerSanDecoder(ParallelDecoder):
    """Transformer decoder of all tokens at once: FunASR's `paraformer_decoder_san`; every token sees every other."""

    num_layers: int = 6
    """Number of blocks."""
    d_model: int = 256
    """Width of a token between blocks; that of the encoder."""
    num_heads: int = 4
    """Attention heads; must divide d_model."""
    d_ff: int = 1024
    """Width inside the feed-forward networks."""
    dropout: float = 0.1
    """Dropout probability of every sub-layer's output."""
    attention_dropout: float = 0.0
    """Dropout probability of attention weights."""

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B U D"],
        lengths: Int[Array, "B"],
        memory: Float[Array, "B T D"],
        memory_lengths: Int[Array, "B"],
        *,
        vocab_size: int,
        train: bool,
    ) -> Float[Array, "B U V"]:
        check_stack(self, "ParaformerSanDecoder")
        x, mask = readable(x, lengths)
        x, _ = scanned_blocks(self)(x, None, mask, *readable(memory, memory_lengths), 0, train)
        return Head(vocab_size, name="output")(LayerNorm(name="norm")(x))
