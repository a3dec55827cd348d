"""Features given instead of sound."""

import dataclasses
import pathlib
import sys

import kaldiio
import numpy as np
import pytest

from jaxasr.data.features import FeatureSource
from jaxasr.data.source import Header
from jaxasr.data.utterance import Utterance
from jaxasr.nn.frontends import GivenFeatures, SlidingWindow, StftFrontend
from tests import tiny
from tests.errors.files import write

SOURCE = FeatureSource(4, 10.0)


def read(path: str) -> None:
    SOURCE.read(Utterance("u", path, ""))


def array(*shape: int) -> str:
    np.save("a.npy", np.zeros(shape, np.float32))
    return "a.npy"


def archive() -> str:
    """A matrix at byte 2."""
    kaldiio.save_ark("a.ark", {"u": np.zeros((3, 4), np.float32)})
    return "a.ark:2"


def cut_short() -> None:
    path = archive()
    file = pathlib.Path("a.ark")
    file.write_bytes(file.read_bytes()[:-1])
    read(path)


def without_kaldiio() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "kaldiio", None)
        read(archive())


CASES = {
    "a window longer than its transform": lambda: StftFrontend(window_ms=50.0).num_frames(8000, 16_000),
    "no samples in a transform": lambda: StftFrontend(fft_size=1).for_encoder(1),
    "a sliding window without samples": lambda: SlidingWindow(window=0).for_encoder(1),
    "a sliding window that stands still": lambda: SlidingWindow(hop_ms=0.01).num_frames(8000, 16_000),
    "no array": lambda: read(write("a.npy", "hello")),
    "a wrong offset": lambda: read(archive()[:-1] + "3"),
    "an archive cut short": cut_short,
    "three dimensions": lambda: read(array(1, 3, 4)),
    "no frames": lambda: read(array(0, 4)),
    "another width": lambda: read(array(3, 80)),
    "a speed": lambda: SOURCE.length(Utterance("u", "a.npy", ""), Header(3, 0, 4), 1.1),
    "with speeds and volume": lambda: dataclasses.replace(tiny.TASK, frontend=GivenFeatures()).check(),
    "archives without kaldiio": without_kaldiio,
}
