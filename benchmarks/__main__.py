"""`python -m benchmarks NAME [--json=FILE] [--size=small|base|large] [--peer=torch]`; see README.md."""

import dataclasses
import importlib
import json
import os
import pathlib
import time
from typing import Annotated, Any

import jax
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
    "search": "Beam searches",
    "cif": "Integrate-and-fire and its gradient",
    "conv2d": "Convolutions before an encoder and their gradient",
}
"""Module and title of each."""


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
            return list(BENCHMARKS)
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
        rows = importlib.import_module(f"benchmarks.{name}").measure(command)
        results[name] = {"seconds": time.perf_counter() - began, "rows": rows}
        show(BENCHMARKS[name], rows)
        if command.json is not None:
            command.json.parent.mkdir(parents=True, exist_ok=True)
            command.json.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return record


def options_of(command: Command) -> dict[str, Any]:
    return {"size": command.size, "peer": command.peer, "seconds": command.seconds, "rounds": command.rounds}


def show(title: str, rows: list[Row]) -> None:
    """A table of the rows' numbers and words; a column that says nothing is left out."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    shown = [n for n in names if any(isinstance(row.get(n), str | int | float) for row in rows)]
    table = rich.table.Table(title=f"{title} on {jax.devices()[0].device_kind}, jax {jax.__version__}")
    for name in shown:
        words = any(isinstance(row.get(name), str) for row in rows)
        table.add_column(name.replace("_", " "), justify="left" if words else "right", overflow="fold")
    for row in rows:
        table.add_row(*(text(row.get(name)) for name in shown))
    console = rich.console.Console()
    console.width = max(console.width, 150)
    console.print(table)


def text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)


def main() -> None:
    command = tyro.cli(Command, prog="python -m benchmarks")
    if command.peer:  # of a GPU's memory JAX takes three quarters before it knows that it is not alone
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    exit_with_message(run, command)


if __name__ == "__main__":
    main()
