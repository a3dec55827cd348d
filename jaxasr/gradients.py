"""The gradient of a batch, computed at once or in parts."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from jaxasr.nn.rows import every_nth, row_index, rows_at, sum_over_devices
from jaxasr.paths import with_given
from jaxasr.tasks.base import Counts, Metrics
from jaxasr.trainable import Trainable
from jaxasr.typing import Array, Key, Params, Scalar

LossFn = Callable[..., tuple[Scalar, Metrics]]
"""(params, batch, key, counts=None) to the loss and its parts; see `Task.loss_fn`."""
ALL = Trainable()
"""All parameters learn."""


class Gradient(NamedTuple):
    """What a batch, or several, add to an update; over all devices."""

    loss: Any
    metrics: Metrics
    grads: Params
    """Of the parameters that learn."""


def gradient_of(loss_fn: LossFn, trainable: Trainable, params: Params, batch: Any, *args: Any) -> Gradient:
    """The gradient of ``loss_fn(params, batch, *args)``; below what learns nothing goes back through the network.

    Under jit the batch is whole and these sums are its own; in per-device code they cross the devices.
    """
    return jax.tree.map(sum_over_devices, _own_gradient(loss_fn, trainable, params, batch, *args))


def _own_gradient(loss_fn: LossFn, trainable: Trainable, params: Params, batch: Any, *args: Any) -> Gradient:
    """`gradient_of`, in per-device code this device's share."""

    def loss_of(learning: Params) -> tuple[Scalar, Metrics]:
        return loss_fn(trainable.merged(with_given(params, learning)), batch, *args)

    (loss, metrics), grads = jax.value_and_grad(loss_of, has_aux=True)(trainable.learning(params))
    return Gradient(loss, metrics, grads)


GradientFn = Callable[..., Gradient]
"""(params, batch, key, counts=None) to the gradient of the loss; see `Task.loss_fn`."""


def make_gradient(loss_fn: LossFn, trainable: Trainable = ALL, microbatches: int = 1) -> GradientFn:
    """The gradient of a batch; of several microbatches one after the other, so that activations are those of one.

    It is that of the whole batch, noise and all. A batch norm, which looks at other rows, sees those of a microbatch.
    """
    whole = functools.partial(gradient_of, loss_fn, trainable)
    return whole if microbatches == 1 else functools.partial(_gradient_in_parts, loss_fn, trainable, microbatches)


def _gradient_in_parts(
    loss_fn: LossFn,
    trainable: Trainable,
    microbatches: int,
    params: Params,
    batch: Any,
    key: Key,
    counts: Counts | None = None,
) -> Gradient:
    counts = counts_of(loss_fn, trainable, params, batch) if counts is None else counts

    def add(grads: Params, part: tuple[Array, Any]) -> tuple[Params, tuple[Any, Metrics]]:
        rows, batch = part
        with rows_at(rows):
            found = _own_gradient(loss_fn, trainable, params, batch, key, counts)
        return jax.tree.map(jnp.add, grads, found.grads), (found.loss, found.metrics)

    rows = row_index(len(jax.tree.leaves(batch)[0]))
    parts = jax.tree.map(lambda x: every_nth(x, microbatches), (rows, batch))
    grads, said = jax.lax.scan(add, jax.tree.map(jnp.zeros_like, trainable.learning(params)), parts)
    loss, metrics = jax.tree.map(lambda x: jnp.sum(x, axis=0), said)
    return jax.tree.map(sum_over_devices, Gradient(loss, metrics, grads))


def counts_of(loss_fn: LossFn, trainable: Trainable, params: Params, batch: Any) -> Counts:
    """The counts of a batch's metrics, over all devices; the network is traced and then left out."""
    _, metrics = loss_fn(trainable.merged(params), batch, jax.random.key(0))  # no count depends on the key
    return {name: jax.tree.map(sum_over_devices, mean.count) for name, mean in metrics.items()}
