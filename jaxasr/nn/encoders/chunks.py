"""Frames cut into overlapping chunks, one behind the other, so that an encoder looks no further ahead than a chunk."""

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

    @classmethod
    def of(cls, chunks: Chunks, frames: int, separation: int) -> "ChunkLayout":
        """The layout of so many frames."""
        size, stride, pad_left, look_back = chunks
        count = max(-(-frames // stride), 1)
        place = np.arange(-separation, size)
        chunk = np.where(place < 0, -1, np.arange(count)[:, None])
        frame = np.where(place < 0, -1, np.arange(count)[:, None] * stride + place - pad_left)
        time = np.arange(frames)
        back = time // stride * len(place) + separation + pad_left + time % stride
        arrays = frame.ravel(), chunk.ravel(), np.tile(place, count), back, stride, pad_left, look_back
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
