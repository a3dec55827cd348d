"""Optimizers, as dataclasses that build optax transformations."""

import abc
import dataclasses
import math
import operator
from typing import TYPE_CHECKING, Any

import jax

from jaxasr.errors import ConfigError
from jaxasr.paths import check_patterns, matching, path_of
from jaxasr.registry import Registry
from jaxasr.typing import Params, PyTree

if TYPE_CHECKING:
    from optax import GradientTransformation


@dataclasses.dataclass(frozen=True)
class Optimizer(abc.ABC):
    """What turns gradients into updates; the learning rate is applied after it, by the train step."""

    learning_rate: float = 2e-3
    """Highest learning rate; the schedule scales it."""
    clip_norm: float = 5.0
    """Gradients of a larger global norm are scaled down to it; 0 for no clipping."""

    def check(self) -> None:
        """Raises ConfigError where an option means nothing."""
        if not (0.0 < self.learning_rate < math.inf and self.clip_norm >= 0.0):
            raise ConfigError(
                f"--optimizer: learning_rate={self.learning_rate}, clip_norm={self.clip_norm}; a positive rate and "
                "a norm of 0 (none) or more were expected; change them."
            )

    def check_params(self, params: Params) -> None:  # noqa: B027 (some have nothing to check)
        """Raises ConfigError where a pattern matches none of a network's parameters, the frozen ones included."""

    def expect(self, *names: str, low: float = 0.0, below: float = math.inf) -> None:
        """Raises ConfigError where one of these options is not in [low, below)."""
        for name in names:
            if not low <= (value := getattr(self, name)) < below:
                limits = f"a number from {low:g}" + ("" if below == math.inf else f" to below {below:g}")
                raise ConfigError(f"--optimizer.{name}={value}: {limits} was expected; change it.")

    def build(self) -> "GradientTransformation":
        """Clipping, then the rule; of learning rate 1 and pointing uphill."""
        import optax  # here and below: a tenth of the time that --help takes

        clip = [optax.clip_by_global_norm(self.clip_norm)] if self.clip_norm > 0.0 else []
        return optax.chain(*clip, self.rule())

    @abc.abstractmethod
    def rule(self) -> "GradientTransformation":
        """From clipped gradients to updates, before learning rate and sign."""


OPTIMIZERS: Registry[Optimizer] = Registry("optimizer", Optimizer, ("rule",))
BIASES_AND_NORMS = ("bias", "*_bias", "scale", "*_scale", "bands")


@dataclasses.dataclass(frozen=True)
class Decaying(Optimizer):
    """Has weight decay."""

    weight_decay: float = 0.0
    """Share of the learning rate by which weights shrink at every update."""
    decay_exclude: tuple[str, ...] = BIASES_AND_NORMS
    """Parameters that do not decay, by any part of their path, such as decoder or ff/in/kernel; * is any text."""

    def check(self) -> None:
        super().check()
        self.expect("weight_decay")

    def check_params(self, params: Params) -> None:
        super().check_params(params)
        check_patterns(params, self.decay_exclude, "--optimizer.decay_exclude", usual=BIASES_AND_NORMS)

    def decay(self) -> "GradientTransformation":
        """Adds `weight_decay` times the parameters that decay: kernels, filters and embeddings by default."""
        import optax

        def decays(params: Params) -> PyTree:
            return jax.tree.map(operator.not_, matching(params, self.decay_exclude))

        return optax.add_decayed_weights(self.weight_decay, decays)


@dataclasses.dataclass(frozen=True)
class Moments(Decaying):
    """Scales a gradient's mean by the root of its mean square."""

    beta1: float = 0.9
    """Decay of the mean of gradients."""
    beta2: float = 0.98
    """Decay of the mean of squared gradients."""
    epsilon: float = 1e-8
    """Added to the root of the mean square."""

    def check(self) -> None:
        super().check()
        self.expect("beta1", "beta2", below=1.0)
        self.expect("epsilon", low=1e-30)

    def moments(self) -> "GradientTransformation":
        """Optax's transformation of gradients by their first two moments."""
        import optax

        return optax.scale_by_adam(self.beta1, self.beta2, self.epsilon)


@OPTIMIZERS.register("adamw")
@dataclasses.dataclass(frozen=True)
class AdamW(Moments):
    """Adam with decoupled weight decay (Loshchilov & Hutter, 2019, https://arxiv.org/abs/1711.05101)."""

    weight_decay: float = 0.01
    """Share of the learning rate by which weights shrink at every update."""

    def rule(self) -> "GradientTransformation":
        import optax

        return optax.chain(self.moments(), self.decay())


