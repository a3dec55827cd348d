"""What a compiled program computes and sends, counted in its text.

Bodies of loops count as often as they run; those of unknown length, once.
"""

import dataclasses
import functools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")
BYTES = {"pred": 1, "bf16": 2, "f16": 2, "c64": 8, "c128": 16} | {
    f"{kind}{bits}": bits // 8 for kind in "suf" for bits in (8, 16, 32, 64)
}
_LINE = re.compile(
    r"\s*(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = (?P<type>\((?:[^()]|\([^()]*\))*\)|\S+) (?P<op>[\w\-]+)\((?P<rest>.*)"
)
_ARRAY = re.compile(r"\b([a-z]+\d*)\[([\d,]*)\]")
_CALLED = re.compile(r"\b(?:calls|to_apply|body|condition|true_computation)=%?([\w.\-]+)")
_BRANCHES = re.compile(r"\bbranch_computations=\{%?([\w.\-]+)")


class Instruction(NamedTuple):
    name: str
    type: str
    op: str
    operands: tuple[str, ...]
    rest: str
    """What stands behind the operation's bracket."""
    is_root: bool


@dataclasses.dataclass(frozen=True)
class Program:
    """The computations of a module, by name; see `parsed`."""

    computations: Mapping[str, Sequence[Instruction]]
    entry: str

    def flops(self) -> float:
        """Of matrix products and convolutions on one device, a multiplication and an addition as two."""
        return self._counted["flops"]

    def collectives(self) -> dict[str, tuple[int, int]]:
        """Of every kind how many run, and the bytes that one device puts in."""
        found = self._counted
        return {op: (int(found[op]), int(found[f"{op} bytes"])) for op in COLLECTIVES if found[op]}

    def turns(self, *, fused: bool = True) -> Counter:
        """How often each computation runs; without those that are `fused` into an instruction, if so wanted."""
        found: Counter = Counter()

        def visit(name: str, times: int) -> None:
            found[name] += times
            for instruction in self.computations[name]:
                if fused or instruction.op != "fusion":
                    for called, more in self.calls(instruction):
                        visit(called, times * more)

        visit(self.entry, 1)
        return found

    def own(self, name: str) -> Counter:
        """What a computation's own instructions come to, in one turn."""
        found: Counter = Counter()
        types = {instruction.name: instruction.type for instruction in self.computations[name]}
        for instruction in self.computations[name]:
            found.update(self._own(instruction, types))
        return found

    @functools.cached_property
    def _counted(self) -> Counter:
        found: Counter = Counter()
        for name, times in self.turns().items():
            found.update({what: times * count for what, count in self.own(name).items()})
        return found

    def _own(self, instruction: Instruction, types: Mapping[str, str]) -> dict[str, float]:
        op = instruction.op.removesuffix("-start")
        if op in COLLECTIVES:
            size = sum(bytes_of(types.get(operand, "")) for operand in instruction.operands)
            return {op: 1, f"{op} bytes": size}
        if op == "dot" or (op == "custom-call" and "dot_dimension_numbers" in instruction.rest):  # cuBLAS's
            sides = _shape(types[instruction.operands[0]])
            summed = re.search(r"lhs_contracting_dim(?:s=|ension\w*\W+)([\d,\"{]*)", instruction.rest)
            over = math.prod(sides[int(d)] for d in re.findall(r"\d+", summed[1])) if summed else 1
            return {"flops": 2.0 * math.prod(_shape(instruction.type)) * over}
        if op == "convolution":
            labels = re.search(r"dim_labels=\w+_(\w+)->", instruction.rest)
            kernel = _shape(types[instruction.operands[1]])
            out = kernel[labels[1].index("o")] if labels else 1
            return {"flops": 2.0 * math.prod(_shape(instruction.type)) * math.prod(kernel) / out}
        return {}

    def calls(self, instruction: Instruction) -> Iterator[tuple[str, int]]:
        """Computations that it runs, and how often; of branches the first."""
        if instruction.op not in ("while", "fusion", "call", "conditional", "async-start", "custom-call"):
            return
        trips = re.search(r'known_trip_count\W+"?n"?\W+(\d+)', instruction.rest)
        for name in _CALLED.findall(instruction.rest) + _BRANCHES.findall(instruction.rest):
            if name in self.computations:
                yield name, int(trips[1]) if instruction.op == "while" and trips else 1


def parsed(text: str) -> Program:
    """A program from what `compiled.as_text()` gives."""
    computations: dict[str, list[Instruction]] = {}
    entry, lines = "", []
    for line in text.splitlines():
        if line.endswith("{") and not line.startswith((" ", "HloModule")) and "->" in line:
            name = line.removeprefix("ENTRY ").split()[0].lstrip("%")
            entry = name if line.startswith("ENTRY") else entry
            lines = computations.setdefault(name, [])
        elif found := _LINE.match(line):
            inside, rest = _bracket(found["rest"])
            operands = re.findall(r"%([\w.\-]+)", inside)
            lines.append(
                Instruction(found["name"], found["type"], found["op"], tuple(operands), rest, bool(found["root"]))
            )
    return Program(computations, entry)


def _bracket(text: str) -> tuple[str, str]:
    """What stands before the bracket that ends the operands, and behind it."""
    depth = 1
    for place, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if depth == 0:
            return text[:place], text[place + 1 :]
    return text, ""


def _shape(text: str) -> list[int]:
    found = _ARRAY.search(text)
    return [int(d) for d in found[2].split(",") if d] if found else []


def bytes_of(text: str) -> int:
    sizes = ((BYTES.get(kind, 0), [int(d) for d in dims.split(",") if d]) for kind, dims in _ARRAY.findall(text))
    return sum(size * math.prod(dims) for size, dims in sizes)
