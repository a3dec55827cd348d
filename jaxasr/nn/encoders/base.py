"""What every encoder promises."""

import abc
import itertools
from collections.abc import Callable
from typing import NamedTuple

from flax import linen as nn

from jaxasr.errors import ConfigError
from jaxasr.registry import Registry
from jaxasr.typing import Array, Float, Int, LengthsT


class Taps(NamedTuple):
    """Where somebody looks at frames on their way through an encoder, and what comes back."""

    layers: tuple[int, ...]
    """Numbers of the blocks after which they are shown, the first block being 1, in rising order."""
    show: Callable[[Float[Array, "B W D"], Callable[[Array], Array]], Float[Array, "B W D"] | None]
    """Takes the frames, normalised as at the encoder's end, and `come_out`; what it returns, unless None, is added to
    what goes on. It must make each frame's of that frame alone."""
    come_out: Callable[[Float[Array, "B W N"]], Float[Array, "B T N"]] = lambda x: x
    """Of what was made of the frames shown, that of those which come out: an encoder may hold a frame at several of its
    W places, or none."""

    def check(self, num_layers: int) -> None:
        """Raises ConfigError where the encoder has no such layers; its last one's frames come out anyway."""
        rising = all(a < b for a, b in itertools.pairwise(self.layers))
        if not rising or self.layers[0] < 1 or self.layers[-1] >= num_layers:
            raise ConfigError(
                f"--interctc_layers={list(self.layers)}: an encoder of {num_layers} layers; rising numbers from 1 to "
                f"{num_layers - 1} were expected; change them."
            )

    def after(self, layer: int, x: Float[Array, "B W D"], norm: Callable[[Array], Array]) -> Float[Array, "B W D"]:
        """What goes on from layer number `layer`, whose output is `x`; `norm` keeps the shape (B, W, D)."""
        added = self.show(norm(x), self.come_out) if layer in self.layers else None
        return x if added is None else x + added


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
        """Encodes `x`; returns the encoded frames and how many of each row are real.

        An encoder that takes `taps: Taps | None = None` as well can learn with intermediate CTC.
        """
        raise NotImplementedError

    def check_promises(self, frames: int, encoded: Float[Array, "B T2 D"]) -> None:
        """Raises ConfigError where what came out for so many frames is not of the lengths and the width promised."""
        _, room, width = encoded.shape
        needed = self.output_lengths(frames)
        if room < needed or width != self.output_width:
            raise ConfigError(
                f"{type(self).__name__}: {room} frames of width {width} for {frames} frames; at least {needed} of "
                f"width {self.output_width}, as its output_lengths and output_width say, were expected; correct these."
            )


ENCODERS: Registry[Encoder] = Registry("encoder", Encoder, ("__call__", "output_width", "output_lengths"))
