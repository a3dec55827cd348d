"""Several learning rates in one compiled step: `vmap` over the parameters and the optimizer's state.

Each model starts from the same parameters and sees the same batches and noise, so what differs is the rate alone, and
each learns as it would by itself. Data and model are those of train_loop_by_hand.py.

    python examples/sweep_vmap.py --epochs=5 --rates 3e-4 1e-3 3e-3 1e-2
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import tyro
from train_loop_by_hand import digits, digits_task, error_rate, inputs_of

from jaxasr.inputs import Inputs

OPTIMIZER = optax.chain(optax.clip_by_global_norm(5.0), optax.scale_by_adam(b2=0.98))


def update_of(loss_fn: Callable[..., Any]) -> Callable[..., Any]:
    """(params, optimizer's state, learning rate, batch, key) to the next two and the loss, of one model."""

    def update(params, opt_state, rate, batch, key):
        (loss, _), grads = jax.value_and_grad(loss_fn, has_aux=True)(params, batch, key)
        updates, opt_state = OPTIMIZER.update(grads, opt_state, params)
        return jax.tree.map(lambda p, u: p - rate * u, params, updates), opt_state, loss

    return update


def copies(tree: Any, number: int) -> Any:
    """Each array (...) as (number, ...)."""
    return jax.tree.map(lambda x: jnp.broadcast_to(x, (number, *x.shape)), tree)


def one_of(tree: Any, index: int) -> Any:
    return jax.tree.map(lambda x: x[index], tree)


def sweep(train: Inputs, rates: tuple[float, ...], epochs: int, seed: int = 0) -> tuple[Any, np.ndarray]:
    """Parameters (rates, ...) after so many epochs, and losses (epochs, rates), the means over each epoch."""
    task, rate = train.task, jnp.asarray(rates)
    init_key, noise_key = jax.random.split(jax.random.key(seed))
    params = jax.jit(task.model().init)(init_key, task.batch_spec(train.shapes[0]))
    params, opt_state = copies((params, OPTIMIZER.init(params)), len(rates))
    # batch and key are the same for all: their features are made once, and the noise is drawn once
    update = jax.jit(jax.vmap(update_of(task.loss_fn()), in_axes=(0, 0, 0, None, None)), donate_argnums=(0, 1))
    step, means = 0, []
    for epoch in range(epochs):
        losses = []
        for host in train.epoch(epoch):
            key, step = jax.random.fold_in(noise_key, step), step + 1
            params, opt_state, loss = update(params, opt_state, rate, host.batch, key)
            losses.append(loss)
        means.append(np.mean(jax.device_get(losses), axis=0))
        print(f"{epoch + 1:5}" + "".join(f"{mean:9.3f}" for mean in means[-1]), flush=True)
    return params, np.array(means)


def main(epochs: int = 5, rates: tuple[float, ...] = (3e-4, 1e-3, 3e-3, 1e-2)) -> None:
    train, valid = inputs_of(digits_task(), *digits())
    print("mean loss of each epoch, by learning rate\nepoch" + "".join(f"{rate:9g}" for rate in rates))
    params, losses = sweep(train, rates, epochs)
    best = int(np.nanargmin(losses[-1]))
    decode = jax.jit(train.task.decode_fn(train.task.usual_search()))
    wer = error_rate(decode, one_of(params, best), valid)
    print(f"best: {rates[best]:g}; its valid WER {100 * wer:.2f} %")


if __name__ == "__main__":
    tyro.cli(main, description=__doc__)
