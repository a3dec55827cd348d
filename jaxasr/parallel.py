"""Where arrays live: one mesh, rows of a batch and parts of a state for every device, and how processes meet."""

import contextlib
import dataclasses
import functools
import math
import threading
from collections.abc import Callable, Sequence
from typing import Any, Literal

import jax
import numpy as np
from flax import linen as nn
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxasr.errors import ConfigError
from jaxasr.fsdp import FSDP_AXIS, Fsdp
from jaxasr.nn.rows import DATA_AXIS, rows_spread
from jaxasr.paths import path_of
from jaxasr.typing import PyTree

AUTO = "auto"
"""The coordinator's place where a scheduler says who is who."""
SILENT_SECONDS = 40
"""After which a process of a run counts as dead; the others then end. It answers in a thread of JAX's own, while it
computes or compiles too."""


def start_processes(
    coordinator: str | None, num_processes: int | None, process_id: int | None, *, timeout_seconds: float = 300.0
) -> None:
    """Joins the other processes of a run.

    Args:
      coordinator: "host:port" of process 0; AUTO, where JAX can tell; None for a run of one process.
      timeout_seconds: how long processes wait for each other.

    Raises:
      ConfigError: it is not said who is who, or they do not meet.
    """
    if coordinator is None and num_processes is None and process_id is None:
        return
    _check_processes(coordinator, num_processes, process_id)
    where, timeout = None if coordinator == AUTO else coordinator, int(timeout_seconds) + 60
    faults: list[Exception] = []

    def join() -> None:
        try:
            jax.distributed.initialize(
                where,
                num_processes,
                process_id,
                initialization_timeout=timeout,
                heartbeat_timeout_seconds=SILENT_SECONDS,
            )
        except Exception as error:  # whatever its client, and the scheduler's variables, come to
            faults.append(error)

    # beside this thread, since JAX ends the program, with its own stack, where its time is up
    joining = threading.Thread(target=join, daemon=True)
    joining.start()
    joining.join(timeout_seconds)
    if joining.is_alive():
        raise ConfigError(
            f"--coordinator={coordinator}: the processes have not met in {timeout_seconds:g} s; all of them were "
            "expected, with the same coordinator; see that each runs, and that it can reach process 0's host and port."
        )
    for error in faults:
        raise ConfigError(
            f"--coordinator={coordinator}: {type(error).__name__}: {error}; a free port of process 0's host, or with "
            f"{AUTO} a job of SLURM, a TPU pod, GKE or Open MPI, was expected; give --coordinator=HOST:PORT, "
            "--num_processes and --process_id."
        ) from error


