"""How the program is started: what has to be settled before Python runs."""

import os
import pathlib
import sys
from collections.abc import Mapping, Sequence

TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb"
POLICY = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")


def with_huge_pages(argv: Sequence[str]) -> None:
    """Starts this program again with large allocations on huge pages, where that makes a difference.

    XLA takes its temporary memory anew in every step. On pages of 4 KiB that is a hundred thousand page faults and more
    a step, a fifth of a CPU's time; malloc asks for huge pages only where the environment said so before the start.
    Nothing happens where Linux always or never gives them, GLIBC_TUNABLES has decided, or only help is asked for.
    """
    if {"-h", "--help"}.isdisjoint(argv) and (tunables := tunables_for_huge_pages(os.environ, _policy())):
        os.environ[TUNABLES] = tunables
        sys.stdout.flush()
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def tunables_for_huge_pages(environment: Mapping[str, str], policy: str) -> str | None:
    """The value of GLIBC_TUNABLES that asks for them; None where it would change nothing."""
    given = environment.get(TUNABLES, "")
    if HUGE_PAGES in given or "[madvise]" not in policy or _glibc() < (2, 35):
        return None
    return ":".join(filter(None, [given, f"{HUGE_PAGES}=1"]))


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
