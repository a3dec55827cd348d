"""Writes docs/dependencies.md from setup.cfg and what is installed: `python docs/dependencies.py`."""

import configparser
import importlib.metadata
import pathlib
from collections.abc import Iterator

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PAGE = pathlib.Path(__file__).with_name("dependencies.md")
SETUP = PAGE.parent.parent / "setup.cfg"
HEAD = """# Dependencies

What jaxasr asks for (`setup.cfg`), and what those packages ask for, each with the version that was there when
`python docs/dependencies.py` wrote this page, and the licence that the package states of itself. Newer versions may be
installed: a minimum is all that is asked for. What each is for, and what was considered in its place, says
[design.md](design.md#dependencies).
"""
MISSING = "not installed here"
KNOWN = {  # of classifiers, by SPDX
    "Apache Software License": "Apache-2.0",
    "Apache License": "Apache",
    "BSD License": "BSD",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}


def asked() -> Iterator[tuple[Requirement, str]]:
    """What setup.cfg asks for, each with its extra, or none."""
    setup = configparser.ConfigParser()
    setup.read(SETUP, encoding="utf-8")
    parts = {"": setup["options"]["install_requires"], **setup["options.extras_require"]}
    for extra, lines in parts.items():
        yield from ((Requirement(line), extra) for line in lines.split("\n") if line.strip())


def licence(name: str) -> str:
    """As the package states it; the first line where that is the whole text."""
    stated = importlib.metadata.metadata(name)
    classifiers = [c.split(" :: ")[-1] for c in stated.get_all("Classifier", ()) if c.startswith("License :: OSI")]
    text = stated["License-Expression"] or " and ".join(KNOWN.get(c, c) for c in classifiers) or stated["License"] or ""
    return text.strip().split("\n")[0][:100] or "not stated"


def row(name: str, *cells: str) -> str:
    """A line of a table, with the version and the licence at its end."""
    try:
        installed = importlib.metadata.version(name), licence(name)
    except importlib.metadata.PackageNotFoundError:
        installed = MISSING, ""
    return f"| {' | '.join((name, *cells, *installed))} |"


def direct() -> Iterator[str]:
    """The packages that setup.cfg names; one that several extras name stands once."""
    found: dict[tuple[str, str], list[str]] = {}
    for requirement, extra in asked():
        extras = f"[{','.join(requirement.extras)}]" if requirement.extras else ""
        found.setdefault((requirement.name + extras, str(requirement.specifier)), []).append(extra or "always")
    yield from (row(name, least, ", ".join(uses)) for (name, least), uses in found.items())


def indirect() -> Iterator[str]:
    """What is asked for by those that are always needed, and by what they ask for."""
    waiting = [requirement for requirement, extra in asked() if not extra]
    direct, seen = {canonicalize_name(requirement.name) for requirement, _ in asked()}, set[str]()
    by: dict[str, set[str]] = {}
    while waiting:
        asking = waiting.pop()
        seen.add(str(asking))
        for needed in _needed(asking):
            by.setdefault(canonicalize_name(needed.name), set()).add(asking.name)
            waiting += [] if str(needed) in seen else [needed]
    yield from (row(name, ", ".join(sorted(by[name], key=str.lower))) for name in sorted(by.keys() - direct))


def _needed(asking: Requirement) -> list[Requirement]:
    """By the package, with the extras that are asked for, on this system."""
    try:
        every = [Requirement(line) for line in importlib.metadata.requires(asking.name) or ()]
    except importlib.metadata.PackageNotFoundError:
        return []
    environments = [default_environment() | {"extra": extra} for extra in ("", *asking.extras)]
    return [n for n in every if n.marker is None or any(n.marker.evaluate(e) for e in environments)]


def page() -> str:
    heads = "\n## Asked for\n\n| package | version | for | here | licence |\n|---|---|---|---|---|"
    others = "\n## Asked for by those\n\n| package | by | here | licence |\n|---|---|---|---|"
    return "\n".join([HEAD + heads, *direct(), others, *indirect()]) + "\n"


def rows(text: str) -> dict[str, list[str]]:
    """The cells of a page's lines, by the package."""
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line[:2] == "| "]
    return {name: others for name, *others in cells if name != "package"}


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
