"""FunASR's predictors."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxasr.convert.layers import FILTERS, attention, conv1d, dense, feed_forward, norm, recurrent
from jaxasr.convert.names import Layout, Rule
from jaxasr.nn.predictors import CifPredictor, CifPredictorV2, CifPredictorV3

UPSAMPLING = Layout(
    lambda x: x.transpose(0, 2, 1).reshape(x.shape[0], -1),
    lambda x: x.reshape(x.shape[0], -1, x.shape[0]).transpose(0, 2, 1),
)
"""A transposed convolution that its stride equals, (D, D, n), as a dense layer to n frames side by side."""

CIF_PREDICTOR = [
    Rule("cif_conv1d.weight", "filter", FILTERS),
    Rule("cif_conv1d.bias", "filter_bias"),
    *dense("cif_output", "output/*"),
]
CIF_PREDICTOR_V2 = [
    *conv1d("cif_conv1d", "conv/*"),
    *dense("cif_output", "output/*"),
]
CIF_PREDICTOR_V3 = [
    *CIF_PREDICTOR_V2,
    Rule("upsample_cnn.weight", "upsample/kernel", UPSAMPLING),
    Rule("upsample_cnn.bias", "upsample_bias"),
    *recurrent("blstm", "blstm"),
    *norm("self_attn.norm1", "attention/attention_norm/*"),
    *attention("self_attn.self_attn", "attention/attention", ""),
    *norm("self_attn.norm2", "attention/ff_norm/*"),
    *feed_forward("self_attn.feed_forward", "attention/ff", ""),
    *dense("cif_output2", "output2/*"),
]

PREDICTOR_RULES: Mapping[type, Callable[[Any], list[Rule]]] = {
    CifPredictor: lambda _: CIF_PREDICTOR,
    CifPredictorV2: lambda _: CIF_PREDICTOR_V2,
    CifPredictorV3: lambda _: CIF_PREDICTOR_V3,
}
