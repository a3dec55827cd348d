"""ESPnet's parts and options against ours, where they are not FunASR's."""

from typing import Any

from jaxasr.convert import decoder_options, encoder_options, feature_options, model_options
from jaxasr.convert.espnet_tokens import BLANK, ENDS
from jaxasr.convert.model_options import Toolkit
from jaxasr.convert.options import Option, Part, UnlikeOursError, fixed, idle, same
from jaxasr.data.tokenizer import SPACE, Vocabulary

# --- parts of the network ----------------------------------------------------------------------------------------

_ATTENTION = (fixed("qk_norm", False), idle("use_flash_attn", True))
_STACK = (*_ATTENTION, idle("layer_drop_rate", 0.0))
_CHECKPOINTS = idle("gradient_checkpoint_layers", [])

TRANSFORMER = encoder_options.TRANSFORMER.with_options(*_STACK, fixed("pos_enc_layer_type", "abs_pos"))
CONFORMER = encoder_options.CONFORMER.with_options(*_STACK, fixed("ctc_trim", False), idle("max_pos_emb_len", 5000))
BRANCHFORMER = encoder_options.BRANCHFORMER.with_options(*_ATTENTION)
E_BRANCHFORMER = encoder_options.E_BRANCHFORMER.with_options(
    *_STACK,
    _CHECKPOINTS,
    # with none it scales frames and has positions; ours leaves frames as they are
    same("input_layer", "subsampling", "conv2d", {name: name for name in encoder_options.SUBSAMPLINGS if name}),
)
ENCODERS = (TRANSFORMER, CONFORMER, BRANCHFORMER, E_BRANCHFORMER, encoder_options.RNN)
TRANSFORMER_DECODER = decoder_options.TRANSFORMER_DECODER.with_options(*_STACK, _CHECKPOINTS)
DECODERS = (TRANSFORMER_DECODER, *decoder_options.CONVOLUTIONS, decoder_options.RNN_DECODER)
LENGTH_ADAPTOR = Part(
    "length_adaptor",
    ("LengthAdaptorPostEncoder", "length_adaptor"),
    (
        same("length_adaptor_n_layers", "num_layers", 0),
        Option(
            {"input_layer": None, "output_size": None},
            lambda layer, width: {"d_model": width if layer == "linear" else None},
            lambda fields: {"input_layer": fields["d_model"] and "linear", "output_size": fields["d_model"]},
            ("d_model",),
        ),
        same("dropout_rate", "dropout", 0.1),
        fixed("return_int_enc", False),
    ),
    unread=(("d_model", None, ("dropout",)),),
)

# --- models ------------------------------------------------------------------------------------------------------

ASR = model_options.ASR.with_options(
    fixed("sym_space", SPACE),
    fixed("sym_blank", BLANK),
    fixed("sym_sos", ENDS),
    fixed("sym_eos", ENDS),
    fixed("aux_ctc", None),
    fixed("lang_token_id", -1),
    idle("autocast_frontend", False),
    idle("transducer_multi_blank_durations", []),
    idle("transducer_multi_blank_sigma", 0.05),
    drop=("blank_id", "sos", "eos", "share_embedding"),
    theirs=("ESPnetASRModel", "espnet", "asr"),
)
ESPNET = Toolkit(
    (ASR,),
    {
        # of several channels theirs takes the first, which is the preprocessor's affair here
        "frontend": (
            "frontend",
            (feature_options.DEFAULT_FRONTEND._replace(of_task=()), feature_options.SLIDING_WINDOW),
        ),
        "specaug": ("specaug", (feature_options.SPECAUG.with_options(idle("replace_with_zero", True)),)),
        "normalize": ("normalizer", (feature_options.GLOBAL_MVN, feature_options.UTTERANCE_MVN)),
        "preencoder": (
            "preencoder",
            (feature_options.LINEAR.with_options(idle("dropout", 0.0)), feature_options.SINC),
        ),
        "encoder": ("encoder", ENCODERS),
        "postencoder": ("postencoder", (LENGTH_ADAPTOR,)),
    },
    {"asr": DECODERS},
)
CTC = (
    *model_options.CTC,
    idle("ignore_nan_grad"),
    idle("zero_infinity", True),
    idle("brctc_risk_strategy", "exp"),
    idle("brctc_group_strategy", "end"),
    idle("brctc_risk_factor", 0.0),
)
"""`ctc_conf`."""

# --- what is done to sound and text ------------------------------------------------------------------------------

PREPROCESSOR = (
    Option({"force_single_channel": False}, lambda mean: {"channel": None if mean else 0}, lambda _: {}, ("channel",)),
    fixed("delimiter", None),
    fixed("space_symbol", SPACE),
    fixed("unk_symbol", Vocabulary.LAST),
    fixed("nonsplit_symbol", None),
    idle("speech_name", "speech"),
    idle("text_name", "text"),
    idle("fs", 0),
    idle("data_aug_effects"),
    idle("data_aug_num", [1, 1]),
    idle("data_aug_prob", 0.0),
    idle("min_sample_size", -1),
    idle("audio_pad_value", 0.0),
    idle("whisper_language"),
    idle("whisper_task"),
)
"""`preprocessor_conf`."""

TOKENIZERS = ("bpe", "char", "word", "phn")
PHONES = {None: {"type": "word"}} | {g2p: {"type": "phn", "g2p": g2p} for g2p in ("pypinyin_g2p", "pypinyin_g2p_phone")}
"""By `g2p`; of phones that stand in the text already each is a word."""


def _tokenizer() -> Option:
    def read(kind: Any, g2p: Any) -> dict[str, Any]:
        if kind not in TOKENIZERS:
            raise UnlikeOursError("token_type", kind, " or ".join(TOKENIZERS))
        if kind == "phn" and g2p not in PHONES:
            raise UnlikeOursError("g2p", g2p, " or ".join(map(str, PHONES)))
        return {"tokenizer": PHONES[g2p] if kind == "phn" else {"type": kind}}

    return Option({"token_type": "bpe", "g2p": None}, read, lambda _: {}, ("tokenizer",))


TEXT = (
    _tokenizer(),
    idle("bpemodel"),  # read as files of the folder
    idle("non_linguistic_symbols"),
    idle("cleaner", None),  # no trained model depends on what is done to transcripts
    fixed("preprocessor", "default"),
    fixed("speech_volume_normalize", None),
    fixed("use_preprocessor", True),
    fixed("use_lang_prompt", False),
    fixed("use_nlp_prompt", False),
    fixed("aux_ctc_tasks", [], [], None),
    fixed("use_adapter", False),
)
"""What stands beside the parts in config.yaml and decides what the model says."""
