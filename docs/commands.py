"""Writes docs/commands.md from what each command's --help prints: `python docs/commands.py`."""

import contextlib
import importlib.metadata
import io
import os
import pathlib
import re
from collections.abc import Iterator
from unittest import mock

from jaxasr.__main__ import COMMANDS, main, main_of

PAGE = pathlib.Path(__file__).with_name("commands.md")
PLAIN = {"COLUMNS": "100", "LINES": "50", "NO_COLOR": "1", "TERM": "dumb", "PYTHONIOENCODING": "utf-8"}
"""Of the environment, so that what is printed depends on no terminal."""
CORES = re.compile(r"(--workers INT +Threads.*\(default: )\d+(?=\))")
"""A default that is the number of the machine's cores."""
HEAD = """# Commands

What `--help` prints, as tyro {tyro} lays it out; `python docs/commands.py` writes this page. `python -m jaxasr.COMMAND`
is the same as `jaxasr COMMAND`, with `jaxasr.data.check` and `jaxasr.data.pack` for those two.

`jaxasr train --help` shows the options of the parts that are chosen beside it, here by the recipe for the bundled
digits: `jaxasr train --encoder=conformer --help` has those of another. [parts.md](parts.md) has all of them by name.
"""


def printed(command: str) -> str:
    """By `jaxasr COMMAND --help`, or by `jaxasr --help` where the name is empty."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit), mock.patch.dict(os.environ, PLAIN):
        (main_of(command) if command else main)(["--help"])
    plain = re.sub(r"\x1b\[[\d;]*m| +$", "", out.getvalue(), flags=re.MULTILINE).strip("\n")
    return CORES.sub(r"\1one a core", plain)


def lines() -> Iterator[str]:
    yield from (HEAD.format(tyro=importlib.metadata.version("tyro")), "```text", printed(""), "```")
    for name, what in COMMANDS.items():
        yield from (f"\n## {name}\n", f"{what[0].upper()}{what[1:]}.\n", "```text", printed(name), "```")


def page() -> str:
    return "\n".join(lines()) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
