"""Several devices and processes."""

import jax

from jaxasr.parallel import Devices, start_processes

CASES = {
    "a process without its coordinator": lambda: start_processes(None, 2, None),
    "rows that devices cannot share": lambda: Devices.all().check_rows(jax.device_count() + 1),
}
