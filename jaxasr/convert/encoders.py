"""Encoders of FunASR and ESPnet."""

from collections.abc import Sequence

import numpy as np

from jaxasr.convert.layers import (
    attention,
    batch_norm,
    dense,
    depthwise,
    feed_forward,
    filters,
    norm,
    pointwise,
    recurrent,
    relative_attention,
    same,
)
from jaxasr.convert.names import Rule

# --- what stands before the blocks -------------------------------------------------------------------------------


def _conv2d(theirs: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{theirs}.weight", f"{ours}/kernel", lambda x: x.transpose(2, 3, 1, 0)),  # (D, C, T, F) to (T, F, C, D)
        Rule(f"{theirs}.bias", f"{ours}/bias", same),
    ]


def _after_conv2d(x: np.ndarray, conv: np.ndarray) -> np.ndarray:
    """The dense layer (D, C * F) behind convolutions, the first (C, 1, T, F), as (F * C, D)."""
    D, C = x.shape[0], conv.shape[0]
    return x.reshape(D, C, -1).transpose(2, 1, 0).reshape(-1, D)


CONVOLUTIONS = [
    *(rule for i in range(3) for rule in _conv2d(f"embed.conv.{2 * i}", f"subsampling/conv{i}")),
    *(
        rule
        for out in ("embed.out.0", "embed.out")  # the second ESPnet's of today
        for rule in (
            Rule(f"{out}.weight", "subsampling/out/kernel", _after_conv2d, "embed.conv.0.weight"),
            Rule(f"{out}.bias", "subsampling/out/bias", same),
        )
    ),
]
INPUT_LAYER = [
    *CONVOLUTIONS,
    *dense("embed", "input/*"),  # of input_layer none
    *dense("embed.0", "input/*"),
    *norm("embed.1", "input_norm/*"),
    *(Rule(f"embed.{place}.alpha", "position_scale", same) for place in ("0", "1", "3", "out.1", "pos_enc")),
]
"""What stands before the blocks of all encoders but SAN-M's."""


def of_units(encoder: Sequence[Rule]) -> list[Rule]:
    """The rules of an encoder with `input_layer=embed`, whose table has the name of another's dense layer."""
    units = Rule("embed.0.weight", "units/embedding", same)
    return [units if rule.theirs == units.theirs else rule for rule in encoder]


# --- SAN-M -------------------------------------------------------------------------------------------------------


def _sanm_block(theirs: str, ours: str, stacked: str) -> list[Rule]:
    return [
        *norm(f"{theirs}.norm1", f"{ours}/attention_norm/*{stacked}"),
        *dense(f"{theirs}.self_attn.linear_q_k_v", f"{ours}/attention/qkv/*{stacked}"),
        *dense(f"{theirs}.self_attn.linear_out", f"{ours}/attention/out/*{stacked}"),
        Rule(f"{theirs}.self_attn.fsmn_block.weight", f"{ours}/attention/memory/kernel{stacked}", filters),
        *norm(f"{theirs}.norm2", f"{ours}/ff_norm/*{stacked}"),
        *feed_forward(f"{theirs}.feed_forward", f"{ours}/ff", stacked),
    ]


def _scaled_input(rule: Rule) -> Rule:
    """Of SAN-M's first convolution, whose input theirs multiplies with the root of the width D."""
    return rule._replace(change=lambda x: rule.change(x) * np.float32(x.shape[0] ** 0.5))


SANM_ENCODER = [
    *(_scaled_input(rule) if rule.theirs == "embed.conv.0.weight" else rule for rule in CONVOLUTIONS),
    *_sanm_block("encoders0.0", "first", ""),
    *_sanm_block("encoders.{i}", "blocks", "[i]"),
    *norm("after_norm", "norm/*"),
]
"""Of `sanm` and `sanm_chunk_opt`. Behind convolutions theirs has other positions than ours."""

# --- attention blocks --------------------------------------------------------------------------------------------

TRANSFORMER_ENCODER = [
    *INPUT_LAYER,
    *norm("encoders.{i}.norm1", "blocks/attention_norm/*[i]"),
    *attention("encoders.{i}.self_attn", "blocks/attention"),
    *dense("encoders.{i}.concat_linear", "blocks/concat/*[i]"),
    *norm("encoders.{i}.norm2", "blocks/ff_norm/*[i]"),
    *feed_forward("encoders.{i}.feed_forward", "blocks/ff"),
    *norm("after_norm", "norm/*"),
]

