"""What the choices of the task `asr` cannot be beside what those of no task can (speech_choices)."""

import inspect
import math
from typing import TYPE_CHECKING

from jaxasr.errors import ConfigError
from jaxasr.nn.specaug import SPECAUGS
from jaxasr.tasks.speech_choices import check_idle

if TYPE_CHECKING:
    from jaxasr.tasks.asr import AsrTask


def check_choices(task: "AsrTask") -> None:
    """Raises ConfigError where choices mean nothing together."""
    check_idle(task, {"decoder": ("label_smoothing", "length_normalized_loss")})
    _check_losses(task)
    _check_views(task)


def _check_losses(task: "AsrTask") -> None:
    if task.decoder is None and task.ctc_weight < 1.0:
        raise ConfigError(
            f"--decoder=none with --ctc_weight={task.ctc_weight}: the attention loss needs a decoder; "
            "give --ctc_weight=1.0 or choose a decoder."
        )
    if task.decoder is not None and task.ctc_weight == 1.0:
        raise ConfigError(
            "--ctc_weight=1.0 with a decoder: the decoder would never learn; add --decoder=none, or give a "
            "smaller --ctc_weight."
        )


def _check_views(task: "AsrTask") -> None:
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
