"""Whole models: a configuration of FunASR's or ESPnet's as one of ours, and ours as one of FunASR's."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from jaxasr import config
from jaxasr.convert.decoder_options import DECODERS, PARALLEL_DECODERS, PREDICTORS
from jaxasr.convert.encoder_options import ENCODERS, SANM_CHUNK_ONLINE
from jaxasr.convert.feature_options import (
    FRONTENDS,
    GLOBAL_MVN,
    LINEAR,
    NORMALIZERS,
    PREENCODERS,
    SPECAUG_LFR,
    SPECAUGS,
    WAV_FRONTEND_ONLINE,
    WAV_FRONTENDS,
)
from jaxasr.convert.options import (
    Option,
    Part,
    fixed,
    idle,
    part_called,
    part_of_ours,
    read_part,
    same,
    section,
    write_part,
)
from jaxasr.errors import ConfigError
from jaxasr.tasks.base import TASKS
from jaxasr.tasks.speech_choices import LONG

# --- models ------------------------------------------------------------------------------------------------------

_MODEL = (
    same("ctc_weight", "ctc_weight", 0.5),
    same("interctc_weight", "interctc_weight", 0.0),
    same("lsm_weight", "label_smoothing", 0.0),
    same("length_normalized_loss", "length_normalized_loss", False),
    fixed("ignore_id", -1),
    fixed("blank_id", 0),
    fixed("sos", 1),
    fixed("eos", 2),
    idle("report_cer", True),
    idle("report_wer", True),
    idle("sym_space", "<space>"),
    idle("sym_blank", "<blank>"),
    idle("extract_feats_in_collect_stats", True),
)
_TRAINING = ("cr_weight", "initialization", "dtype", "channel")
ASR = Part(
    "asr",
    ("Transformer", "SANM", "Conformer", "Branchformer", "EBranchformer", "asr"),
    (*_MODEL, fixed("share_embedding", False)),
    training=_TRAINING,
)
_PARAFORMER = (
    *_MODEL,
    same("predictor_weight", "predictor_weight", 0.0),
    same("predictor_bias", "predictor_bias", 0),
    same("sampling_ratio", "sampling_ratio", 0.2),
    same("share_embedding", "share_embedding", False),
    same("use_1st_decoder_loss", "first_pass_loss", False),
)
PARAFORMER = Part("paraformer", ("Paraformer", "paraformer"), _PARAFORMER, training=_TRAINING)
BICIF_PARAFORMER = PARAFORMER._replace(theirs=("BiCifParaformer", "bicif_paraformer"))
_LOOK_BACK_OF_ENCODER = Option({}, lambda: {}, lambda _: {}, ("decoder_look_back",))
PARAFORMER_ONLINE = PARAFORMER._replace(
    theirs=("ParaformerStreaming", "ParaformerOnline", "paraformer_online"),
    options=(*_PARAFORMER, fixed("decoder_attention_chunk_type", "chunk"), _LOOK_BACK_OF_ENCODER),
)
MODELS = (ASR, PARAFORMER, BICIF_PARAFORMER, PARAFORMER_ONLINE)

CTC = tuple(
    idle(key, default)
    for key, default in (("dropout_rate", 0.0), ("ctc_type", "builtin"), ("reduce", True), ("ignore_nan_grad", True))
)

# --- what a toolkit has ------------------------------------------------------------------------------------------


class Toolkit(NamedTuple):
    """The parts that models of a toolkit are made of."""

    models: Sequence[Part]
    slots: Mapping[str, tuple[str, Sequence[Part]]]
    """By the name of a part there, that of our slot, and what may stand in it; what may be none is left out or null."""
    decoders: Mapping[str, Sequence[Part]]
    """Of our tasks."""


FUNASR = Toolkit(
    MODELS,
    {
        "frontend": ("frontend", FRONTENDS),
        "specaug": ("specaug", SPECAUGS),
        "normalize": ("normalizer", NORMALIZERS),
        "preencoder": ("preencoder", PREENCODERS),
        "encoder": ("encoder", ENCODERS),
        "postencoder": ("postencoder", ()),
        "predictor": ("predictor", PREDICTORS),
    },
    {"asr": DECODERS, "paraformer": PARALLEL_DECODERS},
)
ONLINE = {"frontend": ("frontend", (WAV_FRONTEND_ONLINE, *FRONTENDS)), "encoder": ("encoder", (SANM_CHUNK_ONLINE,))}
"""What stands in the slots of `PARAFORMER_ONLINE` alone."""


def _slots(toolkit: Toolkit, model: Part) -> dict[str, tuple[str, Sequence[Part]]]:
    """What a model may be made of."""
    slots = {**toolkit.slots, "decoder": ("decoder", toolkit.decoders[model.ours])}
    return slots | ONLINE if model is PARAFORMER_ONLINE else slots


# --- reading -----------------------------------------------------------------------------------------------------


def read_model(
    toolkit: Toolkit, theirs: Mapping[str, Any], left_out: list[str], *, where: str, statistics: bool
) -> dict[str, Any]:
    """What `config.from_mapping` makes a task of, its name under `task`; of the parts alone, not of texts.

    Args:
      theirs: their configuration, of which only the parts and their options are read.
      left_out: gets what says nothing here.
      statistics: whether the frontend has statistics to normalise by.

    Raises:
      ConfigError: a part or an option is unknown, or is not what ours does.
    """
    model = part_called(toolkit.models, theirs.get("model") or "asr", f"{where}model")
    fields, of_task = read_part(model, section(theirs, "model", where), f"{where}model_conf.", left_out)
    fields = {"task": fields.pop("type")} | fields
    slots = _slots(toolkit, model)
    if fields["task"] == "asr":
        slots.pop("predictor", None)
    if fields["ctc_weight"] == 1.0:
        slots.pop("decoder")
        fields["decoder"] = None
    for name, (ours, parts) in slots.items():
        chosen = theirs.get(name)
        if _is_none(chosen):
            fields[ours] = None
            continue
        part = part_called(parts, chosen, f"{where}{name}")
        fields[ours], more = read_part(part, section(theirs, name, where), f"{where}{name}_conf.", left_out)
        of_task |= more
    _settle_inputs(fields, theirs, where, statistics)
    _settle_widths(fields, where)
    return _without_idle(fields | of_task)


def _is_none(chosen: Any) -> bool:
    return chosen is None or str(chosen).lower() in ("none", "nil", "null")


def _settle_inputs(fields: dict[str, Any], theirs: Mapping[str, Any], where: str, statistics: bool) -> None:
    """The sample rate, which is the task's; features that are given; and the normalisation that is the frontend's."""
    if fields["frontend"] is None:
        if not isinstance(theirs.get("input_size"), int):
            raise ConfigError(
                f"{where}frontend: none, and no input_size; what the model reads was expected; give a configuration "
                "that has one of the two."
            )
        fields["frontend"] = {"type": "features", "width": theirs["input_size"], "lfr_m": 1, "lfr_n": 1}
        fields["preprocess"] = None
    fields["sample_rate"] = fields["frontend"].pop("sample_rate", 16_000)
    if statistics:
        if fields["normalizer"] is not None:
            raise ConfigError(
                f"{where}normalize: {theirs['normalize']!r} beside the frontend's statistics; one normalisation was "
                "expected, which is all that jaxasr has; such a model cannot be converted."
            )
        fields["normalizer"] = {"type": "global_mvn"}


def _settle_widths(fields: dict[str, Any], where: str) -> None:
    """The decoder's width, which theirs takes from the encoder."""
    for name in ("encoder", *(("decoder",) if fields["ctc_weight"] < 1.0 else ())):
        if fields[name] is None:
            raise ConfigError(
                f"{where}{name}: none; one was expected, since the model has one; give its whole configuration."
            )
    if fields["decoder"] is not None and fields["decoder"]["type"] != "rnn":
        fields["decoder"]["d_model"] = (fields.get("postencoder") or fields["encoder"])["d_model"]


