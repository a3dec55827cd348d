"""One executable for every bucket shape, compiled ahead of its first use."""

import concurrent.futures
import os
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxasr.data.batch import BucketShape


class CompiledByShape:
    """The executables of a jitted function, by bucket shape.

    They are compiled in the background, largest first, so that a shape too large for the memory shows in the
    first minute. A shape that was not announced is compiled when it is asked for. Any thread may ask.
    """

    def __init__(
        self,
        jitted: Any,
        arguments: Callable[[BucketShape], tuple[Any, ...]],
        done: Callable[[BucketShape, Any], None] | None = None,
    ):
        """`done` is called, in a thread of its own, with each shape and its executable."""
        self._jitted = jitted
        self._arguments = arguments
        self._done = done
        self._futures: dict[BucketShape, concurrent.futures.Future] = {}
        self._announcing = threading.Lock()
        self._thread = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="compile")

    def announce(self, shapes: Sequence[BucketShape]) -> None:
        """Starts compiling for `shapes` that are not compiled yet."""
        with self._announcing:
            for shape in sorted(shapes, key=lambda s: s.rows * s.samples, reverse=True):
                if shape not in self._futures:
                    self._futures[shape] = self._thread.submit(self._compile, shape)

    def __getitem__(self, shape: BucketShape) -> Any:
        """The executable; waits for it where it is not ready."""
        self.announce([shape])
        return self._futures[shape].result()

    def __contains__(self, shape: BucketShape) -> bool:
        """Whether it has been announced or asked for."""
        return shape in self._futures

    def __len__(self) -> int:
        """Compilations so far or under way."""
        return len(self._futures)

    def ready(self) -> bool:
        return all(f.done() for f in self._futures.values())

    def close(self) -> None:
        """Gives up what is not compiled yet."""
        self._thread.shutdown(wait=True, cancel_futures=True)

    def _compile(self, shape: BucketShape) -> Any:
        executable = self._jitted.lower(*self._arguments(shape)).compile()
        if self._done is not None:
            self._done(shape, executable)
        return executable


def use_persistent_cache() -> None:
    """Keeps compiled programs on disk between runs, unless JAX was told where already."""
    if jax.config.jax_compilation_cache_dir is None:  # pyright: ignore[reportAttributeAccessIssue]
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(home) / "jaxasr" / "xla"))
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
