"""The state of training, and the updates that advance it."""

import abc
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxasr.averages import Average, Averaged
from jaxasr.compiled import ONCE, CompiledByShape
from jaxasr.data.batch import BucketShape
from jaxasr.data.pipeline import HostBatch
from jaxasr.errors import ConfigError
from jaxasr.gradients import ALL, Gradient, GradientFn, LossFn, counts_of, make_gradient
from jaxasr.memory import StepMemory, Told, bytes_on_device, step_memory
from jaxasr.nn.batch_norm import STATS, running, split_stats, with_stats
from jaxasr.optim import Optimizer
from jaxasr.parallel import Devices
from jaxasr.paths import with_given
from jaxasr.schedules import Schedule
from jaxasr.tasks.base import Counts, Mean, Metrics, Task
from jaxasr.train_config import TrainConfig
from jaxasr.trainable import Trainable
from jaxasr.typing import Array, Float, Int, Key, Params, PyTree, Scalar

ROLLBACK_SHARE = 0.5
"""What is left of the learning rate when a run goes back to a state of its own."""


class TrainState(NamedTuple):
    """Everything that an update reads and writes on the devices."""

    step: Int[Array, ""]
    """Updates, the skipped ones included."""
    skipped: Int[Array, ""]
    """Updates whose loss or gradient was not finite; they changed nothing."""
    skipped_in_a_row: Int[Array, ""]
    total_steps: Int[Array, ""]
    """Steps of the whole run; what a schedule that ends needs to know."""
    key: Key
    params: Params
    """The network's, and an adapter's in a branch of their own."""
    opt_state: PyTree
    """Of the parameters that learn."""
    average: Averaged | None = None
    """Of parameters and running statistics, as far as they move; None where none is kept."""
    stats: PyTree = None
    """Running statistics of batch norms, which follow the batches and no gradient; None where there are none."""
    rate_share: Float[Array, ""] | np.float32 = np.float32(1)
    """What the scheduled learning rate is multiplied by; less than 1 once the run has gone back (`ROLLBACK_SHARE`)."""


def model_of(state: TrainState, trainable: Trainable = ALL) -> Params:
    """What is validated and saved: the average, where one is kept, with what an adapter changes."""
    whole = with_stats(state.params, state.stats)
    return trainable.merged(whole if state.average is None else with_given(whole, state.average.params))


def init_state(
    init: Callable[[Key, Any], Params],
    optimizer: Optimizer,
    batch_spec: Any,
    key: Key,
    average: Average | None = None,
    trainable: Trainable = ALL,
) -> TrainState:
    """The state before the first step; to be jitted, so that it is made where it stays."""
    init_key, train_key = jax.random.split(key)
    params, stats = split_stats(init(init_key, batch_spec))
    trainable.check_params(params)
    params = trainable.begun(init_key, params)
    optimizer.check_params(params)
    zero = jnp.zeros((), jnp.int32)
    averaged = None if average is None else average.init(trainable.learning(with_stats(params, stats)))
    opt_state = optimizer.build().init(trainable.learning(params))
    return TrainState(zero, zero, zero, zero, train_key, params, opt_state, averaged, stats, jnp.ones(()))


# --- one update --------------------------------------------------------------------------------------------------