def _without_idle(fields: dict[str, Any]) -> dict[str, Any]:
    """Without the options that others make idle, which keep our defaults."""
    idle_names: tuple[str, ...] = ()
    if not fields.get("interctc_layers"):
        idle_names += ("interctc_layers", "interctc_weight", "interctc_conditioning")
    if fields["decoder"] is None:
        idle_names += ("label_smoothing", "length_normalized_loss")
    return {name: value for name, value in fields.items() if name not in idle_names}


# --- writing -----------------------------------------------------------------------------------------------------

TEXT = ("tokenizer", "token_list", "cmvn_file", "cleaners", "non_linguistic_symbols", "unknown_symbols")
"""Fields of a task that are written as files, or by the tokenizer."""
OF_PARTS = ("sample_rate", "interctc_layers", "interctc_conditioning")
"""Fields that there are options of parts."""


def write_model(toolkit: Toolkit, task: Any, left_out: list[str]) -> dict[str, Any]:
    """FunASR's configuration of a task's parts, by its class names; see `read_model`.

    Raises:
      ConfigError: a part or an option of ours is none of theirs.
    """
    frontend = task.frontend.for_encoder(round(LONG / task.encoder.output_lengths(LONG)))
    fields = config.to_mapping(dataclasses.replace(task, frontend=frontend))
    name, registries = TASKS.name_of(type(task)), config.slots(type(task))
    part = _written_model(toolkit, fields, name)
    own = {key: value for key, value in fields.items() if key not in {*registries, *OF_PARTS, *TEXT}}
    if not fields["interctc_layers"]:
        own["interctc_weight"] = 0.0
    defaults = config.to_mapping(type(task)()) | {"interctc_weight": 0.0}
    found: dict[str, Any] = {"model": _model_class(part, fields)}
    found["model_conf"] = write_part(part, own, defaults, {}, left_out)
    _check_widths(fields)
    for theirs, (ours, parts) in _slots(toolkit, part).items():
        if (chosen := fields.get(ours)) is None:
            continue
        given = part_of_ours(parts, chosen["type"], ours)
        defaults = config.to_mapping(registries[ours][given.ours]())
        inside = chosen | ({"sample_rate": fields["sample_rate"]} if ours == "frontend" else {})
        found[theirs] = given.theirs[0]
        found[f"{theirs}_conf"] = write_part(given, inside, defaults, fields, left_out)
    return _completed(found, frontend, fields["encoder"]["d_model"])


