"""Preprocessing and collating for the tests of the pipeline, light enough for a worker to import."""

import dataclasses
import os
import sys
from typing import Any

import numpy as np

from jaxasr.data.batch import AsrExample, BucketShape
from jaxasr.data.manifest import Utterance


@dataclasses.dataclass(frozen=True)
class Noise:
    """Example of random audio; what it is given by the pipeline stands in its tokens."""

    fails_on: str = ""

    def __call__(self, utterance: Utterance, rng: np.random.Generator) -> AsrExample:
        if utterance.id == self.fails_on:
            raise UnpicklableError(lambda: 0)
        audio = rng.integers(-9, 9, 4).astype(np.int16)
        return AsrExample(utterance.id, audio, np.array([round(10 * utterance.speed)], np.int32))


class UnpicklableError(Exception):
    """An error that no worker can send."""

    def __init__(self, held: Any):
        super().__init__("boom")
        self.held = held


def surroundings(utterance: Utterance, rng: np.random.Generator) -> AsrExample:
    """Which process it runs in, and what that has imported."""
    del rng
    names = ("jax", "flax", "jaxasr.tasks", "jaxasr.nn", "pytest")
    return AsrExample(
        utterance.id, np.zeros(4, np.int16), np.array([os.getpid(), *(name in sys.modules for name in names)], np.int32)
    )


def ids_only(examples: list[AsrExample], shape: BucketShape) -> dict[str, Any]:
    """A user's own collate function."""
    return {"names": [e.id for e in examples], "rows": shape.rows}


def failing(examples: list[AsrExample], shape: BucketShape) -> Any:
    raise UnpicklableError(lambda: 0)