def make_apply(
    optimizer: Optimizer, schedule: Schedule, average: Average | None = None, trainable: Trainable = ALL
) -> Callable[[TrainState, Gradient], tuple[TrainState, Metrics]]:
    """(state, gradient) to (state, metrics): one update.

    One whose loss or gradient is not finite leaves parameters, optimizer and average as they were and is counted.
    """
    transform = optimizer.build()

    def moved(state: TrainState, gradient: Gradient, rate: Scalar) -> TrainState:
        learning = trainable.learning(state.params)
        updates, opt_state = transform.update(gradient.grads, state.opt_state, learning)
        params = with_given(state.params, jax.tree.map(lambda p, u: p - rate * u, learning, updates))
        stats = state.stats
        if (seen := gradient.metrics.get(STATS)) is not None:
            stats = with_given(stats, trainable.learning(running(stats, *seen)))
        averaged = None
        if average is not None and state.average is not None:
            moving = trainable.learning(with_stats(params, stats))
            averaged = average.update(state.average, moving, state.step + 1, state.total_steps)
        return state._replace(params=params, opt_state=opt_state, average=averaged, stats=stats)

    @jax.named_scope("optimizer")
    def apply(state: TrainState, gradient: Gradient) -> tuple[TrainState, Metrics]:
        grad_norm = optax.tree.norm(gradient.grads)
        finite = jnp.isfinite(grad_norm) & jnp.isfinite(gradient.loss)
        rate = optimizer.learning_rate * schedule(state.step - state.skipped, state.total_steps) * state.rate_share
        after = jax.tree.map(lambda new, old: jnp.where(finite, new, old), moved(state, gradient, rate), state)
        bad = (~finite).astype(jnp.int32)
        after = after._replace(
            step=state.step + 1, skipped=state.skipped + bad, skipped_in_a_row=(state.skipped_in_a_row + 1) * bad
        )
        one = jnp.ones((), jnp.float32)
        metrics = {name: value for name, value in gradient.metrics.items() if name != STATS}
        extra = {"grad_norm": Mean(grad_norm, one), "learning_rate": Mean(rate, one), "skipped": Mean(bad, one)}
        return after, metrics | extra | {"skipped_in_a_row": Mean(after.skipped_in_a_row, one)}

    return apply


