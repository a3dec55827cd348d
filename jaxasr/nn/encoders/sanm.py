"""SAN-M encoders: self-attention with an FSMN memory (Gao et al., 2020, https://arxiv.org/abs/2006.01713)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.nn.attention import DotProductAttention, merge_heads, split_heads
from jaxasr.nn.dropout import Dropout
from jaxasr.nn.encoders.base import ENCODERS, Taps
from jaxasr.nn.encoders.chunks import Chunked, ChunkLayout, Chunks, in_one_chunk
from jaxasr.nn.encoders.stack import STREAM, run_block, run_blocks
from jaxasr.nn.encoders.stacked import BlockEncoder
from jaxasr.nn.feedforward import FeedForward
from jaxasr.nn.fsmn import FsmnMemory
from jaxasr.nn.layers import Dense, LayerNorm
from jaxasr.nn.masking import length_mask, zero_where_not
from jaxasr.nn.positions import sinusoids_halves, sinusoids_halves_from
from jaxasr.typing import Array, Bool, Float, Int


class Reach(NamedTuple):
    """Which frames there are, and which of them each may look at."""

    frames: Bool[Array, "B T"]
    attention: Bool[Array, "B T S"]
    """T or 1, where all may look at the same. Where S is more than the frames there are, the first of the S are
    those that came before, of which the module keeps keys and values (the collection `STREAM`)."""

    @classmethod
    def everything(cls, lengths: Int[Array, "B"], size: int) -> "Reach":
        """Every frame may look at every real frame."""
        frames = length_mask(lengths, size)
        return cls(frames, frames[:, None, :])


class SanmAttention(nn.Module):
    """Multi-head self-attention plus an FSMN memory over the values (equations 6 to 8)."""

    d_model: int
    num_heads: int
    kernel_size: int
    shift: int
    dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "B T F"], reach: Reach, *, train: bool) -> Float[Array, "B T D"]:
        q, k, v = jnp.split(Dense(3 * self.d_model, name="qkv")(x), 3, axis=-1)
        qh, kh, vh = (split_heads(y, self.num_heads) for y in (q, k, v))
        if before := reach.attention.shape[2] - x.shape[1]:
            kh, vh = self._behind_those_kept(kh, vh, before)
        y = merge_heads(DotProductAttention(self.dropout)(qh, kh, vh, reach.attention, train=train))
        memory = FsmnMemory(self.kernel_size, self.shift, name="memory")(v, reach.frames)
        return Dense(self.d_model, name="out")(y) + Dropout(self.dropout)(memory, train=train)

    def _behind_those_kept(
        self, keys: Float[Array, "B H T K"], values: Float[Array, "B H T K"], before: int
    ) -> tuple[Float[Array, "B H S K"], Float[Array, "B H S K"]]:
        """Keys and values with the last `before` of the calls until now in front; the last so many are kept."""
        B, H, _, K = keys.shape
        kept = self.variable(STREAM, "kept", jnp.zeros, (2, B, H, before, K), keys.dtype)
        both = jnp.concatenate([kept.value, jnp.stack([keys, values])], axis=3)
        kept.value = both[..., -before:, :]
        return both[0], both[1]


class SanmBlock(nn.Module):
    """Attention and feed-forward, each behind a norm and beside a residual; may change the width."""

    d_model: int
    num_heads: int
    d_ff: int
    kernel_size: int
    shift: int
    dropout: float
    attention_dropout: float

    @nn.compact
    def __call__(self, x: Float[Array, "B T F"], reach: Reach, train: bool) -> tuple[Array, None]:
        attention = SanmAttention(
            self.d_model, self.num_heads, self.kernel_size, self.shift, self.attention_dropout, name="attention"
        )
        y = attention(LayerNorm(name="attention_norm")(x), reach, train=train)
        y = Dropout(self.dropout)(y, train=train)
        x = x + y if x.shape[-1] == self.d_model else y  # no residual where the width changes
        y = FeedForward(self.d_ff, self.dropout, name="ff")(LayerNorm(name="ff_norm")(x), train=train)
        return x + Dropout(self.dropout)(y, train=train), None


class SanmStackEncoder(BlockEncoder):
    """What SAN-M encoders share. Abstract.

    The first block maps the width of a (stacked) feature frame, or of what the convolutions make of frames, to
    `d_model`; the others are one compiled block scanned over the layers.
    """

    d_ff: int = 1024
    """Width inside the feed-forward networks."""
    kernel_size: int = 11
    """Taps of the FSMN memory, in frames."""
    attention_dropout: float = 0.0
    """Dropout probability of attention weights and of the FSMN memory."""

    def memory_shift(self) -> int:
        """Frames by which the FSMN memory looks further back."""
        return 0

    def positioned(self, x: Float[Array, "B T F"], positions: Float[Array, "T F"]) -> Float[Array, "B T F"]:
        """Frames scaled, their positions added."""
        return x * jnp.asarray(self.d_model**0.5, x.dtype) + jnp.asarray(positions, x.dtype)[None]

    def run(self, x: Float[Array, "B T F"], reach: Reach, *, train: bool, taps: Taps | None) -> Float[Array, "B T D"]:
        """All blocks and the norm."""
        norm = LayerNorm(name="norm")
        options = (
            self.d_model,
            self.num_heads,
            self.d_ff,
            self.kernel_size,
            self.memory_shift(),
            self.dropout,
            self.attention_dropout,
        )
        x, _ = run_block(SanmBlock(*options, name="first"), x, reach, train, remat=self.remat)
        x = taps.after(1, x, norm) if taps else x
        if self.num_layers > 1:
            layers = range(2, self.num_layers + 1)
            blocks = SanmBlock(*options, name="blocks")
            x, _ = run_blocks(blocks, x, reach, train, layers=layers, remat=self.remat, taps=taps, norm=norm)
        return norm(x)


@ENCODERS.register("sanm")
class SanmEncoder(SanmStackEncoder):
    """SAN-M encoder; FunASR's `sanm`, whose `input_layer=pe` is no subsampling."""

    shift: int = 0
    """Frames by which the FSMN memory looks further back; kernel_size // 2 makes it causal."""

    def memory_shift(self) -> int:
        return self.shift

    @nn.compact
    def __call__(
        self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, train: bool, taps: Taps | None = None
    ) -> tuple[Float[Array, "B T2 D"], Int[Array, "B"]]:
        x, lengths = self.convolved(x, lengths, taps)
        x = self.positioned(x, sinusoids_halves(*x.shape[1:]))
        return self.run(x, Reach.everything(lengths, x.shape[1]), train=train, taps=taps), lengths


