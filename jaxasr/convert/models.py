"""Whole models of FunASR and ESPnet, put together of their parts."""

from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import numpy as np

from jaxasr.convert.around import POSTENCODER_RULES, PREENCODER_RULES
from jaxasr.convert.decoders import DECODER_RULES, EMBEDDING
from jaxasr.convert.encoders import ENCODER_RULES, ESPNET_CONV2D8
from jaxasr.convert.layers import dense
from jaxasr.convert.names import Layout, Rule, exactly, within
from jaxasr.convert.predictors import PREDICTOR_RULES
from jaxasr.errors import ConfigError
from jaxasr.nn.decoders import (
    DECODERS,
    PARALLEL_DECODERS,
    ParaformerSanDecoder,
    ParaformerSanmDecoder,
    ParallelDecoder,
    SanmDecoder,
)
from jaxasr.nn.encoders import (
    ENCODERS,
    BranchformerEncoder,
    EBranchformerEncoder,
    RnnEncoder,
    SanmChunkEncoder,
    SanmEncoder,
)
from jaxasr.nn.postencoders import POSTENCODERS, LengthAdaptor
from jaxasr.nn.predictors import PREDICTORS
from jaxasr.nn.preencoders import PREENCODERS
from jaxasr.typing import Params

Toolkit: TypeAlias = Literal["funasr", "espnet"]

RULES: Mapping[str, Mapping[type, Callable[[Any], list[Rule]]]] = {
    "preencoder": PREENCODER_RULES,
    "encoder": ENCODER_RULES,
    "predictor": PREDICTOR_RULES,
    "postencoder": POSTENCODER_RULES,
    "decoder": DECODER_RULES,
}
"""By slot of a task and by part, their names for it."""
NOT_IN: Mapping[Toolkit, tuple[type, ...]] = {
    "funasr": (LengthAdaptor,),
    "espnet": (
        SanmEncoder,
        SanmChunkEncoder,
        SanmDecoder,
        ParaformerSanDecoder,
        ParaformerSanmDecoder,
        *PREDICTOR_RULES,
    ),
}
NOT_CONDITIONED = (BranchformerEncoder, EBranchformerEncoder, RnnEncoder)
"""Encoders of theirs that no CTC head conditions, or, E-Branchformer, by frames that are not normalised."""
EMPTY_TABLE = Layout(None, lambda kernel: np.zeros_like(kernel.T))
"""Of the tokens that training shows, of which there are none: as large as the decoder's output layer (D, V)."""
CTC_HEAD = dense("ctc_lo", "*")
CONDITIONING = dense("encoder.conditioning_layer", "condition/*")
"""Of self-conditioned CTC: theirs keeps it in the encoder, which makes none by itself."""
NO_PARAMETERS = [Rule(name, None) for name in ("normalize.mean", "normalize.std", "frontend.logmel.melmat")]
"""Statistics of features, which here are no part of the network, and mel bands."""


def rules_of(task: Any, toolkit: Toolkit = "funasr") -> list[Rule]:
    """The rules for exactly the network of a task: one of ours for each of its parameters, under the toolkit's names.

    What their files may have that it has not is left out (`names.left_out`): statistics, mel bands, a CTC head, and the
    table of tokens shown in training.

    Args:
      task: with parts in any of the slots of `RULES`, such as an `AsrTask`.

    Raises:
      ConfigError: the toolkit has no part like one of the task's, or not with its options.
    """
    shapes = task.parameter_shapes()
    _check_encoder(task.encoder, shapes, toolkit)
    parts = {slot: part for slot in RULES if (part := getattr(task, slot, None)) is not None}
    no_head = [] if "ctc" in shapes else [Rule(f"ctc.{rule.theirs}", None) for rule in CTC_HEAD]
    return exactly([*rules_of_parts(parts, toolkit), *_table(task, shapes), *no_head], shapes)


def _table(task: Any, shapes: Params) -> list[Rule]:
    """Of the embedding of tokens that a parallel decoder is shown: the network's, which theirs keeps in the decoder."""
    if not isinstance(getattr(task, "decoder", None), ParallelDecoder):
        return []
    theirs = f"decoder.{EMBEDDING.theirs}"
    if "embed" in shapes:
        return [Rule(theirs, EMBEDDING.ours)]
    empty = [] if task.share_embedding else [Rule(theirs, "decoder/output/kernel", EMPTY_TABLE)]
    return [Rule(theirs, None), *empty]


def _check_encoder(encoder: Any, shapes: Params, toolkit: Toolkit) -> None:
    """Raises where theirs computes something else inside this network than the encoder does by itself."""
    if "condition" in shapes and type(encoder) in NOT_CONDITIONED:
        raise ConfigError(
            f"--interctc_conditioning with --encoder={_name(type(encoder))}: theirs is not conditioned like this; "
            "another encoder was expected, to convert it; remove the option, or choose another encoder."
        )
    bare = isinstance(encoder, EBranchformerEncoder) and encoder.subsampling == "none"
    if toolkit == "espnet" and bare and "input" not in shapes["encoder"]:
        raise ConfigError(
            f"--encoder.subsampling=none with frames of width d_model={encoder.d_model}: ESPnet's e_branchformer adds "
            "positions to them, ours does not; another width of frames was expected, to convert it; change "
            "--encoder.subsampling."
        )


def rules_of_parts(parts: Mapping[str, Any], toolkit: Toolkit = "funasr") -> list[Rule]:
    """The rules of a model of these parts, by slot; those too of what other options would give it.

    Raises:
      ConfigError: as `rules_of`.
    """
    return [
        *NO_PARAMETERS,
        *(rule for slot, part in parts.items() for rule in within(rules_of_part(slot, part, toolkit), slot, slot)),
        *CONDITIONING,
        *within(CTC_HEAD, "ctc", "ctc"),
    ]


def rules_of_part(slot: str, part: Any, toolkit: Toolkit = "funasr") -> list[Rule]:
    """The rules of a part as its options have it named; those too of what other options would give it.

    Raises:
      ConfigError: as `rules_of`.
    """
    known = {cls: rules for cls, rules in RULES[slot].items() if cls not in NOT_IN[toolkit]}
    if type(part) not in known:
        raise ConfigError(
            f"--{slot}={_name(type(part))}: {toolkit} has none like it; "
            f"{', '.join(map(_name, known)) or 'nothing there'} can be converted; choose another."
        )
    rules = known[type(part)](part)
    if toolkit == "espnet" and getattr(part, "subsampling", None) == "conv2d8":
        return [rule._replace(theirs=ESPNET_CONV2D8.get(rule.theirs, rule.theirs)) for rule in rules]
    return rules


def _name(cls: type) -> str:
    """What a part is called on the command line."""
    registries = PREENCODERS, ENCODERS, PREDICTORS, POSTENCODERS, DECODERS, PARALLEL_DECODERS
    names = (name for registry in registries for name in registry if registry[name] is cls)
    return next(names, cls.__name__)