def make_train_step(
    loss_fn: LossFn,
    optimizer: Optimizer,
    schedule: Schedule,
    average: Average | None = None,
    trainable: Trainable = ALL,
    microbatches: int = 1,
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """(state, batch) to (state, metrics): one update from the whole batch's gradient."""
    apply = make_apply(optimizer, schedule, average, trainable)
    gradient = make_gradient(loss_fn, trainable, microbatches)

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        return apply(state, gradient(state.params, batch, key))

    return train_step


# --- one update from several batches -----------------------------------------------------------------------------


class Sums(NamedTuple):
    """What the batches of an update add up to."""

    batches: Any
    gradient: Gradient


def make_count(loss_fn: LossFn, trainable: Trainable = ALL) -> Callable[[Counts, Any, Params], Counts]:
    """(counts, batch, params) to the counts with those of the batch."""

    def count(counts: Counts, batch: Any, params: Params) -> Counts:
        return jax.tree.map(jnp.add, counts, counts_of(loss_fn, trainable, params, batch))

    return count


def make_add(gradient_fn: GradientFn) -> Callable[[Sums, Any, TrainState, Counts], Sums]:
    """(sums, batch, state, counts of the whole update) to the sums with those of the batch."""

    def add(sums: Sums, batch: Any, state: TrainState, counts: Counts) -> Sums:
        key = jax.random.fold_in(jax.random.fold_in(state.key, state.step), sums.batches)
        gradient = gradient_fn(state.params, batch, key, counts)
        return Sums(sums.batches + 1, jax.tree.map(jnp.add, sums.gradient, gradient))

    return add


# --- executables -------------------------------------------------------------------------------------------------


def state_creator(cfg: TrainConfig, task: Task, devices: Devices) -> Any:
    """(key, given) to the state before the first step, on every device; jitted. See `Task.given_params`."""
    init, spec = task.model().init, task.batch_spec(BucketShape(1, int(task.input_rate), 1))

    def create(key: Key, given: Params) -> TrainState:
        def start(key: Key, batch: Any) -> Params:
            return with_given(init(key, batch), given)

        return init_state(start, cfg.optimizer, spec, key, cfg.average, cfg.trainable)

    made = jax.jit(create)  # traced once, here
    places = devices.places(jax.eval_shape(made, jax.random.key(0), {}))
    return jax.jit(made, out_shardings=places, compiler_options=ONCE)


def abstract_state(create: Any, devices: Devices) -> TrainState:
    """Shapes, types and places of the state that `create` makes: what compiling and restoring need, and no array.

    Raises:
      ConfigError: a rule for the places does not fit a parameter.
    """
    state = create.eval_shape(jax.random.key(0), {})
    devices.fsdp.check_params(state.params)
    return devices.placed(state)


class Steps(abc.ABC):
    """``state, metrics = steps(state, hosts)``: one update from these batches; the state given is used up."""

    def __init__(self, devices: Devices, *by_shape: CompiledByShape):
        self._devices = devices
        self._by_shape = by_shape

    @abc.abstractmethod
    def __call__(self, state: TrainState, hosts: Sequence[HostBatch]) -> tuple[TrainState, Metrics]: ...

    @abc.abstractmethod
    def memory(self, shape: BucketShape) -> StepMemory:
        """What a step with a batch of this shape takes; waits until it is compiled."""

    def wait_for(self, hosts: Sequence[HostBatch]) -> None:
        """Returns when all is compiled that these batches need."""
        for host in hosts:
            for compiled in self._by_shape:
                compiled[host.planned.shape]

    def announce(self, shapes: Sequence[BucketShape]) -> None:
        """Starts compiling for these shapes, the first of them first."""
        for shape in shapes:
            for compiled in self._by_shape:
                compiled.announce([shape])

    def ready(self) -> bool:
        """Whether all programs for all shapes are compiled."""
        return all(compiled.ready() for compiled in self._by_shape)

    def close(self) -> None:
        """Gives up what is not compiled yet."""
        for compiled in self._by_shape:
            compiled.close()


class WholeSteps(Steps):
    """Updates from one batch each: one executable a bucket shape."""

    def __init__(self, cfg: TrainConfig, task: Task, devices: Devices, abstract: TrainState, told: Told):
        loss_fn = task.loss_fn()
        if cfg.microbatches > 1:
            check_counts(task, loss_fn, "microbatches")
        step = make_train_step(
            loss_fn, cfg.optimizer, cfg.schedule, cfg.average, cfg.trainable, microbatches=cfg.microbatches
        )

        def spec(shape: BucketShape) -> Any:
            return devices.spec(task.batch_spec(shape))

        def memory(shape: BucketShape, compiled: Any) -> StepMemory:
            return step_memory(compiled, state=bytes_on_device(abstract), batch=bytes_on_device(spec(shape)))

        self._memory = memory
        places, out = devices.places(abstract), devices.replicated
        self._step = CompiledByShape(
            devices.compiled_for(step, (places, devices.by_row), (places, out), mode=cfg.parallel, donate=(0,)),
            lambda shape: (abstract, spec(shape)),
            lambda shape, compiled: told(shape, memory(shape, compiled)),
        )
        super().__init__(devices, self._step)

    def __call__(self, state: TrainState, hosts: Sequence[HostBatch]) -> tuple[TrainState, Metrics]:
        (host,) = hosts
        return self._step[host.planned.shape](state, self._devices.put(host.batch))

    def memory(self, shape: BucketShape) -> StepMemory:
        return self._memory(shape, self._step[shape])


def check_counts(task: Task, loss_fn: LossFn, option: str) -> None:
    """Raises ConfigError where a loss cannot add up over the parts that an option makes."""
    if "counts" not in inspect.signature(loss_fn).parameters:
        raise ConfigError(
            f"--{option}: the loss of {type(task).__name__} has no argument `counts`; one was expected, so that "
            f"batches can add up to an update; add it (jaxasr.tasks.Task.loss_fn), or give --{option}=1."
        )


class AccumulatedSteps(Steps):
    """Updates that equal those from one batch with all the rows; two executables a bucket shape, and one for all.

    The counts of all batches come first, since each gradient is divided by them.
    """

    def __init__(self, cfg: TrainConfig, task: Task, devices: Devices, abstract: TrainState, told: Told):
        loss_fn, trainable = task.loss_fn(), cfg.trainable
        check_counts(task, loss_fn, "accumulate")
        one = task.batch_spec(BucketShape(1, int(task.input_rate), 1))
        network = jax.eval_shape(trainable.merged, abstract.params)
        loss, metrics = jax.eval_shape(loss_fn, network, one, abstract.key)
        counts = {name: mean.count for name, mean in metrics.items()}
        grads = trainable.learning(abstract.params)
        sums = Sums(jax.ShapeDtypeStruct((), jnp.int32), Gradient(loss, metrics, grads))

        def spec(shape: BucketShape) -> Any:
            return devices.spec(task.batch_spec(shape))

        def by_shape(fn: Callable[..., Any], folded: PyTree, *kept: PyTree, done: Any = None) -> CompiledByShape:
            places, *others = [devices.places(tree) for tree in (folded, *kept)]
            first, *rest = [devices.placed(tree) for tree in (folded, *kept)]
            jitted = devices.compiled_for(fn, (places, devices.by_row, *others), places, mode=cfg.parallel, donate=(0,))
            return CompiledByShape(jitted, lambda shape: (first, spec(shape), *rest), done)

        def memory(shape: BucketShape, compiled: Any) -> StepMemory:
            """With the batches that the update has beside it, were they like it."""
            batches = cfg.accumulate * bytes_on_device(spec(shape))
            between = bytes_on_device(devices.placed((sums, counts)))
            return step_memory(compiled, state=bytes_on_device(abstract), batch=batches, between=between)

        self._memory = memory
        self._count = by_shape(make_count(loss_fn, trainable), counts, abstract.params)
        self._add = by_shape(
            make_add(make_gradient(loss_fn, trainable, cfg.microbatches)),
            sums,
            abstract,
            counts,
            done=lambda shape, compiled: told(shape, memory(shape, compiled)),
        )
        self._zeros = jax.jit(
            lambda: jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), (counts, sums)),
            out_shardings=devices.places((counts, sums)),
        )
        apply = make_apply(cfg.optimizer, cfg.schedule, cfg.average, trainable)
        out = devices.places(abstract), devices.replicated
        self._apply = jax.jit(apply, donate_argnums=0, out_shardings=out)
        super().__init__(devices, self._count, self._add)

    def memory(self, shape: BucketShape) -> StepMemory:
        return self._memory(shape, self._add[shape])

    def __call__(self, state: TrainState, hosts: Sequence[HostBatch]) -> tuple[TrainState, Metrics]:
        batches = [(host.planned.shape, self._devices.put(host.batch)) for host in hosts]
        counts, sums = self._zeros()
        for shape, batch in batches:
            counts = self._count[shape](counts, batch, state.params)
        for shape, batch in batches:
            sums = self._add[shape](sums, batch, state, counts)
        return self._apply(state, sums.gradient)


