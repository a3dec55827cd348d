"""FunASR's and ESPnet's parameter names and layouts against ours, as tables; and Hugging Face's of BERT."""

from jaxasr.convert.models import Toolkit as Toolkit
from jaxasr.convert.models import rules_of as rules_of
from jaxasr.convert.models import rules_of_part as rules_of_part
from jaxasr.convert.models import rules_of_parts as rules_of_parts
from jaxasr.convert.names import Layout as Layout
from jaxasr.convert.names import Rule as Rule
from jaxasr.convert.names import convert_params as convert_params
from jaxasr.convert.names import exactly as exactly
from jaxasr.convert.names import left_out as left_out
from jaxasr.convert.names import theirs_of as theirs_of
from jaxasr.convert.names import within as within
