"""`python -m benchmarks NAME [--json=FILE] [--size=small|base|large] [--peer=torch]`; see README.md."""

import dataclasses
import importlib
import json
import os
import pathlib
import sys
import time
import typing
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import tyro

from benchmarks.measure import Output, PeerOptions
from benchmarks.table import show
from jaxasr.errors import ConfigError, exit_with_message
from jaxasr.registry import did_you_mean
from jaxasr.session import machine
from jaxasr.versions import versions

BENCHMARKS = {
    "startup": "Until something happens",
    "fbank": "Log-mel features of sound",
    "ctc": "CTC loss and its gradient",
    "encoder": "Encoder, forward",
    "train_step": "Training step: loss, gradient, clipping, Adam",
    "pipeline": "Reading utterances",
    "padding": "Padding of random epochs",
    "search": "Beam searches",
    "cif": "Integrate-and-fire and its gradient",
    "conv2d": "Convolutions before an encoder and their gradient",
    "scaling": "One training on 1 to 8 devices",
    "memory": "What a training step takes, planned and measured",
}
"""Module and title of each. The start comes first: its processes need devices that this one has not taken yet."""
LONG = ("memory",)
"""Those that `all` leaves out."""
ENVIRONMENT = ("GLIBC_TUNABLES", "XLA_FLAGS", "JAX_PLATFORMS", "OMP_NUM_THREADS")
"""Variables that change what is measured."""


def names(asked: str) -> list[str]:
    """The benchmarks that are meant by one's name, or by `all`."""
    if asked == "all":
        return [name for name in BENCHMARKS if name not in LONG]
    if asked not in BENCHMARKS:
        raise ConfigError(
            f"benchmark {asked!r}: not known; one of {', '.join(BENCHMARKS)}, all was expected; choose one."
            + did_you_mean(asked, [*BENCHMARKS, "all"])
        )
    return [asked]


def module_of(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


def options_of(module: ModuleType) -> type[Output]:
    """What a benchmark's `measure` takes."""
    return typing.get_type_hints(module.measure)["options"]


def run(asked: str, options: Output) -> dict[str, Any]:
    """Measures and shows; what is found is also written after each benchmark.

    Of `all`, those with options of their own keep their defaults.
    """
    results: dict[str, Any] = {}
    for name in names(asked):
        module = module_of(name)
        kind = options_of(module)
        mine = options if isinstance(options, kind) else kind()
        mine.check()
        began = time.perf_counter()
        rows = module.measure(mine)
        results[name] = {"options": told(mine), "seconds": time.perf_counter() - began, "rows": rows}
        if options.json is not None:
            write(options.json, results)
        getattr(module, "show", show)(BENCHMARKS[name], rows)
    return results


def told(options: Output) -> dict[str, Any]:
    """The options but for paths, which mean nothing elsewhere."""
    return {name: value for name, value in dataclasses.asdict(options).items() if not isinstance(value, pathlib.Path)}


def write(file: pathlib.Path, results: dict[str, Any]) -> None:
    environment = {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}
    record = {"machine": machine(), "versions": versions(), "environment": environment, "results": results}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def command(arguments: Sequence[str]) -> None:
    first, rest = (arguments[0], arguments[1:]) if arguments and arguments[0][:1] != "-" else ("all", arguments)
    kind = PeerOptions if first == "all" else options_of(module_of(*names(first)))
    known = f"NAME is one of {', '.join(BENCHMARKS)}, all; `NAME --help` shows its options."
    options = tyro.cli(
        kind,
        args=rest,
        prog=f"python -m benchmarks {first}",
        description=f"{BENCHMARKS[first]}." if first in BENCHMARKS else f"Measures jaxasr on this machine. {known}",
    )
    if getattr(options, "peer", None):  # of a GPU's memory JAX takes three quarters before it knows of another
        os.environ.setdefault("XLA_PYTHON_CLIENT_MEM_FRACTION", "0.5")
    run(first, options)


if __name__ == "__main__":
    exit_with_message(command, sys.argv[1:])
