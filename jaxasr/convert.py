"""FunASR's and ESPnet's parameter names and layouts against ours, as tables.

A rule reads: their name, with ``{i}`` where a layer's number stands; our path, with ``[i]`` behind the last
part where the layers are stacked for `nn.scan`, or ``{i}`` where each has a name; and how an array of theirs becomes
one of ours.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxasr.errors import CheckpointError
from jaxasr.nn.batch_norm import STATS
from jaxasr.typing import Params


class Rule(NamedTuple):
    theirs: str
    ours: str | None
    """None for what nothing here needs."""
    change: Callable[[np.ndarray], np.ndarray]


def _same(x: np.ndarray) -> np.ndarray:
    return x


def _depthwise(x: np.ndarray) -> np.ndarray:
    """A depthwise filter (D, 1, K) of torch as (K, D)."""
    return x[:, 0, :].T


def _dense(theirs: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{theirs}.weight", ours.replace("*", "kernel"), np.transpose),
        Rule(f"{theirs}.bias", ours.replace("*", "bias"), _same),
    ]


def _norm(theirs: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{theirs}.weight", ours.replace("*", "scale"), _same),
        Rule(f"{theirs}.bias", ours.replace("*", "bias"), _same),
    ]


def _sanm_block(theirs: str, ours: str, stacked: str) -> list[Rule]:
    return [
        *_norm(f"{theirs}.norm1", f"{ours}/attention_norm/*{stacked}"),
        *_dense(f"{theirs}.self_attn.linear_q_k_v", f"{ours}/attention/qkv/*{stacked}"),
        *_dense(f"{theirs}.self_attn.linear_out", f"{ours}/attention/out/*{stacked}"),
        Rule(f"{theirs}.self_attn.fsmn_block.weight", f"{ours}/attention/memory/kernel{stacked}", _depthwise),
        *_norm(f"{theirs}.norm2", f"{ours}/ff_norm/*{stacked}"),
        *_dense(f"{theirs}.feed_forward.w_1", f"{ours}/ff/in/*{stacked}"),
        *_dense(f"{theirs}.feed_forward.w_2", f"{ours}/ff/out/*{stacked}"),
    ]


SANM_ENCODER = [
    *_sanm_block("encoders0.0", "first", ""),
    *_sanm_block("encoders.{i}", "blocks", "[i]"),
    *_norm("after_norm", "norm/*"),
]


def _conv2d(theirs: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{theirs}.weight", f"{ours}/kernel", lambda x: x.transpose(2, 3, 1, 0)),  # (D, C, T, F) to (T, F, C, D)
        Rule(f"{theirs}.bias", f"{ours}/bias", _same),
    ]


def _after_conv2d(x: np.ndarray) -> np.ndarray:
    """The dense layer (D, C * F) of torch behind C = D channels as (F * C, D)."""
    D = x.shape[0]
    return x.reshape(D, D, -1).transpose(2, 1, 0).reshape(-1, D)


def _attention(theirs: str, ours: str, stacked: str = "[i]") -> list[Rule]:
    return [rule for o in ("q", "k", "v", "out") for rule in _dense(f"{theirs}.linear_{o}", f"{ours}/{o}/*{stacked}")]


def _feed_forward(theirs: str, ours: str, stacked: str = "[i]") -> list[Rule]:
    return [*_dense(f"{theirs}.w_1", f"{ours}/in/*{stacked}"), *_dense(f"{theirs}.w_2", f"{ours}/out/*{stacked}")]


EMBEDDING = Rule("embed.0.weight", "embed/embedding", _same)
"""Of a decoder that reads tokens; where all tokens are said at once it is the network's."""
_WITHOUT_SELF_ATTENTION = [
    *_norm("decoders.{i}.norm1", "blocks/self_norm/*[i]"),
    *_norm("decoders.{i}.norm2", "blocks/memory_norm/*[i]"),
    *_attention("decoders.{i}.src_attn", "blocks/memory_attention"),
    *_norm("decoders.{i}.norm3", "blocks/ff_norm/*[i]"),
    *_feed_forward("decoders.{i}.feed_forward", "blocks/ff"),
    *_norm("after_norm", "norm/*"),
    *_dense("output_layer", "output/*"),
]
PARAFORMER_SAN_DECODER = [*_attention("decoders.{i}.self_attn", "blocks/self_attention"), *_WITHOUT_SELF_ATTENTION]
TRANSFORMER_DECODER = [EMBEDDING, *PARAFORMER_SAN_DECODER]


