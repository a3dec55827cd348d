"""Where arrays live: one mesh, one row of it for every device, and how processes find each other."""

import dataclasses
from collections.abc import Callable
from typing import Any, Literal

import jax
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from jaxasr.errors import ConfigError
from jaxasr.nn.rows import DATA_AXIS
from jaxasr.typing import PyTree


def start_processes(coordinator: str | None, num_processes: int | None, process_id: int | None) -> None:
    """Joins the other processes of a run.

    Args:
      coordinator: "host:port" of process 0; None for a run of one process.
    """
    given = (coordinator is not None, num_processes is not None, process_id is not None)
    if any(given) and not all(given):
        raise ConfigError(
            f"--coordinator={coordinator} --num_processes={num_processes} --process_id={process_id}: all three or "
            "none were expected; give every process the same --coordinator=HOST:PORT and --num_processes, and each "
            "its own --process_id from 0."
        )
    if coordinator is not None:
        jax.distributed.initialize(coordinator, num_processes, process_id)


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
    """Every device of every process, side by side along the rows of a batch."""

    mesh: Mesh

    @classmethod
    def all(cls) -> "Devices":
        return cls(jax.make_mesh((jax.device_count(),), (DATA_AXIS,), axis_types=(AxisType.Auto,)))

    @classmethod
    def first(cls) -> "Devices":
        """One device of this process alone."""
        return cls(jax.make_mesh((1,), (DATA_AXIS,), axis_types=(AxisType.Auto,), devices=jax.local_devices()[:1]))

    @property
    def replicated(self) -> NamedSharding:
        return NamedSharding(self.mesh, P())

    @property
    def by_row(self) -> NamedSharding:
        return NamedSharding(self.mesh, P(DATA_AXIS))

    def check_rows(self, rows: int, microbatches: int = 1) -> None:
        """Raises ConfigError where so many rows, in so many parts, cannot be dealt out to the devices."""
        if rows % (least := self.mesh.size * microbatches):
            raise ConfigError(
                f"{rows} rows a batch on {self.mesh.size} devices, --microbatches={microbatches}: every device takes "
                "as many rows of each part; --rows_multiple must be a multiple of the product; give "
                f"--rows_multiple={least}."
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

    def compiled_for(
        self, fn: Callable[..., Any], *, mode: Literal["jit", "pmap"] = "jit", batch_out: bool = False, kept: int = 0
    ) -> Any:
        """`fn(state, batch)`, jitted: the state replicated and donated, the batch by row, all outputs replicated.

        Args:
          batch_out: donate nothing, as in decoding.
          kept: how many more arguments there are, replicated and not donated.
        """
        donate = () if batch_out else (0,)
        if mode == "pmap":
            return pmapped(fn, self.mesh, (P(), P(DATA_AXIS)) + kept * (P(),), P(), donate=donate)
        shardings = (self.replicated, self.by_row) + kept * (self.replicated,)
        return jax.jit(fn, in_shardings=shardings, out_shardings=self.replicated, donate_argnums=donate)


def is_main_process() -> bool:
    """Whether this process writes files and prints."""
    return jax.process_index() == 0


def any_process(flag: bool) -> bool:
    """Whether `flag` is set in any process; every process must ask at the same point."""
    if jax.process_count() == 1:
        return flag
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(flag))))


def all_processes(flag: bool) -> bool:
    """Whether `flag` is set in every process; every process must ask at the same point."""
    return not any_process(not flag)


def from_main_process(number: int) -> int:
    """The main process's number, in every process."""
    if jax.process_count() == 1:
        return number
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.array(number)))


def wait_for_processes(where: str) -> None:
    """Returns when every process has come to this point, so that all see the files that the main one wrote."""
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        multihost_utils.sync_global_devices(where)
