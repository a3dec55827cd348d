"""Small files for the cases, each in a folder of its own."""

import pathlib

import numpy as np
import soundfile

RATE = 8000


def write(name: str, content: str | bytes = "") -> str:
    """Writes a file, and the folders above it; returns its name."""
    path = pathlib.Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def sound(name: str, samples: np.ndarray | None = None) -> str:
    """Writes a sound file, half a second of silence where no samples are given; returns its name."""
    soundfile.write(name, np.zeros(RATE // 2, np.float32) if samples is None else samples, RATE, subtype="FLOAT")
    return name


def kaldi(folder: str, **files: str) -> str:
    """A Kaldi folder of one utterance, `u`; `files` stand in it instead of or beside its own."""
    for name, content in ({"wav_scp": "u u.wav\n", "text": "u a\n"} | files).items():
        write(f"{folder}/{name.replace('_', '.')}", content)
    return folder
