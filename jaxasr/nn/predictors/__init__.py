"""Predictors of how many tokens there are, and where. Importing this package registers them all."""

from jaxasr.nn.predictors.base import PREDICTORS as PREDICTORS
from jaxasr.nn.predictors.base import Begun as Begun
from jaxasr.nn.predictors.base import Predicted as Predicted
from jaxasr.nn.predictors.base import Predictor as Predictor
from jaxasr.nn.predictors.cif import CifPredictor as CifPredictor
from jaxasr.nn.predictors.cif import CifPredictorV2 as CifPredictorV2
from jaxasr.nn.predictors.cif import CifPredictorV3 as CifPredictorV3
