"""What the choices of the task `paraformer` cannot be beside what those of no task can (speech_choices)."""

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

from jaxasr.errors import ConfigError
from jaxasr.nn.decoders import PARALLEL_DECODERS, ParaformerSanmDecoder
from jaxasr.nn.encoders import ENCODERS, SanmChunkEncoder
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
    _check_chunks(task)


def _check_width(task: "ParaformerTask") -> None:
    width = task.encoder.output_width
    width = width if task.postencoder is None else task.postencoder.output_width(width)
    if task.decoder.d_model != width:
        raise ConfigError(
            f"--decoder.d_model={task.decoder.d_model}: frames of width {width}, of which the decoder's tokens are "
            f"made; the same width was expected; give --decoder.d_model={width}."
        )


def _check_chunks(task: "ParaformerTask") -> None:
    """What sees behind a chunk would undo that tokens look at chunks."""
    if task.decoder_look_back and (faults := list(_open_ends(task))):
        raise ConfigError(
            f"--decoder_look_back={list(task.decoder_look_back)} with {', '.join(faults)}: parts that see no further "
            "than a chunk were expected; give --encoder=sanm_chunk without subsampling, --decoder=paraformer_sanm with "
            "attention in all layers and shift half of kernel_size, neither --predictor.scaled nor --postencoder, and "
            "one number from 0, or one for each chunk size."
        )


def _open_ends(task: "ParaformerTask") -> Iterator[str]:
    encoder, decoder, numbers = task.encoder, task.decoder, task.decoder_look_back
    if not isinstance(encoder, SanmChunkEncoder):
        yield f"--encoder={ENCODERS.name_of(type(encoder))}"
    else:
        if encoder.subsampling != "none":
            yield f"--encoder.subsampling={encoder.subsampling}"
        if len(numbers) not in (1, len(encoder.chunk_size)) or min(numbers) < 0:
            yield f"--encoder.chunk_size={list(encoder.chunk_size)}"
        if max(task.predictor.left, task.predictor.right) > encoder.kernel_size // 2:  # the zeros between chunks
            yield f"--encoder.kernel_size={encoder.kernel_size} below the predictor's"
    if not isinstance(decoder, ParaformerSanmDecoder):
        yield f"--decoder={PARALLEL_DECODERS.name_of(type(decoder))}"
    elif not decoder.causal:
        yield f"--decoder.shift={decoder.shift} --decoder.attention_layers={decoder.attention_layers}"
    if task.predictor.scaled:
        yield "--predictor.scaled=True"
    if task.postencoder is not None:
        yield "--postencoder"
