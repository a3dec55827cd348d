"""What FunASR and ESPnet have before and behind an encoder."""

from jaxasr.convert.bert import BERT_BLOCKS
from jaxasr.convert.layers import batch_norm, conv1d, dense, filters, norm, same
from jaxasr.convert.names import Rule

LINEAR_PREENCODER = dense("linear_out", "out/*")

SINC_PREENCODER = [
    Rule("filters.f", None, same),  # the same as the next
    Rule("blocks.SincConvBlock.Filters.f", "bands", same),
    *batch_norm("blocks.SincConvBlock.BatchNorm", "norm0/*"),
    *(
        rule
        for number in range(1, 6)
        for rule in (
            Rule(f"blocks.DConvBlock{number}.depthwise.weight", f"conv{number}/filter", filters),
            Rule(f"blocks.DConvBlock{number}.depthwise.bias", f"conv{number}/bias", same),
            *batch_norm(f"blocks.DConvBlock{number}.batchnorm", f"norm{number}/*"),
        )
    ),
]

LENGTH_ADAPTOR = [
    *dense("embed.0", "input/*"),
    *norm("embed.1", "input_norm/*"),
    *(rule for layer in range(8) for rule in conv1d(f"length_adaptor.{2 * layer}", f"conv{layer}/*")),
]

TRANSFORMER_POSTENCODER = [
    *dense("linear_in", "input/*"),
    *(rule._replace(theirs=f"transformer.{rule.theirs}") for rule in BERT_BLOCKS),
]
"""Of `hugging_face_transformers` with a model whose names are BERT's."""
