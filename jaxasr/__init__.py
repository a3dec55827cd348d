"""Speech recognition in JAX and Flax.

    python -m jaxasr.train --task=asr --encoder=sanm      # trains on the bundled digits
    text = jaxasr.load("exp/digits").transcribe("a.wav")

The names below are the public ones; each is loaded when it is first used.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

from jaxasr.launch import is_being_started, tell_interrupts

__version__ = "0.1.0"

if is_being_started(sys.argv, sys.orig_argv):  # what the command needs is still to be imported, for seconds
    tell_interrupts()

if TYPE_CHECKING:
    from jaxasr.data.batch import AsrBatch as AsrBatch
    from jaxasr.data.batch import AsrExample as AsrExample
    from jaxasr.data.batch import AsrFeatureBatch as AsrFeatureBatch
    from jaxasr.data.batch import AsrFeatureExample as AsrFeatureExample
    from jaxasr.data.batch import BucketShape as BucketShape
    from jaxasr.data.manifest import Utterance as Utterance
    from jaxasr.data.segmenter import Segmenter as Segmenter
    from jaxasr.data.tokenizer import Vocabulary as Vocabulary
    from jaxasr.errors import JaxasrError as JaxasrError
    from jaxasr.inputs import evaluation_inputs as evaluation_inputs
    from jaxasr.inputs import training_inputs as training_inputs
    from jaxasr.scoring import score as score
    from jaxasr.searching import SearchFlags as SearchFlags
    from jaxasr.speech_to_text import load as load
    from jaxasr.tasks.asr import AsrTask as AsrTask
    from jaxasr.tasks.lm import LmTask as LmTask
    from jaxasr.tasks.paraformer import ParaformerTask as ParaformerTask
    from jaxasr.train_config import TrainConfig as TrainConfig

_PLACES = {
    "AsrBatch": "jaxasr.data.batch",
    "AsrExample": "jaxasr.data.batch",
    "AsrFeatureBatch": "jaxasr.data.batch",
    "AsrFeatureExample": "jaxasr.data.batch",
    "AsrTask": "jaxasr.tasks.asr",
    "BucketShape": "jaxasr.data.batch",
    "JaxasrError": "jaxasr.errors",
    "LmTask": "jaxasr.tasks.lm",
    "ParaformerTask": "jaxasr.tasks.paraformer",
    "SearchFlags": "jaxasr.searching",
    "Segmenter": "jaxasr.data.segmenter",
    "TrainConfig": "jaxasr.train_config",
    "Utterance": "jaxasr.data.manifest",
    "Vocabulary": "jaxasr.data.tokenizer",
    "evaluation_inputs": "jaxasr.inputs",
    "load": "jaxasr.speech_to_text",
    "score": "jaxasr.scoring",
    "training_inputs": "jaxasr.inputs",
}

__all__ = ["__version__", *_PLACES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module 'jaxasr' has no attribute {name!r}; there are {', '.join(sorted(_PLACES))}")
    return getattr(importlib.import_module(_PLACES[name]), name)
