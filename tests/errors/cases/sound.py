"""Sound files and stretches of them."""

import errno
import os
import pathlib
from typing import Any

import numpy as np
import pytest
import soundfile

from jaxasr.data import audio, sounds
from jaxasr.data.manifest import Utterance
from jaxasr.data.source import Header, check_max_seconds, check_seconds, segment
from tests.errors.files import RATE, sound, write

NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, 20_000).astype(np.float32)


def read(path: str, **options: Any) -> None:
    audio.read(Utterance("u", path, ""), RATE, **options)


def open_length() -> None:
    soundfile.write("a.flac", NOISE, RATE)
    raw = bytearray(pathlib.Path("a.flac").read_bytes())
    raw[22:26] = bytes(4)  # where the header says how many frames there are
    read(write("a.flac", raw))


def cut_short() -> None:
    soundfile.write("a.mp3", NOISE, RATE)
    raw = pathlib.Path("a.mp3").read_bytes()
    read(write("a.mp3", raw[: len(raw) // 2]))


def noises(path: str) -> None:
    sounds.find(path, RATE, "--preprocess.noise")


def two_readings() -> None:
    for name in ("a b.wav", "b.wav"):
        sound(name)
    noises(write("noise.scp", "a b.wav\n"))


def closed_folder() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        noises(".")


def refuse(folder: str) -> None:
    raise PermissionError(errno.EACCES, "Permission denied", folder)


CASES = {
    "no file": lambda: read("nowhere.wav"),
    "a folder": lambda: read("."),
    "a name in Latin-1": lambda: read("caf\udce9.wav"),
    "a text file": lambda: read(write("a.wav", "hello")),
    "a header alone": lambda: read(write("a.flac", "fLaC")),
    "a thousand channels": lambda: read(sound("a.wav", np.zeros((9, 1024), np.float32))),
    "an hour for a minute": lambda: check_seconds("a.wav", 3600.0, 60.0),
    "no seconds": lambda: check_max_seconds(0.0),
    "a header without a length": open_length,
    "a file cut short": cut_short,
    "a NaN": lambda: read(sound("a.wav", np.full(9, np.nan, np.float32))),
    "a stretch past the end": lambda: segment(Utterance("u", "a.wav", "", start=2.0), RATE, RATE),
    "a channel too many": lambda: read(sound("a.wav"), channel=1),
    "a speed of 0": lambda: read(sound("a.wav"), speed=0.0),
    "no noises": lambda: noises("nowhere"),
    "noises in an empty folder": lambda: noises("."),
    "noises in a closed folder": closed_folder,
    "a noise with an id, or with a space": two_readings,
    "a noise that is text": lambda: noises(write("a.wav", "hello")),
    "a noise without samples": lambda: sounds._usable("a.wav", Header(0, RATE, 1), RATE),
    "a room of zeros": lambda: sounds.response(sounds.SoundFile(sound("a.wav"), RATE // 2, RATE), RATE),
}
