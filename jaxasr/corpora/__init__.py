"""The corpus that comes with the package."""

import importlib.resources
import pathlib


def digits() -> pathlib.Path:
    """The folder of spoken digits; its `train`, `valid` and `test` are Kaldi folders."""
    return pathlib.Path(str(importlib.resources.files(__name__))) / "digits"
