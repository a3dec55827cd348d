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
import os
import queue
import signal
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

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
    more = "start again"
    """What to do where more time is needed."""
    line: Any = None
    """In a process that reads for another, the memory that they share, where it tells it."""


class Told(NamedTuple):
    """What a process that reads for this one has told last."""

    pid: int
    line: Any
    """Memory that they share: so many beats, and what it reads."""

    def __str__(self) -> str:
        return self.line.value.decode("utf-8", "replace")

    @property
    def what(self) -> str:
        """Paths; empty where it reads nothing."""
        return str(self).partition(" ")[2]


def allow(seconds: float | None) -> None:
    """From now on a wait ends after so many seconds without a beat, as --stall_seconds says; None for never."""
    _Here.limit = float("inf") if seconds is None else seconds
    _Here.more = "allow for more by --stall_seconds"


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
    if _Here.line is not None:
        line = f"{_Here.beats} {', '.join(list(_Here.now.values()))}"
        _Here.line.value = line.encode("utf-8", "replace")[: LINE - 1]


def tell(line: Any) -> None:
    """Lets this process tell in shared memory what it reads, and its stacks at a signal."""
    with contextlib.suppress(AttributeError, OSError, ValueError):  # there is no stderr
        faulthandler.register(signal.SIGUSR1)
    _Here.line = line
    beat()


def in_order(
    fn: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    threads: int,
    ahead: int,
    processes: Sequence[Told] = (),
) -> Generator[Result, None, None]:
    """What `fn` gives for each item, in their order, of which `ahead` are begun before they are asked for.

    The threads end when all is done or the generator is closed; one that hangs keeps no program from ending.

    Args:
      processes: those that read for this one.

    Raises:
      DataError: nothing has been read for as long as `allow` says.
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


def taken_ahead(items: Iterator[Item], *, processes: Sequence[Told] = ()) -> Generator[Item, None, None]:
    """The items, each taken in a thread before it is asked for; what else there is, is as for `in_order`."""
    end: Any = object()
    taken = in_order(lambda _: next(items, end), itertools.count(), threads=1, ahead=1, processes=processes)
    with contextlib.closing(taken):
        yield from itertools.takewhile(lambda item: item is not end, taken)


def _result(future: concurrent.futures.Future[Result], processes: Sequence[Told]) -> Result:
    """What the future gives, while there are beats.

    Silence is counted by waits that came to nothing, not by a clock: it may jump, and the program may have been
    stopped for a while.
    """
    tick = min(1.0, _Here.limit / 4)
    silent, before = 0.0, None
    while True:
        try:
            return future.result(tick)
        except TimeoutError:
            if future.done():  # now, or with an error of this kind
                return future.result()
        now = _Here.beats, *map(str, processes)
        silent, before = silent + tick if now == before else 0.0, now
        if silent >= _Here.limit:
            raise _standstill(processes)


def ended(told: Told) -> DataError:
    """The error of a process that has ended before it was done."""
    return DataError(
        f"{told.what or 'reading'}: the process that read for this one has ended by itself, as one does that is killed "
        "for want of memory; it was to read on; give fewer --workers or smaller batches, or look for its last words "
        "above."
    )


def _standstill(processes: Sequence[Told]) -> DataError:
    """The error of a wait without a beat; prints the stacks of all threads."""
    _print_stacks(processes)
    files = [*list(_Here.now.values()), *(told.what for told in processes if told.what)]
    return DataError(
        f"{', '.join(files) or 'reading'}: nothing has moved for {_Here.limit:g} s; a disk that answers, and code "
        "that comes to an end, were expected; see where the threads stand, as printed above, and that the files can be "
        f"read; where this is no fault {_Here.more}."
    )


def _print_stacks(processes: Iterable[Told]) -> None:
    """To stderr, those of the processes that read before ours."""
    for told in processes:
        with contextlib.suppress(OSError):
            os.kill(told.pid, signal.SIGUSR1)
            time.sleep(0.2)  # so that one writes behind the other
    with contextlib.suppress(AttributeError, OSError, ValueError):  # there is no stderr
        stream: Any = sys.__stderr__
        faulthandler.dump_traceback(stream)
