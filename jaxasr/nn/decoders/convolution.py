"""Decoders with a convolution over tokens for self-attention (Wu et al., 2019, https://arxiv.org/abs/1901.10430)."""

from typing import Any, ClassVar, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.attention import check_stack
from jaxasr.nn.decoders.base import DECODERS, Cache, Decoder
from jaxasr.nn.decoders.transformer import embedded, read_memory, readable
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.layers import Dense, Head, LayerNorm
from jaxasr.typing import Array, Bool, Float, Int


class ConvolutionCache(NamedTuple):
    """What blocks remember: of the tokens before (L, B, K // 2, D), and of encoded frames (None before use)."""

    before: Array
    room: Array
    """Of no width: its third axis is as long as tokens may become."""
    memory_keys: Array | None = None
    memory_values: Array | None = None


class TokenConvolution(nn.Module):
    """A gated map, each channel's weighted sum of the last tokens, and a dense map.

    Weights are those of a group of channels and add up to 1; with `dynamic` each token makes its own, over the tokens
    that there are. With `over_channels` another filter runs over the channels of each token, beside the first.
    """

    groups: int
    kernel_size: int
    dropout: float
    dynamic: bool
    over_channels: bool
    use_bias: bool

    @nn.compact
    def __call__(
        self, x: Float[Array, "B U D"], before: Float[Array, "B K//2 D"], position: Int[Array, ""] | int, *, train: bool
    ) -> tuple[Float[Array, "B U D"], Float[Array, "B K//2 D"]]:
        """What comes out, and the last of the gated tokens, which the tokens after these have `before` them."""
        B, U, D = x.shape
        past = self.kernel_size // 2
        y, gate = jnp.split(Dense(2 * D, name="in")(x), 2, axis=-1)
        y = y * jax.nn.sigmoid(gate)
        seen = jnp.concatenate([before, y], axis=1)  # (B, past + U, D)
        windows = jnp.stack([seen[:, k : k + U] for k in range(past + 1)], axis=-1)  # (B, U, D, past + 1)
        # a channel's group is its number's remainder where weights are fixed, its quotient where tokens make them
        weights = self._made(y, position, train) if self.dynamic else self._fixed(B, train)
        shape = (B, U, self.groups, D // self.groups) if self.dynamic else (B, U, D // self.groups, self.groups)
        letters = "bugck,bugk->bugc" if self.dynamic else "bucgk,bugk->bucg"
        summed = jnp.einsum(letters, windows.reshape(*shape, past + 1), weights.astype(x.dtype)).reshape(B, U, D)
        if self.use_bias:
            summed = summed + self.param("bias", nn.initializers.zeros, (D,)).astype(x.dtype)[None, None]
        if self.over_channels:
            summed = jnp.concatenate([summed, self._over_channels(y, train)], axis=-1)
        return Dense(D, name="out")(summed), seen[:, U:]

    def _fixed(self, rows: int, train: bool) -> Float[Array, "B 1 G K"]:
        shape = (self.kernel_size // 2 + 1, self.groups)
        weights = self.param("filter", nn.initializers.uniform(1.0), shape).T
        weights = Dropout(self.dropout)(jnp.broadcast_to(weights[None, None], (rows, 1, *weights.shape)), train=train)
        return jax.nn.softmax(weights, axis=-1)

    def _made(self, y: Float[Array, "B U D"], position: Int[Array, ""] | int, train: bool) -> Float[Array, "B U G K"]:
        taps = self.kernel_size // 2 + 1
        weights = Dense(self.groups * taps, name="weights")(y).reshape(*y.shape[:2], self.groups, taps)
        weights = Dropout(self.dropout)(weights, train=train).astype(jnp.float32)
        token = position + jnp.arange(y.shape[1])[:, None] + jnp.arange(taps)[None, :] - (taps - 1)
        return jax.nn.softmax(jnp.where((token >= 0)[None, :, None], weights, -jnp.inf), axis=-1)

    def _over_channels(self, y: Float[Array, "B U D"], train: bool) -> Float[Array, "B U D"]:
        B, _, D = y.shape
        size = self.kernel_size
        if self.dynamic:
            weights = Dense(size, name="channel_weights")(y)
        else:
            weights = jax.nn.softmax(self.param("channel_filter", nn.initializers.uniform(1.0), (size, 1))[:, 0])
            weights = Dropout(self.dropout)(jnp.broadcast_to(weights[None, None], (B, 1, size)), train=train)
        padded = jnp.pad(y, ((0, 0), (0, 0), (size // 2, size // 2)))
        windows = jnp.stack([padded[..., k : k + D] for k in range(size)], axis=-1)
        return jnp.sum(windows * weights.astype(y.dtype)[:, :, None], axis=-1)


class ConvolutionDecoderBlock(nn.Module):
    """Convolution, attention to the encoded frames and feed-forward, in the form that `nn.scan` takes."""

    num_heads: int
    d_ff: int
    dropout: float
    attention_dropout: float
    convolution: tuple[int, int, float, bool, bool, bool]

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B U D"],
        cache: ConvolutionCache | None,
        memory: Float[Array, "B T D"],
        memory_mask: Bool[Array, "B 1 T"],
        position: Int[Array, ""] | int,
        train: bool,
    ) -> tuple[Float[Array, "B U D"], ConvolutionCache | None]:
        convolve = TokenConvolution(*self.convolution, name="convolution")
        nothing = jnp.zeros((x.shape[0], convolve.kernel_size // 2, x.shape[-1]), x.dtype)
        before = nothing if cache is None else cache.before
        y, before = convolve(LayerNorm(name="self_norm")(x), before, position, train=train)
        x = x + Dropout(self.dropout)(y, train=train)
        x, of_memory = read_memory(self, x, cache, memory, memory_mask, train)
        return x, None if cache is None else ConvolutionCache(before, cache.room, *of_memory)


class ConvolutionDecoder(Decoder):
    """What the four have in common. Abstract."""

    dynamic: ClassVar[bool] = False
    over_channels: ClassVar[bool] = False

    num_layers: int = 2
    """Number of blocks."""
    d_model: int = 256
    """Width of a token between blocks."""
    num_heads: int = 4
    """Heads of the attention to encoded frames; must divide d_model."""
    d_ff: int = 1024
    """Width inside the feed-forward networks."""
    kernel_size: int = 11
    """Taps of the filter over tokens, half of which, and the token's own, see what there is; odd."""
    groups: int = 4
    """Groups of channels that share their filter; must divide d_model."""
    use_bias: bool = False
    """Add a bias to what the filter gives."""
    dropout: float = 0.1
    """Dropout probability of embeddings and of every sub-layer's output."""
    attention_dropout: float = 0.0
    """Dropout probability of attention weights and of the filters."""

    def empty_cache(self, rows: int, max_tokens: int, dtype: Any) -> Cache:
        before = jnp.zeros((self.num_layers, rows, self.kernel_size // 2, self.d_model), dtype)
        return ConvolutionCache(before, jnp.zeros((self.num_layers, rows, max_tokens, 0), dtype))

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
        if self.kernel_size < 1 or self.kernel_size % 2 == 0 or self.groups < 1 or self.d_model % self.groups:
            raise ConfigError(
                f"--decoder: kernel_size={self.kernel_size}, groups={self.groups}, d_model={self.d_model}; an odd "
                "number of taps, and groups that divide d_model, were expected; change them."
            )
        room = tokens.shape[1] if cache is None else cache.room.shape[2]
        x = embedded(self, tokens, vocab_size, position, room).astype(memory.dtype)
        x = Dropout(self.dropout)(x, train=train)
        blocks = nn.scan(
            ConvolutionDecoderBlock,
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast, nn.broadcast),  # pyright: ignore[reportArgumentType]
            length=self.num_layers,
        )
        convolution = (
            self.groups,
            self.kernel_size,
            self.attention_dropout,
            self.dynamic,
            self.over_channels,
            self.use_bias,
        )
        block = blocks(self.num_heads, self.d_ff, self.dropout, self.attention_dropout, convolution, name="blocks")
        x, cache = block(x, cache, *readable(memory, memory_lengths), position, train)
        return Head(vocab_size, name="output")(LayerNorm(name="norm")(x)), cache


@DECODERS.register("lightweight_conv")
class LightweightConvDecoder(ConvolutionDecoder):
    """Fixed filters over tokens; FunASR's and ESPnet's `lightweight_conv`, with one kernel size for all blocks."""


@DECODERS.register("lightweight_conv2d")
class LightweightConv2dDecoder(ConvolutionDecoder):
    """Fixed filters over tokens and over channels; FunASR's and ESPnet's `lightweight_conv2d`."""

    over_channels = True


@DECODERS.register("dynamic_conv")
class DynamicConvDecoder(ConvolutionDecoder):
    """Filters over tokens that each token makes; FunASR's and ESPnet's `dynamic_conv`."""

    dynamic = True


@DECODERS.register("dynamic_conv2d")
class DynamicConv2dDecoder(ConvolutionDecoder):
    """Filters over tokens and over channels that each token makes; FunASR's and ESPnet's `dynamic_conv2d`."""

    dynamic = True
    over_channels = True
