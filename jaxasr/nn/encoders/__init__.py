"""Encoders: frames in, frames out. Importing this package registers them all."""

from jaxasr.nn.encoders.base import ENCODERS as ENCODERS
from jaxasr.nn.encoders.base import Encoder as Encoder
from jaxasr.nn.encoders.base import Taps as Taps
from jaxasr.nn.encoders.branchformer import BranchformerEncoder as BranchformerEncoder
from jaxasr.nn.encoders.branchformer import EBranchformerEncoder as EBranchformerEncoder
from jaxasr.nn.encoders.conformer import ConformerEncoder as ConformerEncoder
from jaxasr.nn.encoders.rnn import RnnEncoder as RnnEncoder
from jaxasr.nn.encoders.sanm import SanmChunkEncoder as SanmChunkEncoder
from jaxasr.nn.encoders.sanm import SanmEncoder as SanmEncoder
from jaxasr.nn.encoders.transformer import TransformerEncoder as TransformerEncoder
