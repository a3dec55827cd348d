"""Training steps of joint CTC and attention models: one update by Adam, dropout and clipping included."""

import functools
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import sizes
from benchmarks.measure import Case, PeerOptions, Row, dtypes, measured
from jaxasr.nn.encoders import Encoder
from jaxasr.optim import Adam
from jaxasr.schedules import Constant
from jaxasr.state import init_state, make_train_step

OPTIMIZER = Adam(learning_rate=1e-3, clip_norm=5.0)


def groups(options: PeerOptions) -> Iterator[list[Case]]:
    for size in options.sizes():
        for name, encoder in sizes.encoders(size):
            cases = [case(name, encoder, size, dtype) for dtype in dtypes()]
            if options.peer and encoder == sizes.sanm(size):
                from benchmarks import torch_peer

                cases += torch_peer.train_step(name, size, dtypes())
            yield cases


def case(name: str, encoder: Encoder, size: sizes.Size, dtype: str) -> Case:
    task = sizes.task(size, encoder, dtype)
    batch: Any = jax.tree.map(jnp.asarray, sizes.feature_batch(size, encoder))
    state = jax.jit(functools.partial(init_state, task.model().init, OPTIMIZER))(batch, jax.random.key(0))
    step = make_train_step(task.loss_fn(), OPTIMIZER, Constant())
    return Case(name, step, (state, batch), size.audio_s, "audio s", dtype=dtype, carried=True)


def measure(options: PeerOptions) -> list[Row]:
    return measured(groups(options), options)
