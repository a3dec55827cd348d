"""Commands as they are printed, to be copied and given as they stand."""

import os
import shlex
from collections.abc import Sequence


def command(module: str, words: Sequence[str], imports: Sequence[str] = ()) -> str:
    """The line that runs a module of jaxasr's; `imports` are the modules that it needs.

    These must be found again: where PYTHONPATH is set, perhaps for one command alone, the line sets it.

    >>> command("info", ["exp/a run"])
    "python -m jaxasr.info 'exp/a run'"
    """
    path = os.environ.get("PYTHONPATH")
    folders = [f"PYTHONPATH={shlex.quote(path)}"] if path and imports else []
    return " ".join([*folders, shlex.join(["python", "-m", f"jaxasr.{module}", *words, *import_flags(imports)])])


def import_flags(names: Sequence[str]) -> list[str]:
    """`--import=A B` as all commands take it, at the end of one: what followed would be another name.

    >>> import_flags(["my_parts", "my_checks"])
    ['--import=my_parts', 'my_checks']
    """
    return [f"--import={names[0]}", *names[1:]] if names else []
