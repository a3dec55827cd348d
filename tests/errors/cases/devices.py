"""Several devices and processes."""

import pathlib
import tempfile
import time
from unittest import mock

import jax
import numpy as np

from jaxasr import profiling
from jaxasr.fsdp import Fsdp
from jaxasr.parallel import Devices, start_processes
from jaxasr.train_config import TrainConfig


def alone() -> None:
    """Nobody comes; JAX itself would end the program after a while."""
    with mock.patch.object(jax.distributed, "initialize", side_effect=lambda *_, **__: time.sleep(1.0)):
        start_processes("127.0.0.1:1", 2, 1, timeout_seconds=0.01)


def other_program() -> None:
    """A trace in which nothing ran."""
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "host.xplane.pb").touch()
        profiling.spent(folder, mock.Mock(as_text=lambda: "HloModule jit_step, is_scheduled=true"))


KERNEL = {"ctc": {"kernel": np.zeros((8, 5))}}
CASES = {
    "a process without its coordinator": lambda: start_processes(None, 2, None),
    "a coordinator without a port": lambda: start_processes("here", 2, 0),
    "a port that there cannot be": lambda: start_processes("here:65536", 2, 0),
    "no processes at all": lambda: start_processes("here:1234", 0, 0),
    "processes that do not meet": alone,
    "no scheduler that says who is who": lambda: start_processes("auto", None, None),
    "rows that devices cannot share": lambda: Devices.all().check_rows(jax.device_count() + 1),
    "more devices than there are": lambda: Devices.first(jax.local_device_count() + 1),
    "a folder without a trace": lambda: profiling.spent("nowhere", mock.Mock(as_text=lambda: "HloModule jit_step, a")),
    "a trace of another program": other_program,
    "devices that make no rows of three": lambda: Devices.all(Fsdp(3)),
    "a state divided by no devices": lambda: Fsdp(0).check(),
    "a rule for a state without its dimension": lambda: Fsdp(2, rules=("ctc",)).check(),
    "a rule for a side that cannot be divided": lambda: Fsdp(2, rules=("ctc=1",)).check_params(KERNEL),
    "a divided state in programs of their own": lambda: TrainConfig(fsdp=Fsdp(2), parallel="pmap").check(),
}