@ENCODERS.register("sanm_chunk")
class SanmChunkEncoder(SanmStackEncoder):
    """SAN-M encoder that looks no further ahead than a chunk; FunASR's `sanm_chunk_opt`.

    Every `stride` frames begins a chunk of `chunk_size` frames, the last of which are looked ahead at and belong to the
    next chunk too; what comes out are its first `stride` frames. Frames see their own chunk, and the first
    `stride` of them the same of `look_back` chunks before. With several chunk sizes training draws one for each batch.
    """

    chunk_size: tuple[int, ...] = (16,)
    """Frames of a chunk, those looked ahead at included; one number or several."""
    stride: tuple[int, ...] = (10,)
    """Frames from chunk to chunk; one number, or one for each chunk size, as the two that follow."""
    pad_left: tuple[int, ...] = (0,)
    """Frames of a chunk that lie before the ones that come out."""
    look_back: tuple[int, ...] = (1,)
    """Chunks before that a frame looks at."""
    chunk_choice: int = 0
    """Which of the chunk sizes is used outside of training, counted from 0."""

    def __call__(
        self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, train: bool, taps: Taps | None = None
    ) -> tuple[Float[Array, "B T2 D"], Int[Array, "B"]]:
        x, lengths, layout = self.at_places(x, lengths, train=train, taps=taps)
        return layout.folded(x), lengths

    def at_places(
        self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, train: bool, taps: Taps | None = None
    ) -> tuple[Float[Array, "B W D"], Int[Array, "B"], ChunkLayout]:
        """What `__call__` encodes, where it stands in the chunks, and the lengths of the rows."""
        return self._encoded(x, lengths, None, train=train, taps=taps)

    def step(
        self, x: Float[Array, "B C F"], number: Int[Array, ""], left: Int[Array, "B"]
    ) -> tuple[Chunked, Bool[Array, "B C"]]:
        """One chunk encoded as in its whole row, the chunk before it having been the last call's; see `in_one_chunk`.

        Args:
          left: frames from the first that comes out to the end of the row; where the end is not known, any number above
            the stride if there is a frame behind them.

        Returns:
          The chunk, and which of its places count.
        """
        chunks = self.chosen
        x, filled, _ = self._encoded(x, left, number, train=False, taps=None)
        first = chunks.pad_left
        return Chunked(zero_where_not(x, filled), lambda y: y[:, first : first + chunks.stride]), filled

    @nn.compact
    def _encoded(
        self,
        x: Float[Array, "B T F"],
        lengths: Int[Array, "B"],
        number: Int[Array, ""] | None,
        *,
        train: bool,
        taps: Taps | None,
    ) -> tuple[Array, Any, Any]:
        if number is not None:
            first = number * self.chosen.stride - self.chosen.pad_left
            there, filled, attention = in_one_chunk(self.chosen, number, lengths)
            x = zero_where_not(self.positioned(x, sinusoids_halves_from(first, *x.shape[1:])), there)
            return self.run(x, Reach(filled, attention), train=train, taps=taps), filled, None
        x, lengths = self.convolved(x, lengths, taps)
        x = self.positioned(x, sinusoids_halves(*x.shape[1:]))
        layout = self._layout(x.shape[1], train)
        filled = layout.filled(lengths)
        reach = Reach(filled, layout.visible()[None] & filled[:, None, :])
        taps = taps._replace(come_out=layout.folded) if taps else None
        return self.run(layout.unfolded(x, lengths), reach, train=train, taps=taps), lengths, layout

    @property
    def chosen(self) -> Chunks:
        """How frames are cut outside of training."""
        return self._choices()[self.chunk_choice]

    def _layout(self, frames: int, train: bool) -> ChunkLayout:
        """That of the chunk size drawn, or chosen; all have as many places, so that the choice may be traced."""
        cuts = enumerate(self._choices())
        layouts = [ChunkLayout.of(chunks, frames, self.kernel_size // 2, number) for number, chunks in cuts]
        places = max(len(layout.frame) for layout in layouts)
        choice: Array | int = self.chunk_choice
        if train and len(layouts) > 1:
            choice = jax.random.randint(self.make_rng("dropout"), (), 0, len(layouts))
        return jax.tree.map(lambda *same: jnp.stack(same)[choice], *(layout.padded(places) for layout in layouts))

    def _choices(self) -> list[Chunks]:
        """Every chunk size with what belongs to it."""
        count = len(self.chunk_size)
        options = {name: getattr(self, name) for name in ("chunk_size", "stride", "pad_left", "look_back")}
        each = [values * count if len(values) == 1 else values for values in options.values()]
        if count == 0 or any(len(values) != count for values in each) or not 0 <= self.chunk_choice < count:
            raise ConfigError(
                f"--encoder: {', '.join(f'{name}={list(values)}' for name, values in options.items())}, "
                f"chunk_choice={self.chunk_choice}; one number each or as many as chunk sizes were expected, and the "
                "choice one of them, counted from 0; change them."
            )
        choices = [Chunks(*numbers) for numbers in zip(*each, strict=True)]
        for size, stride, pad_left, look_back in choices:
            if not (stride >= 1 and min(pad_left, look_back) >= 0 and stride + pad_left <= size):
                raise ConfigError(
                    f"--encoder: chunk_size={size}, stride={stride}, pad_left={pad_left}, look_back={look_back}; a "
                    "chunk of at least stride + pad_left frames was expected, a stride from 1, and no number below 0; "
                    "change them."
                )
        return choices