def train_steps(
    cfg: TrainConfig, task: Task, devices: Devices, abstract: TrainState, told: Told = lambda *_: None
) -> Steps:
    """The executables of a run's updates; `told` hears, in another thread, what each shape's step takes."""
    return (WholeSteps if cfg.accumulate == 1 else AccumulatedSteps)(cfg, task, devices, abstract, told)


def model_maker(cfg: TrainConfig, devices: Devices) -> Callable[[TrainState], Params]:
    """From a state to what is validated and saved of it, whole on every device; see `model_of`."""
    make = functools.partial(model_of, trainable=cfg.trainable)
    whole = cfg.adapter is None and devices.fsdp.devices == 1
    return make if whole else jax.jit(make, out_shardings=devices.replicated)


@jax.jit
def copy_of(state: TrainState) -> TrainState:
    """The state in memory of its own, to be saved: the next step donates the other."""
    return jax.tree.map(jnp.copy, state)


def with_total(state: TrainState, total_steps: int, devices: Devices) -> TrainState:
    """`state` with another length of the run."""
    return state._replace(total_steps=jax.device_put(np.int32(total_steps), devices.replicated))


def gone_back(state: TrainState, rollbacks: int, devices: Devices) -> TrainState:
    """`state` with the learning rate of a run that has gone back so many times."""
    return state._replace(rate_share=jax.device_put(np.float32(ROLLBACK_SHARE**rollbacks), devices.replicated))
