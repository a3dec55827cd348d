"""Options of decoders and predictors, FunASR's against ours; ESPnet's are of the same names."""

from collections.abc import Mapping
from typing import Any

from jaxasr.convert.encoder_options import DROPOUT, LORA, TENSORFLOW, one_for_all, shifted
from jaxasr.convert.options import Option, Part, UnlikeOursError, equal, fixed, idle, read_options, same

_OF_ENCODER = Option({}, lambda: {}, lambda _: {}, ("d_model",))
"""A width that theirs takes from the encoder."""
_DECODER = (
    _OF_ENCODER,
    same("attention_heads", "num_heads", 4),
    same("linear_units", "d_ff", 2048),
    *DROPOUT,
    *equal("self_attention_dropout_rate", "attention_dropout", 0.0, "src_attention_dropout_rate"),
    fixed("input_layer", "embed"),
    fixed("use_output_layer", True),
    fixed("normalize_before", True),
    fixed("concat_after", False),
    idle("pos_enc_class"),
)
_LAYERS = same("num_blocks", "num_layers", 6)
TRANSFORMER_DECODER = Part("transformer", ("TransformerDecoder", "transformer"), (*_DECODER, _LAYERS))
PARAFORMER_SAN = Part(
    "paraformer_san",
    ("ParaformerDecoderSAN", "ParaformerSANDecoder", "paraformer_decoder_san"),
    (*_DECODER, _LAYERS, idle("embeds_id", -1)),
)


def _convolution(ours: str, theirs: str) -> Part:
    return Part(
        ours,
        (f"{theirs}TransformerDecoder", ours),
        (
            *_DECODER,
            _LAYERS,
            same("conv_wshare", "groups", 4),
            _kernel_of_all(),
            same("conv_usebias", "use_bias", False),
        ),
    )


def _kernel_of_all() -> Option:
    one = one_for_all("conv_kernel_length", "kernel_size", [11])

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        return {"conv_kernel_length": [fields["kernel_size"]] * fields["num_layers"]}

    return one._replace(write=write)


CONVOLUTIONS = (
    _convolution("lightweight_conv", "LightweightConvolution"),
    _convolution("lightweight_conv2d", "LightweightConvolution2D"),
    _convolution("dynamic_conv", "DynamicConvolution"),
    _convolution("dynamic_conv2d", "DynamicConvolution2D"),
)


def _attending() -> Option:
    """Blocks that look at the encoded frames, and blocks in all.

    Theirs makes all of the former, however few there are in all.
    """

    def read(blocks: Any, attending: Any) -> dict[str, Any]:
        return {"num_layers": max(blocks, attending), "attention_layers": attending if attending < blocks else None}

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        layers, attending = fields["num_layers"], fields["attention_layers"]
        return {"num_blocks": layers, "att_layer_num": layers if attending is None else attending}

    return Option({"num_blocks": 6, "att_layer_num": 6}, read, write, ("num_layers", "attention_layers"))


def _causal() -> Option:
    """The shift of a memory that looks back only, which is all that ours has, beside its size.

    Without one theirs sees a token ahead where the size is even.
    """

    def read(size: Any, shift: Any) -> dict[str, Any]:
        if (shift if shift is not None else (size - 1) // 2) != size // 2:
            raise UnlikeOursError("sanm_shfit", shift, f"{size // 2} for a kernel_size of {size}")
        return {"kernel_size": size}

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        return {"kernel_size": fields["kernel_size"], "sanm_shfit": fields["kernel_size"] // 2}

    return Option({"kernel_size": 21, "sanm_shfit": None}, read, write, ("kernel_size",))


_SANM_DECODER = (*_DECODER, _attending(), *TENSORFLOW)
SANM_DECODER = Part(
    "sanm",
    ("FsmnDecoder", "FsmnDecoderSCAMAOpt", "fsmn_scama_opt"),
    (
        *_SANM_DECODER,
        _causal(),
        fixed("concat_embeds", False),
        fixed("attention_dim", None),
        idle("embed_tensor_name_prefix_tf"),
    ),
)
PARAFORMER_SANM = Part(
    "paraformer_sanm",
    ("ParaformerSANMDecoder", "paraformer_decoder_sanm"),
    (
        *_SANM_DECODER,
        shifted(21),
        *LORA,
        idle("chunk_multiply_factor", [1]),
        fixed("wo_input_layer", False),
    ),
)
_ATTENTION = (
    same("atype", "attention", "location", {"location": "location", "add": "add", "dot": "dot"}),
    same("adim", "d_attention", 320),
    same("aconv_chans", "attention_channels", 10),
    same("aconv_filts", "attention_filter", 100),
    fixed("num_att", 1),
    fixed("num_encs", 1),
    *map(idle, ("aheads", "awin", "han_mode", "han_type", "han_heads", "han_dim", "han_win")),
    *map(idle, ("han_conv_chans", "han_conv_filts")),
)


def _attention() -> Option:
    """The conf of attention inside the decoder's."""

    def read(conf: Any) -> dict[str, Any]:
        fields = read_options(_ATTENTION, conf or {}, "decoder_conf.att_conf.", [])
        if fields["attention"] != "location":
            fields = {name: fields[name] for name in ("attention", "d_attention")}
        return fields

    def write(fields: Mapping[str, Any]) -> dict[str, Any]:
        return {"att_conf": {key: value for option in _ATTENTION for key, value in option.write(fields).items()}}

    return Option({"att_conf": {}}, read, write, tuple(name for option in _ATTENTION for name in option.ours))


RNN_DECODER = Part(
    "rnn",
    ("RNNDecoder", "rnn"),
    (
        same("rnn_type", "cell", "lstm", {"lstm": "lstm", "gru": "gru"}),
        same("num_layers", "num_layers", 1),
        same("hidden_size", "d_hidden", 320),
        same("dropout", "dropout", 0.0),
        same("context_residual", "context_residual", False),
        idle("sampling_probability", 0.0),
        fixed("replace_sos", False),
        fixed("num_encs", 1),
        _attention(),
    ),
)
DECODERS = (TRANSFORMER_DECODER, *CONVOLUTIONS, SANM_DECODER, RNN_DECODER)
PARALLEL_DECODERS = (PARAFORMER_SANM, PARAFORMER_SAN)

# --- predictors --------------------------------------------------------------------------------------------------


def _predictor(tail: float) -> tuple[Option, ...]:
    return (
        idle("idim"),
        same("l_order", "left", 1),
        same("r_order", "right", 1),
        fixed("threshold", 1.0),
        same("smooth_factor", "smooth_factor", 1.0),
        same("noise_threshold", "noise_threshold", 0.0),
        same("tail_threshold", "tail_threshold", tail),
        idle("tail_mask", True),
        *TENSORFLOW,
    )


CIF = Part("cif", ("CifPredictor", "cif_predictor"), (*_predictor(0.45), same("dropout", "dropout", 0.1)))
CIF_V2 = Part("cif_v2", ("CifPredictorV2", "cif_predictor_v2"), (*_predictor(0.0), idle("dropout", 0.1)))
CIF_V3 = Part(
    "cif_v3",
    ("CifPredictorV3", "cif_predictor_v3"),
    (
        *CIF_V2.options,
        same("smooth_factor2", "smooth_factor2", 1.0),
        same("noise_threshold2", "noise_threshold2", 0.0),
        same("upsample_times", "upsample", 5),
        same("upsample_type", "upsample_type", "cnn", {name: name for name in ("cnn", "cnn_blstm", "cnn_attn")}),
        same("use_cif1_cnn", "from_context", True),
    ),
)
PREDICTORS = (CIF, CIF_V2, CIF_V3)
