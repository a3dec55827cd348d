"""Where the time of a compiled program goes: a trace of JAX's profiler, added up by parts of the network."""

import pathlib
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import jax

from jaxasr.errors import DataError

OTHER = "other"
"""What XLA added, such as copies, and what has no name."""
CONTAINERS = ("while", "call", "conditional")
"""Operations whose time is that of the operations inside of them, which are counted by themselves."""
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.\-]+) = .*?\s([a-z][\w\-]*)\(", re.MULTILINE)
_NAME = re.compile(r'op_name="([^"]*)"')
_BETWEEN = re.compile(r"while|body|cond|closed_call|checkpoint|rematted_computation|shmap_body|branch_\d+_fun")
"""Scopes that JAX's transformations put between those of the network."""


class Spent(NamedTuple):
    """Seconds on devices, added up over devices and over all runs in the trace."""

    part: str
    """Names of scopes and modules, the outermost first, such as encoder/blocks/attention."""
    forward: float
    backward: float

    @property
    def seconds(self) -> float:
        """Forward and backward."""
        return self.forward + self.backward


def spent(folder: str | pathlib.Path, compiled: Any, *, depth: int = 3) -> list[Spent]:
    """What each part of a program took, the longest first.

    Args:
      folder: where `jax.profiler.trace` wrote; of several traces the newest is read.
      compiled: the program that ran, `jax.jit(fn).lower(*arguments).compile()`.
      depth: how many names a part has at most.

    Raises:
      DataError: there is no trace, or the program does not run in it.
    """
    text = compiled.as_text()
    module, names = text.split(maxsplit=2)[1].rstrip(","), op_names(text)
    seconds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for op, duration in _events(_newest(pathlib.Path(folder)), module):
        if (name := names.get(op, OTHER)) is not None:
            seconds[part_of(name, depth)]["transpose(" in name] += duration
    if not seconds:
        raise DataError(
            f"{folder}: no operation of {module}; a trace of a run of this program was expected; run it, to its end "
            "(jax.block_until_ready), inside of jax.profiler.trace."
        )
    found = [Spent(part, *both) for part, both in seconds.items()]
    return sorted(found, key=lambda one: one.seconds, reverse=True)


def op_names(text: str) -> Mapping[str, str | None]:
    """For each instruction of a compiled program's text where it comes from; None for one that contains others.

    >>> op_names('%sum.1 = f32[] reduce(%x), metadata={op_name="loss/sum"}')
    {'sum.1': 'loss/sum'}
    """
    found: dict[str, str | None] = {}
    for line in text.splitlines():
        if instruction := _INSTRUCTION.match(line):
            name = _NAME.search(line)
            contains = instruction[2] in CONTAINERS
            found[instruction[1]] = None if contains else name[1] if name else OTHER
    return found


def part_of(name: str, depth: int) -> str:
    """The scopes and modules of an operation's name, without what JAX's transformations put around and between them.

    >>> part_of("jit(step)/AsrNetwork/encoder/attention/dot_general", 2)
    'encoder/attention'
    """
    *scopes, _ = name.split("/")
    inner = [re.sub(r"^(?:(?:jvp|transpose|vmap)\()+|\)+$", "", scope) for scope in scopes if "jit(" not in scope]
    own = [scope for scope in inner if scope and not {".", ">"} & set(scope) and not _BETWEEN.fullmatch(scope)]
    if own and own[0][0].isupper():  # the network's class
        own = own[1:]
    return "/".join(own[:depth]) or OTHER


def _newest(folder: pathlib.Path) -> pathlib.Path:
    found = sorted(folder.rglob("*.xplane.pb"), key=lambda file: file.stat().st_mtime_ns)
    if not found:
        raise DataError(
            f"{folder}: no file *.xplane.pb; a trace of JAX's profiler was expected; write one with "
            "jax.profiler.trace(FOLDER)."
        )
    return found[-1]


def _events(file: pathlib.Path, module: str) -> Iterator[tuple[str, float]]:
    """The instructions that ran of a module, each with its seconds."""
    for plane in jax.profiler.ProfileData.from_file(str(file)).planes:
        for line in plane.lines:
            for event in line.events:
                stats = dict(event.stats)
                if stats.get("hlo_module") == module and "hlo_op" in stats:
                    yield str(stats["hlo_op"]), event.duration_ns / 1e9
