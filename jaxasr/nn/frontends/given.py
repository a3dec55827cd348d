"""Features instead of sound."""

import dataclasses
from typing import Self

import jax.numpy as jnp

from jaxasr.errors import ConfigError
from jaxasr.nn.frontends.base import FRONTENDS, Frames
from jaxasr.nn.frontends.stacking import StackingFrontend
from jaxasr.typing import Array, Float, Int, Key, LengthsT


@FRONTENDS.register("features")
@dataclasses.dataclass(frozen=True)
class GivenFeatures(StackingFrontend):
    """Features that were made elsewhere, given instead of sound (.npy files, Kaldi's archives)."""

    width: int = 80
    """Features of a frame."""

    @property
    def input_frames(self) -> Frames | None:
        return Frames(self.width, self.hop_ms)

    @property
    def num_bands(self) -> int:
        return self.width

    def num_frames(self, lengths: LengthsT, sample_rate: int) -> LengthsT:
        return lengths

    def for_encoder(self, subsampling: int) -> Self:
        if self.width < 1 or not self.hop_ms > 0.0:
            raise ConfigError(
                f"--frontend: width={self.width}, hop_ms={self.hop_ms}; both are above 0; give those of the features."
            )
        return super().for_encoder(subsampling)

    def __call__(
        self,
        inputs: Array,
        lengths: Int[Array, "B"],
        *,
        sample_rate: int,
        key: Key | None = None,
    ) -> tuple[Float[Array, "B T F"], Int[Array, "B"]]:
        return self.stacked(jnp.asarray(inputs, jnp.float32), lengths)
