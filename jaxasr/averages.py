"""Averages of the parameters over the updates, which are validated and kept in the parameters' stead."""

import abc
import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxasr.errors import ConfigError
from jaxasr.registry import Registry
from jaxasr.typing import Array, Bool, Float, Int, Params


class Averaged(NamedTuple):
    """An average of the parameters after `updates` updates; of none it is the parameters themselves."""

    params: Params
    updates: Int[Array, ""]


@dataclasses.dataclass(frozen=True)
class Average(abc.ABC):
    """``average = (1 - w) * average + w * params`` after every update, w by the number of updates."""

    def check(self) -> None:  # noqa: B027 (some have nothing to check)
        """Raises ConfigError where an option means nothing."""

    def init(self, params: Params) -> Averaged:
        """The state before the first update."""
        return Averaged(params, jnp.zeros((), jnp.int32))

    def update(self, averaged: Averaged, params: Params, step: Int[Array, ""], total_steps: Int[Array, ""]) -> Averaged:
        """With the parameters after `step`, counted from 1, of a run of `total_steps`."""
        updates = jnp.where(self.runs(step, total_steps), averaged.updates + 1, 0)
        weight = self.weight(updates)
        # with a weight of 1 these are the parameters to the last bit
        return Averaged(jax.tree.map(lambda a, p: (1.0 - weight) * a + weight * p, averaged.params, params), updates)

    @abc.abstractmethod
    def runs(self, step: Int[Array, ""], total_steps: Int[Array, ""]) -> Bool[Array, ""]:
        """Whether this step is one to average over."""

    @abc.abstractmethod
    def weight(self, updates: Int[Array, ""]) -> Float[Array, ""]:
        """w of the newest parameters, which with it are those after `updates` updates."""


AVERAGES: Registry[Average] = Registry("average", Average, ("runs", "weight"))


@AVERAGES.register("ema")
@dataclasses.dataclass(frozen=True)
class Ema(Average):
    """Exponential moving average; it keeps ``min(decay, (1 + n) / (10 + n))`` of itself at the nth update."""

    decay: float = 0.999
    """Share of the average that an update leaves; it reaches back over about 1 / (1 - decay) updates."""

    def check(self) -> None:
        if not 0.0 <= self.decay < 1.0:
            raise ConfigError(f"--average.decay={self.decay}: a share from 0 to below 1 was expected; change it.")

    def runs(self, step: Int[Array, ""], total_steps: Int[Array, ""]) -> Bool[Array, ""]:
        return step > 0

    def weight(self, updates: Int[Array, ""]) -> Float[Array, ""]:
        n = updates.astype(jnp.float32)
        return 1.0 - jnp.minimum(self.decay, (1.0 + n) / (10.0 + n))


@AVERAGES.register("running")
@dataclasses.dataclass(frozen=True)
class Running(Average):
    """The parameters themselves, and over the last part of the run the mean of all since its beginning."""

    share: float = 0.25
    """Part of the run's steps that is averaged over."""

    def check(self) -> None:
        if not 0.0 < self.share <= 1.0:
            raise ConfigError(f"--average.share={self.share}: a share above 0, 1 at most, was expected; change it.")

    def runs(self, step: Int[Array, ""], total_steps: Int[Array, ""]) -> Bool[Array, ""]:
        return step > jnp.floor((1.0 - self.share) * total_steps.astype(jnp.float32))

    def weight(self, updates: Int[Array, ""]) -> Float[Array, ""]:
        return 1.0 / jnp.maximum(updates, 1).astype(jnp.float32)
