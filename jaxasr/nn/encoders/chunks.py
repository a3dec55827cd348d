"""Frames cut into overlapping chunks, one behind the other, so that an encoder looks no further ahead than a chunk."""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from jaxasr.nn.masking import zero_where_not
from jaxasr.typing import Array, Bool, Float, Int


class Chunks(NamedTuple):
    """How frames are cut; all in frames but `look_back`, which counts chunks."""

    size: int
    stride: int
    pad_left: int
    look_back: int


class ChunkLayout(NamedTuple):
    """Which frame stands at each of W places; W, frames T and the numbers of `Chunks` may be traced."""

    frame: Int[Array, "W"]
    """May lie before the first or behind the last frame: there are zeros."""
    chunk: Int[Array, "W"]
    """Number of the chunk, or -1 between chunks, where enough zeros stand that a filter sees one chunk alone."""
    place: Int[Array, "W"]
    """Number of the place within its chunk."""
    back: Int[Array, "T"]
    """At which place each frame comes out."""
    stride: Int[Array, ""]
    pad_left: Int[Array, ""]
    look_back: Int[Array, ""]
    choice: Int[Array, ""]
    """Which of several ways to cut frames it is."""

    @classmethod
    def of(cls, chunks: Chunks, frames: int, separation: int, choice: int) -> "ChunkLayout":
        """The layout of so many frames."""
        size, stride, pad_left, look_back = chunks
        count = max(-(-frames // stride), 1)
        place = np.arange(-separation, size)
        chunk = np.where(place < 0, -1, np.arange(count)[:, None])
        frame = np.where(place < 0, -1, np.arange(count)[:, None] * stride + place - pad_left)
        time = np.arange(frames)
        back = time // stride * len(place) + separation + pad_left + time % stride
        arrays = frame.ravel(), chunk.ravel(), np.tile(place, count), back, stride, pad_left, look_back, choice
        return cls(*(np.asarray(x, np.int32) for x in arrays))

    def padded(self, places: int) -> "ChunkLayout":
        """The same with more places, where nothing stands."""
        more = (0, places - len(self.frame))
        frame, chunk, place = (np.pad(x, more, constant_values=-1) for x in (self.frame, self.chunk, self.place))
        return self._replace(frame=frame, chunk=chunk, place=place)

    def unfolded(self, x: Float[Array, "B T D"], lengths: Int[Array, "B"]) -> Float[Array, "B W D"]:
        """Each row's frames at their places, zeros where it has none."""
        there = (self.frame >= 0)[None] & (self.frame[None] < lengths[:, None])
        return zero_where_not(jnp.take(x, jnp.clip(self.frame, 0, x.shape[1] - 1), axis=1), there)

    def folded(self, x: Float[Array, "B W D"]) -> Float[Array, "B T D"]:
        """The frames that come out, in their order."""
        return jnp.take(x, self.back, axis=1)

    def filled(self, lengths: Int[Array, "B"]) -> Bool[Array, "B W"]:
        """Which places count for each row: all of its chunks, the last one up to its own last frame."""
        chunks = -(-lengths // self.stride)
        last = (chunks - 1)[:, None]
        in_last = self.place[None] < (self.pad_left + lengths - (chunks - 1) * self.stride)[:, None]
        return (self.chunk >= 0)[None] & ((self.chunk[None] < last) | ((self.chunk[None] == last) & in_last))

    def visible(self) -> Bool[Array, "W W"]:
        """Which place each place may look at: its own chunk, and where it comes out those that do of chunks before."""
        of, at = self.chunk[:, None], self.chunk[None, :]
        before = (at < of) & (at >= of - self.look_back)
        comes_out = self.place < self.stride
        return (of >= 0) & (at >= 0) & ((at == of) | (before & comes_out[:, None] & comes_out[None, :]))

    def seen(
        self, ends: Int[Array, "B U"], lengths: Int[Array, "B"], look_back: Int[Array, ""]
    ) -> Bool[Array, "B U W"]:
        """Which place each token may look at (SCAMA, Zhang et al., 2020, https://arxiv.org/abs/2006.01712).

        All of the chunk of the frame that it ends in, and those that come out of `look_back` chunks before.
        """
        of, at = (ends // self.stride)[:, :, None], self.chunk[None, None, :]
        comes_out = (self.place >= self.pad_left) & (self.place < self.pad_left + self.stride)
        before = (at < of) & (at >= of - look_back) & comes_out[None, None, :]
        return self.filled(lengths)[:, None, :] & ((at == of) | before)


class Chunked(NamedTuple):
    """Frames at their places in chunks, each with those around it as its own chunk has them."""

    frames: Float[Array, "B W D"]
    """Zeros where nothing stands."""
    come_out: Callable[[Float[Array, "B W N"]], Float[Array, "B T N"]]
    """Of what was made of the places, that of the frames that come out, in their order."""


def in_one_chunk(
    chunks: Chunks, number: Int[Array, ""], left: Int[Array, "B"]
) -> tuple[Bool[Array, "B C"], Bool[Array, "B C"], Bool[Array, "B C S"]]:
    """Of chunk `number` alone: where frames stand, which places count, and which each place may look at.

    The S are all places of the `look_back` chunks before and then its own; the same as `ChunkLayout` says of it.

    Args:
      left: each row's frames from the first that comes out to the row's end.
    """
    size, stride, pad_left, look_back = chunks
    place = jnp.arange(size)
    there = (place >= pad_left - number * stride)[None] & (place[None] < pad_left + left[:, None])
    filled = place[None] < jnp.where(left <= stride, pad_left + left, size)[:, None]
    begun = number - look_back + jnp.repeat(jnp.arange(look_back), size) >= 0
    comes_out = place < stride
    before = comes_out[:, None] & (begun & jnp.tile(comes_out, look_back))[None, :]
    before = jnp.broadcast_to(before[None], (len(left), *before.shape))
    own = jnp.broadcast_to(filled[:, None], (len(left), size, size))
    return there, filled, jnp.concatenate([before, own], axis=2)
