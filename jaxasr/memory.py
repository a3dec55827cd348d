"""The bytes that a step takes on each device, which are known once it is compiled."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias

import jax

from jaxasr.data.batch import BucketShape
from jaxasr.typing import PyTree

GIB = 2**30


class StepMemory(NamedTuple):
    """Bytes on each device at the moment of a step when they are most."""

    state: int
    """Parameters, the optimizer's state and an average, which are there between steps too."""
    batch: int
    between: int
    """What comes and goes: activations and gradients."""

    @property
    def total(self) -> int:
        return sum(self)

    def __str__(self) -> str:
        parts = (f"{name} {size / GIB:.3f}" for name, size in zip(self._fields, self, strict=True))
        return f"{self.total / GIB:.3f} GiB ({', '.join(parts)})"


Told: TypeAlias = Callable[[BucketShape, StepMemory], None]


def step_memory(compiled: Any, *, state: int, batch: int, between: int = 0) -> StepMemory:
    """What a compiled step takes by XLA's own plan of its buffers.

    Args:
      between: bytes beside state and batch that the step is given and gives back changed.
    """
    plan = compiled.memory_analysis()
    made = plan.temp_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes
    return StepMemory(state, batch, between + made)


def bytes_on_device(tree: PyTree) -> int:
    """Bytes on each device of arrays, or of shapes and types with their places."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)


def shown(shape: BucketShape, source: Any) -> str:
    """A bucket as it is told of: `16 rows x 12.00 s`."""
    length = f"{shape.samples / source.rate:.2f} s" if source.unit == "seconds" else f"{shape.samples} {source.unit}"
    return f"{shape.rows} rows x {length}"


def teller(source: Any, log: Any) -> Told:
    """Says what each bucket's step takes, and writes it into log.jsonl."""

    def tell(shape: BucketShape, found: StepMemory) -> None:
        log.say(f"memory  {shown(shape, source)}: {found}")
        bucket = {"rows": shape.rows, "seconds": shape.samples / source.rate, "tokens": shape.tokens}
        log.event(split="memory", **bucket, **found._asdict(), total=found.total)

    return tell
