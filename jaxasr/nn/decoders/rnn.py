"""Recurrent decoder that looks at the encoded frames before every token (Chorowski et al., 2015).

https://arxiv.org/abs/1506.07503
"""

from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import lax

from jaxasr.errors import ConfigError
from jaxasr.nn.decoders.base import DECODERS, Cache, Decoder
from jaxasr.nn.decoders.transformer import readable
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.layers import Dense, Head
from jaxasr.nn.options import check_unread
from jaxasr.nn.recurrent import CELLS, CellName
from jaxasr.typing import Array, Bool, Float, Int

AttentionName: TypeAlias = Literal["location", "add", "dot"]


class RnnCache(NamedTuple):
    """States of the cells (L, B, H), and where the last token looked (1, B, T; None before the first)."""

    hidden: Array
    cell: Array
    """A sum over all tokens, kept in float32."""
    weights: Array | None = None


class FrameAttention(nn.Module):
    """One weight a frame, from the decoder's state, the frame, and with `location` where it looked before."""

    kind: AttentionName
    width: int
    channels: int
    filter_size: int

    def setup(self):
        self.of_state = Dense(self.width, use_bias=self.kind == "dot")
        if self.kind != "dot":
            self.score = Dense(1)
        if self.kind == "location":
            shape = (2 * self.filter_size + 1, 1, self.channels)
            self.filter = self.param("filter", nn.initializers.lecun_normal(), shape)
            self.of_filter = Dense(self.width, use_bias=False)

    def __call__(
        self,
        state: Float[Array, "B H"],
        keys: Float[Array, "B T A"],
        mask: Bool[Array, "B T"],
        weights: Float[Array, "B T"],
    ) -> Float[Array, "B T"]:
        """The new weights; `weights` are those of the token before, `keys` what is compared of the frames."""
        of_state = self.of_state(state)[:, None]
        if self.kind == "dot":
            scores = jnp.sum(keys * jnp.tanh(of_state), axis=-1)
        else:
            inside = keys + of_state
            if self.kind == "location":
                seen = lax.conv_general_dilated(
                    jnp.asarray(weights[..., None].astype(keys.dtype)),
                    self.filter.astype(keys.dtype),
                    (1,),
                    [(self.filter_size, self.filter_size)],
                    dimension_numbers=("NWC", "WIO", "NWC"),
                )
                inside = inside + self.of_filter(seen)
            scores = self.score(jnp.tanh(inside))[..., 0]
        scores = jnp.where(mask, SHARPNESS * scores.astype(jnp.float32), jnp.finfo(jnp.float32).min)
        return jnp.where(mask, jax.nn.softmax(scores, axis=-1), 0.0)


SHARPNESS = 2.0
"""What scores are multiplied with before the softmax, as ESPnet has it."""


class RnnStep(nn.Module):
    """One token further, in the form that `nn.scan` takes."""

    cell: CellName
    num_layers: int
    d_hidden: int
    dropout: float
    attention: tuple[AttentionName, int, int, int]
    train: bool

    @nn.compact
    def __call__(
        self,
        carry: RnnCache,
        x: Float[Array, "B H"],
        memory: Float[Array, "B T D"],
        keys: Float[Array, "B T A"],
        mask: Bool[Array, "B T"],
    ) -> tuple[RnnCache, tuple[Float[Array, "B H+D"], Float[Array, "B T"]]]:
        """The new states; the last cell's, after dropout, beside what was looked at, and the weights of that."""
        drop = Dropout(self.dropout)
        attention = FrameAttention(*self.attention, name="attention")
        assert carry.weights is not None
        state = drop(carry.hidden[0], train=self.train)
        weights = attention(state, keys, mask, carry.weights[0])
        context = jnp.einsum("bt,btd->bd", weights.astype(memory.dtype), memory)
        y, states = jnp.concatenate([x, context], axis=-1), []
        cell, gates = CELLS[self.cell]
        for layer in range(self.num_layers):
            before = carry.hidden[layer], carry.cell[layer]
            given = Dense(gates * self.d_hidden, name=f"layer{layer}_in")(y)
            state, y = cell(self.d_hidden, name=f"layer{layer}")(before, given)
            states.append(state)
            y = drop(y, train=self.train)
        hidden, cells = (jnp.stack(same) for same in zip(*states, strict=True))
        after = RnnCache(hidden, cells, weights.astype(memory.dtype)[None])
        return after, (jnp.concatenate([y, context], axis=-1), weights)


@DECODERS.register("rnn")
class RnnDecoder(Decoder):
    """Recurrent decoder with attention; FunASR's and ESPnet's `rnn`."""

    cell: CellName = "lstm"
    """What runs from token to token."""
    num_layers: int = 1
    """Number of cells, one behind the other."""
    d_hidden: int = 320
    """Width of a token and of a cell's state."""
    attention: AttentionName = "location"
    """Frames are scored by a sum that knows where the last token looked, by one that does not, or by a product."""
    d_attention: int = 320
    """Width in which state and frames are compared."""
    attention_channels: int = 10
    """Channels of the filter over where the last token looked."""
    attention_filter: int = 100
    """Frames to either side that this filter sees."""
    context_residual: bool = False
    """Score tokens by what was looked at too, not by the last cell's state alone."""
    dropout: float = 0.0
    """Dropout probability of embeddings and of what goes from cell to cell and out."""

    def empty_cache(self, rows: int, max_tokens: int, dtype: Any) -> Cache:
        del max_tokens
        shape = (self.num_layers, rows, self.d_hidden)
        return RnnCache(jnp.zeros(shape, dtype), jnp.zeros(shape, jnp.float32))

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
        del position  # the states know all that counts
        sizes = {name: getattr(self, name) for name in ("num_layers", "d_hidden", "d_attention", "attention_channels")}
        if min(sizes.values()) < 1 or self.attention_filter < 0:
            raise ConfigError(
                f"--decoder: {', '.join(f'{name}={size}' for name, size in sizes.items())}, "
                f"attention_filter={self.attention_filter}; 1 or more of each, and a filter from 0 frames on, were "
                "expected; change them."
            )
        if self.attention != "location":
            check_unread("decoder", self, "attention", "attention_channels", "attention_filter")
        memory, mask = readable(memory, memory_lengths)
        mask = mask[:, 0]
        x = nn.Embed(vocab_size, self.d_hidden, name="embed")(tokens).astype(memory.dtype)
        x = Dropout(self.dropout)(x, train=train)
        state = self.empty_cache(tokens.shape[0], 0, memory.dtype) if cache is None else cache
        if state.weights is None:
            uniform = mask / jnp.maximum(memory_lengths, 1)[:, None]
            state = state._replace(weights=uniform.astype(memory.dtype)[None])
        step = nn.scan(
            RnnStep,
            variable_broadcast="params",
            split_rngs={"params": False, "dropout": True},
            in_axes=(1, nn.broadcast, nn.broadcast, nn.broadcast),  # pyright: ignore[reportArgumentType]
            out_axes=1,
        )
        attention = self.attention, self.d_attention, self.attention_channels, self.attention_filter
        options = self.cell, self.num_layers, self.d_hidden, self.dropout, attention, train
        keys = Dense(self.d_attention, name="keys")(memory)
        keys = jnp.tanh(keys) if self.attention == "dot" else keys
        state, (y, weights) = step(*options, name="step")(state, x, memory, keys, mask)
        self.sow("intermediates", "memory_attention", weights[:, None])  # (B, 1, U, T), as of one head
        y = y if self.context_residual else y[..., : self.d_hidden]
        return Head(vocab_size, name="output")(y), None if cache is None else state
