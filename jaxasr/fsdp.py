"""Which arrays of a state are divided between devices, by their paths."""

import dataclasses
import math
from collections.abc import Iterator, Sequence

from jax.sharding import PartitionSpec as P

from jaxasr.errors import ConfigError
from jaxasr.nn.initialization import is_stacked
from jaxasr.paths import check_patterns, leaves, matches
from jaxasr.typing import Params

FSDP_AXIS = "fsdp"
"""The mesh axis over which arrays of a state are divided, and a batch's rows too."""


@dataclasses.dataclass(frozen=True)
class Fsdp:
    """Parameters, what the optimizer keeps of them and their average, divided between devices.

    A device gathers an array when it needs it, and keeps the sum of a gradient that belongs to its part (ZeRO's third
    stage, Rajbhandari et al., 2020, https://arxiv.org/abs/1910.02054). Only where arrays stand is said; XLA adds what
    has to be sent (GSPMD, Xu et al., 2021, https://arxiv.org/abs/2105.04663).
    """

    devices: int = 1
    """Devices that share every array, 1 for none; the number of all devices is a multiple of it. --fsdp=N says it."""
    min_size: int = 65536
    """Arrays of fewer numbers, counted in one layer, are whole on every device."""
    rules: tuple[str, ...] = ()
    """PATTERN=DIMENSION, by any part of a parameter's path: what is divided along which of its dimensions, from 0, or
    none to leave it whole. The first that matches counts; without one it is the largest that the devices divide."""

    def check(self) -> None:
        """Raises ConfigError where an option means nothing."""
        for name in ("devices", "min_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"--fsdp.{name}={getattr(self, name)}: 1 or more was expected; change it.")
        list(self._parsed())

    def check_params(self, params: Params, *, sizes_known: bool = True) -> None:
        """Raises ConfigError where a rule names nothing, or a dimension that cannot be divided.

        Args:
          sizes_known: whether sides that are as long as the vocabulary have their length already.
        """
        parsed = list(self._parsed())
        check_patterns(params, [pattern for pattern, _ in parsed], "--fsdp.rules")
        for path, array in leaves(params):
            dimension = next((d for pattern, d in parsed if matches(path, [pattern])), None)
            known = dimension is None or self._divides(array.shape, dimension)
            if not known and (sizes_known or not -array.ndim <= dimension < array.ndim):
                raise ConfigError(
                    f"--fsdp.rules: {path} has the shape {tuple(array.shape)}, of which {dimension} was to be divided "
                    f"by {self.devices} devices; a dimension that they divide was expected; name another, or none."
                )

    def spec(self, path: str, shape: Sequence[int]) -> P:
        """How an array of a state is divided; what belongs to a parameter has its path behind its own.

        >>> tuple(Fsdp(devices=4).spec("encoder/blocks/ff/in/kernel", (12, 256, 1024)))
        (None, None, 'fsdp')
        """
        dimension = self._dimension(path, shape) if self.devices > 1 else None
        return P() if dimension is None else P(*dimension * (None,), FSDP_AXIS)

    def _dimension(self, path: str, shape: Sequence[int]) -> int | None:
        for pattern, dimension in self._parsed():
            if matches(path, [pattern]):
                if dimension is None:
                    return None
                if self._divides(shape, dimension):  # else it is no such parameter, but, say, the norms of its rows
                    return dimension % len(shape)
        layers = 1 if is_stacked(path) else 0  # a scan takes one layer after the other: each has to be on all devices
        if math.prod(shape[layers:]) < self.min_size:
            return None
        fit = [d for d in range(layers, len(shape)) if shape[d] % self.devices == 0]
        return max(fit, key=lambda d: shape[d], default=None)

    def _divides(self, shape: Sequence[int], dimension: int) -> bool:
        return -len(shape) <= dimension < len(shape) and shape[dimension] % self.devices == 0

    def _parsed(self) -> Iterator[tuple[str, int | None]]:
        """Patterns and dimensions of the rules."""
        for rule in self.rules:
            pattern, _, dimension = rule.rpartition("=")
            if not pattern or not (dimension == "none" or dimension.removeprefix("-").isdecimal()):
                raise ConfigError(
                    f"--fsdp.rules: {rule!r}; PATTERN=DIMENSION was expected, the dimension a whole number or none; "
                    "such as ff/in/kernel=2."
                )
            yield pattern, None if dimension == "none" else int(dimension)
