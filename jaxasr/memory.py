"""The bytes that a step takes on each device, which are known once it is compiled."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypeAlias

import jax

from jaxasr.data.batch import BucketShape
from jaxasr.errors import TrainingError
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
        """Bytes of all of it.

        >>> StepMemory(100, 20, 30).total
        150
        """
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


def is_full(error: Exception) -> bool:
    """Whether it says that a device's memory is too small; some compilers refuse what cannot fit."""
    return isinstance(error, jax.errors.JaxRuntimeError) and "RESOURCE_EXHAUSTED" in str(error)


@contextlib.contextmanager
def full_is_told() -> Iterator[None]:
    """Turns the error of a full device into a TrainingError that says what takes less."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if not is_full(error):
            raise
        raise TrainingError(
            f"memory of a device: {str(error)[:200]}; room for a step and the copy of a state that is being saved was "
            "expected; take smaller batches (--fit finds the largest that fit, --batch_seconds, --batch_tokens), or "
            "more --microbatches, or --encoder.remat."
        ) from error


def bytes_on_device(tree: PyTree) -> int:
    """Bytes on each device of arrays, or of shapes and types with their places.

    >>> bytes_on_device({"kernel": jax.numpy.ones((2, 3)), "bias": jax.numpy.ones(3)})
    36
    """
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in leaves)


def shown(shape: BucketShape, source: Any) -> str:
    """A bucket as it is told of: `16 rows x 12.00 s`.

    >>> from jaxasr.data.audio import SoundSource
    >>> shown(BucketShape(rows=16, samples=192000, tokens=30), SoundSource(16000))
    '16 rows x 12.00 s'
    """
    length = f"{shape.samples / source.rate:.2f} s" if source.unit == "seconds" else f"{shape.samples} {source.unit}"
    return f"{shape.rows} rows x {length}"


def teller(source: Any, log: Any) -> Told:
    """Says what each bucket's step takes, and writes it into log.jsonl."""

    def tell(shape: BucketShape, found: StepMemory) -> None:
        log.say(f"memory  {shown(shape, source)}: {found}")
        bucket = {"rows": shape.rows, "seconds": shape.samples / source.rate, "tokens": shape.tokens}
        log.event(split="memory", **bucket, **found._asdict(), total=found.total)

    return tell
