"""What the benchmarks share: a case, and the one loop that measures cases in turns.

Beside the cases of a group run a matrix product and a copy, in the same rounds: what this machine gives at that
moment, and what a case's arithmetic and its bytes are held against.
"""

import dataclasses
import importlib.util
import math
import pathlib
import statistics
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal, NamedTuple

import jax
import jax.numpy as jnp

from benchmarks.cost import Cost, cost_of
from benchmarks.sizes import SIZES, Size
from jaxasr.errors import ConfigError

STRETCH_S = 0.1
"""How long a turn is at least: what is quicker is called several times, one after the other, and waited for each
time. The first call after another case's turn finds cold caches, and sometimes memory to be got again."""
MOST_CALLS = 100
FEWEST_ROUNDS = 3

Row = dict[str, Any]
"""A result: names to numbers, their units in the names. Lists are written to JSON and not shown."""


@dataclasses.dataclass(frozen=True)
class Output:
    """What every benchmark can be told."""

    json: pathlib.Path | None = None
    """A file for the results, with machine, versions and options."""
    LEAST: ClassVar[Mapping[str, float]] = {}
    """What options must be at least."""

    def check(self) -> None:
        """Raises ConfigError where nothing could be measured."""
        for name, least in self.LEAST.items():
            if not (value := getattr(self, name)) >= least:
                raise ConfigError(f"--{name}={value}: {least:g} or more was expected; change it.")


@dataclasses.dataclass(frozen=True)
class Options(Output):
    """How much is measured."""

    size: Literal["tiny", "small", "base", "large"] | None = None
    """Networks and vocabularies; small and base where none is given, large too on an accelerator; tiny is for tests."""
    seconds: float = 6.0
    """How long the cases that are compared are measured, together; three rounds at least."""
    rounds: int = 50
    """How often each is measured at most."""
    LEAST: ClassVar[Mapping[str, float]] = {"seconds": 0.0, "rounds": 1}

    def sizes(self) -> list[Size]:
        names = ("small", "base", "large") if on_accelerator() else ("small", "base")
        return [SIZES[name] for name in ((self.size,) if self.size else names)]


def on_accelerator() -> bool:
    return jax.default_backend() != "cpu"


def dtypes() -> tuple[str, ...]:
    """What networks are measured in."""
    return ("float32", "bfloat16") if on_accelerator() else ("float32",)


@dataclasses.dataclass(frozen=True)
class PeerOptions(Options):
    """How much is measured, and beside whom."""

    peer: Literal["torch"] | None = None
    """The same work in PyTorch, in turns with ours; it must be installed."""

    def check(self) -> None:
        super().check()
        if self.peer and importlib.util.find_spec(self.peer) is None:
            raise ConfigError(
                f"--peer={self.peer}: this Python has no {self.peer}; it was expected beside jaxasr; install it here "
                f"(pip install {self.peer}), or leave the option out."
            )


class Case(NamedTuple):
    """Something to be measured."""

    name: str
    function: Callable[..., Any]
    """Jitted here, with the arguments as they are."""
    arguments: tuple[Any, ...] = ()
    amount: float = 1.0
    """What one call does, in `unit`."""
    unit: str = "calls"
    side: str = "jaxasr"
    """Whose function it is."""
    dtype: str = "float32"
    """Of its matrix products."""
    carried: bool = False
    """The first of what comes out is the first argument of the next call, and the one before is given up for it."""
    foreign: bool = False
    """None of JAX's: called as it is, and done when it returns."""


