"""One training on 1, 2, 4 and 8 devices, data parallel and divided (--fsdp): losses, times, what is sent and kept.

  python -m benchmarks scaling [--devices 1 2 4 8] [--steps=5]

Each runs in a process of its own. On a CPU the devices are threads of one machine, so the times say what dividing
costs, not what it gains; with --no-fake the devices are those that the machine has, and --devices names how many of
them. Ends with status 1 where losses differ by more than float32's sums in another order do.
"""

import dataclasses
import os
import statistics
import sys
import time
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import rich.console
import rich.table

from benchmarks.measure import Output
from benchmarks.processes import call
from benchmarks.table import WIDTH

TOLERANCE = 2e-5
"""Relative, of a loss after some steps."""


@dataclasses.dataclass(frozen=True)
class Options(Output):
    """Trains the same model on so many devices."""

    devices: tuple[int, ...] = (1, 2, 4, 8)
    """How many; for each data parallel, and all of them sharing one state."""
    steps: int = 5
    """Steps; the first one is not timed."""
    layers: int = 4
    """Layers of the encoder; the decoder has half as many."""
    width: int = 144
    """d_model; d_ff is four times as much."""
    vocabulary: int = 500
    rows: int = 16
    seconds: float = 4.0
    """Of sound in a row."""
    fake: bool = True
    """Let the CPU be so many devices."""
    LEAST: ClassVar[Mapping[str, float]] = {"steps": 2, "layers": 1, "rows": 1, "seconds": 0.5}


# --- one process -------------------------------------------------------------------------------------------------


