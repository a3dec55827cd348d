"""Word error rate over the minutes of training, ours and the peer's in one picture.

  python benchmarks/error_over_minutes.py --runs "jaxasr=exp/an4/log.jsonl" --peers "FunASR=an4.jsonl.gz" \
      --picture=out.png

The curves are of the validation set; the table below them has the test sets. Minutes count from the first step's
compilation on, for the peer from its first step: neither counts reading sound or feature statistics.
"""

import dataclasses
import gzip
import json
import pathlib
import sys
import tempfile
from typing import Any, NamedTuple

import tyro

from jaxasr.reporting import browser, page
from jaxasr.reporting.charts import Series, line_chart
from jaxasr.reporting.html import Html, el, percent, table

STYLE = (pathlib.Path(page.__file__).parent / "report.css").read_text(encoding="utf-8")


@dataclasses.dataclass(frozen=True)
class Options:
    """Draws validation WER over minutes, and the test WER in the end."""

    runs: tuple[str, ...] = ()
    """NAME=FILE of our runs' logs; those that end in .gz are compressed."""
    peers: tuple[str, ...] = ()
    """NAME=FILE of the peer's, JSON lines with `wall`, `dev_wer` and `test_wer`."""
    picture: pathlib.Path = pathlib.Path("error_over_minutes.png")
    """Where the picture goes; it needs Debian's chromium."""


class Curve(NamedTuple):
    """What is drawn of a run: (minutes, rate) on the validation set, and what the test set says in the end."""

    name: str
    valid: list[tuple[float, float]]
    tests: dict[str, float]


def ours(name: str, file: pathlib.Path) -> Curve:
    records = _records(file)
    began = [r["time"] for r in records if r["split"] == "session"]
    if len(began) != 1:
        sys.exit(f"{file}: {len(began)} sessions; one, never interrupted, was expected, so that its minutes add up.")
    valid = [((r["time"] - began[0]) / 60, r["wer"]) for r in records if r["split"] == "valid"]
    return Curve(name, valid, {r["search"]: r["wer"] for r in records if r["split"] == "test"})


def theirs(name: str, file: pathlib.Path) -> Curve:
    records = [r for r in _records(file) if r["event"] == "eval"]
    tests = {f"ctc_greedy after {r['wall'] / 60:.1f} min": r["test_wer"] for r in records[-1:]}
    return Curve(name, [(r["wall"] / 60, r["dev_wer"]) for r in records], tests)


def _records(file: pathlib.Path) -> list[dict[str, Any]]:
    with (gzip.open if file.suffix == ".gz" else open)(file, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def drawn(curves: list[Curve]) -> Html:
    series = [Series(c.name, [(m, 100 * rate) for m, rate in c.valid], dots=True) for c in curves]
    chart = line_chart("WER on the validation set over minutes", series, percent=True, floor=0.0)
    rows = [[c.name, search, percent(rate)] for c in curves for search, rate in c.tests.items()]
    body = el("main", chart, table(["run", "test set by", "WER"], rows, text=(0, 1)))
    head = el("head", el("meta", charset="utf-8"), el("style", Html(STYLE)))
    return el("html", head, el("body", body), data_height=460 + 34 * len(rows))  # the picture's, in pixels


def main() -> None:
    options = tyro.cli(Options)
    pairs = [
        (kind, *given.split("=", 1)) for kind, some in ((ours, options.runs), (theirs, options.peers)) for given in some
    ]
    page_of = drawn([kind(name, pathlib.Path(path)) for kind, name, path in pairs])
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "page.html"
        file.write_text("<!doctype html>\n" + page_of, encoding="utf-8")
        browser.picture(file, options.picture, width=560)


if __name__ == "__main__":
    main()
