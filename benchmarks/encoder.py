"""Encoders, forward, without dropout."""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp

from benchmarks import sizes
from benchmarks.measure import Case, PeerOptions, Row, dtypes, measured
from jaxasr.nn.encoders import Encoder


def groups(options: PeerOptions) -> Iterator[list[Case]]:
    for size in options.sizes():
        for name, encoder in sizes.encoders(size):
            cases = [case(name, encoder, size, dtype) for dtype in dtypes()]
            if options.peer and encoder == sizes.sanm(size):
                from benchmarks import torch_peer

                cases += torch_peer.encoder(name, size, dtypes())
            yield cases


def case(name: str, encoder: Encoder, size: sizes.Size, dtype: str) -> Case:
    batch = sizes.feature_batch(size, encoder)
    x, lengths = jnp.asarray(batch.features, dtype), jnp.asarray(batch.feature_lengths)

    def init(key: Any) -> Any:
        return encoder.init(key, x[:1], lengths[:1], train=False)

    def forward(variables: Any, x: jax.Array, lengths: jax.Array) -> Any:
        return encoder.apply(variables, x, lengths, train=False)

    return Case(name, forward, (jax.jit(init)(jax.random.key(0)), x, lengths), size.audio_s, "audio s", dtype=dtype)


def measure(options: PeerOptions) -> list[Row]:
    return measured(groups(options), options)