@OPTIMIZERS.register("adam")
@dataclasses.dataclass(frozen=True)
class Adam(Moments):
    """Adam (Kingma & Ba, 2015, https://arxiv.org/abs/1412.6980); weight decay is an L2 term in the gradient."""

    weight_decay: float = 0.0
    """Factor of the L2 term."""

    def rule(self) -> "GradientTransformation":
        import optax

        return optax.chain(self.decay(), self.moments())


@OPTIMIZERS.register("sgd")
@dataclasses.dataclass(frozen=True)
class Sgd(Decaying):
    """Stochastic gradient descent with momentum; weight decay is an L2 term in the gradient, as in PyTorch."""

    learning_rate: float = 3e-2
    """Highest learning rate; the schedule scales it."""
    weight_decay: float = 0.0
    """Factor of the L2 term."""
    momentum: float = 0.9
    """Share of the last update that is added to the gradient; 0 for none."""
    nesterov: bool = False
    """Take the gradient as if the momentum's step were done (Nesterov, 1983)."""

    def check(self) -> None:
        super().check()
        self.expect("momentum", below=1.0)
        if self.nesterov and self.momentum == 0.0:
            raise ConfigError("--optimizer.nesterov without momentum: it means nothing; give --optimizer.momentum too.")

    def rule(self) -> "GradientTransformation":
        import optax

        trace = [optax.trace(self.momentum, self.nesterov)] if self.momentum > 0.0 else []
        return optax.chain(self.decay(), *trace)


@OPTIMIZERS.register("lion")
@dataclasses.dataclass(frozen=True)
class Lion(Decaying):
    """The sign of a mean of gradients, with decoupled weight decay (Chen et al., 2023, https://arxiv.org/abs/2302.06675).

    Half the memory of Adam. The paper takes a learning rate 3 to 10 times smaller than AdamW's, and a weight decay as
    many times larger.
    """

    learning_rate: float = 5e-4
    """Highest learning rate; the schedule scales it."""
    weight_decay: float = 0.04
    """Share of the learning rate by which weights shrink at every update."""
    beta1: float = 0.9
    """Share of the mean in the sum with the gradient whose sign is taken."""
    beta2: float = 0.99
    """Decay of the mean of gradients."""

    def check(self) -> None:
        super().check()
        self.expect("beta1", "beta2", below=1.0)

    def rule(self) -> "GradientTransformation":
        import optax

        return optax.chain(optax.scale_by_lion(self.beta1, self.beta2), self.decay())


@OPTIMIZERS.register("adafactor")
@dataclasses.dataclass(frozen=True)
class Adafactor(Decaying):
    """Mean squares of gradients by row and column of a matrix (Shazeer & Stern, 2018, https://arxiv.org/abs/1804.04235).

    `optax.adafactor` without its learning rate. The paper's relative step ``min(0.01, 1 / sqrt(n))`` is, but for the
    warm-up, a rate of 0.01 and the schedule `warmup_rsqrt` with 10,000 warm-up steps. Weight decay is decoupled.
    """

    learning_rate: float = 3e-2
    """Highest learning rate; the schedule scales it. With `parameter_scale` a share of each matrix's own size."""
    parameter_scale: bool = True
    """Multiply an update by the root mean square of its parameters, at least 1e-3."""
    clip_rms: float = 1.0
    """Updates of a larger root mean square, before `parameter_scale`, are scaled down to it; 0 for none."""
    decay_exponent: float = 0.8
    """The mean of squared gradients decays by ``1 - n^-decay_exponent`` at update n."""
    min_factored: int = 128
    """Shortest side from which on a matrix is factored; smaller ones keep every mean square."""
    momentum: float = 0.0
    """Decay of the mean of updates; 0 for none, which saves its memory."""

    def check(self) -> None:
        super().check()
        self.expect("clip_rms", "decay_exponent", "min_factored")
        self.expect("momentum", below=1.0)

    def rule(self) -> "GradientTransformation":
        import optax

        scale = optax.scale_by_factored_rms(decay_rate=self.decay_exponent, min_dim_size_to_factor=self.min_factored)
        clip = [optax.clip_by_block_rms(self.clip_rms)] if self.clip_rms > 0.0 else []
        relative = [optax.scale_by_param_block_rms()] if self.parameter_scale else []
        momentum = [optax.ema(self.momentum, debias=False)] if self.momentum > 0.0 else []
        return optax.chain(each_matrix(optax.chain(scale, *clip, *relative)), *momentum, self.decay())


