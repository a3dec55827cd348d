"""What can be trained on, bucket shapes, and batches."""

import os
import threading

import numpy as np
import rich.console

from jaxasr.data import bucketing, mixing, reading
from jaxasr.data.audio import SoundSource
from jaxasr.data.batch import AsrExample, BucketShape, Collate
from jaxasr.data.bucketing import PlannedBatch
from jaxasr.data.manifest import Utterance
from jaxasr.data.pipeline import LoadBatch
from jaxasr.data.selection import INFEASIBLE, Selection, lengths, split_valid
from jaxasr.data.workers import Workers
from jaxasr.errors import DataError
from jaxasr.inputs import check_feasible, training_inputs
from jaxasr.prepare import read_manifests
from jaxasr.train_config import TrainConfig
from tests import tiny
from tests.errors.files import kaldi

SHAPE = BucketShape(1, 4, 2)
ONE_TOO_SHORT = Selection(
    [], np.zeros((0, 1), int), np.zeros((0, 1), bool), np.zeros(0, int), (1.0,), {INFEASIBLE: ["u"]}, 1
)


def collate(*examples: AsrExample) -> None:
    Collate()(examples, SHAPE)


def example(audio: np.ndarray) -> AsrExample:
    return AsrExample("u", audio, np.zeros(1, np.int32))


def load(error: Exception | None = None, *, processes: int = 1) -> None:
    """A batch whose preprocessing raises `error`, or else its collating."""

    def preprocess(utterance: Utterance, rng: np.random.Generator) -> None:
        if error:
            raise error

    plan = [PlannedBatch(SHAPE, np.zeros(1, int))]
    options = {"collate": Collate(), "seed": 0, "epoch": 0, "process": (0, processes)}
    LoadBatch(plan, [Utterance("u", "u.wav", "")], preprocess=preprocess, **options)(0)


def train_on_nothing() -> None:
    training_inputs(tiny.TASK, [], batch_seconds=1.0)


def train_on_the_unreadable() -> None:
    cfg = TrainConfig(tiny.TASK, train=(kaldi("data"),))
    read_manifests(cfg, rich.console.Console(quiet=True))


def stuck() -> None:
    """Waits for what never comes, as long as is allowed."""
    event = threading.Event()
    reading.allow(0.2)
    try:
        next(reading.in_order(lambda _: event.wait(), [0], threads=1, ahead=0))
    finally:
        event.set()
        reading.allow(reading.STALL_SECONDS)


CASES = {
    "reading that stands still": stuck,
    "a process that dies": lambda: list(Workers(os._exit, range(1), 1)),
    "one utterance to train and validate with": lambda: split_valid([Utterance("u", "u.wav", "a")]),
    "nothing to train on": train_on_nothing,
    "nothing that can be read": train_on_the_unreadable,
    "an utterance whose file is damaged": lambda: lengths(
        Utterance("u", "u.wav", "a"),
        {"u.wav": DataError("u.wav: gone; a file was expected; restore it.")},
        SoundSource(8000),
        (1.0,),
    ),
    "a corpus with nothing to use": lambda: mixing.counts([1, 0], [1.0, 1.0]),
    "too few frames": lambda: check_feasible(ONE_TOO_SHORT, 60.0, 0.01),
    "an utterance longer than every shape": lambda: bucketing.plan(np.array([5]), np.array([1]), [SHAPE], None),
    "more examples than rows": lambda: collate(*[example(np.zeros(4, np.int16))] * 2),
    "an example of floats": lambda: collate(example(np.zeros(4, np.float32))),
    "an example too long": lambda: collate(example(np.zeros(5, np.int16))),
    "preprocessing that fails": lambda: load(RuntimeError("boom")),
    "preprocessing that finds a fault": lambda: load(DataError("tokens: none; some were expected; add some.")),
    "collating that fails": lambda: load(),
    "rows that processes cannot share": lambda: load(processes=2),
}
