"""Processes that read: each makes every n-th batch, and sends it through a pipe of its own."""

import atexit
import contextlib
import dataclasses
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection
from typing import Any

import cloudpickle

from jaxasr.data.reading import LINE, Told, allow, ended, in_order, tell
from jaxasr.errors import JaxasrError

AHEAD = 2
"""What each process holds ready beside what it sends."""


class Workers:
    """So many processes; they end when they are closed, whatever they do, or with the program."""

    def __init__(self, make: Callable[[int], Any], numbers: range, count: int):
        context = multiprocessing.get_context("spawn")
        made = _ByValue(cloudpickle.dumps(make))
        self._numbers = numbers
        self._pipes: list[Any] = []
        self._processes: list[Any] = []
        self.told: list[Told] = []
        # or the program would ask them to end, which they do not hear (`_spawning`), and wait until they do
        atexit.register(self.close)
        try:
            with _spawning():
                for index in range(count):
                    pipe, sender = context.Pipe(duplex=False)
                    line = context.RawArray("c", LINE)
                    args = made, numbers[index::count], sender, line
                    process = context.Process(target=_work, args=args, name=f"read-{index}", daemon=True)
                    process.start()
                    sender.close()  # so that the pipe ends with the process
                    self._pipes.append(pipe)
                    self._processes.append(process)
                    self.told.append(Told(process.pid or 0, line))
        except BaseException:  # there may be no more processes; or a signal came
            self.close()
            raise

    def __iter__(self) -> Iterator[Any]:
        """What is made of each number, in their order.

        Raises:
          JaxasrError: what `make` raised.
          DataError: a process has ended before it had sent all.
        """
        for place in range(len(self._numbers)):
            index = place % len(self._pipes)
            try:
                made = self._pipes[index].recv()
            except (EOFError, OSError) as error:
                raise ended(self.told[index]) from error
            if isinstance(made, JaxasrError):
                raise made
            yield made

    def close(self) -> None:
        """Ends the processes, whatever they are doing."""
        atexit.unregister(self.close)
        processes, self._processes = self._processes, []
        for process in processes:
            process.kill()
        for process in processes:
            process.join(5.0)  # the system lets none go that waits for a disk


@dataclasses.dataclass(frozen=True)
class _ByValue:
    """What travels with the functions of the program's own module and of notebooks, which no module can give."""

    content: bytes

    def __reduce__(self) -> tuple[Any, ...]:
        return cloudpickle.loads, (self.content,)


def _work(make: Callable[[int], Any], numbers: range, pipe: Connection, line: Any) -> None:
    _end_with_parent()
    allow(None)  # the program looks how long it takes
    tell(line)
    try:
        for made in in_order(make, numbers, threads=1, ahead=AHEAD):
            pipe.send(made)
    except JaxasrError as error:
        pipe.send(error)


def _end_with_parent() -> None:
    """Lets a process end when its program was killed."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


@contextlib.contextmanager
def _spawning() -> Iterator[None]:
    """Processes that start meanwhile neither run the program's own module again nor take its signals.

    Ctrl-C and a scheduler's SIGTERM reach every process of a group; the program saves and then ends its workers.
    """
    main = sys.modules["__main__"].__dict__
    hidden = {name: main.pop(name) for name in ("__spec__", "__file__") if name in main}
    main["__spec__"] = None
    resource_tracker.ensure_running()  # while it starts it lets the signals through
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
        main.update(hidden)
