"""What training does to sound: the choices of `--preprocess`."""

import abc
import dataclasses
from collections.abc import Callable

import numpy as np

from jaxasr.data import augment
from jaxasr.errors import ConfigError
from jaxasr.registry import Registry

Perturb = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""From the sound of an utterance, float32 (S,), and its random generator to a sound of the same length."""


@dataclasses.dataclass(frozen=True)
class Perturber(abc.ABC):
    """Changes the sound of training utterances; that of evaluation is used as it is."""

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    """Speed factors, one drawn for each utterance and epoch; 1.0 alone for none."""

    @abc.abstractmethod
    def perturb_fn(self, sample_rate: int) -> Perturb:
        """What is done to sound of this rate after the change of speed, which is the batch plan's; goes to workers."""

    def check(self) -> None:
        """Raises ConfigError where the options mean nothing; reads no files."""
        if not self.speeds or any(not 0.5 <= s <= 2.0 for s in self.speeds):
            raise ConfigError(
                f"--preprocess.speeds={self.speeds}: factors from 0.5 to 2 were expected; --preprocess.speeds 1.0 "
                "for none."
            )


PREPROCESSORS: Registry[Perturber] = Registry("preprocess", Perturber, ("perturb_fn",))


@PREPROCESSORS.register("common")
@dataclasses.dataclass(frozen=True)
class CommonPreprocessor(Perturber):
    """Speed and volume."""

    volume_db: float = 0.0
    """Random gain, drawn from minus to plus this many dB; 0 for none."""

    def perturb_fn(self, sample_rate: int) -> Perturb:
        del sample_rate
        return _Common(self.volume_db)

    def check(self) -> None:
        super().check()
        if self.volume_db < 0.0:
            raise ConfigError(
                f"--preprocess.volume_db={self.volume_db}: half the range of the gain, 0 or more, was expected; "
                "change it."
            )


@dataclasses.dataclass(frozen=True)
class _Common:
    volume_db: float

    def __call__(self, sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if self.volume_db == 0.0:
            return sound
        return augment.random_volume(sound, rng, -self.volume_db, self.volume_db)
