"""`python -m benchmarks NAME [--json=FILE] [--size=small|base|large] [--peer=torch]`; see README.md."""

import dataclasses
import importlib
import json
import os
import pathlib
import time
from typing import Annotated, Any

import jax
import rich
import rich.box
import rich.console
import rich.table
import tyro

from benchmarks.measure import Options, Row
from jaxasr.errors import ConfigError, exit_with_message
from jaxasr.registry import did_you_mean
from jaxasr.session import machine
from jaxasr.versions import versions

BENCHMARKS = {
    "fbank": "Log-mel features of sound",
    "ctc": "CTC loss and its gradient",
    "encoder": "Encoder, forward",
    "train_step": "Training step: loss, gradient, clipping, Adam",
    "pipeline": "Reading utterances, and manifests of a million",
    "padding": "Padding of random epochs",
    "search": "Beam searches",
    "startup": "Until something happens",
    "scaling": "One training on 1 to 8 devices",
    "memory": "What a training step takes, planned and measured",
    "cif": "Integrate-and-fire and its gradient",
    "conv2d": "Convolutions before an encoder and their gradient",
}
"""Module and title of each."""
LONG = ("memory",)
"""Those that `all` leaves out."""
WIDTH = 140
"""Characters of a table that is not shown in a wider terminal."""


@dataclasses.dataclass(frozen=True)
class Command(Options):
    """Measures what jaxasr costs on this machine."""

    name: Annotated[str, tyro.conf.Positional] = "all"
    """What to measure: a name in README.md, or all."""
    json: pathlib.Path | None = None
    """A file for the results, with machine and versions."""

    def names(self) -> list[str]:
        """The benchmarks that are meant."""
        if self.name == "all":
            return [name for name in BENCHMARKS if name not in LONG]
        if self.name not in BENCHMARKS:
            raise ConfigError(
                f"benchmark {self.name!r}: not known; one of {', '.join(BENCHMARKS)}, all was expected; choose one."
                + did_you_mean(self.name, [*BENCHMARKS, "all"])
            )
        return [self.name]


def run(command: Command) -> dict[str, Any]:
    """Measures and shows; what is found is also written after each benchmark."""
    command.check()
    results: dict[str, Any] = {}
    record = {"machine": machine(), "versions": versions(), "options": options_of(command), "results": results}
    for name in command.names():
        began = time.perf_counter()
        rows = measured(name, command)
        results[name] = {"seconds": time.perf_counter() - began, "rows": rows}
        show(BENCHMARKS[name], rows)
        if command.json is not None:
            command.json.parent.mkdir(parents=True, exist_ok=True)
            command.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def measured(name: str, command: Command) -> list[Row]:
    """Results of a benchmark; one with options of its own, which its own command line has, keeps their defaults."""
    module = importlib.import_module(f"benchmarks.{name}")
    own = getattr(module, "Options", Options)
    return module.measure(command if own is Options else own())


def options_of(command: Command) -> dict[str, Any]:
    return {"size": command.size, "peer": command.peer, "seconds": command.seconds, "rounds": command.rounds}


def show(title: str, rows: list[Row]) -> None:
    """A table of the rows' numbers and words; what all rows have in common stands below it."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    texts = {name: [text(row.get(name)) for row in rows] for name in names}
    texts = {name: column for name, column in texts.items() if any(column)}
    common = {name: column[0] for name, column in texts.items() if len(rows) > 1 and len(set(column)) == 1}
    table = rich.table.Table(
        title=f"{title}, on {jax.devices()[0].device_kind}",
        caption=", ".join(f"{name.replace('_', ' ')} {value}" for name, value in common.items()),
        box=rich.box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for name in (columns := [name for name in texts if name not in common]):
        words = any(isinstance(row.get(name), str) for row in rows)
        table.add_column(name.replace("_", "\n"), justify="left" if words else "right", no_wrap=True)
    for cells in zip(*(texts[name] for name in columns), strict=True):
        table.add_row(*cells)
    rich.print()
    rich.console.Console(width=max(rich.console.Console().width, WIDTH)).print(table)


def text(value: Any) -> str:
    """Three digits of a number; nothing of a list, or of what is not known."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value) if isinstance(value, str | int) else ""


def main() -> None:
    command = tyro.cli(Command, prog="python -m benchmarks")
    if command.peer:  # of a GPU's memory JAX takes three quarters before it knows that it is not alone
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    exit_with_message(run, command)


if __name__ == "__main__":
    main()
