"""Attention decoders. Importing this package registers them all."""

from jaxasr.nn.decoders.base import DECODERS as DECODERS
from jaxasr.nn.decoders.base import Cache as Cache
from jaxasr.nn.decoders.base import Decoder as Decoder
from jaxasr.nn.decoders.transformer import TransformerDecoder as TransformerDecoder
