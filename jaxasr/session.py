"""What a session of a run writes about itself into log.jsonl: command, machine, versions, data, buckets."""

import os
import pathlib
import platform
import shlex
import sys
from typing import Any

import jax

from jaxasr.data.selection import Selection
from jaxasr.inputs import Inputs
from jaxasr.launch import cores
from jaxasr.parallel import Devices
from jaxasr.prepare import Prepared
from jaxasr.train_config import TrainConfig
from jaxasr.versions import versions

SHOWN_IDS = 10


def session(cfg: TrainConfig, data: Prepared, devices: Devices) -> dict[str, Any]:
    """A record that JSON can hold; the report is made from it."""
    unit, _ = data.task.source.of_corpora
    shares = zip(cfg.train, data.train.shares(len(cfg.train)), strict=True)
    return {
        "command": shlex.join([pathlib.Path(sys.orig_argv[0]).name, *sys.orig_argv[1:]]),
        "folder": os.getcwd(),
        "machine": machine(),
        "mesh": dict(devices.mesh.shape),
        "versions": versions(),
        "data": {
            "train": _used(data.train.selection) | {unit: data.train.size, "frame_ms": data.task.frame_ms},
            "valid": {"utterances": len(data.valid.selection.utterances), unit: data.valid.size},
            "tests": [{"utterances": len(t.selection.utterances), unit: t.size} for t in data.tests],
        },
        "corpora": [{"path": path, "utterances": u, unit: size, "in_epoch": n} for path, (u, size, n) in shares],
        "buckets": buckets(data.train),
    }


def _used(selection: Selection) -> dict[str, Any]:
    """How many utterances came in, how many are used, and which are not, by reason."""
    left_out = {name: {"count": len(ids), "ids": ids[:SHOWN_IDS]} for name, ids in selection.left_out.items()}
    faults = dict(list(selection.faults.items())[:SHOWN_IDS])
    return {
        "utterances": len(selection.utterances),
        "total": selection.total,
        "left_out": left_out,
        "faults": faults,
        "speeds": list(selection.speeds),
    }


def buckets(inputs: Inputs) -> list[dict[str, Any]]:
    """Shape and use in the first epoch of every bucket."""
    return [
        {
            "rows": use.shape.rows,
            "seconds": use.shape.samples / inputs.task.input_rate,
            "tokens": use.shape.tokens,
            "batches": use.batches,
            "utterances": use.utterances,
            "samples": use.samples,
            "room": use.room,
        }
        for use in inputs.usage()
    ]


def machine() -> dict[str, Any]:
    """Processor, cores that this process may use, memory, operating system, and the devices of all processes."""
    device = jax.devices()[0]
    return {
        "cpu": _cpu(),
        "cores": cores(),
        "memory_gib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30,
        "system": platform.platform(terse=True),
        "devices": {"platform": device.platform, "kind": device.device_kind, "count": jax.device_count()},
        "processes": jax.process_count(),
    }


def _cpu() -> str:
    """The model of the processor, or at least its architecture."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()
