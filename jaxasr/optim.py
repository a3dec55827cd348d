"""Optimizers and learning-rate schedules, as dataclasses that build pure functions."""

import abc
import dataclasses
import math
from typing import TYPE_CHECKING

import jax.numpy as jnp

from jaxasr.errors import ConfigError
from jaxasr.registry import Registry
from jaxasr.typing import Array, Float, Int

if TYPE_CHECKING:
    from optax import GradientTransformation


@dataclasses.dataclass(frozen=True)
class Schedule(abc.ABC):
    """The learning rate as a share of the optimizer's `learning_rate`."""

    @property
    def needs_total(self) -> bool:
        """Whether it must know how many steps the run has."""
        return False

    def check(self) -> None:  # noqa: B027 (some have nothing to check)
        """Raises ConfigError where an option means nothing."""

    @abc.abstractmethod
    def __call__(self, updates: Int[Array, ""], total_steps: Int[Array, ""]) -> Float[Array, ""]:
        """The share at the update after `updates` of them, in a run of `total_steps`."""


SCHEDULES: Registry[Schedule] = Registry("schedule", Schedule, ("__call__",))


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
    """Linear warm-up to 1, then the inverse square root of the step; FunASR's and ESPnet's WarmupLR."""

    def __call__(self, updates: Int[Array, ""], total_steps: Int[Array, ""]) -> Float[Array, ""]:
        step, warmup = (updates + 1).astype(jnp.float32), max(self.warmup_steps, 1)
        return warmup**0.5 * jnp.minimum(step**-0.5, step * warmup**-1.5)


@SCHEDULES.register("warmup_linear")
@dataclasses.dataclass(frozen=True)
class WarmupLinear(Warmup):
    """Linear warm-up to 1, over half of the run at most, then linearly down over the rest of it."""

    final_share: float = 0.0
    """Share of the learning rate that the last step is heading for."""

    def check(self) -> None:
        super().check()
        if not 0.0 <= self.final_share <= 1.0:
            raise ConfigError(
                f"--schedule.final_share={self.final_share}: a share from 0 to 1 was expected; change it."
            )

    @property
    def needs_total(self) -> bool:
        return True

    def __call__(self, updates: Int[Array, ""], total_steps: Int[Array, ""]) -> Float[Array, ""]:
        total = jnp.maximum(total_steps, 2).astype(jnp.float32)
        warmup = jnp.clip(jnp.float32(self.warmup_steps), 1.0, total / 2)
        step = (updates + 1).astype(jnp.float32)
        down = 1.0 - (1.0 - self.final_share) * (step - warmup) / (total + 1.0 - warmup)
        return jnp.where(step < warmup, step / warmup, jnp.maximum(down, self.final_share))


@SCHEDULES.register("constant")
@dataclasses.dataclass(frozen=True)
class Constant(Schedule):
    """The learning rate itself, from the first step to the last."""

    def __call__(self, updates: Int[Array, ""], total_steps: Int[Array, ""]) -> Float[Array, ""]:
        return jnp.ones((), jnp.float32)


@dataclasses.dataclass(frozen=True)
class Optimizer(abc.ABC):
    """What turns gradients into updates; the learning rate is applied after it, by the train step."""

    learning_rate: float = 2e-3
    """Highest learning rate; the schedule scales it."""
    clip_norm: float = 5.0
    """Gradients of a larger global norm are scaled down to it; 0 for no clipping."""

    def check(self) -> None:
        if not (0.0 < self.learning_rate < math.inf and self.clip_norm >= 0.0):
            raise ConfigError(
                f"--optimizer: learning_rate={self.learning_rate}, clip_norm={self.clip_norm}; a positive rate and "
                "a norm of 0 (none) or more were expected; change them."
            )

    def build(self) -> "GradientTransformation":
        """Clipping, then the rule; of learning rate 1 and pointing uphill."""
        import optax  # here and below: a tenth of the time that --help takes

        clip = [optax.clip_by_global_norm(self.clip_norm)] if self.clip_norm > 0.0 else []
        return optax.chain(*clip, self.rule())

    @abc.abstractmethod
    def rule(self) -> "GradientTransformation":
        """From clipped gradients to updates, before learning rate and sign."""


OPTIMIZERS: Registry[Optimizer] = Registry("optimizer", Optimizer, ("rule",))


@dataclasses.dataclass(frozen=True)
class Moments(Optimizer):
    """Scales a gradient's mean by the root of its mean square."""

    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.98
    """Decay of the mean of squared gradients."""
    epsilon: float = 1e-8
    """Added to the root of the mean square."""


@OPTIMIZERS.register("adamw")
@dataclasses.dataclass(frozen=True)
class AdamW(Moments):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101)."""

    weight_decay: float = 0.01
    """Share of the learning rate by which weights shrink."""

    def rule(self) -> "GradientTransformation":
        import optax

        return optax.chain(
            optax.scale_by_adam(self.beta1, self.beta2, self.epsilon), optax.add_decayed_weights(self.weight_decay)
        )


@OPTIMIZERS.register("adam")
@dataclasses.dataclass(frozen=True)
class Adam(Moments):
    """Adam (Kingma & Ba, 2015, https://arxiv.org/abs/1412.6980); weight decay is an L2 term in the gradient."""

    weight_decay: float = 0.0
    """Factor of the L2 term."""

    def rule(self) -> "GradientTransformation":
        import optax

        return optax.chain(
            optax.add_decayed_weights(self.weight_decay), optax.scale_by_adam(self.beta1, self.beta2, self.epsilon)
        )
