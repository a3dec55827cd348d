"""Decoders of FunASR and ESPnet."""

from collections.abc import Callable

import numpy as np

from jaxasr.convert.layers import attention, cell, dense, feed_forward, filters, norm, same
from jaxasr.convert.names import Rule

EMBEDDING = Rule("embed.0.weight", "embed/embedding", same)
"""Of a decoder that reads tokens; where all tokens are said at once it is the network's."""

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


def convolution_decoder(groups: int) -> list[Rule]:
    """Of a decoder with a filter over tokens for self-attention; the taps that would see the future are left out."""

    def past(x: np.ndarray) -> np.ndarray:
        """Taps (G, 1, K) up to the middle one, as (K // 2 + 1, G)."""
        return filters(x)[: x.shape[2] // 2 + 1]

    def made(x: np.ndarray) -> np.ndarray:
        """The same of the rows of a dense layer that makes them, (G * K, ...)."""
        taps = x.reshape(groups, -1, *x.shape[1:])
        return taps[:, : taps.shape[1] // 2 + 1].reshape(-1, *x.shape[1:]).T

    theirs, ours = "decoders.{i}.self_attn", "blocks/convolution"
    return [
        EMBEDDING,
        *dense(f"{theirs}.linear1", f"{ours}/in/*[i]"),
        *dense(f"{theirs}.linear2", f"{ours}/out/*[i]"),
        Rule(f"{theirs}.weight", f"{ours}/filter[i]", past),
        Rule(f"{theirs}.weight_f", f"{ours}/channel_filter[i]", filters),
        Rule(f"{theirs}.linear_weight.weight", f"{ours}/weights/kernel[i]", made),
        Rule(f"{theirs}.linear_weight.bias", f"{ours}/weights/bias[i]", made),
        *dense(f"{theirs}.linear_weight_f", f"{ours}/channel_weights/*[i]"),
        Rule(f"{theirs}.bias", f"{ours}/bias[i]", same),
        *_WITHOUT_SELF_ATTENTION,
    ]


# --- SAN-M -------------------------------------------------------------------------------------------------------


def _half(part: int) -> Callable[[np.ndarray], np.ndarray]:
    """One of two that lie behind each other in a dense layer's weight (2 D, C) or bias (2 D,)."""
    return lambda x: np.split(x, 2)[part].T


def _normed_feed_forward(theirs: str, ours: str, stacked: str) -> list[Rule]:
    return [
        *dense(f"{theirs}.w_1", f"{ours}/in/*{stacked}"),
        *norm(f"{theirs}.norm", f"{ours}/norm/*{stacked}"),
        Rule(f"{theirs}.w_2.weight", f"{ours}/out/kernel{stacked}", np.transpose),
    ]


def _sanm_block(theirs: str, ours: str) -> list[Rule]:
    attention = f"{ours}/memory_attention"
    return [
        *norm(f"{theirs}.norm1", f"{ours}/ff_norm/*[i]"),
        *_normed_feed_forward(f"{theirs}.feed_forward", f"{ours}/ff", "[i]"),
        *norm(f"{theirs}.norm2", f"{ours}/memory_norm/*[i]"),
        Rule(f"{theirs}.self_attn.fsmn_block.weight", f"{ours}/memory/kernel[i]", filters),
        *norm(f"{theirs}.norm3", f"{ours}/memory_attention_norm/*[i]"),
        *dense(f"{theirs}.src_attn.linear_q", f"{attention}/q/*[i]"),
        *(
            Rule(f"{theirs}.src_attn.linear_k_v.{kind}", f"{attention}/{name}/{leaf}[i]", _half(part))
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
    Rule("embed.weight", "embed/embedding", same),
    *cell("decoder.{i}", "step/layer{i}"),
    *dense("att_list.0.mlp_enc", "keys/*"),
    *dense("att_list.0.mlp_dec", "step/attention/of_state/*"),
    *dense("att_list.0.mlp_att", "step/attention/of_filter/*"),
    *dense("att_list.0.gvec", "step/attention/score/*"),
    Rule("att_list.0.loc_conv.weight", "step/attention/filter", lambda x: x[:, :, 0].transpose(2, 1, 0)),
    *dense("output", "output/*"),
]
