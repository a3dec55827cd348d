"""Writes the figures of docs/scale.md from what is stated here: `python docs/scale.py`.

Change an assumption, and run it again.
"""

import dataclasses
import pathlib
from collections.abc import Iterator

PAGE = pathlib.Path(__file__).with_name("scale.md")
BEGIN, END = "<!-- python docs/scale.py writes from here -->\n", "<!-- to here -->\n"


@dataclasses.dataclass(frozen=True)
class Model:
    name: str
    parameters: float
    """Millions."""
    gflop: float
    """Of a training step, for each second of sound."""


@dataclasses.dataclass(frozen=True)
class Machine:
    name: str
    devices: int
    tflops: float
    """Peak of one device in dense bfloat16."""
    memory: float
    """GB of one device."""
    link: float
    """GB/s that one device sends to the others of its machine."""
    cores: int
    """Of all hosts."""
    price: float
    """Assumed, in dollars for a device's hour; it depends on contract, place and month."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What is assumed beside model and machine."""

    hours: float = 10_000.0
    epochs: float = 20.0
    padding: float = 0.04
    """Share of a batch that is no sound, with `--max_buckets=12`."""
    utilisation: float = 0.30
    """Share of the devices' peak that a step reaches."""
    batch_seconds: float = 400.0
    """Of sound on each device, in a step."""
    read_rate: float = 1_000.0
    """Seconds of sound that one core reads, decodes and collates in a second."""
    bytes_per_second: float = 17_000.0
    """Of 16 kHz FLAC on disk; int16 is 32,000."""
    copies: int = 4
    """Of the parameters in a state, in float32: themselves, Adam's two moments, the average."""


MODELS = (Model("base", 29.4, 2.19), Model("large", 220.1, 19.65))
"""By `python -m benchmarks.flops`."""
MACHINES = (
    Machine("8 x H100", devices=8, tflops=989, memory=80, link=450, cores=208, price=3.0),
    Machine("v5e-64", devices=64, tflops=197, memory=16, link=100, cores=1_792, price=1.2),
)


def figures(model: Model, machine: Machine, job: Job) -> dict[str, str]:
    """What a training comes to, by name."""
    sound = 3600 * job.hours * job.epochs
    flops = 1e9 * model.gflop * sound / (1 - job.padding)
    computing = flops / (1e12 * machine.tflops * machine.devices * job.utilisation)
    rate = sound / computing
    reading = sound / (job.read_rate * machine.cores)
    seconds = max(computing, reading)
    step = 1e9 * model.gflop * job.batch_seconds / (1e12 * machine.tflops * job.utilisation)
    bytes_of_params = 4e6 * model.parameters
    state = job.copies * bytes_of_params
    ring = (machine.devices - 1) / machine.devices * bytes_of_params / (1e9 * machine.link)
    return {
        "arithmetic": f"{flops:.1e} FLOP",
        "devices alone": f"{computing / 3600:.1f} h, {rate:,.0f} s of sound a second",
        "cores to keep up": f"{rate / job.read_rate:,.0f} of {machine.cores:,}",
        "bound by": "reading" if reading > computing else "arithmetic",
        "time": f"{seconds / 3600:.1f} h",
        "read from storage": f"{sound / seconds * job.bytes_per_second / 1e9:.1f} GB/s",
        "to the devices (int16)": f"{sound / seconds * 32_000 / machine.devices / 1e6:.0f} MB/s each",
        "steps": f"{sound / job.batch_seconds / machine.devices:,.0f} of {1e3 * step:.0f} ms",
        "sent in a step, data parallel": f"{2e3 * ring:.1f} ms, behind the backward pass",
        "sent in a step, --fsdp": f"{3e3 * ring:.1f} ms",
        "state on a device, data parallel": f"{state / 1e9:.2f} of {machine.memory:g} GB",
        "state on a device, --fsdp": f"{state / machine.devices / 1e9:.2f} GB",
        "checkpoint": f"{state / 1e9:.2f} GB; the model {bytes_of_params / 1e9:.2f}",
        "cost": f"${machine.devices * machine.price * seconds / 3600:,.0f}",
    }


def lines(job: Job = Job()) -> Iterator[str]:
    """The tables of assumptions and figures."""
    yield "| assumed | |\n|---|---|\n"
    yield f"| data | {job.hours:,.0f} h, {job.epochs:g} epochs, {100 * job.padding:g} % padding |\n"
    yield f"| a device reaches | {100 * job.utilisation:g} % of its peak in bfloat16 |\n"
    yield f"| batch | {job.batch_seconds:g} s of sound on each device |\n"
    yield f"| a core reads | {job.read_rate:,.0f} s of sound a second |\n"
    yield f"| FLAC | {job.bytes_per_second / 1000:g} kB for a second of sound |\n"
    yield f"| state | {job.copies} copies of the parameters in float32 |\n"
    for machine in MACHINES:
        yield f"| {machine.name} | {machine.tflops:g} TFLOP/s, {machine.memory:g} GB and {machine.link:g} GB/s a "
        yield f"device; {machine.cores:,} cores; ${machine.price:.2f} for a device's hour |\n"
    for model in MODELS:
        yield f"| `{model.name}` | {model.parameters:.1f} million parameters, {model.gflop:.2f} GFLOP for a second |\n"
    cases = [(model, machine) for model in MODELS for machine in MACHINES]
    columns = [figures(model, machine, job) for model, machine in cases]
    yield "\n| |" + "".join(f" `{model.name}`, {machine.name} |" for model, machine in cases)
    yield "\n|---|" + "---|" * len(cases) + "\n"
    for name in columns[0]:
        yield f"| {name} |" + "".join(f" {column[name]} |" for column in columns) + "\n"


def written(page: str) -> str:
    """The page with the figures in their place."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{''.join(lines())}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