def each_matrix(transform: "GradientTransformation") -> "GradientTransformation":
    """`transform` of every matrix, bias and norm by itself; arrays of more axes are stacks, as `nn.scan` makes them."""
    import optax

    def mapped(fn: Any, keys: Any, ndim: int) -> Any:
        for _ in range(ndim - (1 if path_of(keys[-1:]) in ("bias", "scale") else 2)):
            fn = jax.vmap(fn)
        return fn

    def init(params: Params) -> PyTree:
        return jax.tree_util.tree_map_with_path(lambda keys, p: mapped(transform.init, keys, p.ndim)(p), params)

    def update(updates: PyTree, state: PyTree, params: Params | None = None) -> tuple[PyTree, PyTree]:
        leaves, tree = jax.tree_util.tree_flatten_with_path(updates)
        rest = tree.flatten_up_to(state), tree.flatten_up_to(params)
        found = [mapped(transform.update, keys, u.ndim)(u, s, p) for (keys, u), s, p in zip(leaves, *rest, strict=True)]
        return tree.unflatten([u for u, _ in found]), tree.unflatten([s for _, s in found])

    return optax.GradientTransformation(init, update)


FILTERS_AND_HEADS = ("memory", "filter", "merge_filter", "conv[0-9]*", "conv/kernel", "ctc", "output")


@OPTIMIZERS.register("muon")
@dataclasses.dataclass(frozen=True)
class Muon(Moments):
    """Orthogonal updates of hidden kernels (Jordan, 2024, https://kellerjordan.github.io/posts/muon/); AdamW elsewhere.

    A kernel's momentum is made orthogonal by Newton-Schulz iterations and scaled to the root mean square that Adam's
    updates have (Liu et al., 2025, https://arxiv.org/abs/2502.16982, equation 4), so that one learning rate and one
    weight decay suit all parameters. A kernel of more than two axes, such as that of layers stacked by
    `nn.scan`, is a stack of matrices. Biases, norms and embeddings are no kernels, and one column is no matrix.
    """

    learning_rate: float = 5e-3
    """Highest learning rate; the schedule scales it."""
    weight_decay: float = 0.1
    """Share of the learning rate by which weights shrink at every update; without much of it Muon overfits."""
    momentum: float = 0.95
    """Decay of the mean of a kernel's gradients."""
    nesterov: bool = True
    """Add the newest gradient to the mean once more."""
    newton_schulz_steps: int = 5
    """Iterations towards an orthogonal matrix."""
    rms: float = 0.2
    """Root mean square of a kernel's update; Adam's is 0.2 to 0.4."""
    adam_kernels: tuple[str, ...] = FILTERS_AND_HEADS
    """Kernels that AdamW moves too, by any part of their path: filters over time or frequency, and output layers."""

    def check(self) -> None:
        super().check()
        self.expect("momentum", below=1.0)
        self.expect("newton_schulz_steps", low=1)
        self.expect("rms", low=1e-30)

    def check_params(self, params: Params) -> None:
        super().check_params(params)
        check_patterns(params, self.adam_kernels, "--optimizer.adam_kernels", usual=FILTERS_AND_HEADS)

    def rule(self) -> "GradientTransformation":
        import optax
        from optax.contrib import MuonDimensionNumbers, scale_by_muon

        matrices = MuonDimensionNumbers(reduction_axis=-2, output_axis=-1)
        orthogonal = scale_by_muon(
            ns_steps=self.newton_schulz_steps,
            beta=self.momentum,
            nesterov=self.nesterov,
            weight_dimension_numbers=lambda updates: jax.tree.map(lambda _: matrices, updates),
        )

        def scaled(update: Any, _: Any) -> Any:
            return self.rms * max(update.shape[-2:]) ** 0.5 * update

        muon = optax.chain(orthogonal, optax.stateless_with_tree_map(scaled))
        rules: Any = {"muon": muon, "adam": self.moments()}
        return optax.chain(optax.partition(rules, self.labels), self.decay())

    def labels(self, params: Params) -> PyTree:
        """For every parameter "muon" or "adam"."""
        adam = matching(params, self.adam_kernels)

        def label(keys: Any, array: Any, adam: bool) -> str:
            matrix = path_of(keys[-1:]) == "kernel" and array.ndim >= 2 and array.shape[-1] > 1
            return "muon" if matrix and not adam else "adam"

        return jax.tree_util.tree_map_with_path(label, params, adam)
