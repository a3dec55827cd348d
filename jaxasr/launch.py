"""How the program is started: what has to be settled before Python runs."""

import contextlib
import os
import pathlib
import sys
import types
from collections.abc import Mapping, Sequence

TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
STARTED_AGAIN = "JAXASR_STARTED_AGAIN"
"""Set before the second start, which is the last: a privileged program is not given GLIBC_TUNABLES."""
POLICY = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
SHORT = {"-h", "--help", "--print_config"}


def with_huge_pages() -> None:
    """Starts `python -m jaxasr.train ...` again with large allocations on huge pages, where that makes a difference.

    XLA takes its temporary memory anew in every step. On pages of 4 KiB that is a hundred thousand page faults and more
    a step, a fifth of a CPU's time; malloc asks for huge pages only where the environment said so before the start.
    Nothing happens where Linux always or never gives them, GLIBC_TUNABLES has decided, or the program is another one
    (a notebook, a debugger, a script that runs this module).
    """
    tunables = tunables_for_huge_pages(os.environ, _policy())
    if tunables is None or not SHORT.isdisjoint(sys.argv) or sys.gettrace() or not is_command(sys.orig_argv, sys.argv):
        return
    environment = os.environ | {TUNABLES: tunables, STARTED_AGAIN: "1"}
    with contextlib.suppress(OSError, ValueError):  # then without
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def tell_interrupts() -> None:
    """Makes Ctrl-C a line also where it comes outside of a command's `main`, as while it is imported."""

    def tell(kind: type[BaseException], error: BaseException, trace: types.TracebackType | None) -> None:
        if issubclass(kind, KeyboardInterrupt):
            print("interrupted", file=sys.stderr)
        else:
            sys.__excepthook__(kind, error, trace)

    sys.excepthook = tell


def is_being_started(argv: Sequence[str], started: Sequence[str]) -> bool:
    """Whether this is `python -m jaxasr...`, whose module is looked for; not a program of others that imports jaxasr.

    >>> is_being_started(["-m", "--steps=1"], ["python", "-m", "jaxasr.train", "--steps=1"])
    True
    >>> is_being_started(["-m"], ["python", "-m", "theirs"])
    False
    """
    module = started[started.index("-m") + 1] if "-m" in started[:-1] else ""
    return list(argv[:1]) == ["-m"] and module.partition(".")[0] == "jaxasr"


def is_command(started: Sequence[str], argv: Sequence[str]) -> bool:
    """Whether Python was `started` for this command line and nothing else.

    >>> is_command(["python", "-m", "jaxasr.train", "--steps=1"], ["train.py", "--steps=1"])
    True
    """
    last = len(started) - len(argv)
    name = pathlib.PurePath(started[last]).name if last > 0 else ""
    module = started[1:last] and started[last - 1] == "-m" and name in ("jaxasr.train", "jaxasr")
    return bool(module or (last == 1 and name == "jaxasr")) and list(started[last + 1 :]) == list(argv[1:])


def tunables_for_huge_pages(environment: Mapping[str, str], policy: str) -> str | None:
    """The value of GLIBC_TUNABLES that asks for them; None where it would change nothing.

    >>> print(tunables_for_huge_pages({}, "[always] madvise never"))
    None
    """
    given = environment.get(TUNABLES, "")
    if STARTED_AGAIN in environment or HUGE_PAGES in given or "[madvise]" not in policy or _glibc() < (2, 35):
        return None
    return ":".join(filter(None, [given, f"{HUGE_PAGES}=1"]))


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _policy() -> str:
    try:
        return POLICY.read_text()
    except OSError:
        return ""


def _glibc() -> tuple[int, ...]:
    """Version of the C library; (0,) where it is another one."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
        return tuple(map(int, version.split("."))) if name == "glibc" else (0,)
    except (AttributeError, ValueError, OSError):  # no confstr, or it does not know the name
        return (0,)
