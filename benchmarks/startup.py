"""How long it takes until something happens: `--help`, the first training step, the first text.

    python -m benchmarks startup --data_root=CORPORA      # with AN4 under CORPORA, by its recipe too

Every figure is of a process of its own, from its start. Cold is an empty compilation cache, warm one that a run of a
whole epoch has left.
"""

import dataclasses
import itertools
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, ClassVar

from benchmarks.measure import Output
from benchmarks.processes import output
from jaxasr import corpora
from jaxasr.__main__ import COMMANDS

FIRST = "first step after"
"""How the line of a run begins that is told at its first step."""
FILLING = ("--epochs=1", "--minutes=none", "--valid_steps=none", "--report=false")
"""Options of a run that compiles all its programs and ends soon."""


@dataclasses.dataclass(frozen=True)
class Options(Output):
    """How long it takes until something happens."""

    rounds: int = 3
    """How often each is measured."""
    data_root: pathlib.Path | None = None
    """The folder with `an4/`, to measure that recipe too."""
    LEAST: ClassVar[Mapping[str, float]] = {"rounds": 1}


def measure(options: Options) -> list[dict[str, Any]]:
    """A row for each of them: median, least and most seconds."""
    rounds = options.rounds
    rows = [row(f"{command} --help", timed(rounds, "jaxasr", command, "--help")) for command in COMMANDS]
    rows += recipe_rows("digits", [], rounds)
    if options.data_root is not None:
        rows += recipe_rows("an4_sanm", ["--config=an4_sanm", f"--data_root={options.data_root}"], rounds)
    return rows


def row(what: str, seconds: Iterable[float], parts: Mapping[str, float] | None = None) -> dict[str, Any]:
    found = list(seconds)
    least, most = min(found), max(found)
    told = {f"{part.replace(' ', '_')}_s": value for part, value in (parts or {}).items()}
    return {"what": what, "seconds": statistics.median(found), "least_s": least, "most_s": most} | told


def timed(rounds: int, *command: str, before: Callable[[int], Mapping[str, str]] = lambda _: {}) -> Iterator[float]:
    """Seconds that `python -m` takes; `before` gives each round's environment."""
    for turn in range(rounds):
        environment = os.environ | before(turn)
        began = time.perf_counter()
        output([sys.executable, "-m", *command], environment)
        yield time.perf_counter() - began


def recipe_rows(name: str, options: list[str], rounds: int) -> list[dict[str, Any]]:
    """The first step of a recipe, cold and warm, and one utterance by the model, cold and warm."""
    with tempfile.TemporaryDirectory() as folder:
        numbers = itertools.count()

        def first(cache: str, *more: str) -> tuple[float, Mapping[str, float]]:
            workdir = pathlib.Path(folder, f"run{next(numbers)}")
            return first_step([*options, f"--workdir={workdir}", *more], workdir, caches(folder, cache))

        cold = [first(f"cold{turn}") for turn in range(rounds - 1)] + [first("warm", *FILLING)]
        model = f"{folder}/run{next(numbers) - 1}"
        warm = [first("warm") for _ in range(rounds)]
        rows = [
            row(f"first step, {name}, {how}", [s for s, _ in found], found[-1][1])
            for how, found in (("cold", cold), ("warm", warm))
        ]
        decode = ("jaxasr.decode", f"--model={model}", a_sound(pathlib.Path(folder)))
        rows.append(row(f"decode, {name}, cold", timed(rounds, *decode, before=lambda i: caches(folder, f"decode{i}"))))
        rows.append(row(f"decode, {name}, warm", timed(rounds, *decode, before=lambda _: caches(folder, "decode0"))))
    return rows


def caches(folder: str, name: str) -> dict[str, str]:
    """Caches of programs and of what is known of sound files, under this name."""
    return {"XDG_CACHE_HOME": f"{folder}/{name}", "JAX_COMPILATION_CACHE_DIR": f"{folder}/{name}/xla"}


def first_step(
    options: list[str], workdir: pathlib.Path, environment: Mapping[str, str]
) -> tuple[float, Mapping[str, float]]:
    """Seconds until a training's first step has begun, and where they went; it ends there unless it is to fill."""
    command = [sys.executable, "-m", "jaxasr.train", *options]
    began, seconds = time.perf_counter(), None
    with subprocess.Popen(command, env=os.environ | environment, stdout=subprocess.PIPE, text=True) as run:
        assert run.stdout is not None
        for line in run.stdout:
            if line.startswith(FIRST):
                seconds = time.perf_counter() - began
                if FILLING[0] not in options:
                    run.kill()
    if seconds is None:
        raise SystemExit(f"{' '.join(command)}: ended without a first step; it was expected; see what it says above.")
    records = map(json.loads, (workdir / "log.jsonl").read_text().splitlines())
    return seconds, next(r["parts"] for r in records if r["split"] == "start")


def a_sound(folder: pathlib.Path) -> str:
    """A file of a bundled digit."""
    return str(sorted(p for p in corpora.digits().rglob("*") if p.suffix in (".flac", ".wav"))[0])
