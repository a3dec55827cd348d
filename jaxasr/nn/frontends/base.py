"""What every frontend promises."""

import abc
import dataclasses
from typing import NamedTuple

from jaxasr.registry import Registry
from jaxasr.typing import Array, Float, Int, Key, LengthsT


class Frames(NamedTuple):
    """Features as they come in."""

    width: int
    """F."""
    hop_ms: float
    """From one frame to the next, in milliseconds."""


@dataclasses.dataclass(frozen=True)
class Frontend(abc.ABC):
    """Waveforms, or features (B, T, F) that are given, in; feature frames out; no parameters."""

    @property
    def input_frames(self) -> Frames | None:
        """What comes in instead of sound; None for sound."""
        return None

    @property
    @abc.abstractmethod
    def output_width(self) -> int:
        """F, the width of a feature frame."""

    @property
    @abc.abstractmethod
    def num_bands(self) -> int:
        """Frequency bands of one frame before frames are stacked; divides `output_width`."""

    @abc.abstractmethod
    def output_lengths(self, lengths: LengthsT, sample_rate: int) -> LengthsT:
        """Frames that so many samples, or frames that come in, give; works on an int and on an array."""

    @abc.abstractmethod
    def frame_ms(self) -> float:
        """Milliseconds from one frame to the next."""

    @abc.abstractmethod
    def for_encoder(self, subsampling: int) -> "Frontend":
        """This frontend with what was left open chosen to suit an encoder that divides the rate by so much.

        Raises:
          ConfigError: options mean nothing.
        """

    @abc.abstractmethod
    def __call__(
        self,
        inputs: Array,
        lengths: Int[Array, "B"],
        *,
        sample_rate: int,
        key: Key | None = None,
    ) -> tuple[Float[Array, "B T F"], Int[Array, "B"]]:
        """Float32 features and their lengths; zeros in the padding.

        Sound (B, S) is int16, or float in [-1, 1]. A key turns on what is random.
        """


FRONTENDS: Registry[Frontend] = Registry(
    "frontend", Frontend, ("__call__", "output_width", "num_bands", "output_lengths", "frame_ms", "for_encoder")
)
