"""What everything before and behind an encoder promises; see test_contract.py."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.nn.batch_norm import MOMENTS, STATS
from jaxasr.nn.masking import length_mask
from jaxasr.nn.postencoders import POSTENCODERS, LengthAdaptor, PostEncoder
from jaxasr.nn.preencoders import PREENCODERS

from .test_contract import (
    GARBAGE,
    assert_differ,
    assert_is_value,
    assert_near,
    assert_rows_close,
    assert_trees_close,
    check_lengths,
    jit,
    padded,
    random_like,
    tiny,
)

LENGTHS = np.array([9, 6, 2], np.int32)
WIDTHS = {"sinc": 400}
CASES = {name: tiny(PREENCODERS[name], **({"width": 128} if name == "sinc" else {})) for name in PREENCODERS}
CASES |= {name: tiny(POSTENCODERS[name]) for name in POSTENCODERS}
CASES |= {"length_adaptor, same width": LengthAdaptor(num_layers=1)}


@functools.cache
def case(name):
    """The module, its variables, an input, and `run(variables, x, lengths, key=None)` to frames and their lengths."""
    module = CASES[name]
    x = np.random.default_rng(0).normal(size=(3, 9, WIDTHS.get(name, 16))).astype(np.float32)
    init = functools.partial(module.init, train=False)
    variables = random_like(jax.eval_shape(init, jax.random.key(0), x, LENGTHS))

    @jit
    def run(variables, x, lengths, key=None):
        rngs = None if key is None else {"dropout": key}
        found = module.apply(variables, x, lengths, train=key is not None, rngs=rngs)
        return found if isinstance(found, tuple) else (found, lengths)

    return module, variables, padded(x, LENGTHS, 0.0), run


every = pytest.mark.parametrize("name", list(CASES))


@every
def test_padding_changes_nothing(name):
    _, variables, x, run = case(name)
    y, lengths = run(variables, x, LENGTHS)
    for garbage in GARBAGE:
        found, found_lengths = run(variables, padded(x, LENGTHS, garbage), LENGTHS)
        np.testing.assert_array_equal(found_lengths, lengths)
        assert_rows_close(found, y, lengths)
    alone, _ = run(variables, x[1:2, :6], LENGTHS[1:2])
    assert_rows_close(alone, y[1:2], lengths[1:2])


@every
def test_lengths(name):
    module, variables, x, run = case(name)
    count = getattr(module, "output_lengths", lambda lengths: lengths)
    check_lengths(count, range(40))
    for lengths in (LENGTHS, np.array([9, 8, 0], np.int32)):
        y, found = run(variables, x, lengths)
        assert found.tolist() == count(lengths).tolist()
        assert y.shape[1] >= found.max()


@every
def test_filler_rows_leave_the_gradient(name):
    module, variables, x, run = case(name)
    y, _ = run(variables, x, LENGTHS)
    slope = np.random.default_rng(1).normal(size=y.shape).astype(np.float32)

    @jit
    @functools.partial(jax.grad, argnums=(0, 1))
    def gradient(variables, x, lengths):
        found = module.apply(variables, x, lengths, train=False)
        y, lengths = found if isinstance(found, tuple) else (found, lengths)
        return jnp.sum(jnp.where(length_mask(lengths, y.shape[1])[..., None], y * slope, 0.0))

    whole = gradient(variables, x, LENGTHS)
    parts = []
    for row in range(3):
        mine = np.arange(3) == row
        parts.append(gradient(variables, np.where(mine[:, None, None], x, np.nan), LENGTHS * mine))
        assert not np.any(np.asarray(parts[-1][1])[~mine])
    assert_trees_close(jax.tree.map(lambda *g: sum(map(np.asarray, g)), *parts), whole)


@every
def test_computes_in_the_dtype_of_its_input(name):
    _, variables, x, run = case(name)
    y, lengths = run(variables, x, LENGTHS)
    assert y.dtype == np.float32
    assert_near(run(variables, jnp.asarray(x, jnp.bfloat16), LENGTHS)[0], y, lengths)


@every
def test_noise_comes_from_the_key_alone(name):
    module, variables, x, run = case(name)
    still, lengths = run(variables, x, LENGTHS)
    keys = jax.random.split(jax.random.key(3), 2)
    noisy, _ = run(variables, x, LENGTHS, keys[0])
    np.testing.assert_array_equal(run(variables, x, LENGTHS, keys[0])[0], noisy)
    assert_rows_close(run(variables, padded(x, LENGTHS, np.nan, 4), LENGTHS, keys[0])[0], noisy, lengths)
    if hasattr(module, "dropout") and name != "length_adaptor, same width":
        assert_differ(noisy, still, lengths)
        assert_differ(noisy, run(variables, x, LENGTHS, keys[1])[0], lengths)


LEARNING = ["sinc"]
"""Those with running statistics."""


def test_no_other_has_running_statistics():
    assert [name for name in CASES if STATS in case(name)[1]] == LEARNING


@pytest.mark.parametrize("name", LEARNING)
def test_running_statistics_learn_what_they_are(name):
    module, variables, x, _ = case(name)
    options = {"train": True, "rngs": {"dropout": jax.random.key(0)}, "mutable": [MOMENTS]}
    _, left = jax.eval_shape(lambda v, x: module.apply(v, x, LENGTHS, **options), variables, x)
    total, count = left[MOMENTS]["of_submodules"]
    assert jax.tree.map(lambda x: x.shape, total) == jax.tree.map(np.shape, variables[STATS])
    assert jax.tree.structure(count) == jax.tree.structure(total)


@every
def test_is_a_value(name):
    assert_is_value(lambda: CASES[name].clone())


@pytest.mark.parametrize("name", [name for name, module in CASES.items() if isinstance(module, PostEncoder)])
def test_a_postencoder_says_its_width(name):
    module, variables, x, run = case(name)
    assert module.output_width(x.shape[-1]) == run(variables, x, LENGTHS)[0].shape[-1]
