"""What training does to sound: the choices of `--preprocess`."""

import abc
import dataclasses
from collections.abc import Callable

import numpy as np

from jaxasr.data import augment, sounds
from jaxasr.data.sounds import SoundFile
from jaxasr.errors import ConfigError
from jaxasr.registry import Registry, naming_files

Perturb = Callable[[np.ndarray, np.random.Generator], np.ndarray]
"""From the sound of an utterance, float32 (S,), and its random generator to a sound of the same length."""


@dataclasses.dataclass(frozen=True)
class Perturber(abc.ABC):
    """Changes the sound of training utterances; that of evaluation is used as it is."""

    speeds: tuple[float, ...] = (0.9, 1.0, 1.1)
    """Speed factors, one drawn for each utterance and epoch; 1.0 alone for none."""

    @abc.abstractmethod
    def perturb_fn(self, sample_rate: int) -> Perturb:
        """What is done to sound of this rate after the change of speed, which is the batch plan's; goes to workers.

        Raises:
          DataError: a file that the options name cannot be used.
        """

    def files(self, sample_rate: int) -> tuple[SoundFile, ...]:
        """Sound files that are drawn from; a run goes on only with the same ones."""
        del sample_rate
        return ()

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
    """Speed, rooms, noise and volume, in this order: FunASR's CommonPreprocessor; see docs/augmentation.md."""

    rir: str | None = naming_files()
    """Room impulse responses: a folder of sound files, or a list (wav.scp) of them."""
    rir_probability: float = 1.0
    """Share of the utterances that are put into a room."""
    noise: str | None = naming_files()
    """Noises: a folder of sound files, or a list (wav.scp) of them."""
    noise_probability: float = 1.0
    """Share of the utterances that get noise."""
    snr_db: tuple[float, float] = (3.0, 10.0)
    """Lowest and highest signal-to-noise ratio, in dB over the samples that are not silent."""
    volume_db: float = 0.0
    """Random gain, drawn from minus to plus this many dB; 0 for none."""

    def perturb_fn(self, sample_rate: int) -> Perturb:
        return _Common(self, sample_rate, self._rooms(sample_rate), self._noises(sample_rate))

    def files(self, sample_rate: int) -> tuple[SoundFile, ...]:
        return self._rooms(sample_rate) + self._noises(sample_rate)

    def _rooms(self, sample_rate: int) -> tuple[SoundFile, ...]:
        return () if self.rir is None else sounds.find(self.rir, sample_rate, "--preprocess.rir")

    def _noises(self, sample_rate: int) -> tuple[SoundFile, ...]:
        return () if self.noise is None else sounds.find(self.noise, sample_rate, "--preprocess.noise")

    def check(self) -> None:
        super().check()
        for name in ("rir_probability", "noise_probability"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ConfigError(f"--preprocess.{name}={getattr(self, name)}: 0 to 1 was expected; change it.")
        low, high = self.snr_db
        if low > high:
            raise ConfigError(f"--preprocess.snr_db={low} {high}: the lower ratio first was expected; swap them.")
        if self.volume_db < 0.0:
            raise ConfigError(
                f"--preprocess.volume_db={self.volume_db}: half the range of the gain, 0 or more, was expected; "
                "change it."
            )


@dataclasses.dataclass(frozen=True)
class _Common:
    options: CommonPreprocessor
    sample_rate: int
    rooms: tuple[SoundFile, ...]
    noises: tuple[SoundFile, ...]

    def __call__(self, sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        room_rng, noise_rng = rng.spawn(2)  # without one of the three, the others draw what they would with it
        mixed = self._with_noise(self._in_room(sound, room_rng), noise_rng)
        range_db = self.options.volume_db
        louder = augment.random_volume(mixed, rng, -range_db, range_db) if range_db else mixed
        # Clipping would change the ratio to the noise; a gain alone may clip, as a microphone does.
        return louder if mixed is sound else augment.within_full_scale(louder)

    def _in_room(self, sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not self.rooms or rng.random() >= self.options.rir_probability:
            return sound
        room = self.rooms[rng.integers(len(self.rooms))]
        return augment.reverberate(sound, sounds.response(room, self.sample_rate))

    def _with_noise(self, sound: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        if not self.noises or rng.random() >= self.options.noise_probability:
            return sound
        file = self.noises[rng.integers(len(self.noises))]
        snr_db = rng.uniform(*self.options.snr_db)
        return augment.add_noise(sound, sounds.crop(file, len(sound), self.sample_rate, rng), snr_db)
