"""One executable for every bucket shape, compiled ahead of its first use."""

import concurrent.futures
import os
import pathlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

import jax

from jaxasr.data.batch import BucketShape
from jaxasr.launch import cores

THREADS = concurrent.futures.ThreadPoolExecutor(min(cores(), 4), thread_name_prefix="compile")
"""Where programs are compiled: what was announced first comes first, of whichever function it is."""
DEFAULT_SECONDS, LEAST_SECONDS = 1.0, 0.1
"""Programs that take less to compile are not kept: by JAX's default, and here."""
ONCE = {"xla_backend_optimization_level": 0}
"""Compiler options of a program that runs once; it takes longer to compile than to run."""


class CompiledByShape:
    """The executables of a jitted function, by bucket shape.

    They are compiled in the background, in the order in which they are announced. A shape that was not announced
    is compiled when it is asked for. Any thread may ask.
    """

    def __init__(
        self,
        jitted: Any,
        arguments: Callable[[BucketShape], tuple[Any, ...]],
        done: Callable[[BucketShape, Any], None] | None = None,
    ):
        """`done` is called with each shape and its executable, in the thread that compiled it."""
        self._jitted = jitted
        self._arguments = arguments
        self._done = done
        self._futures: dict[BucketShape, concurrent.futures.Future] = {}
        self._announcing = threading.Lock()

    def announce(self, shapes: Sequence[BucketShape]) -> None:
        """Starts compiling for `shapes` that are not compiled yet, the first of them first."""
        with self._announcing:
            for shape in shapes:
                if shape not in self._futures:
                    self._futures[shape] = THREADS.submit(self._compile, shape)

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
        """Whether every shape is compiled."""
        return all(f.done() for f in self._futures.values())

    def close(self) -> None:
        """Gives up what is not begun yet; what is being compiled, for minutes perhaps, is not waited for."""
        for future in self._futures.values():
            future.cancel()

    def _compile(self, shape: BucketShape) -> Any:
        executable = self._jitted.lower(*self._arguments(shape)).compile()
        if self._done is not None:
            self._done(shape, executable)
        return executable


def use_persistent_cache() -> None:
    """Keeps compiled programs on disk between runs; where, and which ones, unless JAX was told already."""
    told: Any = jax.config
    if told.jax_compilation_cache_dir is None:
        home = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(pathlib.Path(home) / "jaxasr" / "xla"))
    if told.jax_persistent_cache_min_compile_time_secs == DEFAULT_SECONDS:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", LEAST_SECONDS)