def _check_processes(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    if coordinator == AUTO and num_processes is None and process_id is None:
        return
    if not coordinator or coordinator == AUTO or num_processes is None or process_id is None:
        raise ConfigError(
            f"--coordinator={coordinator} --num_processes={num_processes} --process_id={process_id}: all three, or "
            f"--coordinator={AUTO} alone, were expected; give every process the same --coordinator=HOST:PORT and "
            "--num_processes, and each its own --process_id from 0."
        )
    host, _, port = coordinator.rpartition(":")
    if not (host and port.isdecimal() and 0 < int(port) < 2**16 and 0 <= process_id < num_processes):
        raise ConfigError(
            f"--coordinator={coordinator} --num_processes={num_processes} --process_id={process_id}: HOST:PORT, and a "
            "process_id from 0 to below num_processes, were expected; correct them."
        )


def pmapped(
    fn: Callable[..., Any], mesh: Mesh, in_specs: PyTree, out_specs: PyTree, *, donate: tuple[int, ...] = ()
) -> Any:
    """`fn` as every device's own program over its share of the rows, with the collectives that it spells out.

    Today's form of `jax.pmap`. Inside, `nn.rows` knows that the rows are a share of the batch.
    """
    mapped = jax.shard_map(fn, mesh=mesh, in_specs=in_specs, out_specs=out_specs, check_vma=False)
    return jax.jit(mapped, donate_argnums=donate)


@dataclasses.dataclass(frozen=True)
class Devices:
    """Every device of every process: a batch's rows over all, a state's arrays over those in a row of the mesh."""

    mesh: Mesh
    fsdp: Fsdp = Fsdp()

    @classmethod
    def all(cls, fsdp: Fsdp | None = None) -> "Devices":
        """All of all processes, `fsdp.devices` in a row of the mesh.

        Raises:
          ConfigError: the rows do not come out even.
        """
        fsdp = fsdp or Fsdp()
        if jax.device_count() % fsdp.devices:
            raise ConfigError(
                f"--fsdp={fsdp.devices} on {jax.device_count()} devices: a number that divides them was expected; "
                "give another."
            )
        return cls(_mesh(jax.devices(), fsdp.devices), fsdp)

    @classmethod
    def first(cls, count: int = 1) -> "Devices":
        """So many devices of this process alone.

        Raises:
          ConfigError: it has not so many.
        """
        if not 0 < count <= jax.local_device_count():
            raise ConfigError(
                f"Devices.first({count}): this process has {jax.local_device_count()} devices; from 1 to as many were "
                "expected; give another number."
            )
        return cls(_mesh(jax.local_devices()[:count], 1))

    @property
    def replicated(self) -> NamedSharding:
        """How an array stands whole on every device."""
        return NamedSharding(self.mesh, P())

    @property
    def by_row(self) -> NamedSharding:
        """How an array stands with its rows divided between the devices."""
        return NamedSharding(self.mesh, P((DATA_AXIS, FSDP_AXIS)))

    def places(self, tree: PyTree) -> PyTree:
        """Where each array of a state stands, by its path."""

        def place(keys: Any, x: Any) -> NamedSharding:
            return NamedSharding(self.mesh, self.fsdp.spec(path_of(keys), x.shape))

        return jax.tree_util.tree_map_with_path(place, tree)

    def check_rows(self, multiple: int, microbatches: int = 1) -> None:
        """Raises ConfigError where not all multiples of so many rows, in so many parts, can be dealt out to devices."""
        if multiple % (least := self.mesh.size * microbatches):
            raise ConfigError(
                f"--rows_multiple={multiple} on {self.mesh.size} devices with --microbatches={microbatches}: a "
                "multiple of the product was expected, so that every device takes as many rows of each part; give "
                f"--rows_multiple={least} or one of those."
            )

    def abstract(self, tree: PyTree) -> PyTree:
        """Shapes, types and places of a tree of arrays, for compiling and restoring."""
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=x.sharding), tree)

    def copied(self, tree: PyTree) -> PyTree:
        """Arrays and numbers that are the same in every process, whole on every device."""

        def copy(x: Any) -> jax.Array:
            array = np.asarray(x, np.float32) if isinstance(x, float) else np.asarray(x)
            return jax.make_array_from_process_local_data(self.replicated, array)

        return jax.tree.map(copy, tree)

    def put(self, batch: PyTree) -> PyTree:
        """A global batch from every process's own rows."""
        return jax.tree.map(lambda x: jax.make_array_from_process_local_data(self.by_row, x), batch)

    def spec(self, batch_spec: PyTree) -> PyTree:
        """`batch_spec` with the sharding that `put` gives."""
        return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=self.by_row), batch_spec)

    def replicated_spec(self, tree: PyTree) -> PyTree:
        """Shapes and types with the sharding of what every device has whole."""
        return jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=self.replicated), tree)

    def placed(self, tree: PyTree) -> PyTree:
        """Shapes and types of a state, with `places`."""
        return jax.tree.map(
            lambda s, place: jax.ShapeDtypeStruct(s.shape, s.dtype, sharding=place), tree, self.places(tree)
        )

    def summary(self, abstract: PyTree) -> str:
        """What each device keeps of a `placed` state, in a line; nothing where that is all of it."""
        if self.fsdp.devices == 1:
            return ""
        arrays = jax.tree.leaves(abstract)
        whole = sum(math.prod(x.shape) * x.dtype.itemsize for x in arrays)
        part = sum(math.prod(x.sharding.shard_shape(x.shape)) * x.dtype.itemsize for x in arrays)
        mesh = " x ".join(f"{name} {size}" for name, size in self.mesh.shape.items())
        return f"mesh: {mesh}; of the state's {whole / 1e6:.1f} MB each device keeps {part / 1e6:.1f}"

    def compiled_for(
        self,
        fn: Callable[..., Any],
        places: Sequence[PyTree],
        out: PyTree,
        *,
        mode: Literal["jit", "pmap"] = "jit",
        donate: tuple[int, ...] = (),
    ) -> Any:
        """`fn`, jitted: its arguments and what it returns in these places, one for a whole tree or a tree of them.

        A batch among them is `by_row`.
        """
        if mode == "pmap":
            specs = jax.tree.map(lambda place: place.spec, (tuple(places), out))
            return pmapped(fn, self.mesh, *specs, donate=donate)

        @functools.wraps(fn)
        def spread(*args: Any) -> Any:
            with rows_spread(self.by_row), self._staying():
                return fn(*args)

        return jax.jit(spread, in_shardings=tuple(places), out_shardings=out, donate_argnums=donate)

    def _staying(self) -> Any:
        """What is traced inside, of a divided state, sends parameters to the rows of a batch and no rows to them.

        XLA would otherwise divide some products as their kernels are; so it is told where each module's outputs stand.
        """
        if self.fsdp.devices == 1:
            return contextlib.nullcontext()

        def keep(x: Any) -> Any:
            of_rows = isinstance(x, jax.Array) and x.ndim > 2 and x.shape[0] % self.mesh.size == 0
            return jax.lax.with_sharding_constraint(x, self.by_row) if of_rows else x

        return nn.intercept_methods(lambda call, args, kwargs, _: jax.tree.map(keep, call(*args, **kwargs)))


def _mesh(devices: Sequence[Any], width: int) -> Mesh:
    """So many devices in a row.

    In the order of their processes, whatever their wires are like: a process reads rows that stand side by side.
    """
    ordered = sorted(devices, key=lambda device: (device.process_index, device.id))
    axes = (DATA_AXIS, FSDP_AXIS)
    return Mesh(np.array(ordered).reshape(-1, width), axes, axis_types=(AxisType.Auto,) * len(axes))


def is_main_process() -> bool:
    """Whether this process writes files and prints."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process; every process must ask at the same point.

    >>> any_process(True)
    True
    """
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def all_processes(flag: bool) -> bool:
    """Whether `flag` is set in every process; every process must ask at the same point.

    >>> all_processes(False)
    False
    """
    return not any_process(not flag)


def from_main_process(number: int) -> int:
    """The main process's number, in every process.

    >>> from_main_process(7)
    7
    """
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.array(number)))


def wait_for_processes(where: str) -> None:
    """Returns when every process has come to this point, so that all see the files that the main one wrote."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)
