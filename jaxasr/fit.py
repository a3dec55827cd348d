"""`--fit`: the largest batches whose steps fit into the memory of a device."""

import contextlib
import dataclasses
import functools
import math
import sys
import time
from collections.abc import Callable, Sequence

import jax
import numpy as np

from jaxasr.data.batch import BucketShape
from jaxasr.errors import ConfigError
from jaxasr.inputs import Inputs, training_shapes
from jaxasr.memory import GIB, is_full, shown
from jaxasr.parallel import Devices, from_main_process
from jaxasr.state import Steps, abstract_state, state_creator, train_steps
from jaxasr.train_config import TrainConfig

SHARE = 0.9
"""Of the memory; the rest is for validation, for libraries' own buffers, and for what lies in pieces."""
MIB = 2**20

Need = Callable[[BucketShape], float]
"""Bytes on each device that training needs with batches of this shape."""


def fitted(
    cfg: TrainConfig, inputs: Inputs, devices: Devices, memory: int, say: Callable[[str], None]
) -> tuple[TrainConfig, Inputs]:
    """The largest batches that fit into so many bytes on each device; `cfg.fit` has then done its work.

    Raises:
      ConfigError: not even the fewest rows fit.
    """
    assert cfg.fit is not None
    began, limit, task = time.perf_counter(), SHARE * memory, inputs.task

    def shapes_of(batch_samples: int) -> list[BucketShape]:
        sizes = {"max_buckets": cfg.max_buckets, "rows_multiple": cfg.rows_multiple, "weights": cfg.train_weights}
        return training_shapes(inputs.selection, batch_samples=batch_samples, **sizes)

    abstract = abstract_state(state_creator(cfg, task, devices), devices)
    with contextlib.closing(train_steps(cfg, task, devices, abstract)) as steps:
        need = functools.cache(functools.partial(needed, steps))
        samples = largest(shapes_of, need, limit, cfg.rows_multiple)
        if task.source.unit == "tokens":
            units, found = samples, {"batch_tokens": samples}
        else:
            units = math.floor(10 * samples / task.input_rate) / 10
            found = {"batch_seconds": units}
        shapes = shapes_of(int(units * task.input_rate))
        most = max(shapes, key=need)
        longest = inputs.selection.utterances[int(np.argmax(inputs.selection.plain_samples))].id
        check_fits(cfg.fit, shown(most, task.source), need(most), limit, longest)
        say(
            f"--fit={cfg.fit}: --{next(iter(found))}={units:g}: {shown(most, task.source)} take {need(most) / GIB:.3f} "
            f"GiB on each device, a step {steps.memory(most)} and, while one is saved, the state once more; "
            f"{need.cache_info().misses} shapes compiled in {time.perf_counter() - began:.0f} s"
        )
    return dataclasses.replace(cfg, fit=None, **found), dataclasses.replace(inputs, shapes=shapes)


def check_fits(fit: float | str, rows: str, need: float, limit: float, longest: str) -> None:
    """Raises ConfigError where not even the fewest rows fit; `longest` is the utterance that is the reason."""
    if need > limit:
        raise ConfigError(
            f"--fit={fit}: {rows}, the fewest that {longest} can stand among, take {need / GIB:.3f} GiB; at most "
            f"{limit / GIB:.3f}, {SHARE:.0%} of the memory, were expected; leave out long utterances (--max_seconds), "
            "compute blocks anew (--encoder.remat), or give a smaller --rows_multiple or more --microbatches."
        )


def memory_of_device(fit: float | str) -> int:
    """Bytes: so many GiB, or what `device` has, the same in every process.

    Raises:
      ConfigError: the device does not say how much it has.

    >>> memory_of_device(0.5)
    536870912
    """
    if not isinstance(fit, str):
        return round(fit * GIB)
    device = jax.local_devices()[0]
    found = (device.memory_stats() or {}).get("bytes_limit")
    if found is None:
        raise ConfigError(
            f"--fit={fit}: a {device.device_kind} does not say how much memory it has; a number was expected; give "
            "--fit=GIB."
        )
    return from_main_process(found // MIB) * MIB


def needed(steps: Steps, shape: BucketShape) -> float:
    """A step's bytes, the state's again while a copy of it is saved, and those of the next batch."""
    try:
        found = steps.memory(shape)
    except jax.errors.JaxRuntimeError as error:
        if is_full(error):
            return math.inf
        raise
    return found.total + found.state + found.batch


def largest(shapes_of: Callable[[int], Sequence[BucketShape]], need: Need, limit: float, multiple: int) -> int:
    """Samples of the largest batches with which every shape fits; 1 where none does.

    Args:
      shapes_of: the shapes that a number of samples in a batch gives; more of them never give fewer rows.
    """
    samples = sys.maxsize
    while True:
        shapes = shapes_of(samples)
        for shape in reversed(shapes):  # attention grows with the square of a row's length
            if samples < sys.maxsize and need(shape) <= limit:
                continue
            if (rows := most_rows(shape, need, limit, multiple)) < shape.rows:
                break
        else:
            return min(samples, max(shape.rows * shape.samples for shape in shapes))
        if rows == 0:
            return 1
        samples = (rows + multiple) * shape.samples - 1


def most_rows(shape: BucketShape, need: Need, limit: float, multiple: int) -> int:
    """The most rows of this length, up to those of `shape`, that fit; 0 where not even `multiple` do.

    Bytes grow nearly in proportion to rows, so that few numbers of rows are looked at.
    """
    fits, too_many = 0, shape.rows // multiple + 1  # in multiples
    looked: list[tuple[int, float]] = []
    while too_many - fits > 1:
        guess = min(max(_guess(looked, limit), fits + 1), too_many - 1)
        looked.append((guess, need(shape._replace(rows=guess * multiple))))
        fits, too_many = (guess, too_many) if looked[-1][1] <= limit else (fits, guess)
    return fits * multiple


def _guess(looked: Sequence[tuple[int, float]], limit: float) -> int:
    """Where the limit is on the line through the last two points; first 1, then 2."""
    if len(looked) < 2:
        return len(looked) + 1
    (x0, y0), (x1, y1) = looked[-2:]
    slope = (y1 - y0) / (x1 - x0)
    return math.floor(x1 + (limit - y1) / slope) if 0 < slope < math.inf else 0
