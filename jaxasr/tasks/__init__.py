"""Tasks. Importing this package registers them all."""

from jaxasr.tasks.asr import AsrTask as AsrTask
from jaxasr.tasks.base import TASKS as TASKS
from jaxasr.tasks.base import Task as Task
from jaxasr.tasks.lm import LmTask as LmTask
from jaxasr.tasks.paraformer import ParaformerTask as ParaformerTask
from jaxasr.tasks.speech import SpeechTask as SpeechTask
