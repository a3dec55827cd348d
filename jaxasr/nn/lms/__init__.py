"""Language models. Importing this package registers them all."""

from jaxasr.nn.lms.base import LMS as LMS
from jaxasr.nn.lms.base import LanguageModel as LanguageModel
from jaxasr.nn.lms.seq_rnn import SeqRnnLm as SeqRnnLm
from jaxasr.nn.lms.transformer import TransformerLm as TransformerLm