def train_config(options: Options, fsdp: int) -> Any:
    from jaxasr.data.tokenizer import Vocabulary
    from jaxasr.fsdp import Fsdp
    from jaxasr.nn.decoders import TransformerDecoder
    from jaxasr.nn.encoders import SanmEncoder
    from jaxasr.tasks import AsrTask
    from jaxasr.train_config import TrainConfig

    sizes = {"d_model": options.width, "num_heads": 4, "d_ff": 4 * options.width}
    words = [str(number) for number in range(options.vocabulary - 4)]
    task = AsrTask(
        encoder=SanmEncoder(num_layers=options.layers, **sizes),
        decoder=TransformerDecoder(num_layers=max(options.layers // 2, 1), **sizes),
        vocabulary=Vocabulary(("<blank>", "<s>", "</s>", *words, "<unk>")),
        normalizer=None,
    )
    return TrainConfig(task=task, fsdp=Fsdp(fsdp, min_size=4096))


def host_batch(options: Options) -> Any:
    from jaxasr.data.batch import AsrBatch, BucketShape
    from jaxasr.data.bucketing import PlannedBatch
    from jaxasr.data.pipeline import HostBatch

    rng = np.random.default_rng(0)
    rows, samples, tokens = shape = BucketShape(options.rows, int(16_000 * options.seconds), int(3 * options.seconds))
    lengths = np.linspace(0.8, 1.0, rows)
    audio = rng.integers(-3000, 3000, (rows, samples), np.int16)
    known = (tokens * lengths).astype(np.int32)
    ids = np.where(np.arange(tokens) < known[:, None], rng.integers(3, options.vocabulary - 1, (rows, tokens)), -1)
    batch = AsrBatch(
        audio, (samples * lengths).astype(np.int32), ids.astype(np.int32), known, np.ones(rows, np.float32)
    )
    return HostBatch(PlannedBatch(shape, np.arange(rows)), [], batch)


def one(told: dict[str, Any], fsdp: int) -> dict[str, Any]:
    """What a training on all devices of this process comes to, by such options."""
    import jax

    from benchmarks.hlo import parsed
    from jaxasr.memory import bytes_on_device
    from jaxasr.parallel import Devices
    from jaxasr.state import abstract_state, make_train_step, state_creator, with_total

    options = Options(**told)
    cfg, host = train_config(options, fsdp), host_batch(options)
    devices = Devices.all(cfg.fsdp)
    create = state_creator(cfg, cfg.task, devices)
    abstract = abstract_state(create, devices)
    places = devices.places(abstract)
    step = make_train_step(cfg.task.loss_fn(), cfg.optimizer, cfg.schedule)
    jitted = devices.compiled_for(step, (places, devices.by_row), (places, devices.replicated), donate=(0,))
    spec = devices.spec(cfg.task.batch_spec(host.planned.shape))
    began = time.perf_counter()
    compiled = jitted.lower(abstract, spec).compile()
    compiling = time.perf_counter() - began
    state, losses, seconds = with_total(create(jax.random.key(0), {}), options.steps, devices), [], []
    for _ in range(options.steps):
        began = time.perf_counter()
        state, metrics = compiled(state, devices.put(host.batch))
        losses.append(float(metrics["loss"].value))
        seconds.append(time.perf_counter() - began)
    program, memory = parsed(compiled.as_text()), compiled.memory_analysis()
    kept = {name: bytes_on_device(tree) for name, tree in (("params", state.params), ("state", state))}
    return {
        "devices": len(jax.devices()),
        "device": jax.devices()[0].device_kind,
        "fsdp": fsdp,
        "losses": losses,
        "step_ms": 1000 * statistics.median(seconds[1:]),
        "compile_s": compiling,
        "gflop": program.flops() / 1e9,
        "collectives": program.collectives(),
        "params_bytes": kept["params"],
        "state_bytes": kept["state"],
        "temporary_bytes": memory.temp_size_in_bytes,
    }


# --- all of them -------------------------------------------------------------------------------------------------


def measure(options: Options) -> list[dict[str, Any]]:
    """The results of every number of devices, data parallel and with all of them sharing the state."""
    runs = [(count, fsdp) for count in options.devices for fsdp in dict.fromkeys((1, count))]
    return [_in_process(options, count, fsdp) for count, fsdp in runs]


def _in_process(options: Options, count: int, fsdp: int) -> dict[str, Any]:
    env = dict(os.environ)
    if options.fake:
        env["XLA_FLAGS"] = f"{env.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={count}"
        env["JAX_PLATFORMS"] = "cpu"
    else:
        env["CUDA_VISIBLE_DEVICES"] = ",".join(map(str, range(count)))
    return call("scaling", "one", dataclasses.asdict(options) | {"json": None}, fsdp, environment=env)


def show(title: str, rows: list[dict[str, Any]]) -> None:
    """The table; ends the program where losses differ."""
    table = rich.table.Table(title=f"{title} of {rows[0]['device']}", title_justify="left")
    names = ("devices", "mesh", "last loss", "step ms", "all-reduce MB", "all-gather MB", "reduce-scatter MB")
    for name in (*names, "other MB", "params MB", "state MB", "temporary MB"):
        table.add_column(name, justify="right")
    for found in rows:
        sent = {kind: size for kind, (_, size) in found["collectives"].items()}
        columns = [sent.pop(kind, 0) for kind in ("all-reduce", "all-gather", "reduce-scatter")]
        sizes = [*columns, sum(sent.values()), *(found[f"{n}_bytes"] for n in ("params", "state", "temporary"))]
        mesh = f"{found['devices'] // found['fsdp']} x {found['fsdp']}"
        row = (str(found["devices"]), mesh, f"{found['losses'][-1]:.6f}", f"{found['step_ms']:.0f}")
        table.add_row(*row, *(f"{size / 1e6:.2f}" for size in sizes))
    rich.console.Console(width=WIDTH).print(table)
    print(f"losses differ by {(difference := differing(rows)):.1e} at most")
    if not difference <= TOLERANCE:
        sys.exit(f"more than {TOLERANCE:.0e}")


def differing(results: list[dict[str, Any]]) -> float:
    """The largest relative difference of a loss from that of the first result; NaN where one is none."""
    losses = np.array([found["losses"] for found in results])
    return float(np.max(np.abs(losses / losses[0] - 1.0)))
