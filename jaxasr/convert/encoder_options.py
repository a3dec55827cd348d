"""Options of encoders, FunASR's against ours; ESPnet's are of the same names, and mostly the same."""

from collections.abc import Mapping
from typing import Any

from jaxasr.convert.options import Option, Part, UnlikeOursError, equal, fixed, idle, same

# --- what several parts have -------------------------------------------------------------------------------------

TENSORFLOW = tuple(idle(f"tf2torch_tensor_name_prefix_{kind}") for kind in ("torch", "tf"))
LORA = (fixed("lora_list", None, None, []), idle("lora_rank", 8), idle("lora_alpha", 16), idle("lora_dropout", 0.1))
_FEED_FORWARD = (
    fixed("positionwise_layer_type", "linear"),
    idle("positionwise_conv_kernel_size"),  # of another type
)
_IDLE_ENCODER = (idle("padding_idx", -1), idle("pos_enc_class"))
DROPOUT = equal("dropout_rate", "dropout", 0.1, "positional_dropout_rate")
_ENCODER_SIZES = (
    same("output_size", "d_model", 256),
    same("attention_heads", "num_heads", 4),
    *DROPOUT,
    same("attention_dropout_rate", "attention_dropout", 0.0),
)
SUBSAMPLINGS = {name: name for name in ("conv2d", "conv2d2", "conv2d6", "conv2d8", "linear")} | {None: "none"}
_INPUT_LAYER = same("input_layer", "subsampling", "conv2d", SUBSAMPLINGS)
ACTIVATIONS = {name: name for name in ("swish", "relu", "tanh", "selu", "hardtanh")}

POSITIONS = {
    "relative": ("rel_pos", "rel_selfattn", "latest"),
    "relative_legacy": ("rel_pos", "rel_selfattn", "legacy"),
    "absolute": ("abs_pos", "selfattn", "latest"),
    "scaled": ("scaled_abs_pos", "selfattn", "latest"),
}


def positions(attention: str, rel_pos_type: str) -> Option:
    """What three of their keys say together; `attention` is the second one's name, `rel_pos_type` the third's default.

    What is told as `legacy_rel_pos` and `legacy_rel_selfattn` is `legacy` too.

    >>> positions("selfattention_layer_type", "latest").read("rel_pos", "rel_selfattn", "latest")
    {'positions': 'relative'}
    """
    keys = ("pos_enc_layer_type", attention, "rel_pos_type")

    def read(*values: Any) -> dict[str, Any]:
        added, scored, kind = map(str, values)
        if added.startswith("legacy_") or scored.startswith("legacy_"):
            kind = "legacy"
        given = (added.removeprefix("legacy_"), scored.removeprefix("legacy_"))
        for name, (*expected, of_kind) in POSITIONS.items():
            if given == tuple(expected) and (kind == of_kind or not name.startswith("relative")):
                return {"positions": name}
        known = "; ".join(", ".join(named) for named in POSITIONS.values())
        raise UnlikeOursError(", ".join(keys), ", ".join(map(str, values)), f"one of {known}")

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        return dict(zip(keys, POSITIONS[fields["positions"]], strict=True))

    return Option(dict(zip(keys, ("rel_pos", "rel_selfattn", rel_pos_type), strict=True)), read, write, ("positions",))


def intermediate(first: int = 0) -> tuple[Option, ...]:
    """Of intermediate CTC, which here is the task's; their first block has number 1 - `first`.

    >>> intermediate(first=-1)[0].read([6, 9])
    {'interctc_layers': [5, 8]}
    """

    def read(layers: Any) -> dict[str, Any]:
        return {"interctc_layers": [layer + first for layer in layers or ()]}

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        return {"interctc_layer_idx": [layer - first for layer in fields["interctc_layers"]]}

    return (
        Option({"interctc_layer_idx": []}, read, write, ("interctc_layers",)),
        same("interctc_use_conditioning", "interctc_conditioning", False),
    )


