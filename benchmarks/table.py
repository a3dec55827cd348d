"""Results as a table."""

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import rich
import rich.box
import rich.console
import rich.table

WIDTH = 140
"""Characters of a table that is not shown in a wider terminal."""


def show(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table of the rows' numbers and words; what all rows have in common stands below it."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    texts = {name: [text(row.get(name)) for row in rows] for name in columns}
    texts = {name: column for name, column in texts.items() if any(column)}
    common = {name: column[0] for name, column in texts.items() if len(rows) > 1 and len(set(column)) == 1}
    table = rich.table.Table(
        title=f"{title}, on {jax.devices()[0].device_kind}",
        caption=", ".join(f"{name.replace('_', ' ')} {value}" for name, value in common.items()),
        box=rich.box.SIMPLE,
        padding=(0, 1, 0, 0),
    )
    for name in (shown := [name for name in texts if name not in common]):
        words = any(isinstance(row.get(name), str) for row in rows)
        table.add_column(name.replace("_", "\n"), justify="left" if words else "right", no_wrap=True)
    for cells in zip(*(texts[name] for name in shown), strict=True):
        table.add_row(*cells)
    rich.print()
    rich.console.Console(width=max(rich.console.Console().width, WIDTH)).print(table)


def text(value: Any) -> str:
    """Three digits of a number; nothing of a list, or of what is not known."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return str(value) if isinstance(value, str | int) else ""
