"""SAN-M decoders: an FSMN memory over tokens for self-attention (Gao et al., 2020, https://arxiv.org/abs/2006.01713)."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.attention import MultiHeadAttention, check_stack
from jaxasr.nn.decoders.base import DECODERS, Cache, Decoder
from jaxasr.nn.decoders.parallel import PARALLEL_DECODERS, ParallelDecoder
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.fsmn import FsmnMemory
from jaxasr.nn.layers import Dense, Head, LayerNorm
from jaxasr.nn.masking import length_mask, zero_padding
from jaxasr.typing import Array, Bool, Float, Int


class LayerCache(NamedTuple):
    """What a block remembers of the tokens before (L, B, K - 1, D), and of encoded frames, if it looks at them."""

    before: Array
    memory_keys: Array | None = None
    memory_values: Array | None = None


class SanmCache(NamedTuple):
    """Of the blocks with attention, and of those without, if there are any."""

    attending: LayerCache
    others: LayerCache | None


class NormedFeedForward(nn.Module):
    """Two dense layers with a ReLU and a norm between; the second has no bias."""

    d_ff: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "B U D"], *, train: bool) -> Float[Array, "B U D"]:
        y = Dropout(self.dropout, relu=True)(Dense(self.d_ff, name="in")(x), train=train)
        return Dense(x.shape[-1], use_bias=False, name="out")(LayerNorm(name="norm")(y))


class SanmDecoderBlock(nn.Module):
    """Feed-forward, FSMN memory, attention to the encoded frames; in the form that `nn.scan` takes.

    Beside feed-forward and memory together runs one residual, beside attention another.
    """

    num_heads: int
    d_ff: int
    kernel_size: int
    shift: int
    dropout: float
    attention_dropout: float
    attends: bool

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B U D"],
        cache: LayerCache | None,
        lengths: Int[Array, "B"],
        memory: Float[Array, "B T D"],
        mask: Bool[Array, "B U T"],
        train: bool,
    ) -> tuple[Float[Array, "B U D"], LayerCache | None]:
        drop = Dropout(self.dropout)
        y = NormedFeedForward(self.d_ff, self.dropout, name="ff")(LayerNorm(name="ff_norm")(x), train=train)
        y = LayerNorm(name="memory_norm")(y)
        before = None if cache is None else cache.before
        remembered = FsmnMemory(self.kernel_size, self.shift, name="memory")(
            y, length_mask(lengths, y.shape[1]), before
        )
        x = x + drop(Dropout(self.attention_dropout)(remembered, train=train), train=train)
        if before is not None:
            last = lengths[:, None] + jnp.arange(before.shape[1])[None]
            before = jnp.take_along_axis(jnp.concatenate([before, y], axis=1), last[:, :, None], axis=1)
        if not self.attends:
            return x, None if before is None else LayerCache(before)

        attention = MultiHeadAttention(self.num_heads, x.shape[-1], self.attention_dropout, name="memory_attention")
        if cache is not None and cache.memory_keys is not None and cache.memory_values is not None:
            keys, values = cache.memory_keys, cache.memory_values
        else:
            keys, values = attention.project(memory)
        y = attention.attend(LayerNorm(name="memory_attention_norm")(x), keys, values, mask, train=train)
        return x + drop(y, train=train), None if before is None else LayerCache(before, keys, values)


class SanmStack(nn.Module):
    """Blocks with attention, blocks without, a last feed-forward part without a residual, and a norm."""

    layers: tuple[int, int]
    """Blocks with attention, and without."""
    num_heads: int
    d_ff: int
    kernel_size: int
    shifts: tuple[int, int]
    """Of the memories in blocks with attention, and in those without."""
    dropout: float
    attention_dropout: float

    @nn.compact
    def __call__(
        self,
        x: Float[Array, "B U D"],
        lengths: Int[Array, "B"],
        memory: Float[Array, "B T D"],
        memory_lengths: Int[Array, "B"],
        cache: SanmCache | None,
        *,
        seen: Bool[Array, "B U T"] | None = None,
        train: bool,
    ) -> tuple[Float[Array, "B U D"], SanmCache | None]:
        memory = zero_padding(memory, memory_lengths)  # a weight of 0 does not stop a NaN
        mask = length_mask(memory_lengths, memory.shape[1])[:, None, :]
        inputs = lengths, memory, mask if seen is None else mask & seen, train
        attending, others = self.layers
        x, first = self._blocks("blocks", attending, self.shifts[0])(x, cache and cache.attending, *inputs)
        second = None
        if others:
            blocks = self._blocks("blocks_without_attention", others, self.shifts[1], attends=False)
            x, second = blocks(x, cache and cache.others, *inputs)
        ff = NormedFeedForward(self.d_ff, self.dropout, name="ff")
        x = LayerNorm(name="norm")(ff(LayerNorm(name="ff_norm")(x), train=train))
        return x, None if cache is None else SanmCache(first, second)

    def _blocks(self, name: str, count: int, shift: int, *, attends: bool = True) -> Any:
        scan = nn.scan(
            SanmDecoderBlock,
            variable_axes={"params": 0, "intermediates": 0},
            split_rngs={"params": True, "dropout": True},
            in_axes=(0, nn.broadcast, nn.broadcast, nn.broadcast, nn.broadcast),  # pyright: ignore[reportArgumentType]
            length=count,
        )
        options = self.num_heads, self.d_ff, self.kernel_size, shift, self.dropout, self.attention_dropout
        return scan(*options, attends, name=name)


def attending_layers(decoder: Any, option: str) -> tuple[int, int]:
    """How many blocks look at the encoded frames, and how many do not.

    Raises:
      ConfigError: more are asked for than there are, or none.

    >>> attending_layers(ParaformerSanmDecoder(num_layers=16, attention_layers=12), "--decoder")
    (12, 4)
    """
    attending = decoder.num_layers if decoder.attention_layers is None else decoder.attention_layers
    if not 1 <= attending <= decoder.num_layers:
        raise ConfigError(
            f"{option}.attention_layers={attending}: 1 to num_layers={decoder.num_layers} were expected; change it, or "
            "give none for all."
        )
    return attending, decoder.num_layers - attending


def empty_cache(decoder: Any, blocks: tuple[int, int], rows: int, dtype: Any) -> SanmCache:
    """The memory of blocks with attention, and without, that have seen nothing.

    >>> empty_cache(SanmDecoder(d_model=8, kernel_size=5), (2, 0), 3, jnp.float32).attending.before.shape
    (2, 3, 4, 8)
    """
    shape = (rows, decoder.kernel_size - 1, decoder.d_model)
    empty = [LayerCache(jnp.zeros((layers, *shape), dtype)) if layers else None for layers in blocks]
    return SanmCache(*empty)  # type: ignore[arg-type]


@DECODERS.register("sanm")
class SanmDecoder(Decoder):
    """SAN-M decoder, token after token: FunASR's `fsmn_scama_opt` over a whole utterance.

    The memory sees the token itself and the `kernel_size - 1` before it; no positions are added.
    """

    num_layers: int = 6
    """Number of blocks."""
    attention_layers: int | None = None
    """How many of them, from the first, look at the encoded frames; None for all."""
    d_model: int = 256
    """Width of a token between blocks."""
    num_heads: int = 4
    """Attention heads; must divide d_model."""
    d_ff: int = 1024
    """Width inside the feed-forward networks."""
    kernel_size: int = 11
    """Taps of the FSMN memory, in tokens."""
    dropout: float = 0.1
    """Dropout probability of what each part of a block adds, and inside the feed-forward network."""
    attention_dropout: float = 0.0
    """Dropout probability of attention weights and of the FSMN memory."""

    def empty_cache(self, rows: int, max_tokens: int, dtype: Any) -> Cache:
        del max_tokens
        return empty_cache(self, attending_layers(self, "--decoder"), rows, dtype)

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
        del position  # what lies before is all that counts
        check_stack(self, "--decoder")
        x = nn.Embed(vocab_size, self.d_model, name="embed")(tokens).astype(memory.dtype)
        lengths = jnp.full(tokens.shape[0], tokens.shape[1], jnp.int32)  # what comes after a token it does not see
        stack = SanmStack(
            attending_layers(self, "--decoder"),
            self.num_heads,
            self.d_ff,
            self.kernel_size,
            (self.kernel_size // 2, self.kernel_size // 2),
            self.dropout,
            self.attention_dropout,
            name="stack",
        )
        x, cache = stack(x, lengths, memory, memory_lengths, cache, train=train)
        return Head(vocab_size, name="output")(x), cache


@PARALLEL_DECODERS.register("paraformer_sanm")
class ParaformerSanmDecoder(ParallelDecoder):
    """SAN-M decoder of all tokens at once: FunASR's `paraformer_decoder_sanm` (Gao et al., 2022).

    https://arxiv.org/abs/2206.08317. The memory sees as many tokens before as after.
    """

    num_layers: int = 6
    """Number of blocks."""
    attention_layers: int | None = None
    """How many of them, from the first, look at the encoded frames; None for all."""
    d_model: int = 256
    """Width of a token between blocks; that of the encoder."""
    num_heads: int = 4
    """Attention heads; must divide d_model."""
    d_ff: int = 1024
    """Width inside the feed-forward networks."""
    kernel_size: int = 11
    """Taps of the FSMN memory, in tokens."""
    shift: int = 0
    """Tokens by which the memory of blocks with attention looks further back; kernel_size // 2 makes it causal."""
    dropout: float = 0.1
    """Dropout probability of what each part of a block adds, and inside the feed-forward network."""
    attention_dropout: float = 0.0
    """Dropout probability of attention weights and of the FSMN memory."""

    def __call__(
        self,
        x: Float[Array, "B U D"],
        lengths: Int[Array, "B"],
        memory: Float[Array, "B T D"],
        memory_lengths: Int[Array, "B"],
        *,
        vocab_size: int,
        train: bool,
        seen: Bool[Array, "B U T"] | None = None,
    ) -> Float[Array, "B U V"]:
        """As every decoder of all tokens; where `seen` is given, a token looks at no other frames."""
        options = {"vocab_size": vocab_size, "train": train, "seen": seen}
        return self.said(x, lengths, memory, memory_lengths, None, **options)[0]

    def empty_cache(self, rows: int, dtype: Any) -> SanmCache:
        """The memory of a decoder that has seen no tokens."""
        return empty_cache(self, attending_layers(self, "ParaformerSanmDecoder"), rows, dtype)

    @property
    def causal(self) -> bool:
        """Whether no token sees those behind it."""
        _, others = attending_layers(self, "ParaformerSanmDecoder")
        return self.shift == self.kernel_size // 2 and (others == 0 or self.kernel_size // 2 == 0)

    @nn.compact
    def said(
        self,
        x: Float[Array, "B U D"],
        lengths: Int[Array, "B"],
        memory: Float[Array, "B T D"],
        memory_lengths: Int[Array, "B"],
        cache: SanmCache | None,
        *,
        vocab_size: int,
        train: bool,
        seen: Bool[Array, "B U T"] | None,
    ) -> tuple[Float[Array, "B U V"], SanmCache | None]:
        """Logits, with a cache of tokens behind those that it has seen, and the cache with them in it."""
        check_stack(self, "ParaformerSanmDecoder")
        stack = SanmStack(
            attending_layers(self, "ParaformerSanmDecoder"),
            self.num_heads,
            self.d_ff,
            self.kernel_size,
            (self.shift, 0),
            self.dropout,
            self.attention_dropout,
            name="stack",
        )
        x, cache = stack(zero_padding(x, lengths), lengths, memory, memory_lengths, cache, seen=seen, train=train)
        if cache is not None:  # tokens go on, the frames that they look at do not
            cache = cache._replace(attending=LayerCache(cache.attending.before))
        return Head(vocab_size, name="output")(x), cache
