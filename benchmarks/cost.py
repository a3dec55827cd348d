"""What a compiled program computes and moves: XLA's own count, with every turn of its loops.

`compiled.cost_analysis()` counts the body of a loop once, however often it runs, and a network is a loop over its
layers. The program's text tells how often: what the matrix products and convolutions of a body compute, and what its
instructions read and write, is added for the other turns. A loop of unknown length, such as a search's, counts once.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.hlo import Instruction, Program, bytes_of, parsed

FREE = {"parameter", "constant", "tuple", "get-tuple-element", "bitcast", "while", "call", "conditional", "after-all"}
SLICES = ("dynamic-slice", "gather")
UPDATE = "dynamic-update-slice"


class Cost(NamedTuple):
    """Of one call."""

    flops: float
    bytes: float


def cost_of(compiled: Any) -> Cost:
    """FLOPs and bytes of a call of what `jax.jit(...).lower(...).compile()` gives."""
    once, program = compiled.cost_analysis() or {}, parsed(compiled.as_text())
    more = {name: turns - 1 for name, turns in program.turns().items() if turns > 1}
    flops = once.get("flops", 0.0) + sum(times * program.own(name)["flops"] for name, times in more.items())
    outside = {name: turns - 1 for name, turns in program.turns(fused=False).items() if turns > 1}
    moved = once.get("bytes accessed", 0.0) + sum(times * traffic(program, name) for name, times in outside.items())
    return Cost(float(flops), float(moved))


def traffic(program: Program, name: str) -> float:
    """Bytes that a computation's instructions read and write in one turn."""
    types = {instruction.name: instruction.type for instruction in program.computations[name]}
    return sum(moved(instruction, types, program) for instruction in program.computations[name])


def moved(instruction: Instruction, types: dict[str, str], program: Program) -> float:
    """Bytes that an instruction reads and writes; of arrays that are sliced or updated, what it touches."""
    if instruction.op in FREE:
        return 0.0
    if instruction.op == "fusion":
        (inside,) = (program.computations[called] for called, _ in program.calls(instruction))
        return written(inside) + sum(read(i, inside) for i in inside if i.op == "parameter")
    if instruction.op in SLICES:
        return 2.0 * bytes_of(instruction.type)
    operands = [types.get(name, "") for name in instruction.operands]
    if instruction.op == UPDATE:
        return 2.0 * bytes_of(operands[1])
    return bytes_of(instruction.type) + sum(map(bytes_of, operands))


def read(parameter: Instruction, inside: Sequence[Instruction]) -> float:
    """Bytes that a fusion reads of one of its parameters."""
    users = [i for i in inside if parameter.name in i.operands]
    parts = [i for i in users if i.operands[0] == parameter.name and i.op in (*SLICES, UPDATE)]
    if len(parts) < len(users):
        return bytes_of(parameter.type)
    return sum(bytes_of(i.type) for i in parts if i.op in SLICES)


def written(inside: Sequence[Instruction]) -> float:
    """Bytes that a fusion writes."""
    by_name = {i.name: i for i in inside}
    root = next(i for i in inside if i.is_root)
    outputs = [by_name[name] for name in root.operands] if root.op == "tuple" else [root]
    return sum(bytes_of(stored(output, by_name)) for output in outputs)


def stored(output: Instruction, by_name: Mapping[str, Instruction]) -> str:
    """The type of what is written for one of a fusion's outputs: of an array that is updated, the part."""
    made = output
    while made.op == "bitcast" and made.operands[0] in by_name:
        made = by_name[made.operands[0]]
    return by_name[made.operands[1]].type if made.op == UPDATE else output.type
