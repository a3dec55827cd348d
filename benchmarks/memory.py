"""What a training step is planned to take of memory, and what it takes: `python -m benchmarks memory [--size=base]`.

Every case runs in a process of its own. On a CPU the peak of its resident memory over one step is read from the kernel,
less what it had before the step's arguments were made; elsewhere the device counts for itself.
"""

import ctypes
import dataclasses
import gc
import pathlib
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import jax
import numpy as np
import rich.console
import rich.table

from benchmarks import sizes
from benchmarks.measure import Output
from benchmarks.processes import call, resident
from benchmarks.sizes import SIZES
from jaxasr.data.batch import BucketShape
from jaxasr.data.bucketing import PlannedBatch
from jaxasr.data.pipeline import HostBatch
from jaxasr.memory import StepMemory
from jaxasr.parallel import Devices
from jaxasr.state import abstract_state, state_creator, train_steps
from jaxasr.train_config import TrainConfig

CASES: dict[str, dict[str, Any]] = {
    "as it is": {},
    "remat=dots": {"remat": "dots"},
    "remat": {"remat": True},
    "microbatches=2": {"microbatches": 2},
    "microbatches=4": {"microbatches": 4},
    "remat, microbatches=4": {"remat": True, "microbatches": 4},
    "bfloat16": {"dtype": "bfloat16"},
    "accumulate=2": {"accumulate": 2},
}


M_MMAP_THRESHOLD = -3
"""Of malloc.h: from so many bytes on memory is mapped for one use; said once, it grows no more."""


@dataclasses.dataclass(frozen=True)
class Options(Output):
    """Bytes on one device of a step with Adam and dropout."""

    size: Literal["tiny", "small", "conformer", "base"] = "small"
    """Of the network; conformer is a small one."""
    rows: int = 16
    """Utterances in a batch."""
    seconds: float = 12.0
    """Of each."""
    cases: tuple[str, ...] = tuple(CASES)
    """Which to measure."""
    LEAST: ClassVar[Mapping[str, float]] = {"rows": 1, "seconds": 0.1}


def measure(options: Options) -> list[dict[str, Any]]:
    """For every case the planned bytes, the measured ones, and by what part of them the plan is off."""
    return [call("memory", "one_case", case, options.size, options.rows, options.seconds) for case in options.cases]


def one_case(case: str, size: str, rows: int, seconds: float) -> dict[str, Any]:
    """The same of one case, in this process."""
    shape = BucketShape(rows, int(seconds * 16_000), round(3.5 * seconds))
    planned, peak = planned_and_peak(configuration(size, **CASES[case]), shape)
    found = {"case": case, "size": size, "rows": rows, "seconds": seconds} | planned._asdict()
    off = planned.total / peak - 1
    return found | {"planned": planned.total, "measured": peak, "off": off, "device": jax.devices()[0].device_kind}


def configuration(size: str, *, remat: Any = False, dtype: str = "float32", **options: Any) -> TrainConfig:
    conformer = size == "conformer"
    found = SIZES["small" if conformer else size]
    encoder = (sizes.conformer if conformer else sizes.sanm)(found)
    return TrainConfig(task=sizes.task(found, encoder.clone(remat=remat), dtype, sound=True), **options)


def planned_and_peak(cfg: TrainConfig, shape: BucketShape) -> tuple[StepMemory, int]:
    """What a step is planned to take on the first device, and what it takes there."""
    give_back_at_once()
    devices = Devices.first()
    create = state_creator(cfg, cfg.task, devices)
    steps = train_steps(cfg, cfg.task, devices, abstract_state(create, devices))
    planned = steps.memory(shape)
    hosts = [host_batch(cfg, shape)] * cfg.accumulate

    def run() -> int:
        state = jax.block_until_ready(create(jax.random.key(0), {}))
        forget_peak()
        jax.block_until_ready(steps(state, hosts))
        return peak()

    run()  # what comes but once: code, threads, tables of FFTs
    before = forget_peak()
    found = run() - before
    steps.close()
    return planned, found


def host_batch(cfg: TrainConfig, shape: BucketShape) -> HostBatch:
    """Noise, and tokens that are drawn."""
    task: Any = cfg.task
    rng, spec = np.random.default_rng(0), task.batch_spec(shape)
    full = {"audio_lengths": shape.samples, "token_lengths": shape.tokens, "weights": 1}
    arrays = {
        name: np.full(spec_of.shape, full.get(name, 0), spec_of.dtype) for name, spec_of in spec._asdict().items()
    }
    arrays["audio"] = rng.integers(-3000, 3000, spec.audio.shape).astype(np.int16)
    arrays["tokens"] = rng.integers(3, len(task.vocabulary) - 1, spec.tokens.shape).astype(np.int32)
    return HostBatch(PlannedBatch(shape, np.arange(shape.rows)), [], type(spec)(**arrays))


def give_back_at_once() -> None:
    """Has the C library give freed memory back; what it keeps, in pieces, for later is not what a step needs."""
    if jax.default_backend() == "cpu":
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 65536)


def forget_peak() -> int:
    """Bytes in use; the peak counts from here. Freed memory that malloc keeps is given back first."""
    gc.collect()
    if jax.default_backend() != "cpu":
        return 0  # the peak of a device cannot be forgotten, but nothing before a step takes as much
    ctypes.CDLL(None).malloc_trim(0)
    pathlib.Path("/proc/self/clear_refs").write_text("5")
    return resident("VmRSS")


def peak() -> int:
    """The most bytes in use since `forget_peak`."""
    if jax.default_backend() != "cpu":
        return jax.local_devices()[0].memory_stats()["peak_bytes_in_use"]
    return resident("VmHWM")


def show(title: str, rows: list[dict[str, Any]]) -> None:
    first = rows[0]
    shape = f"{first['size']}, {first['rows']} rows of {first['seconds']:g} s, on {first['device']}"
    table = rich.table.Table(title=f"{title}, in MiB: {shape}")
    columns = ("state", "batch", "between", "planned", "measured")
    for name in ("", *columns, "plan - measured"):
        table.add_column(name, justify="right" if name else "left")
    for found in rows:
        table.add_row(found["case"], *(f"{found[n] / 2**20:.1f}" for n in columns), f"{100 * found['off']:+.1f} %")
    rich.console.Console().print(table)
