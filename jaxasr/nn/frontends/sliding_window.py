"""Samples as they are, a window a frame."""

import dataclasses
from typing import Self

from jaxasr.errors import ConfigError
from jaxasr.nn.frontends.base import FRONTENDS
from jaxasr.nn.frontends.framing import as_float, hops, joined
from jaxasr.nn.frontends.stacking import StackingFrontend
from jaxasr.typing import Array, Float, Int, Key, LengthsT


@FRONTENDS.register("sliding_window")
@dataclasses.dataclass(frozen=True)
class SlidingWindow(StackingFrontend):
    """The samples of each window as they are, in [-1, 1]; FunASR's and ESPnet's `sliding_window`, for `sinc`."""

    window: int = 400
    """Samples of a frame."""

    @property
    def num_bands(self) -> int:
        return self.window

    def for_encoder(self, subsampling: int) -> Self:
        if self.window < 1:
            raise ConfigError(f"--frontend.window={self.window}: 1 sample or more was expected; change it.")
        left_open = {name: 1 for name in ("lfr_m", "lfr_n") if getattr(self, name) is None}
        return super(SlidingWindow, dataclasses.replace(self, **left_open)).for_encoder(subsampling)

    def num_frames(self, lengths: LengthsT, sample_rate: int) -> LengthsT:
        frames = (lengths - self.window) // self._hop(sample_rate) + 1
        return frames * (frames > 0)

    def _hop(self, sample_rate: int) -> int:
        hop = int(sample_rate * self.hop_ms * 0.001)
        if hop < 1:
            raise ConfigError(
                f"--frontend: hop_ms={self.hop_ms} at {sample_rate} Hz gives a frame every {hop} samples; at least 1 "
                "is needed; choose a longer one."
            )
        return hop

    def __call__(
        self,
        inputs: Array,
        lengths: Int[Array, "B"],
        *,
        sample_rate: int,
        key: Key | None = None,
    ) -> tuple[Float[Array, "B T F"], Int[Array, "B"]]:
        frames = joined(hops(as_float(inputs, lengths), self.window, self._hop(sample_rate)), self.window)
        return self.stacked(frames, self.num_frames(lengths, sample_rate))
