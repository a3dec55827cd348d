"""How long it takes until something happens: `--help`, the first training step, the first text.

    python -m benchmarks.startup --data_root=CORPORA      # with AN4 under CORPORA, by its recipe too

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
from typing import Any

import rich.console
import rich.table
import tyro

from jaxasr import corpora
from jaxasr.__main__ import COMMANDS
from jaxasr.session import machine
from jaxasr.versions import versions

FIRST = "first step after"
"""How the line of a run begins that is told at its first step."""
FILLING = ("--epochs=1", "--minutes=none", "--valid_steps=none", "--report=false")
"""Options of a run that compiles all its programs and ends soon."""


@dataclasses.dataclass(frozen=True)
class StartupOptions:
    """How long it takes until something happens."""

    rounds: int = 3
    """How often each is measured."""
    data_root: str | None = None
    """The folder with `an4/`, to measure that recipe too."""
    json: pathlib.Path | None = None
    """A file for the results, with machine and versions."""


def measure(options: Any) -> list[dict[str, Any]]:
    """A row for each of them: median, least and most seconds."""
    rounds = min(options.rounds, 3)
    rows = [row(f"{command} --help", timed(rounds, "jaxasr", command, "--help")) for command in COMMANDS]
    rows += recipe_rows("digits", [], rounds)
    if (root := getattr(options, "data_root", None)) is not None:
        rows += recipe_rows("an4_sanm", ["--config=an4_sanm", f"--data_root={root}"], rounds)
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
        subprocess.run([sys.executable, "-m", *command], env=environment, check=True, capture_output=True)
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


def show(rows: list[dict[str, Any]]) -> None:
    table = rich.table.Table(title="Start, in seconds")
    names = list(dict.fromkeys(name for found in rows for name in found))
    for name in names:
        table.add_column(name.removesuffix("_s"), justify="left" if name == "what" else "right", no_wrap=True)
    for found in rows:
        table.add_row(*(f"{v:.2f}" if isinstance(v := found.get(name, ""), float) else v for name in names))
    rich.console.Console().print(table)


def main() -> None:
    options = tyro.cli(StartupOptions, prog="python -m benchmarks.startup")
    rows = measure(options)
    show(rows)
    if options.json is not None:
        record = {"machine": machine(), "versions": versions(), "rows": rows}
        options.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
