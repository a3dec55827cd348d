"""For every error of the package a way to raise it, by what is wrong: one table a file, by the sections of the list.

A case runs in an empty folder of its own, and raises.
"""

import importlib
import pathlib
from collections.abc import Callable

NAMES = sorted(path.stem for path in pathlib.Path(__file__).parent.glob("[!_]*.py"))
CASES: dict[str, Callable[[], object]] = {
    f"{name}: {what}": case
    for name in NAMES
    for what, case in importlib.import_module(f"{__name__}.{name}").CASES.items()
}
