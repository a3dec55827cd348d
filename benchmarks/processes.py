"""Work in processes of its own, so that none finds what another one left behind, and the memory that they take."""

import json
import pathlib
import subprocess
import sys
from collections.abc import Mapping, Sequence
from typing import Any

MARK = "RESULT "
TOP = pathlib.Path(__file__).parents[1]


def call(module: str, function: str, *arguments: Any, environment: Mapping[str, str] | None = None) -> Any:
    """What a function of the benchmark `module` gives in a Python of its own, through JSON both ways."""
    code = f"from benchmarks import {module}, processes; processes.answer({module}.{function})"
    told = output([sys.executable, "-c", code, json.dumps(arguments)], environment, TOP)
    (found,) = (line for line in told.splitlines() if line.startswith(MARK))
    return json.loads(found.removeprefix(MARK))


def answer(function: Any) -> None:
    """Does in the new process what `call` asked for."""
    print(MARK + json.dumps(function(*json.loads(sys.argv[1]))))


def output(
    command: Sequence[str], environment: Mapping[str, str] | None = None, folder: pathlib.Path | None = None
) -> str:
    """What a command prints; where it fails, this program ends with what it said."""
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{done.stderr}{' '.join(command)}: status {done.returncode}; 0 was expected; see above.")
    return done.stdout


def resident(name: str) -> int:
    """Bytes that this process has in memory, `VmRSS`, or has had at most, `VmHWM`: by Linux.

    `getrusage` would not do: a new process begins with the most that the one had which it comes from.
    """
    lines = pathlib.Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
