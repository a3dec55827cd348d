"""Decoders, one token after the other or all at once. Importing this package registers them all."""

from jaxasr.nn.decoders.base import DECODERS as DECODERS
from jaxasr.nn.decoders.base import Cache as Cache
from jaxasr.nn.decoders.base import Decoder as Decoder
from jaxasr.nn.decoders.base import parted as parted
from jaxasr.nn.decoders.convolution import DynamicConv2dDecoder as DynamicConv2dDecoder
from jaxasr.nn.decoders.convolution import DynamicConvDecoder as DynamicConvDecoder
from jaxasr.nn.decoders.convolution import LightweightConv2dDecoder as LightweightConv2dDecoder
from jaxasr.nn.decoders.convolution import LightweightConvDecoder as LightweightConvDecoder
from jaxasr.nn.decoders.parallel import PARALLEL_DECODERS as PARALLEL_DECODERS
from jaxasr.nn.decoders.parallel import ParallelDecoder as ParallelDecoder
from jaxasr.nn.decoders.rnn import RnnDecoder as RnnDecoder
from jaxasr.nn.decoders.sanm import ParaformerSanmDecoder as ParaformerSanmDecoder
from jaxasr.nn.decoders.sanm import SanmDecoder as SanmDecoder
from jaxasr.nn.decoders.transformer import ParaformerSanDecoder as ParaformerSanDecoder
from jaxasr.nn.decoders.transformer import TransformerDecoder as TransformerDecoder