CONFORMER_ENCODER = [
    *INPUT_LAYER,
    *norm("encoders.{i}.norm_ff_macaron", "blocks/macaron_norm/*[i]"),
    *feed_forward("encoders.{i}.feed_forward_macaron", "blocks/macaron"),
    *norm("encoders.{i}.norm_mha", "blocks/attention_norm/*[i]"),
    *relative_attention("encoders.{i}.self_attn", "blocks/attention"),
    *dense("encoders.{i}.concat_linear", "blocks/concat/*[i]"),
    *norm("encoders.{i}.norm_conv", "blocks/conv_norm/*[i]"),
    *pointwise("encoders.{i}.conv_module.pointwise_conv1", "blocks/conv/in/*[i]"),
    *depthwise("encoders.{i}.conv_module.depthwise_conv", "blocks/conv/filter/*[i]"),
    *batch_norm("encoders.{i}.conv_module.norm", "blocks/conv/norm/*[i]"),
    *pointwise("encoders.{i}.conv_module.pointwise_conv2", "blocks/conv/out/*[i]"),
    *norm("encoders.{i}.norm_ff", "blocks/ff_norm/*[i]"),
    *feed_forward("encoders.{i}.feed_forward", "blocks/ff"),
    *norm("encoders.{i}.norm_final", "blocks/norm/*[i]"),
    *norm("after_norm", "norm/*"),
]

BRANCHFORMER_ENCODER = [
    *INPUT_LAYER,
    *norm("encoders.{i}.norm_ff_macaron", "blocks/macaron_norm/*[i]"),
    *feed_forward("encoders.{i}.feed_forward_macaron", "blocks/macaron"),
    *norm("encoders.{i}.norm_mha", "blocks/branches/attention_norm/*[i]"),
    *relative_attention("encoders.{i}.attn", "blocks/branches/attention"),
    *norm("encoders.{i}.norm_mlp", "blocks/branches/gating_norm/*[i]"),
    *dense("encoders.{i}.cgmlp.channel_proj1.0", "blocks/branches/gating/in/*[i]"),
    *norm("encoders.{i}.cgmlp.csgu.norm", "blocks/branches/gating/gate_norm/*[i]"),
    *depthwise("encoders.{i}.cgmlp.csgu.conv", "blocks/branches/gating/filter/*[i]"),
    *dense("encoders.{i}.cgmlp.csgu.linear", "blocks/branches/gating/gate/*[i]"),
    *dense("encoders.{i}.cgmlp.channel_proj2", "blocks/branches/gating/out/*[i]"),
    *depthwise("encoders.{i}.depthwise_conv_fusion", "blocks/merge_filter/*[i]"),
    *dense("encoders.{i}.pooling_proj1", "blocks/average/attention_pooling/*[i]"),
    *dense("encoders.{i}.pooling_proj2", "blocks/average/gating_pooling/*[i]"),
    *dense("encoders.{i}.weight_proj1", "blocks/average/attention_weight/*[i]"),
    *dense("encoders.{i}.weight_proj2", "blocks/average/gating_weight/*[i]"),
    *dense("encoders.{i}.merge_proj", "blocks/merge/*[i]"),
    *norm("encoders.{i}.norm_ff", "blocks/ff_norm/*[i]"),
    *feed_forward("encoders.{i}.feed_forward", "blocks/ff"),
    *norm("encoders.{i}.norm_final", "blocks/norm/*[i]"),
    *norm("after_norm", "norm/*"),
]
"""Of both Branchformer and E-Branchformer."""

# --- recurrent ---------------------------------------------------------------------------------------------------

RNN_ENCODER = [
    *recurrent("enc.0.birnn{i}", "layer{i}"),
    *recurrent("enc.0.rnn{i}", "layer{i}"),
    *dense("enc.0.bt{i}", "projection{i}/*"),
    *recurrent("enc.0.nbrnn", "layer{i}", "l{i}"),
    *dense("enc.0.l_last", "projection/*"),
]
