"""The table of checks, and how one gets into it."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Any, Literal, NamedTuple

from jaxasr.data.checks.part import Finding, Need, Part
from jaxasr.errors import ConfigError
from jaxasr.registry import did_you_mean

Severity = Literal["error", "warning", "info"]
"""error: jaxasr refuses it, or cannot use it; warning: it most likely does harm; info: worth a look."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One thing that may be wrong, and how it is found."""

    name: str
    severity: Severity
    what: str
    fix: str
    find: Callable[[Any], Iterator[Finding] | Sequence[Finding]]
    """From a Part, or from all of them, to what was found."""
    needs: Need = "manifest"
    """What has to be known; without it the check does not run."""
    written: bool = False
    """Whether what was found is gone in a copy that is written anew; else the copy leaves the line out."""
    across: bool = False
    """Whether it looks at all the parts at once."""

    @property
    def cure(self) -> Literal["written anew", "left out", "left as it is"]:
        """What `--fix` does about it."""
        if self.severity == "info":
            return "left as it is"
        return "written anew" if self.written else "left out"


CHECKS: dict[str, Check] = {}
"""By name, in the order in which they run."""


def add(severity: Severity, name: str, what: str, *, fix: str, **more: Any) -> Callable[[Any], Any]:
    """Decorates the `find` of a check, which becomes one of `CHECKS`; `more` are further fields of `Check`.

    Raises:
      ConfigError: there is a check of that name.
    """

    def added(find: Any) -> Any:
        if name in CHECKS:
            raise ConfigError(
                f"check {name!r}: already there, {CHECKS[name].what}; names are used once; choose another name."
            )
        CHECKS[name] = Check(name, severity, what, fix, find, **more)
        find.__doc__ = f"Finds {what}."
        return find

    return added


error = functools.partial(add, "error")
warning = functools.partial(add, "warning")
info = functools.partial(add, "info")


def met(name: str, what: str, *, fix: str, severity: Severity = "error", **more: Any) -> None:
    """Adds a check of what reading a part has met under that name."""
    add(severity, name, what, fix=fix, **more)(lambda part: part.met.get(name, ()))


class Result(NamedTuple):
    """What a check found."""

    check: Check
    number: int
    first: Finding


def known(names: Iterable[str]) -> set[str]:
    """The names, each of which is that of a check.

    Raises:
      ConfigError: one is not.

    >>> import jaxasr.data.check
    >>> known(["bom"])
    {'bom'}
    """
    for name in names:
        if name not in CHECKS:
            raise ConfigError(
                f"--ignore={name}: no such check; docs/data-check.md names them all; correct it."
                f"{did_you_mean(name, CHECKS)}"
            )
    return set(names)


def chosen(parts: Sequence[Part], ignored: Collection[str]) -> tuple[list[Check], dict[str, Need]]:
    """The checks that run, and of those that cannot what they lack."""
    has = parts[0].settings.known
    wanted = [check for name, check in CHECKS.items() if name not in ignored]
    return [c for c in wanted if c.needs in has], {c.name: c.needs for c in wanted if c.needs not in has}


def run(
    parts: Sequence[Part], checks: Iterable[Check], note: Callable[[Check, Finding], None] | None = None
) -> list[Result]:
    """What each of the checks that found something found; `note` is called with every finding."""
    results = []
    for check in checks:
        first, count = None, 0
        for subject in [parts] if check.across else parts:
            for finding in check.find(subject):
                first = first or finding
                count += 1
                if note is not None:
                    note(check, finding)
        if first is not None:
            results.append(Result(check, count, first))
    return results
