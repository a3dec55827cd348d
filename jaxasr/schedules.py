"""Learning-rate schedules: what share of the optimizer's `learning_rate` each update takes."""

import abc
import dataclasses
import math

import jax.numpy as jnp

from jaxasr.errors import ConfigError
from jaxasr.registry import Registry
from jaxasr.typing import Array, Float, Int


@dataclasses.dataclass(frozen=True)
class Schedule(abc.ABC):
    """The learning rate as a share of the optimizer's `learning_rate`."""

    @property
    def needs_total(self) -> bool:
        """Whether it depends on how many steps the run has."""
        return False

    def check(self) -> None:  # noqa: B027 (some have nothing to check)
        """Raises ConfigError where an option means nothing."""

    @abc.abstractmethod
    def __call__(self, updates: Int[Array, ""], total_steps: Int[Array, ""]) -> Float[Array, ""]:
        """The share at the update after `updates` of them, in a run of `total_steps`."""


SCHEDULES: Registry[Schedule] = Registry("schedule", Schedule, ("__call__",))


def check_share(name: str, value: float, *, zero: bool = True) -> None:
    """Raises ConfigError unless the option is a share from 0 to 1; without `zero` 0 is none."""
    if not 0.0 <= value <= 1.0 or (value == 0.0 and not zero):
        expected = "a share from 0 to 1" if zero else "a share above 0, 1 at most,"
        raise ConfigError(f"--schedule.{name}={value}: {expected} was expected; change it.")


@dataclasses.dataclass(frozen=True)
class Warmup(Schedule):
    """Begins with a linear rise."""

    warmup_steps: int = 500
    """Steps until the learning rate is reached."""

    def check(self) -> None:
        if self.warmup_steps < 0:
            raise ConfigError(f"--schedule.warmup_steps={self.warmup_steps}: 0 or more was expected; change it.")


@SCHEDULES.register("warmup_rsqrt")
@dataclasses.dataclass(frozen=True)
class WarmupRsqrt(Warmup):
    """Linear warm-up to 1, then the inverse square root of the step; FunASR's and ESPnet's WarmupLR.

    ``W^0.5 * min(n^-0.5, n * W^-1.5)`` at step n from 1, W the warm-up steps.
    """

    def __call__(self, updates: Int[Array, ""], total_steps: Int[Array, ""]) -> Float[Array, ""]:
        step, warmup = (updates + 1).astype(jnp.float32), max(self.warmup_steps, 1)
        return warmup**0.5 * jnp.minimum(step**-0.5, step * warmup**-1.5)


@SCHEDULES.register("noam")
@dataclasses.dataclass(frozen=True)
class Noam(WarmupRsqrt):
    """``d_model^-0.5 * min(n^-0.5, n * W^-1.5)`` (Vaswani et al., 2017, https://arxiv.org/abs/1706.03762, equation 3).

    The optimizer's learning rate is its factor, about 1 to 10, and no peak: the highest rate is
    ``learning_rate / sqrt(d_model * W)``. FunASR's NoamLR, whose `model_size` is `d_model`.
    """

    d_model: int = 256
    """Width of the model."""

    def check(self) -> None:
        super().check()
        if self.d_model < 1:
            raise ConfigError(f"--schedule.d_model={self.d_model}: 1 or more was expected; give the model's width.")

    def __call__(self, updates: Int[Array, ""], total_steps: Int[Array, ""]) -> Float[Array, ""]:
        return super().__call__(updates, total_steps) * (self.d_model * max(self.warmup_steps, 1)) ** -0.5


@dataclasses.dataclass(frozen=True)
class Falling(Warmup):
    """Linear warm-up to 1, over half of the run at most, then down over the rest of it."""

    final_share: float = 0.0
    """Share of the learning rate that the last step is heading for."""

    def check(self) -> None:
        super().check()
        check_share("final_share", self.final_share)

    @property
    def needs_total(self) -> bool:
        return True

    def __call__(self, updates: Int[Array, ""], total_steps: Int[Array, ""]) -> Float[Array, ""]:
        total = jnp.maximum(total_steps, 2).astype(jnp.float32)
        warmup = jnp.clip(jnp.float32(self.warmup_steps), 1.0, total / 2)
        step = (updates + 1).astype(jnp.float32)
        progress = jnp.minimum((step - warmup) / (total + 1.0 - warmup), 1.0)
        return jnp.where(step < warmup, step / warmup, 1.0 - (1.0 - self.final_share) * self.fallen(progress))

    @abc.abstractmethod
    def fallen(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        """Share of the way down after a share of the time, both from 0 to 1."""


@SCHEDULES.register("warmup_linear")
@dataclasses.dataclass(frozen=True)
class WarmupLinear(Falling):
    """Linear warm-up to 1, over half of the run at most, then linearly down over the rest of it.

    >>> from jax import jit
    >>> jit(WarmupLinear(warmup_steps=4))(1, 100).item()
    0.5
    """

    def fallen(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        return progress


@SCHEDULES.register("cosine")
@dataclasses.dataclass(frozen=True)
class Cosine(Falling):
    """Linear warm-up to 1, then half a cosine down (Loshchilov & Hutter, 2017, https://arxiv.org/abs/1608.03983)."""

    def fallen(self, progress: Float[Array, ""]) -> Float[Array, ""]:
        return 0.5 * (1.0 - jnp.cos(math.pi * progress))


@SCHEDULES.register("tri_stage")
@dataclasses.dataclass(frozen=True)
class TriStage(Schedule):
    """Linear warm-up, hold, exponential decay, each over its part of the run; fairseq's and FunASR's TriStageLR."""

    phase_ratios: tuple[float, float, float] = (0.1, 0.4, 0.5)
    """Parts of the run that warm-up, hold and decay take; they add up to 1."""
    initial_share: float = 0.01
    """Share of the learning rate that warm-up begins with."""
    final_share: float = 0.01
    """Share of the learning rate that the last step has."""

    def check(self) -> None:
        if min(self.phase_ratios) < 0.0 or abs(sum(self.phase_ratios) - 1.0) > 1e-6:
            raise ConfigError(
                f"--schedule.phase_ratios={self.phase_ratios}: three parts of the run that add up to 1 were expected; "
                "change them."
            )
        check_share("initial_share", self.initial_share)
        check_share("final_share", self.final_share, zero=False)

    @property
    def needs_total(self) -> bool:
        return True

    def __call__(self, updates: Int[Array, ""], total_steps: Int[Array, ""]) -> Float[Array, ""]:
        total = jnp.maximum(total_steps, 2).astype(jnp.float32)
        step = (updates + 1).astype(jnp.float32)
        warmup, held = self.phase_ratios[0] * total, (self.phase_ratios[0] + self.phase_ratios[1]) * total
        rise = self.initial_share + (1.0 - self.initial_share) * step / jnp.maximum(warmup, 1.0)
        progress = jnp.clip((step - held) / jnp.maximum(total - held, 1.0), 0.0, 1.0)  # 0 while it is held
        return jnp.where(step < warmup, rise, jnp.exp(math.log(self.final_share) * progress))


@SCHEDULES.register("constant")
@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """The learning rate itself, from the first step to the last."""

    def __call__(self, updates: Int[Array, ""], total_steps: Int[Array, ""]) -> Float[Array, ""]:
        return jnp.ones((), jnp.float32)
