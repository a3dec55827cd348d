"""What every encoder promises."""

import abc
from typing import TypeVar

from flax import linen as nn

from jaxasr.registry import Registry
from jaxasr.typing import Array, Float, Int

LengthsT = TypeVar("LengthsT", int, Array)


class Encoder(nn.Module):
    """Frames in, frames out: a Linen module whose fields are its configuration.

    Computes in the dtype of its input; what stands in the padding never reaches a real frame.
    """

    @property
    @abc.abstractmethod
    def output_width(self) -> int:
        """D, the width of an encoded frame."""
        raise NotImplementedError

    @abc.abstractmethod
    def output_lengths(self, lengths: LengthsT) -> LengthsT:
        """How many frames come out for so many going in; works on an int and on an array."""
        raise NotImplementedError

    @abc.abstractmethod
    def __call__(
        self, x: Float[Array, "B T F"], lengths: Int[Array, "B"], *, train: bool
    ) -> tuple[Float[Array, "B T2 D"], Int[Array, "B"]]:
        """Encodes `x`; returns the encoded frames and how many of each row are real."""
        raise NotImplementedError


ENCODERS: Registry[Encoder] = Registry("encoder", Encoder, ("__call__", "output_width", "output_lengths"))
