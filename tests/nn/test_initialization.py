import dataclasses
import functools
import math

import jax
import numpy as np
import pytest

from jaxasr.checkpoint import flatten
from jaxasr.data.batch import BucketShape
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.nn.decoders import TransformerDecoder
from jaxasr.nn.encoders import BranchformerEncoder, ConformerEncoder
from jaxasr.nn.initialization import fans
from jaxasr.tasks import AsrTask

from ..slow import slow

VOCABULARY = Vocabulary(("<blank>", "<s>", "</s>", *"abcdefgh", "<unk>"))
TASK = AsrTask(
    encoder=ConformerEncoder(num_layers=2, d_model=128),
    decoder=TransformerDecoder(num_layers=2, d_model=128, d_ff=64),
    normalizer=None,
    vocabulary=VOCABULARY,
)


def made(task, seed=0):
    spec = task.batch_spec(BucketShape(1, 16_000, 2))
    return flatten(jax.jit(lambda key: task.model().init(key, spec))(jax.random.key(seed)))


@functools.cache
def with_init(how, **changes):
    return made(dataclasses.replace(TASK, initialization=how, **changes))


@functools.cache
def own():
    """As the modules make them."""
    return made(TASK)


RULES = ["xavier_uniform", "xavier_normal", "kaiming_uniform", "kaiming_normal"]


@pytest.mark.parametrize("how", slow(RULES, "xavier_normal", "kaiming_uniform"))
def test_weights_are_drawn_by_the_rule(how):
    params = with_init(how)
    assert params.keys() == own().keys()
    dense = params["encoder/blocks/ff/in/kernel"]  # (2, 128, 1024)
    variance = 2 / 128 if how.startswith("kaiming") else 2 / (128 + 1024)
    assert np.std(dense) == pytest.approx(math.sqrt(variance), rel=0.01)
    largest = np.abs(dense).max() / np.std(dense)
    assert largest == pytest.approx(math.sqrt(3), rel=0.01) if how.endswith("uniform") else largest > 4
    convolution = params["encoder/subsampling/conv1/kernel"]  # (3, 3, 128, 128)
    variance = 2 / (9 * 128) if how.startswith("kaiming") else 2 / (9 * 256)
    assert np.std(convolution) == pytest.approx(math.sqrt(variance), rel=0.01)
    filters = params["encoder/blocks/conv/filter/kernel"]  # (2, 31, 128)
    variance = 2 / 31 if how.startswith("kaiming") else 2 / (31 + 31 * 128)
    assert np.std(filters) == pytest.approx(math.sqrt(variance), rel=0.05)


def test_biases_are_0_and_the_rest_stays():
    params = with_init("xavier_uniform")
    for path, value in params.items():
        name = path.split("/")[-1]
        if name == "bias":
            assert not np.any(value), path
        elif name in ("scale", "embedding", "mean", "var"):
            np.testing.assert_array_equal(value, own()[path], err_msg=path)
        else:
            assert np.any(value) and not np.array_equal(value, own()[path]), path


def test_layers_and_parameters_differ():
    params = with_init("xavier_normal")
    layers = params["encoder/blocks/ff/in/kernel"]
    assert not np.array_equal(layers[0], layers[1])
    assert not np.array_equal(params["encoder/blocks/ff/in/kernel"], params["encoder/blocks/macaron/in/kernel"])


def test_gates_begin_open():
    params = with_init("kaiming_normal", encoder=BranchformerEncoder(num_layers=2, d_model=128))
    gate = params["encoder/blocks/branches/gating/filter/kernel"]
    assert np.abs(gate).max() < 1e-4
    assert np.all(params["encoder/blocks/branches/gating/filter/bias"] == 1.0)


@pytest.mark.parametrize(
    ("shape", "name", "modules", "expected"),
    [
        ((5, 7), "kernel", ["in"], (5, 7)),  # torch's Linear (7, 5)
        ((3, 3, 4, 6), "kernel", ["conv0"], (36, 54)),  # Conv2d (6, 4, 3, 3)
        ((11, 6), "kernel", ["memory"], (11, 66)),  # Conv1d (6, 1, 11), each channel by itself
        ((9, 1, 6), "filter", ["attention"], (9, 54)),  # Conv1d (6, 1, 9)
        ((5, 6), "filter", ["convolution"], (9, 54)),  # (6, 1, 9), one a group of channels, of which 5 taps see
        ((9, 1), "channel_filter", ["convolution"], (9, 9)),  # (1, 1, 9)
        ((12, 4), "kernel", ["conv"], (12, 12)),  # Conv1d (4, 4, 3)
        ((8, 4), "kernel", ["conv0"], (8, 8)),  # Conv1d (4, 4, 2)
        ((4, 12), "kernel", ["upsample"], (12, 12)),  # ConvTranspose1d (4, 4, 3)
        ((3, 4), "filter", ["predictor"], (3, 12)),  # Conv1d (4, 1, 3)
        ((25, 6), "filter", ["conv1"], (25, 150)),  # Conv1d (6, 1, 25)
        ((4, 4), "kernel", ["stack", "blocks", "memory_attention", "k"], (4, 8)),  # Linear (8, 4), of keys and values
        ((4, 4), "kernel", ["stack", "blocks", "memory_attention", "q"], (4, 4)),
        ((4, 1, 8), "content_bias", ["attention"], (8, 4)),  # (4, 8)
    ],
)
def test_numbers_are_counted_as_torch_counts_them(shape, name, modules, expected):
    assert fans(shape, name, modules) == expected
