"""FunASR's predictors."""

import numpy as np

from jaxasr.convert.layers import attention, conv1d, dense, feed_forward, filters, norm, recurrent, same
from jaxasr.convert.names import Rule


def _upsampling(x: np.ndarray) -> np.ndarray:
    """A transposed convolution that its stride equals, (C, D, n), as a dense layer to n frames side by side."""
    return x.transpose(0, 2, 1).reshape(x.shape[0], -1)


CIF_PREDICTOR = [
    Rule("cif_conv1d.weight", "filter", filters),
    Rule("cif_conv1d.bias", "filter_bias", same),
    *dense("cif_output", "output/*"),
]
CIF_PREDICTOR_V2 = [
    *conv1d("cif_conv1d", "conv/*"),
    *dense("cif_output", "output/*"),
]
CIF_PREDICTOR_V3 = [
    *CIF_PREDICTOR_V2,
    Rule("upsample_cnn.weight", "upsample/kernel", _upsampling),
    Rule("upsample_cnn.bias", "upsample_bias", same),
    *recurrent("blstm", "blstm"),
    *norm("self_attn.norm1", "attention/attention_norm/*"),
    *attention("self_attn.self_attn", "attention/attention", ""),
    *norm("self_attn.norm2", "attention/ff_norm/*"),
    *feed_forward("self_attn.feed_forward", "attention/ff", ""),
    *dense("cif_output2", "output2/*"),
]