def one_for_all(theirs: str, ours: str, default: Any) -> Option:
    """A number, or as many as blocks, which must be the same; text has them with `_` in between.

    >>> one_for_all("linear_units", "d_ff", 2048).read("1024_1024")
    {'d_ff': 1024}
    """

    def read(value: Any) -> dict[str, Any]:
        values = value.split("_") if isinstance(value, str) else value if isinstance(value, list | tuple) else [value]
        if len({float(x) for x in values}) != 1:
            raise UnlikeOursError(theirs, value, "one number for all blocks")
        return {ours: values[0] if not isinstance(value, str) else int(values[0])}

    return Option({theirs: default}, read, lambda fields: {theirs: fields[ours]}, (ours,))


def shifted(size: int) -> Option:
    """The size of a SAN-M memory and its shift to the past: none looks back only, one below 0 is 0.

    >>> shifted(11).read(11, -1)
    {'kernel_size': 11, 'shift': 0}
    """

    def read(size: Any, shift: Any) -> dict[str, Any]:
        return {"kernel_size": size, "shift": (size - 1) // 2 if shift is None else max(shift, 0)}

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        return {"kernel_size": fields["kernel_size"], "sanm_shfit": fields["shift"]}

    return Option({"kernel_size": size, "sanm_shfit": 0}, read, write, ("kernel_size", "shift"))


# --- encoders ----------------------------------------------------------------------------------------------------

_SANM = (
    *_ENCODER_SIZES,
    same("linear_units", "d_ff", 2048),
    same("num_blocks", "num_layers", 6),
    # behind convolutions theirs has positions of its own
    same("input_layer", "subsampling", "conv2d", {"pe": "none", "pe_online": "none"}),
    fixed("normalize_before", True),
    fixed("concat_after", False),
    fixed("selfattention_layer_type", "sanm"),
    *_FEED_FORWARD,
    *_IDLE_ENCODER,
    *TENSORFLOW,
)
SANM = Part(
    "sanm",
    ("SANMEncoder", "sanm"),
    (*_SANM, shifted(11), *LORA),
    intermediate(1),
    training=("remat",),
)


def _numbers(theirs: str, ours: str, default: tuple[int, ...]) -> Option:
    """One number or several."""
    return Option(
        {theirs: list(default)},
        lambda value: {ours: list(value) if isinstance(value, list | tuple) else [value]},
        lambda fields: {theirs: list(fields[ours])},
        (ours,),
    )


SANM_CHUNK = Part(
    "sanm_chunk",
    ("SANMEncoderChunkOpt", "sanm_chunk_opt"),
    (
        *_SANM,
        same("kernel_size", "kernel_size", 11),
        fixed("sanm_shfit", 0),
        _numbers("chunk_size", "chunk_size", (16,)),
        _numbers("stride", "stride", (10,)),
        _numbers("pad_left", "pad_left", (0,)),
        _numbers("encoder_att_look_back_factor", "look_back", (1,)),
        idle("decoder_att_look_back_factor", [1]),
    ),
    intermediate(1),
    training=("remat", "chunk_choice"),
)
SANM_CHUNK_ONLINE = SANM_CHUNK.with_options(
    same("input_layer", "subsampling", "conv2d", {"pe_online": "none", "pe": "none"}),
    drop=("decoder_att_look_back_factor",),
)._replace(of_task=(*SANM_CHUNK.of_task, _numbers("decoder_att_look_back_factor", "decoder_look_back", (1,))))
"""Of a model whose tokens look at chunks, and that is fed chunk by chunk, with positions that go on."""
_BLOCKS = (
    *_ENCODER_SIZES,
    same("linear_units", "d_ff", 2048),
    same("num_blocks", "num_layers", 6),
    _INPUT_LAYER,
    same("normalize_before", "norm_first", True),
    same("concat_after", "concat_after", False),
    *_FEED_FORWARD,
    *_IDLE_ENCODER,
)
TRANSFORMER = Part("transformer", ("TransformerEncoder", "transformer"), _BLOCKS, intermediate(), training=("remat",))
CONFORMER = Part(
    "conformer",
    ("ConformerEncoder", "conformer"),
    (
        *_BLOCKS,
        same("macaron_style", "macaron", False),
        positions("selfattention_layer_type", "legacy"),
        same("activation_type", "activation", "swish", ACTIVATIONS),
        same("use_cnn_module", "convolution", True),
        same("cnn_module_kernel", "kernel_size", 31),
        fixed("zero_triu", False),
        idle("stochastic_depth_rate", 0.0),
    ),
    intermediate(),
    unread=(("convolution", False, ("kernel_size",)),),
    training=("remat",),
)
_GATING = (
    *_ENCODER_SIZES,
    same("num_blocks", "num_layers", 12),
    _INPUT_LAYER,
    positions("attention_layer_type", "latest"),
    same("cgmlp_linear_units", "d_gate", 2048),
    same("cgmlp_conv_kernel", "kernel_size", 31),
    same("use_linear_after_conv", "gate_linear", False),
    same("gate_activation", "gate_activation", "identity", {"identity": "identity"} | ACTIVATIONS),
    fixed("zero_triu", False),
    *_IDLE_ENCODER,
)
BRANCHFORMER = Part(
    "branchformer",
    ("BranchformerEncoder", "branchformer"),
    (
        *_GATING,
        fixed("use_attn", True),
        fixed("use_cgmlp", True),
        same(
            "merge_method",
            "merge",
            "concat",
            {"concat": "concat", "learned_ave": "learned_average", "fixed_ave": "fixed_average"},
        ),
        one_for_all("cgmlp_weight", "gate_share", 0.5),
        idle("attn_branch_drop_rate", 0.0),
        idle("stochastic_depth_rate", 0.0),
    ),
    unread=(("merge", "concat", ("gate_share",)), ("merge", "learned_average", ("gate_share",))),
    training=("remat",),
)
E_BRANCHFORMER = Part(
    "e_branchformer",
    ("EBranchformerEncoder", "e_branchformer"),
    (
        *_GATING,
        same("use_ffn", "feed_forward", False),
        same("macaron_ffn", "macaron", False),
        same("ffn_activation_type", "activation", "swish", ACTIVATIONS),
        same("linear_units", "d_ff", 2048),
        same("merge_conv_kernel", "merge_kernel_size", 3),
        fixed("positionwise_layer_type", "linear"),
        idle("layer_drop_rate", 0.0),
        idle("max_pos_emb_len", 5000),
    ),
    # its layers are shown to CTC without the last norm, which ours go through
    (intermediate()[0], same("interctc_use_conditioning", "interctc_conditioning", False, {False: False})),
    unread=(("feed_forward", False, ("macaron", "activation", "d_ff")),),
    training=("remat",),
)


def _subsample() -> Option:
    """By what each layer divides the frame rate; of more steps than layers the first count."""

    def read(steps: Any, layers: Any) -> dict[str, Any]:
        given = list(steps or ())[: int(layers)]
        return {
            "subsample": given[: max((n for n, s in enumerate(given, 1) if s > 1), default=0)],
            "num_layers": layers,
        }

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        steps = list(fields["subsample"])[: fields["num_layers"]]
        return {"subsample": steps or None, "num_layers": fields["num_layers"]}

    return Option({"subsample": [2, 2, 1, 1], "num_layers": 4}, read, write, ("subsample", "num_layers"))


RNN = Part(
    "rnn",
    ("RNNEncoder", "rnn"),
    (
        same("rnn_type", "cell", "lstm", {"lstm": "lstm", "gru": "gru"}),
        same("bidirectional", "bidirectional", True),
        same("use_projection", "projection", True),
        _subsample(),
        same("hidden_size", "d_hidden", 320),
        same("output_size", "d_model", 320),
        same("dropout", "dropout", 0.0),
    ),
    unread=(("projection", False, ("subsample",)), ("num_layers", 1, ("dropout",))),
)
ENCODERS = (SANM, SANM_CHUNK, TRANSFORMER, CONFORMER, BRANCHFORMER, E_BRANCHFORMER, RNN)
