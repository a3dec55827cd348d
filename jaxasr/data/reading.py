"""Reading ahead in threads, with an end where it stands still.

What reads says so, by `reading` and `beat`, in this process and in those that read for it (`tell`). What waits for it
(`in_order`) waits no longer where nobody has said anything for a while: a disk that has gone, a thread or a process
that hangs. Then every thread's stack is printed, and an error says what was being read.
"""

import collections
import concurrent.futures
import contextlib
import faulthandler
import itertools
import multiprocessing
import os
import pathlib
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, TypeVar

from jaxasr.errors import DataError

Item = TypeVar("Item")
Result = TypeVar("Result")

STALL_SECONDS = 50.0
"""Without a beat, by default: a wait ends within a minute."""
LINE = 400
"""Bytes of what a process that reads tells of itself."""


class _Here:
    """What this process reads."""

    beats = 0
    now: dict[int, str] = {}  # noqa: RUF012
    """By thread."""
    limit = STALL_SECONDS
    told: int | None = None
    """In a process that reads for another, the file where it tells it."""


def allow(seconds: float | None) -> None:
    """From now on a wait ends after so many seconds without a beat; None for never."""
    _Here.limit = float("inf") if seconds is None else seconds


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Says what this thread reads meanwhile."""
    thread = threading.get_ident()
    _Here.now[thread] = what
    beat()
    try:
        yield
    finally:
        _Here.now.pop(thread, None)
        beat()


def beat() -> None:
    """Says that reading goes on; for what takes long, from time to time."""
    _Here.beats += 1
    if _Here.told is not None:
        line = f"{os.getpid()} {_Here.beats} {', '.join(list(_Here.now.values()))}"
        os.pwrite(_Here.told, line.encode("utf-8", "surrogateescape")[:LINE].ljust(LINE), 0)


def tell(folder: str, number: int) -> None:
    """Lets this process, the one of that number, tell in `folder` what it reads, and its stacks at a signal."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # there is no stderr
        faulthandler.register(signal.SIGUSR1)
    _Here.told = os.open(os.path.join(folder, str(number)), os.O_WRONLY | os.O_CREAT)
    beat()


def in_order(
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    ahead: int,
    processes: pathlib.Path | None = None,
) -> Generator[Result, None, None]:
    """What `fn` gives for each item, in their order, of which `ahead` are begun before they are asked for.

    The threads end when all is done or the generator is closed; one that hangs keeps no program from ending.

    Args:
      processes: the folder where processes that read for this one `tell`.

    Raises:
      DataError: nothing has been read for as long as `allow` says, or a process that reads has ended.
    """
    tasks: queue.SimpleQueue[tuple[concurrent.futures.Future[Result], Item] | None] = queue.SimpleQueue()

    def work() -> None:
        while (task := tasks.get()) is not None:
            future, item = task
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(fn(item))
                except BaseException as error:  # it belongs to whoever waits
                    future.set_exception(error)
                del future, item, task  # or what was read would be held until there is more to do

    for number in range(threads):
        threading.Thread(target=work, name=f"read-{number}", daemon=True).start()
    pending: collections.deque[concurrent.futures.Future[Result]] = collections.deque()
    try:
        for item in items:
            pending.append(concurrent.futures.Future())
            tasks.put((pending[-1], item))
            if len(pending) > ahead:
                yield _result(pending.popleft(), processes)
        while pending:
            yield _result(pending.popleft(), processes)
    finally:
        for future in pending:
            future.cancel()
        for _ in range(threads):
            tasks.put(None)


def taken_ahead(items: Iterator[Item], *, processes: pathlib.Path | None = None) -> Generator[Item, None, None]:
    """The items, each taken in a thread before it is asked for; what else there is, is as for `in_order`."""
    end: Any = object()
    taken = in_order(lambda _: next(items, end), itertools.count(), threads=1, ahead=1, processes=processes)
    with contextlib.closing(taken):
        yield from itertools.takewhile(lambda item: item is not end, taken)


def _result(future: concurrent.futures.Future[Result], processes: pathlib.Path | None) -> Result:
    """What the future gives, while there are beats.

    Silence is counted by waits that came to nothing, not by a clock: it may jump, and the program may have been
    stopped for a while.
    """
    tick = min(1.0, _Here.limit / 4)
    silent, before, gone = 0.0, None, set[int]()
    while True:
        try:
            return future.result(tick)
        except TimeoutError:
            if future.done():  # now, or with an error of this kind
                return future.result()
        told = _told(processes)
        dead = told.keys() - _children()
        if dead & gone:  # for a moment so is one that has told of an error
            raise ended([told[pid] for pid in dead])
        gone = dead
        now = _Here.beats, told
        silent, before = silent + tick if now == before else 0.0, now
        if silent >= _Here.limit:
            raise _standstill(told)


def _told(processes: pathlib.Path | None) -> dict[int, str]:
    """What each process that reads has told last, by its number for the system."""
    files = () if processes is None else sorted(processes.iterdir())
    lines = [file.read_bytes().decode("utf-8", "surrogateescape").split(" ", 1) for file in files]
    return {int(line[0]): line[1].rstrip() for line in lines if len(line) == 2}


def _children() -> set[int | None]:
    return {child.pid for child in multiprocessing.active_children()}


def _files(told: Iterable[str]) -> list[str]:
    """What is read, of what processes told."""
    return [what for line in told if (what := line.partition(" ")[2])]


def ended(told: Iterable[str]) -> DataError:
    """The error of processes that have ended and told this last."""
    return DataError(
        f"{', '.join(_files(told)) or 'reading'}: a process that read for this one has ended by itself, as one does "
        "that is killed for want of memory; it was to read on; give fewer --workers or smaller batches, or look for "
        "its last words above."
    )


def _standstill(told: dict[int, str]) -> DataError:
    """The error of a wait without a beat; prints the stacks of all threads and ends the processes that read."""
    _print_stacks(told)
    for pid in told:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)
    files = [*list(_Here.now.values()), *_files(told.values())]
    return DataError(
        f"{', '.join(files) or 'reading'}: nothing has moved for {_Here.limit:g} s; a disk that answers, and code "
        "that comes to an end, were expected; see where the threads stand, as printed above, and that the files can be "
        "read; where this is no fault allow for more by --stall_seconds."
    )


def _print_stacks(told: Iterable[int]) -> None:
    """To stderr, those of the processes that read before ours."""
    for pid in told:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGUSR1)
            time.sleep(0.2)  # so that one writes behind the other
    with contextlib.suppress(AttributeError, OSError, ValueError):  # there is no stderr
        stream: Any = sys.__stderr__
        faulthandler.dump_traceback(stream)
