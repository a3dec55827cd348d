"""Encoders of FunASR and ESPnet."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxasr.convert.layers import (
    FILTERS,
    attention,
    batch_norm,
    check_option,
    dense,
    depthwise,
    feed_forward,
    norm,
    pointwise,
    recurrent,
    relative_attention,
)
from jaxasr.convert.names import Layout, Rule
from jaxasr.nn.encoders import (
    BranchformerEncoder,
    ConformerEncoder,
    EBranchformerEncoder,
    RnnEncoder,
    SanmChunkEncoder,
    SanmEncoder,
    TransformerEncoder,
)
from jaxasr.nn.subsampling import CONVOLUTIONS

# --- what stands before the blocks -------------------------------------------------------------------------------

CONV2D = Layout(lambda x: x.transpose(2, 3, 1, 0), lambda x: x.transpose(3, 2, 0, 1))
"""(D, C, T, F) as (T, F, C, D)."""
AFTER_CONV2D = Layout(
    lambda x: x.reshape(len(x), len(x), -1).transpose(2, 1, 0).reshape(-1, len(x)),
    lambda x: x.reshape(-1, x.shape[1], x.shape[1]).transpose(2, 1, 0).reshape(x.shape[1], -1),
)
"""The dense layer (D, D * F) behind convolutions of D channels, as (F * D, D)."""


def convolutions(subsampling: str) -> list[Rule]:
    """Of the convolutions of this name and the dense layer behind them.

    >>> [rule.ours for rule in convolutions("conv2d")][::2]
    ['subsampling/conv0/kernel', 'subsampling/conv1/kernel', 'subsampling/out/kernel']
    """
    return [
        *(
            rule
            for i in range(len(CONVOLUTIONS[subsampling]))
            for rule in (
                Rule(f"embed.conv.{2 * i}.weight", f"subsampling/conv{i}/kernel", CONV2D),
                Rule(f"embed.conv.{2 * i}.bias", f"subsampling/conv{i}/bias"),
            )
        ),
        Rule("embed.out.0.weight", "subsampling/out/kernel", AFTER_CONV2D),
        Rule("embed.out.0.bias", "subsampling/out/bias"),
    ]


def _input_layer(encoder: Any) -> list[Rule]:
    """What stands before the blocks of all encoders but SAN-M's and the recurrent one."""
    check_option("encoder", encoder, "subsampling_channels", None, encoder.d_model)
    match encoder.subsampling:
        case "embed":
            rules, positions = [Rule("embed.0.weight", "units/embedding")], "embed.1"
        case "linear":
            rules, positions = [*dense("embed.0", "input/*"), *norm("embed.1", "input_norm/*")], "embed.3"
        case "none":  # theirs has no dense layer where positions are added
            rules, positions = dense("embed", "input/*") if encoder.bare_without_subsampling else [], "embed.0"
        case subsampling:
            rules, positions = convolutions(subsampling), "embed.out.1"
    return [*rules, Rule(f"{positions}.alpha", "position_scale")]


ESPNET_CONV2D8 = {
    "embed.out.0.weight": "embed.out.weight",
    "embed.out.0.bias": "embed.out.bias",
    "embed.out.1.alpha": "embed.pos_enc.alpha",
}
"""FunASR's names of what stands behind `conv2d8`, and ESPnet's of today."""

# --- SAN-M -------------------------------------------------------------------------------------------------------


def _sanm_block(theirs: str, ours: str, stacked: str) -> list[Rule]:
    return [
        *norm(f"{theirs}.norm1", f"{ours}/attention_norm/*{stacked}"),
        *dense(f"{theirs}.self_attn.linear_q_k_v", f"{ours}/attention/qkv/*{stacked}"),
        *dense(f"{theirs}.self_attn.linear_out", f"{ours}/attention/out/*{stacked}"),
        Rule(f"{theirs}.self_attn.fsmn_block.weight", f"{ours}/attention/memory/kernel{stacked}", FILTERS),
        *norm(f"{theirs}.norm2", f"{ours}/ff_norm/*{stacked}"),
        *feed_forward(f"{theirs}.feed_forward", f"{ours}/ff", stacked),
    ]


SANM_BLOCKS = [
    *_sanm_block("encoders0.0", "first", ""),
    *_sanm_block("encoders.{i}", "blocks", "[i]"),
    *norm("after_norm", "norm/*"),
]


def _sanm(encoder: Any) -> list[Rule]:
    check_option("encoder", encoder, "subsampling", "none")  # behind convolutions theirs adds other positions
    return SANM_BLOCKS


# --- attention blocks --------------------------------------------------------------------------------------------

TRANSFORMER_BLOCKS = [
    *norm("encoders.{i}.norm1", "blocks/attention_norm/*[i]"),
    *attention("encoders.{i}.self_attn", "blocks/attention"),
    *dense("encoders.{i}.concat_linear", "blocks/concat/*[i]"),
    *norm("encoders.{i}.norm2", "blocks/ff_norm/*[i]"),
    *feed_forward("encoders.{i}.feed_forward", "blocks/ff"),
    *norm("after_norm", "norm/*"),
]

CONFORMER_BLOCKS = [
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

BRANCHFORMER_BLOCKS = [
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


def _transformer(encoder: TransformerEncoder) -> list[Rule]:
    check_option("encoder", encoder, "positions", "absolute")
    return [*_input_layer(encoder), *TRANSFORMER_BLOCKS]


def _conformer(encoder: ConformerEncoder) -> list[Rule]:
    check_option("encoder", encoder, "conv_norm", "batch")
    return [*_input_layer(encoder), *CONFORMER_BLOCKS]


def _branchformer(encoder: Any) -> list[Rule]:
    if encoder.subsampling == "none":
        check_option("encoder", encoder, "positions", "absolute")  # theirs has the others from its input layer
    return [*_input_layer(encoder), *BRANCHFORMER_BLOCKS]


# --- recurrent ---------------------------------------------------------------------------------------------------


def _rnn(encoder: RnnEncoder) -> list[Rule]:
    if encoder.projection:
        layers = "enc.0.birnn{i}" if encoder.bidirectional else "enc.0.rnn{i}"
        return [*recurrent(layers, "layer{i}"), *dense("enc.0.bt{i}", "projection{i}/*")]
    return [*recurrent("enc.0.nbrnn", "layer{i}", "l{i}"), *dense("enc.0.l_last", "projection/*")]


ENCODER_RULES: Mapping[type, Callable[[Any], list[Rule]]] = {
    TransformerEncoder: _transformer,
    ConformerEncoder: _conformer,
    BranchformerEncoder: _branchformer,
    EBranchformerEncoder: _branchformer,
    SanmEncoder: _sanm,
    SanmChunkEncoder: _sanm,
    RnnEncoder: _rnn,
}
"""By encoder, FunASR's names for what any of its options gives it."""