def convolution_decoder(groups: int) -> list[Rule]:
    """Of a decoder with a filter over tokens for self-attention; the taps that would see the future are left out."""

    def past(x: np.ndarray) -> np.ndarray:
        """Taps (G, 1, K) up to the middle one, as (G, K // 2 + 1)."""
        return x[:, 0, : x.shape[2] // 2 + 1]

    def made(x: np.ndarray) -> np.ndarray:
        """The same of the rows of a dense layer that makes them, (G * K, ...)."""
        taps = x.reshape(groups, -1, *x.shape[1:])
        return taps[:, : taps.shape[1] // 2 + 1].reshape(-1, *x.shape[1:]).T

    theirs, ours = "decoders.{i}.self_attn", "blocks/convolution"
    return [
        EMBEDDING,
        *_dense(f"{theirs}.linear1", f"{ours}/in/*[i]"),
        *_dense(f"{theirs}.linear2", f"{ours}/out/*[i]"),
        Rule(f"{theirs}.weight", f"{ours}/filter[i]", past),
        Rule(f"{theirs}.weight_f", f"{ours}/channel_kernel[i]", np.ravel),
        Rule(f"{theirs}.linear_weight.weight", f"{ours}/weights/kernel[i]", made),
        Rule(f"{theirs}.linear_weight.bias", f"{ours}/weights/bias[i]", made),
        *_dense(f"{theirs}.linear_weight_f", f"{ours}/channel_weights/*[i]"),
        Rule(f"{theirs}.bias", f"{ours}/bias[i]", _same),
        *_WITHOUT_SELF_ATTENTION,
    ]


def _pointwise(theirs: str, ours: str) -> list[Rule]:
    """A convolution over one frame, (D, C, 1), as a dense layer."""
    return [
        Rule(f"{theirs}.weight", ours.replace("*", "kernel"), lambda x: x[:, :, 0].T),
        Rule(f"{theirs}.bias", ours.replace("*", "bias"), _same),
    ]


def _filter(theirs: str, ours: str) -> list[Rule]:
    return [
        Rule(f"{theirs}.weight", ours.replace("*", "kernel"), _depthwise),
        Rule(f"{theirs}.bias", ours.replace("*", "bias"), _same),
    ]


def _batch_norm(theirs: str, ours: str) -> list[Rule]:
    return [
        *_norm(theirs, ours),
        Rule(f"{theirs}.running_mean", f"{STATS}/{ours.replace('*', 'mean')}", _same),
        Rule(f"{theirs}.running_var", f"{STATS}/{ours.replace('*', 'var')}", _same),
        Rule(f"{theirs}.num_batches_tracked", None, _same),
    ]


def _head_bias(x: np.ndarray) -> np.ndarray:
    """One vector a head, (H, K), as (H, 1, K)."""
    return x[:, None, :]


def _relative_attention(theirs: str, ours: str) -> list[Rule]:
    return [
        *_attention(theirs, ours),
        Rule(f"{theirs}.linear_pos.weight", f"{ours}/positions/kernel[i]", np.transpose),
        Rule(f"{theirs}.pos_bias_u", f"{ours}/content_bias[i]", _head_bias),
        Rule(f"{theirs}.pos_bias_v", f"{ours}/position_bias[i]", _head_bias),
    ]


INPUT_LAYER = [
    *(rule for i in range(3) for rule in _conv2d(f"embed.conv.{2 * i}", f"subsampling/conv{i}")),
    Rule("embed.out.0.weight", "subsampling/out/kernel", _after_conv2d),
    Rule("embed.out.0.bias", "subsampling/out/bias", _same),
    *_dense("embed", "input/*"),  # of input_layer none
    *_dense("embed.0", "input/*"),
    *_norm("embed.1", "input_norm/*"),
    *(Rule(f"embed.{place}.alpha", "position_scale", _same) for place in ("0", "1", "3", "out.1")),
]
"""What stands before the blocks of all encoders but SAN-M's."""

TRANSFORMER_ENCODER = [
    *INPUT_LAYER,
    *_norm("encoders.{i}.norm1", "blocks/attention_norm/*[i]"),
    *_attention("encoders.{i}.self_attn", "blocks/attention"),
    *_dense("encoders.{i}.concat_linear", "blocks/concat/*[i]"),
    *_norm("encoders.{i}.norm2", "blocks/ff_norm/*[i]"),
    *_feed_forward("encoders.{i}.feed_forward", "blocks/ff"),
    *_norm("after_norm", "norm/*"),
]

CONFORMER_ENCODER = [
    *INPUT_LAYER,
    *_norm("encoders.{i}.norm_ff_macaron", "blocks/macaron_norm/*[i]"),
    *_feed_forward("encoders.{i}.feed_forward_macaron", "blocks/macaron"),
    *_norm("encoders.{i}.norm_mha", "blocks/attention_norm/*[i]"),
    *_relative_attention("encoders.{i}.self_attn", "blocks/attention"),
    *_dense("encoders.{i}.concat_linear", "blocks/concat/*[i]"),
    *_norm("encoders.{i}.norm_conv", "blocks/conv_norm/*[i]"),
    *_pointwise("encoders.{i}.conv_module.pointwise_conv1", "blocks/conv/in/*[i]"),
    *_filter("encoders.{i}.conv_module.depthwise_conv", "blocks/conv/filter/*[i]"),
    *_batch_norm("encoders.{i}.conv_module.norm", "blocks/conv/norm/*[i]"),
    *_pointwise("encoders.{i}.conv_module.pointwise_conv2", "blocks/conv/out/*[i]"),
    *_norm("encoders.{i}.norm_ff", "blocks/ff_norm/*[i]"),
    *_feed_forward("encoders.{i}.feed_forward", "blocks/ff"),
    *_norm("encoders.{i}.norm_final", "blocks/norm/*[i]"),
    *_norm("after_norm", "norm/*"),
]

BRANCHFORMER_ENCODER = [
    *INPUT_LAYER,
    *_norm("encoders.{i}.norm_ff_macaron", "blocks/macaron_norm/*[i]"),
    *_feed_forward("encoders.{i}.feed_forward_macaron", "blocks/macaron"),
    *_norm("encoders.{i}.norm_mha", "blocks/branches/attention_norm/*[i]"),
    *_relative_attention("encoders.{i}.attn", "blocks/branches/attention"),
    *_norm("encoders.{i}.norm_mlp", "blocks/branches/gating_norm/*[i]"),
    *_dense("encoders.{i}.cgmlp.channel_proj1.0", "blocks/branches/gating/in/*[i]"),
    *_norm("encoders.{i}.cgmlp.csgu.norm", "blocks/branches/gating/gate_norm/*[i]"),
    *_filter("encoders.{i}.cgmlp.csgu.conv", "blocks/branches/gating/filter/*[i]"),
    *_dense("encoders.{i}.cgmlp.csgu.linear", "blocks/branches/gating/gate/*[i]"),
    *_dense("encoders.{i}.cgmlp.channel_proj2", "blocks/branches/gating/out/*[i]"),
    *_filter("encoders.{i}.depthwise_conv_fusion", "blocks/merge_filter/*[i]"),
    *_dense("encoders.{i}.pooling_proj1", "blocks/average/attention_pooling/*[i]"),
    *_dense("encoders.{i}.pooling_proj2", "blocks/average/gating_pooling/*[i]"),
    *_dense("encoders.{i}.weight_proj1", "blocks/average/attention_weight/*[i]"),
    *_dense("encoders.{i}.weight_proj2", "blocks/average/gating_weight/*[i]"),
    *_dense("encoders.{i}.merge_proj", "blocks/merge/*[i]"),
    *_norm("encoders.{i}.norm_ff", "blocks/ff_norm/*[i]"),
    *_feed_forward("encoders.{i}.feed_forward", "blocks/ff"),
    *_norm("encoders.{i}.norm_final", "blocks/norm/*[i]"),
    *_norm("after_norm", "norm/*"),
]
"""Of both Branchformer and E-Branchformer."""


def _half(part: int) -> Callable[[np.ndarray], np.ndarray]:
    """One of two that lie behind each other in a dense layer's weight (2 D, C) or bias (2 D,)."""
    return lambda x: np.split(x, 2)[part].T


def _normed_feed_forward(theirs: str, ours: str, stacked: str) -> list[Rule]:
    return [
        *_dense(f"{theirs}.w_1", f"{ours}/in/*{stacked}"),
        *_norm(f"{theirs}.norm", f"{ours}/norm/*{stacked}"),
        Rule(f"{theirs}.w_2.weight", f"{ours}/out/kernel{stacked}", np.transpose),
    ]


def _sanm_decoder_block(theirs: str, ours: str) -> list[Rule]:
    attention = f"{ours}/memory_attention"
    return [
        *_norm(f"{theirs}.norm1", f"{ours}/ff_norm/*[i]"),
        *_normed_feed_forward(f"{theirs}.feed_forward", f"{ours}/ff", "[i]"),
        *_norm(f"{theirs}.norm2", f"{ours}/memory_norm/*[i]"),
        Rule(f"{theirs}.self_attn.fsmn_block.weight", f"{ours}/memory/kernel[i]", _depthwise),
        *_norm(f"{theirs}.norm3", f"{ours}/memory_attention_norm/*[i]"),
        *_dense(f"{theirs}.src_attn.linear_q", f"{attention}/q/*[i]"),
        *(
            Rule(f"{theirs}.src_attn.linear_k_v.{kind}", f"{attention}/{name}/{leaf}[i]", _half(part))
            for kind, leaf in (("weight", "kernel"), ("bias", "bias"))
            for part, name in enumerate(("k", "v"))
        ),
        *_dense(f"{theirs}.src_attn.linear_out", f"{attention}/out/*[i]"),
    ]


PARAFORMER_SANM_DECODER = [
    *_sanm_decoder_block("decoders.{i}", "stack/blocks"),
    *_sanm_decoder_block("decoders2.{i}", "stack/blocks_without_attention"),
    *_norm("decoders3.0.norm1", "stack/ff_norm/*"),
    *_normed_feed_forward("decoders3.0.feed_forward", "stack/ff", ""),
    *_norm("after_norm", "stack/norm/*"),
    *_dense("output_layer", "output/*"),
]
SANM_DECODER = [EMBEDDING, *PARAFORMER_SANM_DECODER]


def _as_windows(x: np.ndarray) -> np.ndarray:
    """A convolution over time, (D, C, K), as a dense layer over K frames side by side."""
    return x.transpose(2, 1, 0).reshape(-1, x.shape[0])


def _upsampling(x: np.ndarray) -> np.ndarray:
    """A transposed convolution that its stride equals, (C, D, n), as a dense layer to n frames side by side."""
    return x.transpose(0, 2, 1).reshape(x.shape[0], -1)


def _recurrent(theirs: str, ours: str, layer: str = "l0") -> list[Rule]:
    """A layer of torch's LSTM or GRU, in one direction or both."""
    return [
        Rule(f"{theirs}.{kind}_{part}_{layer}{suffix}", f"{ours}/{direction}{place}/{leaf}", change)
        for direction, suffix in (("forward", ""), ("backward", "_reverse"))
        for part, place in (("ih", "_in"), ("hh", "/recurrent"))
        for kind, leaf, change in (("weight", "kernel", np.transpose), ("bias", "bias", _same))
    ]


SINC_PREENCODER = [
    Rule("filters.f", None, _same),  # the same as the next
    Rule("blocks.SincConvBlock.Filters.f", "bands", _same),
    *_batch_norm("blocks.SincConvBlock.BatchNorm", "norm0/*"),
    *(
        rule
        for number in range(1, 6)
        for rule in (
            Rule(f"blocks.DConvBlock{number}.depthwise.weight", f"conv{number}/filter", _depthwise),
            Rule(f"blocks.DConvBlock{number}.depthwise.bias", f"conv{number}/bias", _same),
            *_batch_norm(f"blocks.DConvBlock{number}.batchnorm", f"norm{number}/*"),
        )
    ),
]

LENGTH_ADAPTOR = [
    *_dense("embed.0", "input/*"),
    *_norm("embed.1", "input_norm/*"),
    *(
        rule
        for layer in range(8)
        for rule in (
            Rule(f"length_adaptor.{2 * layer}.weight", f"conv{layer}/kernel", _as_windows),
            Rule(f"length_adaptor.{2 * layer}.bias", f"conv{layer}/bias", _same),
        )
    ),
]

RNN_DECODER = [
    Rule("embed.weight", "embed/embedding", _same),
    *(
        Rule(f"decoder.{{i}}.{kind}_{part}", f"step/layer{{i}}{place}/{leaf}", change)
        for part, place in (("ih", "_in"), ("hh", "/recurrent"))
        for kind, leaf, change in (("weight", "kernel", np.transpose), ("bias", "bias", _same))
    ),
    *_dense("att_list.0.mlp_enc", "keys/*"),
    *_dense("att_list.0.mlp_dec", "step/attention/of_state/*"),
    *_dense("att_list.0.mlp_att", "step/attention/of_filter/*"),
    *_dense("att_list.0.gvec", "step/attention/score/*"),
    Rule("att_list.0.loc_conv.weight", "step/attention/filter", lambda x: x[:, :, 0].transpose(2, 1, 0)),
    *_dense("output", "output/*"),
]

RNN_ENCODER = [
    *_recurrent("enc.0.birnn{i}", "layer{i}"),
    *_recurrent("enc.0.rnn{i}", "layer{i}"),
    *_dense("enc.0.bt{i}", "projection{i}/*"),
    *_recurrent("enc.0.nbrnn", "layer{i}", "l{i}"),
    *_dense("enc.0.l_last", "projection/*"),
]

CIF_PREDICTOR = [
    Rule("cif_conv1d.weight", "filter", _depthwise),
    Rule("cif_conv1d.bias", "filter_bias", _same),
    *_dense("cif_output", "output/*"),
]
CIF_PREDICTOR_V2 = [
    Rule("cif_conv1d.weight", "conv/kernel", _as_windows),
    Rule("cif_conv1d.bias", "conv/bias", _same),
    *_dense("cif_output", "output/*"),
]

CIF_PREDICTOR_V3 = [
    *CIF_PREDICTOR_V2,
    Rule("upsample_cnn.weight", "upsample/kernel", _upsampling),
    Rule("upsample_cnn.bias", "upsample_bias", _same),
    *_recurrent("blstm", "blstm"),
    *_norm("self_attn.norm1", "attention/attention_norm/*"),
    *_attention("self_attn.self_attn", "attention/attention", ""),
    *_norm("self_attn.norm2", "attention/ff_norm/*"),
    *_feed_forward("self_attn.feed_forward", "attention/ff", ""),
    *_dense("cif_output2", "output2/*"),
]

CTC_HEAD = _dense("ctc_lo", "*")


def _within(rules: Sequence[Rule], theirs: str, ours: str) -> list[Rule]:
    def moved(path: str | None) -> str | None:
        if path is None:
            return None
        inside = path.removeprefix(f"{STATS}/")  # running statistics are one branch of the whole model
        return f"{ours}/{path}" if inside == path else f"{STATS}/{ours}/{inside}"

    return [Rule(f"{theirs}.{r.theirs}", moved(r.ours), r.change) for r in rules]


ASR_SANM_TRANSFORMER = [
    *_within(SANM_ENCODER, "encoder", "encoder"),
    *_within(TRANSFORMER_DECODER, "decoder", "decoder"),
    *_within(CTC_HEAD, "ctc", "ctc"),
]
"""FunASR's `asr` model with a SAN-M encoder and a Transformer decoder."""


def convert_params(state_dict: Mapping[str, np.ndarray], rules: Sequence[Rule]) -> Params:
    """Our parameter tree from their flat names.

    Raises:
      CheckpointError: a tensor of theirs has no rule, or the layers of a stack are not numbered 0, 1, ...
    """
    patterns = [(re.compile(re.escape(r.theirs).replace(r"\{i\}", r"(\d+)") + "$"), r) for r in rules]
    placed: dict[str, dict[int, np.ndarray]] = {}
    for name, tensor in state_dict.items():
        found = [(match, rule) for pattern, rule in patterns if (match := pattern.match(name))]
        for match, rule in found:
            if rule.ours is not None:
                number = match[1] if match.groups() else "-1"
                path = rule.ours.replace("{i}", number)
                placed.setdefault(path, {})[int(number) if path == rule.ours else -1] = rule.change(np.asarray(tensor))
        if not found:
            raise CheckpointError(
                f"{name}: a tensor of shape {tensor.shape} that no rule places; every tensor must be placed; "
                "choose the table that fits this model."
            )
    params: dict[str, Any] = {}
    for path, layers in placed.items():
        if sorted(layers) not in ([-1], list(range(len(layers)))):
            raise CheckpointError(
                f"{path}: layers {sorted(layers)}; numbers from 0 without a gap were expected; take the whole file."
            )
        *parents, leaf = path.removesuffix("[i]").split("/")
        node = params
        for parent in parents:
            node = node.setdefault(parent, {})
        node[leaf] = layers[-1] if -1 in layers else np.stack([layers[i] for i in range(len(layers))])
    return params
