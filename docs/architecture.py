"""Draws docs/architecture.svg from the imports of the package: `python -m docs.architecture`.

Each box is a group of modules and stands above all that it imports. Of the arrows those are left out that follow from
others (where A uses B and B uses C, A may use C).
"""

import pathlib
import textwrap
from collections.abc import Iterator
from html import escape
from typing import NamedTuple

from tests.test_imports import FILES, imported, part

PICTURE = pathlib.Path(__file__).with_name("architecture.svg")
COLUMN, LINE, GAP, MARGIN = 68, 15, 22, 8
"""In pixels: one of 12 columns, a line of text, between rows, around all."""
BELOW_ALL = "options"


class Group(NamedTuple):
    """A box: what its modules do, their names as tests/test_imports.py has them, its first column and its last."""

    what: str
    modules: str
    columns: tuple[int, int]


GROUPS = {
    "training": Group("the loop, and what ends it", "train loop validate replay session stopping screens", (0, 8)),
    "other toolkits": Group("models of FunASR, ESPnet", "convert/folders", (8, 12)),
    "looking": Group(
        "at a run, a model, a sound, a corpus",
        "report reporting info plot notebook profiling data/check data/pack",
        (0, 12),
    ),
    "decoding": Group(
        "sound to hypotheses",
        "decode speech_to_text recognizer searching language_models align long stream fetch tuning ngram",
        (0, 12),
    ),
    "inputs": Group("manifests to batches of known shapes", "inputs prepare cmvn fit", (0, 6)),
    "results": Group("④ hypotheses to text, times, files, scores", "outputs hypothesis evaluate scoring", (6, 12)),
    "disk": Group("models, and the states and logs of runs", "checkpoint states finetune logs bars", (0, 12)),
    "step": Group("loss to update, on all devices", "state gradients compiled parallel memory train_config", (0, 12)),
    "tasks": Group("a dataclass of choices, whose methods return pure functions", "tasks", (0, 8)),
    "search": Group("③ log-probabilities to tokens", "search", (0, 5)),
    "names": Group("in other toolkits", "convert", (5, 8)),
    "learning": Group(
        "rates, optimizers, what is trained", "optim schedules averages adapters trainable init fsdp", (8, 12)
    ),
    "data": Group("① sound and text to batches", "data corpora", (0, 4)),
    "nn": Group("② batches to features, log-probabilities, loss", "nn", (4, 12)),
    BELOW_ALL: Group(
        "of command lines and files, registries, errors: used by all",
        "command_line config values recipes registry paths params checksums typing errors launch consoles commands "
        "versions watch board",
        (0, 12),
    ),
}
ABOVE_ALL = {"__main__", "completion", ""}
"""The commands' table, that of their options, and the package itself, which import by name."""


def uses() -> dict[str, set[str]]:
    """The other groups that each imports."""
    of = {module: name for name, group in GROUPS.items() for module in group.modules.split()}
    found: dict[str, set[str]] = {name: set() for name in GROUPS}
    for file in FILES:
        if (mine := part(file)) not in ABOVE_ALL:
            found[of[mine]] |= {of[other] for other in imported(file) - ABOVE_ALL} - {of[mine]}
    return found


def reach(name: str, used: dict[str, set[str]]) -> set[str]:
    """All groups below one."""
    return used[name].union(*(reach(other, used) for other in used[name]))


def arrows(used: dict[str, set[str]]) -> list[tuple[str, str]]:
    """What is drawn: no arrow that follows from others, and none to the group that all use."""
    return [
        (name, other)
        for name, others in used.items()
        for other in GROUPS
        if other in others - {BELOW_ALL} and not any(other in reach(between, used) for between in others)
    ]


def floors(used: dict[str, set[str]]) -> list[list[str]]:
    """Groups by row, the topmost first; each stands just above the highest that it uses."""

    def height(name: str) -> int:
        return 1 + max(map(height, used[name]), default=-1)

    heights = {name: height(name) for name in GROUPS}
    return [[name for name in GROUPS if heights[name] == row] for row in range(max(heights.values()), -1, -1)]


def lines(name: str) -> list[str]:
    """A group's modules, broken to its width."""
    first, last = GROUPS[name].columns
    return textwrap.wrap(GROUPS[name].modules, int((last - first) * COLUMN / 7) - 3, break_on_hyphens=False)


def box(name: str, top: int, height: int) -> Iterator[str]:
    first, last = (COLUMN * column + MARGIN for column in GROUPS[name].columns)
    yield f'<rect x="{first + 4}" y="{top}" width="{last - first - 8}" height="{height}" rx="5"/>'
    title = f'<tspan class="name">{escape(name)}</tspan> {escape(GROUPS[name].what)}'
    yield f'<text x="{first + 14}" y="{top + LINE + 2}">{title}</text>'
    for row, line in enumerate(lines(name)):
        yield f'<text class="modules" x="{first + 14}" y="{top + LINE * (row + 2) + 3}">{escape(line)}</text>'


def arrow(name: str, other: str, top: int, bottom: int) -> str:
    """Straight down, where both boxes are."""
    spans = GROUPS[name].columns, GROUPS[other].columns
    x = MARGIN + COLUMN * (max(first for first, _ in spans) + min(last for _, last in spans)) // 2
    return f'<path d="M{x} {top} V{bottom - 7}" marker-end="url(#head)"/>'


def picture() -> str:
    """The SVG."""
    used = uses()
    tops, ends, drawn, y = {}, {}, [], MARGIN
    for row in floors(used):
        height = LINE * (1 + max(len(lines(name)) for name in row)) + 12
        for name in row:
            tops[name], ends[name] = y, y + height
            drawn += box(name, y, height)
        y += height + GAP
    drawn += (arrow(a, b, ends[a], tops[b]) for a, b in arrows(used))
    return HEAD.format(width=12 * COLUMN + 2 * MARGIN, height=y - GAP + MARGIN) + "\n".join(drawn) + "\n</svg>\n"


HEAD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img">
<title>The groups of jaxasr's modules; each uses those below it that its arrows lead to</title>
<style>
  text {{ font: 13px sans-serif; fill: #222; }}
  .name {{ font-weight: bold; }}
  .modules {{ font: 11.5px monospace; fill: #555; }}
  rect {{ fill: #eef3fb; stroke: #5b7db1; }}
  path {{ stroke: #5b7db1; stroke-width: 1.5; fill: none; }}
  #head path {{ fill: #5b7db1; stroke: none; }}
  .page {{ fill: #fff; stroke: none; }}
</style>
<marker id="head" viewBox="0 0 8 8" refX="1" refY="4" markerWidth="7" markerHeight="7" orient="auto">
  <path d="M0 0 L8 4 L0 8 Z"/>
</marker>
<rect class="page" width="100%" height="100%"/>
"""

if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")
