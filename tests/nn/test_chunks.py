"""How far an encoder of chunks looks ahead."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.nn.encoders import SanmChunkEncoder
from jaxasr.nn.network import AsrNetwork

FRAMES, WIDTH = 23, 6
SIZES = {"num_layers": 3, "d_model": 4, "num_heads": 2, "d_ff": 8, "kernel_size": 5}


def case(conditioning, **chunks):
    """Frames, and `said(x, lengths)`: what is encoded of them and what CTC says on the way."""
    chunks = {name: (number,) for name, number in chunks.items()}
    network = AsrNetwork(SanmChunkEncoder(**SIZES, **chunks), None, 5, True, (1,), conditioning)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, FRAMES, WIDTH)).astype(np.float32)
    init = functools.partial(network.init, train=False, method="encode")
    shapes = jax.eval_shape(init, jax.random.key(0), x, np.array([FRAMES]))
    variables = jax.tree.map(lambda leaf: rng.normal(size=leaf.shape).astype(np.float32), shapes)

    def said(x, lengths):
        out: Any = network.apply(variables, x, lengths, train=False, method="encode")
        return out.encoded, *out.intermediate_logits

    return x, said


@pytest.mark.parametrize("conditioning", [pytest.param(False, marks=pytest.mark.slow), True])
@pytest.mark.parametrize(
    ("size", "stride", "pad_left", "look_back"), [(8, 5, 0, 1), (6, 6, 0, 2), (9, 4, 3, 1), (7, 3, 1, 0)]
)
def test_no_frame_sees_behind_its_chunk(size, stride, pad_left, look_back, conditioning):
    """By gradients; and up to there it sees all of its chunk."""
    x, said = case(conditioning, chunk_size=size, stride=stride, pad_left=pad_left, look_back=look_back)

    @jax.jit
    @jax.jacrev
    def gradient(x):
        each = said(x, np.array([FRAMES]))
        return jnp.stack([jnp.sum(y[0] * np.arange(1, y.shape[-1] + 1)[None], axis=-1) for y in each])

    sees = np.any(np.asarray(gradient(x)) != 0.0, axis=(2, 4))  # (2, T, T)
    for t in range(FRAMES):
        first = t // stride * stride - pad_left
        assert np.all(sees[:, t, max(first, 0) : first + size])
        assert not np.any(sees[:, t, first + size :])


@pytest.mark.parametrize("length", [11, 16, 17])
def test_what_is_said_on_the_way_does_not_depend_on_padding(length):
    x, said = case(True, chunk_size=8, stride=5)
    x[:, length:] = np.nan
    alone = jax.jit(said)(x[:, :length], np.array([length]))
    for found, expected in zip(jax.jit(said)(x, np.array([length])), alone, strict=True):
        np.testing.assert_allclose(found[:, :length], expected, rtol=1e-5, atol=1e-5)