def _completed(theirs: dict[str, Any], frontend: Any, width: int) -> dict[str, Any]:
    """With what follows from several parts here, and is said anew there."""
    from_training = theirs.get("normalize") == GLOBAL_MVN.theirs[0]
    if from_training and theirs["frontend"] in (part.theirs[0] for part in WAV_FRONTENDS):
        del theirs["normalize"]
        if not all((conf := theirs.pop("normalize_conf")).values()):
            raise ConfigError(
                f"--normalizer=global_mvn with options {conf}: with --frontend=wav_frontend theirs normalises by both "
                "mean and deviation; mean and variance were expected; such a model cannot be converted."
            )
    elif from_training:
        raise ConfigError(
            f"--normalizer=global_mvn: theirs keeps statistics of {theirs['frontend']} as sums, which ours has not; "
            "--frontend=wav_frontend was expected with it; such a model cannot be converted."
        )
    if "predictor_conf" in theirs:
        theirs["predictor_conf"] = {"idim": width} | theirs["predictor_conf"]
    if theirs.get("preencoder") == LINEAR.theirs[0]:
        theirs["preencoder_conf"] = {"input_size": frontend.output_width} | theirs["preencoder_conf"]
    if theirs.get("specaug") == SPECAUG_LFR.theirs[0]:
        theirs["specaug_conf"]["lfr_rate"] = frontend.output_width // frontend.num_bands - 1
    return theirs


def _written_model(toolkit: Toolkit, fields: Mapping[str, Any], name: str) -> Part:
    """With fine frames, and with tokens that look at chunks, theirs has a class of its own."""
    own = (BICIF_PARAFORMER, PARAFORMER_ONLINE)
    part = part_of_ours([part for part in toolkit.models if part not in own], name, "task")
    if part is PARAFORMER and fields["predictor"]["type"] == "cif_v3":
        return BICIF_PARAFORMER
    return PARAFORMER_ONLINE if part is PARAFORMER and fields["decoder_look_back"] else part


ASR_CLASSES = {
    "sanm": "SANM",
    "sanm_chunk": "SANM",
    "conformer": "Conformer",
    "branchformer": "Branchformer",
    "e_branchformer": "EBranchformer",
}


def _model_class(part: Part, fields: Mapping[str, Any]) -> str:
    return ASR_CLASSES.get(fields["encoder"]["type"], part.theirs[0]) if part is ASR else part.theirs[0]


def _check_widths(fields: Mapping[str, Any]) -> None:
    decoder, encoder = fields["decoder"], fields["encoder"]["d_model"]
    if decoder is not None and decoder.get("d_model", encoder) != encoder:
        raise ConfigError(
            f"--decoder.d_model={decoder['d_model']} with --encoder.d_model={encoder}: one width was expected, which "
            "is all that theirs has; such a model cannot be converted."
        )
