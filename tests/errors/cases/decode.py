"""Decoding: options, inputs and arrays."""

from typing import Any

import numpy as np

from jaxasr.decode import DecodeOptions, SpeechToText, decode, read_inputs
from tests import tiny
from tests.errors.files import write


def check(**options: Any) -> None:
    decode(DecodeOptions(("a.wav",), "model", **options))


def transcribe(samples: np.ndarray) -> None:
    nothing: Any = None  # the samples are looked at first
    SpeechToText(tiny.TASK, nothing, nothing).transcribe(samples)


CASES = {
    "an output that is a file": lambda: check(output=write("out")),
    "no input": lambda: decode(DecodeOptions((), "model")),
    "no rows": lambda: check(rows=0),
    "padding below 0": lambda: check(extra_padding=-1.0),
    "a folder without sound": lambda: read_inputs(["."], "sound"),
    "a search that the model does not have": lambda: tiny.TASK.decode_fn("beam"),
    "two channels": lambda: transcribe(np.zeros((2, 5))),
    "samples of int16 as floats": lambda: transcribe(np.array([0.0, 1000.0])),
    "a NaN": lambda: transcribe(np.array([np.nan])),
}
