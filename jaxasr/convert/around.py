"""What FunASR and ESPnet have before and behind an encoder."""

from collections.abc import Callable, Mapping
from typing import Any

from jaxasr.convert.bert import BERT_BLOCKS
from jaxasr.convert.layers import FILTERS, batch_norm, check_option, conv1d, dense, norm
from jaxasr.convert.names import SAME, Layout, Rule
from jaxasr.nn.postencoders import LengthAdaptor, TransformerPostEncoder
from jaxasr.nn.preencoders import LinearPreEncoder, SincPreEncoder

LINEAR_PREENCODER = dense("linear_out", "out/*")

SINC_PREENCODER = [
    Rule("filters.f", "bands", Layout(None, SAME.theirs)),  # the same as the next
    Rule("blocks.SincConvBlock.Filters.f", "bands"),
    *batch_norm("blocks.SincConvBlock.BatchNorm", "norm0/*"),
    *(
        rule
        for number in range(1, 6)
        for rule in (
            Rule(f"blocks.DConvBlock{number}.depthwise.weight", f"conv{number}/filter", FILTERS),
            Rule(f"blocks.DConvBlock{number}.depthwise.bias", f"conv{number}/bias"),
            *batch_norm(f"blocks.DConvBlock{number}.batchnorm", f"norm{number}/*"),
        )
    ),
]


def _length_adaptor(adaptor: LengthAdaptor) -> list[Rule]:
    return [
        *dense("embed.0", "input/*"),
        *norm("embed.1", "input_norm/*"),
        *(
            rule
            for layer in range(adaptor.num_layers)
            for rule in conv1d(f"length_adaptor.{2 * layer}", f"conv{layer}/*")
        ),
    ]


TRANSFORMER_POSTENCODER = [
    *dense("linear_in", "input/*"),
    *(rule._replace(theirs=f"transformer.{rule.theirs}") for rule in BERT_BLOCKS),
]
"""Of `hugging_face_transformers` with a model whose names are BERT's."""


def _transformer(postencoder: TransformerPostEncoder) -> list[Rule]:
    check_option("postencoder", postencoder, "norm_first", False)  # theirs leaves out such models' last norm
    return TRANSFORMER_POSTENCODER


PREENCODER_RULES: Mapping[type, Callable[[Any], list[Rule]]] = {
    LinearPreEncoder: lambda _: LINEAR_PREENCODER,
    SincPreEncoder: lambda _: SINC_PREENCODER,
}
POSTENCODER_RULES: Mapping[type, Callable[[Any], list[Rule]]] = {
    LengthAdaptor: _length_adaptor,
    TransformerPostEncoder: _transformer,
}
