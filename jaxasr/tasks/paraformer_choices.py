"""What the choices of the task `paraformer` cannot be beside what those of no task can (speech_choices)."""

import math
from typing import TYPE_CHECKING

from jaxasr.errors import ConfigError
from jaxasr.tasks.speech_choices import check_idle

if TYPE_CHECKING:
    from jaxasr.tasks.paraformer import ParaformerTask


def check_choices(task: "ParaformerTask") -> None:
    """Raises ConfigError where choices mean nothing together."""
    if task.ctc_weight == 1.0:
        raise ConfigError(
            "--ctc_weight=1.0 with --task=paraformer: the decoder would never learn; less than 1 was expected; change "
            "it, or give --task=asr --decoder=none."
        )
    if not 0.0 <= task.predictor_weight < math.inf or not 0.0 <= task.sampling_ratio <= 1.0:
        raise ConfigError(
            f"--predictor_weight={task.predictor_weight} --sampling_ratio={task.sampling_ratio}: a number from 0 and a "
            "share from 0 to 1 were expected; change them."
        )
    check_idle(task, {"sampling_ratio": ("share_embedding", "first_pass_loss")})
    _check_width(task)


def _check_width(task: "ParaformerTask") -> None:
    width = task.encoder.output_width
    width = width if task.postencoder is None else task.postencoder.output_width(width)
    if task.decoder.d_model != width:
        raise ConfigError(
            f"--decoder.d_model={task.decoder.d_model}: frames of width {width}, of which the decoder's tokens are "
            f"made; the same width was expected; give --decoder.d_model={width}."
        )