class Timed:
    """A case, ready to run, and its times."""

    def __init__(self, case: Case):
        self.case = case
        self.cost, self.memory_bytes = Cost(math.nan, math.nan), math.nan
        self.seconds: list[float] = []
        self._calls = 1
        began = time.perf_counter()
        if case.foreign:
            self._call, self._arguments = case.function, case.arguments
            self._once()  # compiles, if it does at all
        else:
            self._arguments = jax.device_put(case.arguments)
            jitted = jax.jit(case.function, donate_argnums=(0,) if case.carried else ())
            self._call = jitted.lower(*self._arguments).compile()
        self.compile_s = time.perf_counter() - began
        if not case.foreign:
            self.cost, memory = cost_of(self._call), self._call.memory_analysis()
            self.memory_bytes = (
                memory.argument_size_in_bytes
                + memory.output_size_in_bytes
                + memory.temp_size_in_bytes
                - memory.alias_size_in_bytes
            )
        self._once()
        self._calls = min(MOST_CALLS, max(1, math.ceil(STRETCH_S / self._once())))

    def _once(self) -> float:
        began = time.perf_counter()
        for _ in range(self._calls):
            outputs = jax.block_until_ready(self._call(*self._arguments))
            if self.case.carried and not self.case.foreign:
                self._arguments = (outputs[0], *self._arguments[1:])
        return (time.perf_counter() - began) / self._calls

    def turn(self) -> None:
        self.seconds.append(self._once())

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def measured(groups: Iterable[Sequence[Case]], options: Options) -> list[Row]:
    """Results of all cases; those of a group take turns, so that a busy machine slows all of them.

    A group is made when its turn comes and forgotten behind it, since one may fill the memory.
    """
    return [row for group in groups for row in measured_group(group, options)]


def measured_group(cases: Sequence[Case], options: Options) -> list[Row]:
    tiny = options.size == "tiny"
    products = {dtype: Timed(matmul(dtype, tiny=tiny)) for dtype in dict.fromkeys(case.dtype for case in cases)}
    copying, timed = Timed(copy(tiny=tiny)), [Timed(case) for case in cases]
    turns = [*timed, *products.values(), copying]
    began = time.perf_counter()
    for number in range(options.rounds):
        if number >= FEWEST_ROUNDS and time.perf_counter() - began > options.seconds:
            break
        for one in turns if number % 2 == 0 else turns[::-1]:
            one.turn()
    return [row_of(one, timed[0], products[one.case.dtype], copying) for one in timed]


def row_of(timed: Timed, first: Timed, product: Timed, copying: Timed) -> Row:
    case, seconds = timed.case, timed.seconds
    low, _, high = statistics.quantiles(seconds, n=4, method="inclusive") if len(seconds) > 1 else 3 * seconds
    flops_per_s, bytes_per_s = product.case.amount / product.median, copying.case.amount / copying.median
    stats = jax.local_devices()[0].memory_stats() or {}
    return {
        "case": case.name,
        "side": case.side,
        "dtype": case.dtype,
        "median_ms": 1e3 * timed.median,
        "low_ms": 1e3 * low,
        "high_ms": 1e3 * high,
        "rounds": len(seconds),
        "per_s": case.amount / timed.median,
        "unit": case.unit,
        "speed": first.median / timed.median,
        "gflop": number(timed.cost.flops / 1e9),
        "gbyte": number(timed.cost.bytes / 1e9),
        "matmul_%": number(100 * timed.cost.flops / timed.median / flops_per_s),
        "copy_%": number(100 * timed.cost.bytes / timed.median / bytes_per_s),
        "memory_mib": number(timed.memory_bytes / 2**20),
        "device_peak_mib": number(stats.get("peak_bytes_in_use", math.nan) / 2**20),
        "compile_s": timed.compile_s,
        "matmul_gflop_per_s": [flops_per_s / 1e9],
        "copy_gbyte_per_s": [bytes_per_s / 1e9],
        "times_ms": [1e3 * s for s in seconds],
    }


def number(value: float) -> float | None:
    """A number that JSON has; None where it is not known."""
    return None if math.isnan(value) else value


# --- what the machine gives --------------------------------------------------------------------------------------


def matmul(dtype: str, *, tiny: bool) -> Case:
    """A square matrix product; its amount is its FLOPs."""
    n = 128 if tiny else 8192 if on_accelerator() else 2048
    x = jnp.full((n, n), 1.0 / n, dtype)
    return Case("matmul", jnp.matmul, (x, x), 2.0 * n**3, "FLOP", dtype=dtype)


def copy(*, tiny: bool) -> Case:
    """An array read and written in place; its amount is the bytes of both."""
    size = 2**20 if tiny else 2**30 if on_accelerator() else 2**28
    return Case("copy", lambda x: (x + 1.0,), (jnp.zeros(size // 4),), 2.0 * size, "byte", carried=True)
