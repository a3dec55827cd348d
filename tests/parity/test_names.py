"""What the tables make of tensors, and how they say that they cannot."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.convert import SANM_ENCODER, TRANSFORMER_ENCODER, asr_model, convert_params
from jaxasr.errors import CheckpointError


def test_channels_other_than_the_width():
    """What lies behind C channels of F bands is laid out by both, which its own shape does not tell."""
    D, C, F = 8, 4, 6
    weight = np.arange(D * C * F, dtype=np.float32).reshape(D, C * F)
    state_dict = {"embed.conv.0.weight": np.zeros((C, 1, 3, 3), np.float32), "embed.out.0.weight": weight}
    expected = weight.reshape(D, C, F).transpose(2, 1, 0).reshape(F * C, D)
    for prefix, rules in (("", TRANSFORMER_ENCODER), ("encoder.", asr_model(TRANSFORMER_ENCODER))):
        params = convert_params({prefix + name: x for name, x in state_dict.items()}, rules)
        found = params["encoder"] if prefix else params
        np.testing.assert_array_equal(found["subsampling"]["out"]["kernel"], expected)


@pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
def test_parameters_are_float32(dtype):
    params = convert_params({"after_norm.weight": np.full(3, 0.5, dtype)}, SANM_ENCODER)
    assert params["norm"]["scale"].dtype == np.float32
    np.testing.assert_array_equal(params["norm"]["scale"], 0.5)


@pytest.mark.parametrize(
    ("name", "tensor"),
    [
        ("embed.out.0.weight", np.zeros((8, 33))),
        ("encoders.0.self_attn.fsmn_block.weight", np.zeros(3)),
        ("encoders.0.norm1.weight", np.zeros(3, np.complex64)),
    ],
)
def test_a_tensor_of_another_form_is_named(name, tensor):
    state_dict = {name: tensor, "embed.conv.0.weight": np.zeros((8, 1, 3, 3))}
    message = rf"^{re.escape(name)}: a \w+ tensor of shape {re.escape(str(tensor.shape))} \(.*; choose the table"
    with pytest.raises(CheckpointError, match=message):
        convert_params(state_dict, SANM_ENCODER)


def test_a_layout_that_cannot_be_told_is_refused():
    with pytest.raises(CheckpointError, match=r"^embed\.out\.0\.weight: a .*'embed\.conv\.0\.weight'"):
        convert_params({"embed.out.0.weight": np.zeros((8, 16))}, SANM_ENCODER)


def test_layers_of_two_widths_are_named():
    state_dict = {f"encoders.{i}.norm1.weight": np.zeros(3 + i // 2) for i in range(3)}
    message = r"^encoders\.2\.norm1\.weight: shape \(4,\) here, and \(3,\) of encoders\.0\.norm1\.weight; "
    with pytest.raises(CheckpointError, match=message):
        convert_params(state_dict, SANM_ENCODER)
