"""Whole models of FunASR and ESPnet, put together of their parts."""

from collections.abc import Sequence

from jaxasr.convert.decoders import TRANSFORMER_DECODER
from jaxasr.convert.encoders import SANM_ENCODER
from jaxasr.convert.layers import dense, same
from jaxasr.convert.names import Rule, within

CTC_HEAD = dense("ctc_lo", "*")
CONDITIONING = dense("encoder.conditioning_layer", "condition/*")
"""Of self-conditioned CTC: theirs keeps it in the encoder, which makes none by itself."""
NO_PARAMETERS = [Rule(name, None, same) for name in ("normalize.mean", "normalize.std", "frontend.logmel.melmat")]
"""Statistics of features, which here are no part of the network, and mel bands."""


def asr_model(
    encoder: Sequence[Rule],
    decoder: Sequence[Rule] = (),
    preencoder: Sequence[Rule] = (),
    postencoder: Sequence[Rule] = (),
) -> list[Rule]:
    """Of the model `asr` with these parts; without a decoder, of pure CTC."""
    parts = {"preencoder": preencoder, "encoder": encoder, "postencoder": postencoder, "decoder": decoder}
    return [
        *NO_PARAMETERS,
        *(rule for name, rules in parts.items() for rule in within(rules, name, name)),
        *CONDITIONING,
        *within(CTC_HEAD, "ctc", "ctc"),
    ]


ASR_SANM_TRANSFORMER = asr_model(SANM_ENCODER, TRANSFORMER_DECODER)
"""FunASR's `asr` model with a SAN-M encoder and a Transformer decoder."""
