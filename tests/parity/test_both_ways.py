"""Every file's parameters, as ours and back, are what they were."""

import numpy as np
import pytest

from jaxasr.convert import (
    convert_params,
    exactly,
    folders,
    left_out,
    rules_of,
    rules_of_part,
    rules_of_parts,
    theirs_of,
)
from jaxasr.convert.around import TRANSFORMER_POSTENCODER
from jaxasr.convert.decoders import EMBEDDING
from jaxasr.convert.models import CTC_HEAD

from . import test_decoders, test_encoders, test_others, test_paraformer, test_parity, test_predictors, test_release
from .fixtures import FIXTURES, fixture, more

DECODERS = {"d_transformer_decoder": test_parity.TRANSFORMER, "d_fsmn_decoder_scama_opt": test_decoders.SANM}
GIVEN = {
    "b_sanm_encoder": rules_of_part("encoder", test_parity.SANM),
    "c_conformer_encoder_latest": rules_of_part("encoder", test_encoders.CONFORMER),
    "c_transformer_encoder_conv2d": rules_of_part("encoder", test_encoders.TRANSFORMER),
    "c_transformer_encoder_linear_postnorm": rules_of_part(
        "encoder", test_encoders.TRANSFORMER.clone(subsampling="linear")
    ),
    **{name: rules_of_part("decoder", decoder) for name, decoder in DECODERS.items()},
    **{
        f"d_paraformer_{name}": [EMBEDDING, *rules_of_part("decoder", decoder)]
        for name, decoder in test_decoders.PARALLEL.items()
    },
    **{f"e_cif_{name}": rules_of_part("predictor", part) for name, part in test_predictors.PREDICTORS.items()},
    "f_ctc": CTC_HEAD,
    "f_ctc_infeasible": CTC_HEAD,
    "g_aed_sanm_transformer": test_parity.RULES,
    "h_paraformer": [
        rule._replace(theirs=f"{part}.{rule.theirs}", ours=f"{part}/{rule.ours}")
        for part, rules in test_paraformer.RULES.items()
        for rule in rules
    ],
}
"""Rules by file; all those of the manifest that have parameters."""
MORE = {
    **{name: test_encoders.rules_of(name) for name in test_encoders.CASES if name != "sanm_conv2d"},
    **{name: rules_of_part("decoder", part) for name, part in test_decoders.MORE.items()},
    **{f"cif_v3_{name}": rules_of_part("predictor", part) for name, part in test_predictors.V3.items()},
    **{name: rules_of_part(slot, part, "espnet") for name, (slot, part) in test_others.CASES.items()},
    **{f"conditioned_{n}": rules_of_parts({"encoder": part}) for n, (part, _) in test_others.CONDITIONED.items()},
    **{f"bert_{name}": TRANSFORMER_POSTENCODER for name in ("post_norm", "relu")},
}


def assert_same_back(tensors, rules):
    params = convert_params(tensors, rules)
    found = theirs_of(params, exactly(rules, params))
    kept = tensors.keys() - {name for name in left_out(tensors, rules) if name not in found}
    assert found.keys() == kept
    for name in kept:
        expected = without_future(name, tensors[name])
        assert found[name].dtype == expected.dtype, name
        np.testing.assert_array_equal(found[name], expected, err_msg=name)


def without_future(name, x):
    """Of the filters over tokens, what a causal one has."""
    x = x.copy()
    if name.endswith("self_attn.weight"):
        x[..., x.shape[2] // 2 + 1 :] = 0.0
    elif ".self_attn.linear_weight." in name:
        taps = x.reshape(4, -1, *x.shape[1:])
        taps[:, taps.shape[1] // 2 + 1 :] = 0.0
    return x


@pytest.mark.parametrize("name", GIVEN)
def test_of_the_manifest(name):
    assert_same_back(fixture(name)[0]["param"], GIVEN[name])


def test_all_of_the_manifest():
    files = [name for name in FIXTURES if name[0] in "bcdefgh" and fixture(name)[0]["param"]]
    assert set(files) == GIVEN.keys()


@pytest.mark.parametrize("name", MORE)
def test_more(name):
    assert_same_back(more(name)[0]["param"], MORE[name])


@pytest.mark.parametrize("name", test_release.NAMES)
def test_released_folders(name):
    model = folders.read(test_release.FOLDER / name, lambda said: None)
    assert_same_back(model.tensors, rules_of(model.task))
