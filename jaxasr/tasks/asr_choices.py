"""What the choices of the task `asr` cannot be beside what those of no task can (speech_choices)."""

from typing import TYPE_CHECKING

from jaxasr.errors import ConfigError
from jaxasr.tasks.speech_choices import check_idle

if TYPE_CHECKING:
    from jaxasr.tasks.asr import AsrTask


def check_choices(task: "AsrTask") -> None:
    """Raises ConfigError where choices mean nothing together."""
    check_idle(task, {"decoder": ("label_smoothing", "length_normalized_loss")})
    _check_losses(task)


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
