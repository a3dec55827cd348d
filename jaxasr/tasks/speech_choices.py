"""What the choices of a task of speech recognition cannot be, alone or together; no data is read for it."""

import inspect
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from jaxasr.errors import ConfigError
from jaxasr.nn.encoders import ENCODERS
from jaxasr.nn.frontends import FRONTENDS
from jaxasr.nn.postencoders import POSTENCODERS
from jaxasr.nn.specaug import SPECAUGS

if TYPE_CHECKING:
    from jaxasr.tasks.speech import SpeechTask


LONG = 1000
"""Frames of features out of which at least one encoded frame comes."""


def check_choices(task: "SpeechTask") -> None:
    """Raises ConfigError where choices mean nothing together; the parts check their own options."""
    _check_inputs(task)
    _check_units(task)
    _check_losses(task)
    check_idle(task, {"interctc_layers": ("interctc_weight", "interctc_conditioning")})
    _check_views(task)
    _check_intermediate(task)
    _check_rate(task)


def _check_inputs(task: "SpeechTask") -> None:
    if task.sample_rate < 1:
        raise ConfigError(f"--sample_rate={task.sample_rate}: samples per second were expected; such as 16000.")
    if task.frontend.input_frames is not None and (task.preprocess is not None or task.channel is not None):
        raise ConfigError(
            f"--frontend={FRONTENDS.name_of(type(task.frontend))} with --preprocess or --channel: these are for "
            "sound, and features are given; add --preprocess=none, remove --channel (--specaug may stay)."
        )
    rate = getattr(task.preencoder, "sample_rate", task.sample_rate)
    if rate != task.sample_rate:
        raise ConfigError(
            f"--preencoder.sample_rate={rate} with --sample_rate={task.sample_rate}: the same was expected; change "
            "one of them."
        )
    if task.cmvn_file and not (task.normalizer is not None and task.normalizer.needs_statistics):
        raise ConfigError(
            f"--cmvn_file={task.cmvn_file}: the normalizer takes none; remove it, or give --normalizer=global_mvn."
        )


def _check_units(task: "SpeechTask") -> None:
    if getattr(task.encoder, "subsampling", None) != "embed":
        return
    width = task.frontend.for_encoder(1).output_width
    changed = [name for name in ("normalizer", "specaug", "preencoder") if getattr(task, name) is not None]
    if width != 1 or changed:
        raise ConfigError(
            f"--encoder.subsampling=embed: frames of width {width}, changed by {', '.join(changed) or 'nothing'}; "
            "each frame the number of a unit, as it is, was expected; give --frontend=features --frontend.width=1 "
            "--frontend.lfr_m=1 --frontend.lfr_n=1 --normalizer=none --specaug=none --preencoder=none."
        )


def check_idle(task: "SpeechTask", needing: Mapping[str, Sequence[str]]) -> None:
    """Raises ConfigError where options are set that change nothing.

    Args:
      needing: by option, those that change nothing where it is none, 0 or empty.
    """
    for needed, names in needing.items():
        for name in names if not getattr(task, needed) else ():
            if (value := getattr(task, name)) != (default := getattr(type(task), name)):
                raise ConfigError(
                    f"--{name}={value} without --{needed}: it would change nothing; {default} was expected; remove "
                    f"it, or give --{needed}."
                )


def _check_losses(task: "SpeechTask") -> None:
    if not 0.0 <= task.ctc_weight <= 1.0 or not 0.0 <= task.label_smoothing < 1.0:
        raise ConfigError(
            f"--ctc_weight={task.ctc_weight} --label_smoothing={task.label_smoothing}: both are shares; "
            "0 <= ctc_weight <= 1 and 0 <= label_smoothing < 1 were expected; change them."
        )


def _check_views(task: "SpeechTask") -> None:
    if not 0.0 <= task.cr_weight < math.inf or (task.cr_weight > 0.0 and task.ctc_weight == 0.0):
        raise ConfigError(
            f"--cr_weight={task.cr_weight} with --ctc_weight={task.ctc_weight}: a number from 0 was expected, above 0 "
            "only beside a CTC loss; change one of them."
        )
    if task.cr_weight > 0.0 and (
        task.specaug is None or "views" not in inspect.signature(type(task.specaug).__call__).parameters
    ):
        name = "none" if task.specaug is None else SPECAUGS.name_of(type(task.specaug))
        raise ConfigError(
            f"--cr_weight={task.cr_weight} with --specaug={name}: one that makes two views of an utterance was "
            "expected (it takes `views`); choose another, such as --specaug=specaug, or give --cr_weight=0."
        )


def _check_intermediate(task: "SpeechTask") -> None:
    layers = list(task.interctc_layers)
    if layers and (task.ctc_weight == 0.0 or not 0.0 < task.interctc_weight < 1.0):
        raise ConfigError(
            f"--interctc_layers={layers} with --ctc_weight={task.ctc_weight} "
            f"--interctc_weight={task.interctc_weight}: a share of the CTC loss between 0 and 1 was expected; "
            "change the weights, or remove the layers."
        )
    if layers and task.postencoder is not None:
        width, name = task.encoder.output_width, POSTENCODERS.name_of(type(task.postencoder))
        if task.postencoder.output_lengths(LONG) != LONG or task.postencoder.output_width(width) != width:
            raise ConfigError(
                f"--interctc_layers={layers} with --postencoder={name}: frames of one rate and of the encoder's width "
                f"{width} were expected in the end, since one CTC head looks at all; remove one of the two, or give "
                f"--postencoder.d_model={width}."
            )
    if layers and "taps" not in inspect.signature(type(task.encoder).__call__).parameters:
        raise ConfigError(
            f"--interctc_layers={layers}: --encoder={ENCODERS.name_of(type(task.encoder))} shows no layer but its "
            "last; an encoder that takes `taps` was expected; choose another, or remove the layers."
        )


def _check_rate(task: "SpeechTask") -> None:
    if task.encoder.output_lengths(LONG) >= 1 and task.encoded(LONG) >= 1:
        return
    name = "none" if task.postencoder is None else POSTENCODERS.name_of(type(task.postencoder))
    raise ConfigError(
        f"--encoder={ENCODERS.name_of(type(task.encoder))} with --postencoder={name}: not one frame comes out for "
        f"{LONG} frames of features; at least one was expected; have them divide the frame rate by less."
    )
