"""Where programs say what they do."""

import os
from typing import Any

import rich.console

NOTEBOOK = "JPY_PARENT_PID"
"""In the environment of Jupyter's and Colab's kernels, and of what they start."""
COLUMNS = 115


def console(**options: Any) -> rich.console.Console:
    """A console of rich's; in a notebook no terminal, even behind `!`: there a bar is a new line whenever it moves.

    >>> console(stderr=True).stderr
    True
    """
    if NOTEBOOK not in os.environ:
        return rich.console.Console(**options)
    width = int(os.environ.get("COLUMNS") or COLUMNS)
    return rich.console.Console(force_jupyter=False, force_terminal=False, width=width, **options)
