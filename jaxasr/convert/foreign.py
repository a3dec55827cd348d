"""A model of another toolkit, as its files have it."""

import os
import pathlib
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from jaxasr.tasks.base import Task


class Foreign(NamedTuple):
    """What a reader makes of a folder; nothing of the tensors has been read but their names and shapes."""

    task: Task
    """With its resources: token list, tokenizer, statistics."""
    tensors: Mapping[str, np.ndarray]
    """By their names there."""
    toolkit: str
    """Such as `FunASR 1.x`."""
    left_out: tuple[str, ...] = ()
    """What the folder has and says, and the task does not: options, files."""


def file_inside(folder: pathlib.Path, name: str | pathlib.Path) -> pathlib.Path | None:
    """The file of that path in a folder; None where there is none, or it leads out of the folder."""
    path = folder / name
    # not Path.is_file, which raises for names that no file can have
    return path if os.path.isfile(path) and path.resolve().is_relative_to(folder.resolve()) else None
