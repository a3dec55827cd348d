"""What a compiled program computes and moves: XLA's own count, with every turn of its loops.

`compiled.cost_analysis()` counts the body of a loop once, however often it runs, and a network is a loop over its
layers. The program's text tells how often: what the matrix products and convolutions of a body compute, and what its
instructions read and write, is added for the other turns. A loop of unknown length, such as a search's, counts once.
"""

import functools
import math
import re
from collections import defaultdict
from typing import Any, NamedTuple

COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.\-]+) \(.*\{$")
INSTRUCTION = re.compile(r"^\s+(ROOT )?%?([\w.\-]+) = (.+?) ([\w\-]+)\((.*)$")
ARRAY = re.compile(r"\b([a-z]+\d*)(?:e\d\w*)?\[([\d,]*)\]")
CALLED = re.compile(r"(?:calls|to_apply|body|condition)=%?([\w.\-]+)|branch_computations=\{([^}]*)\}")
TURNS = re.compile(r'known_trip_count":\{"n":"(\d+)"')
FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional", "after-all"}


class Cost(NamedTuple):
    """Of one call."""

    flops: float
    bytes: float


class Instruction(NamedTuple):
    """One line of a program."""

    name: str
    shape: str
    opcode: str
    operands: tuple[str, ...]
    rest: str
    is_root: bool


Computation = dict[str, Instruction]


def cost_of(compiled: Any) -> Cost:
    """FLOPs and bytes of a call of what `jax.jit(...).lower(...).compile()` gives."""
    analysis = compiled.cost_analysis() or {}
    analysis = analysis[0] if isinstance(analysis, list) else analysis
    entry, computations = parsed(compiled.as_text())
    flops, moved = analysis.get("flops", 0.0), analysis.get("bytes accessed", 0.0)
    for name, turns in turns_of(entry, computations).items():
        more = turns - 1
        flops += more * sum(products(i, computations[name]) for i in computations[name].values())
    for name, turns in turns_of(entry, computations, fused=False).items():
        moved += (turns - 1) * sum(traffic(i, computations[name], computations) for i in computations[name].values())
    return Cost(float(flops), float(moved))


def parsed(text: str) -> tuple[str, dict[str, Computation]]:
    """The entry's name, and every computation by name."""
    computations: dict[str, Computation] = {}
    entry, current = "", {}
    for line in text.splitlines():
        if header := COMPUTATION.match(line):
            current = computations[header[2]] = {}
            entry = header[2] if header[1] else entry
        elif found := INSTRUCTION.match(line):
            root, name, shape, opcode, rest = found.groups()
            inside, _, _ = rest.partition("), ")
            operands = tuple(re.findall(r"%([\w.\-]+)", inside))
            current[name] = Instruction(name, shape, opcode, operands, rest, bool(root))
    return entry, computations


def turns_of(entry: str, computations: dict[str, Computation], *, fused: bool = True) -> dict[str, float]:
    """How often each computation runs in a call; without those that are `fused` into an instruction, if so wanted."""
    turns: dict[str, float] = defaultdict(float)

    def visit(name: str, times: float) -> None:
        turns[name] += times
        for instruction in computations[name].values():
            if instruction.opcode in ("while", "call", "conditional") or (fused and instruction.opcode == "fusion"):
                known = TURNS.search(instruction.rest)
                for called in called_by(instruction):
                    visit(called, times * (int(known[1]) if known else 1))

    visit(entry, 1.0)
    return turns


def called_by(instruction: Instruction) -> list[str]:
    found = CALLED.findall(instruction.rest)
    return [name.strip().lstrip("%") for one, several in found for name in (one or several).split(",")]


# --- one instruction ---------------------------------------------------------------------------------------------


def products(instruction: Instruction, around: Computation) -> float:
    """FLOPs of a matrix product or a convolution; 0 of anything else."""
    if instruction.opcode == "dot":
        left = dimensions(around[instruction.operands[0]].shape)
        contracted = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", instruction.rest)
    elif instruction.opcode == "custom-call" and "dot_dimension_numbers" in instruction.rest:  # cuBLAS
        left = dimensions(around[instruction.operands[0]].shape)
        contracted = re.search(r'lhs_contracting_dimensions":\["?([\d,"]*)\]', instruction.rest)
    elif instruction.opcode == "convolution":
        kernel = dimensions(around[instruction.operands[1]].shape)
        layout = re.search(r"dim_labels=\w+_(\w+)->", instruction.rest)
        per_output = math.prod(kernel) / kernel[layout[1].index("o")] if layout else 0.0
        return 2.0 * math.prod(dimensions(instruction.shape)) * per_output
    else:
        return 0.0
    axes = [int(axis) for axis in re.findall(r"\d+", contracted[1])] if contracted else []
    return 2.0 * math.prod(dimensions(instruction.shape)) * math.prod(left[axis] for axis in axes)


def traffic(instruction: Instruction, around: Computation, computations: dict[str, Computation]) -> float:
    """Bytes that an instruction reads and writes, of arrays that are sliced or updated only what it touches."""
    if instruction.opcode in FREE:
        return 0.0
    operands = [around[name].shape for name in instruction.operands if name in around]
    if instruction.opcode == "fusion":
        inside = computations[called_by(instruction)[0]]
        return written(instruction, inside) + sum(read(i, inside) for i in inside.values() if i.opcode == "parameter")
    if instruction.opcode in ("dynamic-slice", "gather"):
        return 2.0 * size(instruction.shape)
    if instruction.opcode == "dynamic-update-slice":
        return 2.0 * size(operands[1])
    return size(instruction.shape) + sum(map(size, operands))


def read(parameter: Instruction, inside: Computation) -> float:
    """Bytes that a fusion reads of one of its parameters."""
    total = 0.0
    for user in inside.values():
        if parameter.name not in user.operands:
            continue
        if user.opcode in ("dynamic-slice", "gather") and user.operands[0] == parameter.name:
            total += size(user.shape)
        elif not (user.opcode == "dynamic-update-slice" and user.operands[0] == parameter.name):
            return size(parameter.shape)
    return total


def written(fusion: Instruction, inside: Computation) -> float:
    """Bytes that a fusion writes."""
    root = next(i for i in inside.values() if i.is_root)
    while root.opcode == "bitcast" and root.operands[0] in inside:
        root = inside[root.operands[0]]
    return size(inside[root.operands[1]].shape) if root.opcode == "dynamic-update-slice" else size(fusion.shape)


@functools.cache
def dimensions(shape: str) -> tuple[int, ...]:
    """Of an array, or of the first one of a tuple."""
    found = ARRAY.search(shape)
    return tuple(map(int, filter(None, found[2].split(",")))) if found else ()


@functools.cache
def size(shape: str) -> float:
    """Bytes of an array, or of all in a tuple."""
    found = ARRAY.findall(shape)
    return float(sum(width(kind) * math.prod(map(int, filter(None, sides.split(",")))) for kind, sides in found))


def width(kind: str) -> float:
    """Bytes of a number such as an f32; bits for those that are no whole bytes count as a part of one."""
    bits = re.sub(r"\D", "", kind)
    return int(bits) / 8 if bits else 1.0
