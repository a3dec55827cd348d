"""What the tables make of tensors, and how they say that they cannot."""

import re

import jax.numpy as jnp
import numpy as np
import pytest

from jaxasr.convert import convert_params, rules_of_part
from jaxasr.errors import CheckpointError
from jaxasr.nn.encoders import SanmEncoder, TransformerEncoder

SANM = rules_of_part("encoder", SanmEncoder())
CONVOLVED = rules_of_part("encoder", TransformerEncoder())


@pytest.mark.parametrize("dtype", [np.float16, np.float64, jnp.bfloat16])
def test_parameters_are_float32(dtype):
    params = convert_params({"after_norm.weight": np.full(3, 0.5, dtype)}, SANM)
    assert params["norm"]["scale"].dtype == np.float32
    np.testing.assert_array_equal(params["norm"]["scale"], 0.5)


@pytest.mark.parametrize(
    ("name", "tensor", "rules"),
    [
        ("embed.out.0.weight", np.zeros((8, 33)), CONVOLVED),
        ("encoders.0.self_attn.fsmn_block.weight", np.zeros(3), SANM),
        ("encoders.0.norm1.weight", np.zeros(3, np.complex64), SANM),
    ],
)
def test_a_tensor_of_another_form_is_named(name, tensor, rules):
    message = rf"^{re.escape(name)}: a \w+ tensor of shape {re.escape(str(tensor.shape))} \(.*; choose the table"
    with pytest.raises(CheckpointError, match=message):
        convert_params({name: tensor}, rules)


def test_layers_of_two_widths_are_named():
    state_dict = {f"encoders.{i}.norm1.weight": np.zeros(3 + i // 2) for i in range(3)}
    message = r"^encoders\.2\.norm1\.weight: shape \(4,\) here, and \(3,\) of encoders\.0\.norm1\.weight; "
    with pytest.raises(CheckpointError, match=message):
        convert_params(state_dict, SANM)
