import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.errors import ConfigError
from jaxasr.nn.fsmn import FsmnMemory, depthwise_filter
from jaxasr.nn.masking import length_mask


@functools.partial(jax.jit, static_argnums=0)
def remembered(memory, kernel, x, lengths):
    return memory.apply({"params": {"kernel": kernel}}, x, length_mask(lengths, x.shape[1]))


def by_hand(x, kernel, shift):
    """Of one row (T, D) in float64: the frame itself plus a weighted sum of its neighbours, tap by tap."""
    taps = len(kernel)
    y = x.astype(np.float64)
    for t in range(len(x)):
        for k in range(taps):
            source = t - (taps - 1) // 2 - shift + k
            if 0 <= source < len(x):
                y[t] += kernel[k].astype(np.float64) * x[source]
    return y


def random_case(kernel_size, B=3, T=20, D=5):
    rng = np.random.default_rng(kernel_size)
    kernel = rng.normal(size=(kernel_size, D)).astype(np.float32)
    return kernel, rng.normal(size=(B, T, D)).astype(np.float32), np.array([T, T // 2, 0])


SIZES = [(11, 0), (11, 5), (11, -5), (3, 1), (4, 0), (4, 2), (4, -1), (1, 0)]


@pytest.mark.parametrize(("kernel_size", "shift"), SIZES)
def test_equals_a_loop(kernel_size, shift):
    kernel, x, lengths = random_case(kernel_size)
    found = np.asarray(remembered(FsmnMemory(kernel_size, shift), kernel, x, lengths))
    for row, frames, length in zip(found, x, lengths, strict=True):
        np.testing.assert_allclose(row[:length], by_hand(frames[:length], kernel, shift), rtol=1e-5, atol=1e-5)
        assert not np.any(row[length:])


@pytest.mark.parametrize(("kernel_size", "shift"), SIZES)
def test_a_frame_sees_the_taps_around_it_and_no_other(kernel_size, shift):
    kernel, x, lengths = random_case(kernel_size)
    memory = FsmnMemory(kernel_size, shift)
    before = np.asarray(remembered(memory, kernel, x, lengths))
    changed = x.copy()
    changed[0, 12] += 1.0
    differs = np.any(np.asarray(remembered(memory, kernel, changed, lengths)) != before, axis=2)
    past, future = (kernel_size - 1) // 2 + shift, kernel_size // 2 - shift
    expected = {12, *range(12 - future, 12 + past + 1)} & set(range(20))
    assert set(np.flatnonzero(differs[0])) == expected
    assert not differs[1:].any()
    if shift == kernel_size // 2:
        assert min(expected) == 12  # causal


@pytest.mark.parametrize("garbage", [np.nan, 1e30])
def test_padding_is_neither_read_nor_written(garbage):
    kernel, x, lengths = random_case(11)
    memory = FsmnMemory(11)
    dirty = x.copy()
    for row, length in enumerate(lengths):
        dirty[row, length:] = garbage
    np.testing.assert_array_equal(remembered(memory, kernel, dirty, lengths), remembered(memory, kernel, x, lengths))


def test_computes_in_the_dtype_of_its_input():
    kernel, x, lengths = random_case(11)
    half = remembered(FsmnMemory(11), kernel, jnp.asarray(x, jnp.bfloat16), lengths)
    assert half.dtype == jnp.bfloat16
    inputs = jnp.asarray(x, jnp.bfloat16), np.ones(x.shape[:2], bool)
    params = jax.eval_shape(FsmnMemory(11).init, jax.random.key(0), *inputs)["params"]
    assert params["kernel"].dtype == jnp.float32


@pytest.mark.parametrize(("kernel_size", "shift", "span"), [(11, 6, "-5 to 5"), (11, -6, "-5 to 5"), (4, 3, "-1 to 2")])
def test_a_shift_past_the_current_frame_is_refused(kernel_size, shift, span):
    kernel, x, lengths = random_case(kernel_size)
    message = f"FsmnMemory: shift {shift} with kernel_size {kernel_size}; the filter would miss the current frame"
    with pytest.raises(ConfigError, match=re.escape(message) + f".*from {span}"):
        remembered(FsmnMemory(kernel_size, shift), kernel, x, lengths)


def test_bfloat16_is_rounded_once():
    kernel, x, _ = random_case(21, B=4, T=60, D=32)
    half = jnp.asarray(x, jnp.bfloat16)
    full, lengths = np.asarray(half, np.float32), np.full(4, 60)
    memory = FsmnMemory(kernel_size=21)
    found, expected = (remembered(memory, kernel, y, lengths) for y in (half, full))
    assert found.dtype == jnp.bfloat16
    error = np.asarray(found, np.float32) - expected
    assert np.linalg.norm(error) < 0.003 * np.linalg.norm(expected)


@pytest.mark.parametrize(("kernel_size", "shift"), SIZES)
def test_gradients_are_those_of_the_sum(kernel_size, shift):
    kernel, x, _ = random_case(kernel_size)
    past = (kernel_size - 1) // 2 + shift

    def plainly(x, kernel):
        padded = jnp.pad(x, ((0, 0), (past, kernel_size - 1 - past), (0, 0)))
        return sum(padded[:, k : k + x.shape[1]] * kernel[k][None, None] for k in range(kernel_size))

    def gradients(function):
        return jax.jit(jax.grad(lambda x, kernel: jnp.sum(jnp.sin(function(x, kernel))), argnums=(0, 1)))(x, kernel)

    expected = gradients(plainly)
    for found, wanted in zip(gradients(lambda x, kernel: depthwise_filter(x, kernel, past)), expected, strict=True):
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kernel_size", [1, 4, 11])
def test_a_causal_filter_goes_on_from_the_frames_before(kernel_size):
    """In two parts, the second one told of the end of the first, as in one."""
    kernel, x, _ = random_case(kernel_size)
    memory = FsmnMemory(kernel_size, kernel_size // 2)
    whole = remembered(memory, kernel, x, np.full(3, 20))
    seen = np.concatenate([np.zeros((3, kernel_size - 1, 5), np.float32), x], axis=1)

    @jax.jit
    def rest(before, x):
        return memory.apply({"params": {"kernel": kernel}}, x, np.ones(x.shape[:2], bool), before)

    found = rest(seen[:, 12 : 12 + kernel_size - 1], x[:, 12:])
    np.testing.assert_allclose(found, whole[:, 12:], rtol=1e-5, atol=1e-6)
