"""FunASR's and ESPnet's parameter names and layouts against ours, as tables; and Hugging Face's of BERT."""

from jaxasr.convert.around import LENGTH_ADAPTOR as LENGTH_ADAPTOR
from jaxasr.convert.around import LINEAR_PREENCODER as LINEAR_PREENCODER
from jaxasr.convert.around import SINC_PREENCODER as SINC_PREENCODER
from jaxasr.convert.around import TRANSFORMER_POSTENCODER as TRANSFORMER_POSTENCODER
from jaxasr.convert.decoders import EMBEDDING as EMBEDDING
from jaxasr.convert.decoders import PARAFORMER_SAN_DECODER as PARAFORMER_SAN_DECODER
from jaxasr.convert.decoders import PARAFORMER_SANM_DECODER as PARAFORMER_SANM_DECODER
from jaxasr.convert.decoders import RNN_DECODER as RNN_DECODER
from jaxasr.convert.decoders import SANM_DECODER as SANM_DECODER
from jaxasr.convert.decoders import TRANSFORMER_DECODER as TRANSFORMER_DECODER
from jaxasr.convert.decoders import convolution_decoder as convolution_decoder
from jaxasr.convert.encoders import BRANCHFORMER_ENCODER as BRANCHFORMER_ENCODER
from jaxasr.convert.encoders import CONFORMER_ENCODER as CONFORMER_ENCODER
from jaxasr.convert.encoders import RNN_ENCODER as RNN_ENCODER
from jaxasr.convert.encoders import SANM_ENCODER as SANM_ENCODER
from jaxasr.convert.encoders import TRANSFORMER_ENCODER as TRANSFORMER_ENCODER
from jaxasr.convert.encoders import of_units as of_units
from jaxasr.convert.models import ASR_SANM_TRANSFORMER as ASR_SANM_TRANSFORMER
from jaxasr.convert.models import CTC_HEAD as CTC_HEAD
from jaxasr.convert.models import asr_model as asr_model
from jaxasr.convert.names import Rule as Rule
from jaxasr.convert.names import convert_params as convert_params
from jaxasr.convert.names import within as within
from jaxasr.convert.predictors import CIF_PREDICTOR as CIF_PREDICTOR
from jaxasr.convert.predictors import CIF_PREDICTOR_V2 as CIF_PREDICTOR_V2
from jaxasr.convert.predictors import CIF_PREDICTOR_V3 as CIF_PREDICTOR_V3
