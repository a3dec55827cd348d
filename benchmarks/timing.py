"""Timing side by side, and showing what came out; what the benchmarks share."""

import json
import pathlib
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import optax
import rich.console
import rich.table


def medians_ms(
    functions: Mapping[str, Callable[..., Any]], batch: tuple[jax.Array, ...], rounds: int
) -> dict[str, float]:
    """Median milliseconds of each compiled function."""
    seconds: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(rounds + 1):
        for name, function in functions.items():
            began = time.perf_counter()
            jax.block_until_ready(function(*batch))
            if turn > 0:  # the first one compiles
                seconds[name].append(time.perf_counter() - began)
    return {name: 1000 * statistics.median(times) for name, times in seconds.items()}


def show(title: str, results: Sequence[Mapping[str, Any]], output: pathlib.Path | None) -> None:
    """Prints a table of results, `{"shape": {...}, "ms": {...}}` each, and writes them as JSON to `output`."""
    device = jax.devices()[0].device_kind
    versions = {"device": device, "jax": jax.__version__, "optax": optax.__version__}
    table = rich.table.Table(title=f"{title} on {device}, jax {jax.__version__}, optax {optax.__version__}: ms")
    columns = list(results[0]["ms"])
    for heading in (", ".join(results[0]["shape"]), *columns):
        table.add_column(heading, justify="right")
    for result in results:
        table.add_row(
            ", ".join(map(str, result["shape"].values())), *(f"{result['ms'][column]:.1f}" for column in columns)
        )
    rich.console.Console().print(table)
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(versions | {"results": results}, indent=1) + "\n")
