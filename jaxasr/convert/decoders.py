"""Decoders of FunASR and ESPnet."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxasr.convert.layers import FILTERS, TURNED, attention, cell, dense, feed_forward, half, norm
from jaxasr.convert.names import Layout, Rule
from jaxasr.nn.decoders import (
    DynamicConv2dDecoder,
    DynamicConvDecoder,
    LightweightConv2dDecoder,
    LightweightConvDecoder,
    ParaformerSanDecoder,
    ParaformerSanmDecoder,
    RnnDecoder,
    SanmDecoder,
    TransformerDecoder,
)

EMBEDDING = Rule("embed.0.weight", "embed/embedding")

# --- attention blocks --------------------------------------------------------------------------------------------

_WITHOUT_SELF_ATTENTION = [
    *norm("decoders.{i}.norm1", "blocks/self_norm/*[i]"),
    *norm("decoders.{i}.norm2", "blocks/memory_norm/*[i]"),
    *attention("decoders.{i}.src_attn", "blocks/memory_attention"),
    *norm("decoders.{i}.norm3", "blocks/ff_norm/*[i]"),
    *feed_forward("decoders.{i}.feed_forward", "blocks/ff"),
    *norm("after_norm", "norm/*"),
    *dense("output_layer", "output/*"),
]
PARAFORMER_SAN_DECODER = [*attention("decoders.{i}.self_attn", "blocks/self_attention"), *_WITHOUT_SELF_ATTENTION]
TRANSFORMER_DECODER = [EMBEDDING, *PARAFORMER_SAN_DECODER]

PAST = Layout(
    lambda x: x[:, 0, : x.shape[2] // 2 + 1].T,
    lambda x: np.concatenate([x, np.zeros_like(x[1:])]).T[:, None],
)
"""Taps (G, 1, K) up to the middle one, as (K // 2 + 1, G); the others, which would see the future, are 0."""


def _made(groups: int) -> Layout:
    """The same of the rows of a dense layer that makes them, (G * K, ...)."""

    def ours(x: np.ndarray) -> np.ndarray:
        taps = x.reshape(groups, -1, *x.shape[1:])
        return taps[:, : taps.shape[1] // 2 + 1].reshape(-1, *x.shape[1:]).T

    def theirs(x: np.ndarray) -> np.ndarray:
        taps = x.T.reshape(groups, -1, *x.shape[:-1])
        return np.concatenate([taps, np.zeros_like(taps[:, 1:])], axis=1).reshape(-1, *x.shape[:-1])

    return Layout(ours, theirs)


def _convolution_decoder(decoder: Any) -> list[Rule]:
    """Of a decoder with a filter over tokens for self-attention."""
    theirs, ours, made = "decoders.{i}.self_attn", "blocks/convolution", _made(decoder.groups)
    return [
        EMBEDDING,
        *dense(f"{theirs}.linear1", f"{ours}/in/*[i]"),
        *dense(f"{theirs}.linear2", f"{ours}/out/*[i]"),
        Rule(f"{theirs}.weight", f"{ours}/filter[i]", PAST),
        Rule(f"{theirs}.weight_f", f"{ours}/channel_filter[i]", FILTERS),
        Rule(f"{theirs}.linear_weight.weight", f"{ours}/weights/kernel[i]", made),
        Rule(f"{theirs}.linear_weight.bias", f"{ours}/weights/bias[i]", made),
        *dense(f"{theirs}.linear_weight_f", f"{ours}/channel_weights/*[i]"),
        Rule(f"{theirs}.bias", f"{ours}/bias[i]"),
        *_WITHOUT_SELF_ATTENTION,
    ]


# --- SAN-M -------------------------------------------------------------------------------------------------------


def _normed_feed_forward(theirs: str, ours: str, stacked: str) -> list[Rule]:
    return [
        *dense(f"{theirs}.w_1", f"{ours}/in/*{stacked}"),
        *norm(f"{theirs}.norm", f"{ours}/norm/*{stacked}"),
        Rule(f"{theirs}.w_2.weight", f"{ours}/out/kernel{stacked}", TURNED),
    ]


def _sanm_block(theirs: str, ours: str) -> list[Rule]:
    attention = f"{ours}/memory_attention"
    return [
        *norm(f"{theirs}.norm1", f"{ours}/ff_norm/*[i]"),
        *_normed_feed_forward(f"{theirs}.feed_forward", f"{ours}/ff", "[i]"),
        *norm(f"{theirs}.norm2", f"{ours}/memory_norm/*[i]"),
        Rule(f"{theirs}.self_attn.fsmn_block.weight", f"{ours}/memory/kernel[i]", FILTERS),
        *norm(f"{theirs}.norm3", f"{ours}/memory_attention_norm/*[i]"),
        *dense(f"{theirs}.src_attn.linear_q", f"{attention}/q/*[i]"),
        *(
            Rule(f"{theirs}.src_attn.linear_k_v.{kind}", f"{attention}/{name}/{leaf}[i]", half(part))
            for kind, leaf in (("weight", "kernel"), ("bias", "bias"))
            for part, name in enumerate(("k", "v"))
        ),
        *dense(f"{theirs}.src_attn.linear_out", f"{attention}/out/*[i]"),
    ]


PARAFORMER_SANM_DECODER = [
    *_sanm_block("decoders.{i}", "stack/blocks"),
    *_sanm_block("decoders2.{i}", "stack/blocks_without_attention"),
    *norm("decoders3.0.norm1", "stack/ff_norm/*"),
    *_normed_feed_forward("decoders3.0.feed_forward", "stack/ff", ""),
    *norm("after_norm", "stack/norm/*"),
    *dense("output_layer", "output/*"),
]
SANM_DECODER = [EMBEDDING, *PARAFORMER_SANM_DECODER]

# --- recurrent ---------------------------------------------------------------------------------------------------

RNN_DECODER = [
    Rule("embed.weight", "embed/embedding"),
    *cell("decoder.{i}", "step/layer{i}"),
    *dense("att_list.0.mlp_enc", "keys/*"),
    *dense("att_list.0.mlp_dec", "step/attention/of_state/*"),
    *dense("att_list.0.mlp_att", "step/attention/of_filter/*"),
    *dense("att_list.0.gvec", "step/attention/score/*"),
    Rule(
        "att_list.0.loc_conv.weight",  # (C, 1, 1, K)
        "step/attention/filter",  # (K, 1, C)
        Layout(lambda x: x[:, :, 0].transpose(2, 1, 0), lambda x: x.transpose(2, 1, 0)[:, :, None]),
    ),
    *dense("output", "output/*"),
]

DECODER_RULES: Mapping[type, Callable[[Any], list[Rule]]] = {
    TransformerDecoder: lambda _: TRANSFORMER_DECODER,
    SanmDecoder: lambda _: SANM_DECODER,
    RnnDecoder: lambda _: RNN_DECODER,
    LightweightConvDecoder: _convolution_decoder,
    LightweightConv2dDecoder: _convolution_decoder,
    DynamicConvDecoder: _convolution_decoder,
    DynamicConv2dDecoder: _convolution_decoder,
    ParaformerSanDecoder: lambda _: PARAFORMER_SAN_DECODER,
    ParaformerSanmDecoder: lambda _: PARAFORMER_SANM_DECODER,
}
"""By decoder, FunASR's names for what any of its options gives it."""
