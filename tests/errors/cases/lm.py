"""Language models: their text, their sizes, and the searches that ask them."""

import dataclasses
import pathlib
from typing import Any

import numpy as np

from jaxasr import checkpoint
from jaxasr.data import manifest
from jaxasr.data.batch import BucketShape, TextExample, collate_text
from jaxasr.data.tokenizer import Vocabulary
from jaxasr.language_models import check_same_tokens, neural_lm
from jaxasr.nn.lms import SeqRnnLm, TransformerLm
from jaxasr.paths import unflatten
from jaxasr.searching import SearchFlags
from jaxasr.tasks import LmTask
from jaxasr.train_config import TrainConfig
from jaxasr.tuning import tuned
from tests import tiny
from tests.errors.files import write

TOKENS = Vocabulary(tiny.TOKENS)
ASR = dataclasses.replace(tiny.TASK, vocabulary=TOKENS, normalizer=None)


def collate(*tokens: int) -> None:
    collate_text([TextExample("u", np.array(tokens, np.int32))], BucketShape(1, 1, 1))


def a_model_that_hears() -> None:
    task: Any = ASR
    folder, shapes = pathlib.Path("asr"), checkpoint.flatten_shapes(task)
    params = unflatten({name: np.zeros(shape, np.float32) for name, shape in shapes.items()})
    checkpoint.save_model(folder, task, params)
    neural_lm(folder, task.vocabulary)


def nothing_to_tune() -> None:
    class Heard:
        task = tiny.TASK

    nothing: Any = None  # what the search weighs is looked at first
    recognizer: Any = Heard()
    tuned(recognizer, nothing, nothing, SearchFlags(), {})


CASES = {
    "text by another name": lambda: manifest.read(write("a.text", "one\n"), kind="text"),
    "more tokens than fit": lambda: collate(3, 4),
    "cells of no width": lambda: LmTask(lm=SeqRnnLm(d_hidden=0)).check(),
    "embeddings of no width": lambda: LmTask(lm=TransformerLm(d_embed=0)).check(),
    "error rates of what decodes nothing": lambda: TrainConfig(task=LmTask(), best_metric="wer").check(),
    "seconds of text": lambda: TrainConfig(task=LmTask(), batch_seconds=9.0).check(),
    "what decodes nothing, decoding": lambda: SearchFlags().choices(LmTask()),
    "a model that hears as language model": a_model_that_hears,
    "other tokens": lambda: check_same_tokens("--lm=exp/lm", TOKENS, Vocabulary((*TOKENS.FIRST, TOKENS.LAST))),
    "a weight of nothing": lambda: SearchFlags(search="ctc_beam", lm_weight=0.5).choices(ASR),
    "an infinite weight": lambda: SearchFlags(search="ctc_beam", lm="lm", lm_weight=float("inf")).choices(ASR),
    "a search that weighs nothing": nothing_to_tune,
}
