"""What checks found, for people and for programs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import rich.box
import rich.console
import rich.table
import rich.text

from jaxasr.data.checks.fix import Copy
from jaxasr.data.checks.part import Need, Part
from jaxasr.data.checks.table import Result, Severity

SEVERITIES: Mapping[Severity, tuple[int, str]] = {"error": (4, "bold red"), "warning": (3, "yellow"), "info": (0, "")}
"""The exit status that each leads to, and its colour."""
LACKING: Mapping[Need, str] = {
    "manifest": "",
    "headers": "--sound headers or all",
    "sound": "--sound all",
    "tokens": "--model or --tokens",
    "frames": "--model or --frame_ms",
}


def by_severity(results: Sequence[Result]) -> list[Result]:
    """The worst first, and of equals those found most often."""
    order = [*SEVERITIES]
    return sorted(results, key=lambda result: (order.index(result.check.severity), -result.number))


def exit_status(results: Sequence[Result]) -> int:
    """0 where nothing is above info, 3 where there are warnings, 4 where there are errors."""
    return max((SEVERITIES[result.check.severity][0] for result in results), default=0)


def size(part: Part) -> str:
    """`948 utterances, 0.69 h`."""
    seconds = part.seconds
    known = f", {np.nansum(seconds) / 3600:.2f} h" if len(seconds) and not np.isnan(seconds).any() else ""
    return f"{len(part.rows)} utterances{known}"


def show(
    console: rich.console.Console,
    parts: Sequence[Part],
    results: Sequence[Result],
    ran: int,
    lacking: Mapping[str, Need],
) -> None:
    """The parts, a table of what was found, and which checks did not run."""
    for part in parts:
        console.print(f"{part.path}: {size(part)}")
    if results:
        console.print(_table(results), soft_wrap=False)
    counts = {s: sum(result.check.severity == s for result in results) for s in SEVERITIES}
    found = ", ".join(f"{number} of severity {severity}" for severity, number in counts.items() if number)
    console.print(f"{ran} checks ran; {found or 'nothing was found'}")
    for need in dict.fromkeys(lacking.values()):
        names = [name for name, lacks in lacking.items() if lacks == need]
        console.print(f"  not looked for without {LACKING[need]}: {', '.join(names)}")


def _table(results: Sequence[Result]) -> rich.table.Table:
    table = rich.table.Table(box=rich.box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("severity", "check"):
        table.add_column(heading, no_wrap=True)
    table.add_column("found", justify="right", no_wrap=True)
    table.add_column("what, where first, what to do", overflow="fold")
    for check, count, first in by_severity(results):
        place = _visible(f"{first.where} ({first.id})" if first.id else first.where)
        told = rich.text.Text(f"{check.what}\n{place}: {_visible(first.came)}\n", overflow="fold")
        told.append(f"→ {check.fix}", "italic")
        severity = rich.text.Text(check.severity, SEVERITIES[check.severity][1])
        table.add_row(severity, check.name, str(count), told)
    return table


def _visible(text: str) -> str:
    """The text with escapes for what does not show, or would command a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def show_copies(console: rich.console.Console, copies: Sequence[Copy]) -> None:
    """Prints where copies were written, and what they have and have not."""
    for copy in copies:
        counts: dict[str, int] = {}
        for row in copy.left_out:
            counts[row["check"]] = counts.get(row["check"], 0) + 1
        why = ", ".join(f"{count} {name}" for name, count in sorted(counts.items(), key=lambda item: -item[1]))
        left = f"{copy.lines} lines in = {copy.lines - len(copy.left_out)} kept + {len(copy.left_out)} left out"
        console.print(f"{copy.path}: {size(copy.part)}; {left}{f' ({why})' if why else ''}, {len(copy.changed)} mended")
        if copy.not_copied:
            console.print(f"  not copied: {', '.join(copy.not_copied)}")


def as_json(
    parts: Sequence[Part], results: Sequence[Result], ran: int, lacking: Mapping[str, Need], status: int
) -> dict[str, Any]:
    """What `--json` prints."""
    return {
        "parts": [{"path": p.path, "form": p.form, "utterances": len(p.rows), "seconds": _total(p)} for p in parts],
        "findings": [
            {
                "check": check.name,
                "severity": check.severity,
                "count": count,
                "file": first.file,
                "line": first.line or None,
                "id": first.id or None,
                "came": first.came,
                "what": check.what,
                "fix": check.fix,
                "cure": check.cure,
            }
            for check, count, first in by_severity(results)
        ],
        "checks": ran,
        "not_run": {name: LACKING[need] for name, need in lacking.items()},
        "exit_status": status,
    }


def _total(part: Part) -> float | None:
    """Seconds of sound; None where some are not known."""
    total = float(part.seconds.sum())
    return total if total == total else None
