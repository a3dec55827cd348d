"""The state of training, and the one step that advances it."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from jaxasr.compiled import CompiledByShape
from jaxasr.data.batch import BucketShape
from jaxasr.nn.rows import sum_over_devices
from jaxasr.optim import Optimizer, Schedule
from jaxasr.parallel import Devices
from jaxasr.tasks.base import Mean, Metrics, Task
from jaxasr.typing import Array, Int, Key, Params, PyTree, Scalar

LossFn = Callable[[Params, Any, Key | None], tuple[Scalar, Metrics]]


class TrainState(NamedTuple):
    """Everything that a step reads and writes on the devices."""

    step: Int[Array, ""]
    """Batches seen."""
    skipped: Int[Array, ""]
    """Batches whose loss or gradient was not finite; they changed nothing."""
    skipped_in_a_row: Int[Array, ""]
    total_steps: Int[Array, ""]
    """Steps of the whole run; what a schedule that ends needs to know."""
    key: Key
    params: Params
    opt_state: PyTree


def init_state(init: Callable[[Key, Any], Params], optimizer: Optimizer, batch_spec: Any, key: Key) -> TrainState:
    """The state before the first step; to be jitted, so that it is made where it stays."""
    init_key, train_key = jax.random.split(key)
    params = init(init_key, batch_spec)
    zero = jnp.zeros((), jnp.int32)
    return TrainState(zero, zero, zero, zero, train_key, params, optimizer.build().init(params))


def make_train_step(
    loss_fn: LossFn, optimizer: Optimizer, schedule: Schedule
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """(state, batch) to (state, metrics): one update from the whole batch's gradient.

    A step whose loss or gradient is not finite leaves parameters and optimizer as they were and is counted.
    """
    transform = optimizer.build()

    def train_step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        key = jax.random.fold_in(state.key, state.step)
        (loss, metrics), grads = jax.value_and_grad(loss_fn, has_aux=True)(state.params, batch, key)
        # under jit the batch is whole and these sums are its own; in per-device code they cross the devices
        loss, metrics, grads = jax.tree.map(sum_over_devices, (loss, metrics, grads))
        grad_norm = optax.tree.norm(grads)
        finite = jnp.isfinite(grad_norm) & jnp.isfinite(loss)
        rate = optimizer.learning_rate * schedule(state.step - state.skipped, state.total_steps)
        updates, opt_state = transform.update(grads, state.opt_state, state.params)
        params = jax.tree.map(lambda p, u: p - rate * u, state.params, updates)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), (params, opt_state), (state.params, state.opt_state)
        )
        bad = (~finite).astype(jnp.int32)
        new_state = TrainState(
            step=state.step + 1,
            skipped=state.skipped + bad,
            skipped_in_a_row=(state.skipped_in_a_row + 1) * bad,
            total_steps=state.total_steps,
            key=state.key,
            params=params,
            opt_state=opt_state,
        )
        one = jnp.ones((), jnp.float32)
        extra = {"grad_norm": Mean(grad_norm, one), "learning_rate": Mean(rate, one), "skipped": Mean(bad, one)}
        return new_state, metrics | extra | {"skipped_in_a_row": Mean(new_state.skipped_in_a_row, one)}

    return train_step


def state_creator(task: Task, optimizer: Optimizer, devices: Devices) -> Any:
    """Key to the state before the first step, on every device; jitted."""
    init, spec = task.model().init, task.batch_spec(BucketShape(1, int(task.input_rate), 1))
    return jax.jit(lambda key: init_state(init, optimizer, spec, key), out_shardings=devices.replicated)


def abstract_state(create: Any, devices: Devices) -> TrainState:
    """Shapes, types and places of the state that `create` makes: what compiling and restoring need, and no array."""
    shapes = jax.eval_shape(create, jax.random.key(0))
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=devices.replicated), shapes)


def compiled_train_steps(
    task: Task,
    optimizer: Optimizer,
    schedule: Schedule,
    devices: Devices,
    mode: Literal["jit", "pmap"],
    abstract_state: TrainState,
) -> CompiledByShape:
    """The train step's executables, by bucket shape."""
    step = devices.compiled_for(make_train_step(task.loss_fn(), optimizer, schedule), mode=mode)
    return CompiledByShape(step, lambda shape: (abstract_state, devices.spec(task.batch_spec(shape))))


@jax.jit
def copy_of(state: TrainState) -> TrainState:
    """The state in memory of its own, to be saved: the next step donates the other."""
    return jax.tree.map(jnp.copy, state)


def with_total(state: TrainState, total_steps: int, devices: Devices) -> TrainState:
    """`state` with another length of the run."""
    return state._replace(total_steps=jax.device_put(jnp.int32(total_steps), devices.replicated))
