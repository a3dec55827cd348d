"""Padding of random epochs over the number of shapes, for the durations of three kinds of corpora.

  python -m benchmarks padding --picture=docs/padding.png

Samples of batches that are no sound, filler rows counted, as a share; the mean of some epochs. "To the edges" is what
the edges alone cost, before what does not fill a batch moves to the next larger shape: no plan of as many shapes, each
utterance in a row of its own, has less than the best edges.
"""

import dataclasses
import pathlib
import tempfile
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import rich.console
import rich.table

from benchmarks.measure import Output
from jaxasr.data import bucketing
from jaxasr.data.batch import BucketShape

RATE = 16_000
TOKENS_PER_SECOND = 4
KINDS = ("an4_like", "librispeech_like", "aishell_like")
BUCKETS = (4, 5, 6, 8, 10, 12, 14, 16, 18, 20)
EPOCHS = 5


@dataclasses.dataclass(frozen=True)
class Options(Output):
    """What padding comes to, and a picture of it."""

    batch_seconds: tuple[float, ...] = (30.0, 120.0)
    """Of sound in a batch."""
    rows_multiple: int = 1
    """Rows of a batch come in multiples of it."""
    utterances: int = 20_000
    """Of each kind of corpus."""
    picture: pathlib.Path | None = None
    """Where the picture goes; it needs Debian's chromium."""
    LEAST: ClassVar[Mapping[str, float]] = {"rows_multiple": 1, "utterances": 1}


def durations(kind: str, number: int = 20_000, seed: int = 4) -> np.ndarray:
    """(N,) seconds, spread as in a corpus: commands, read books, read sentences."""
    random = np.random.RandomState(seed)
    if kind == "aishell_like":
        return np.exp(random.normal(np.log(4.35), 0.30, number)).clip(1.2, 14.5)
    if kind == "librispeech_like":
        short, long = random.uniform(1.5, 12.0, number), random.normal(14.4, 1.2, number)
        return np.where(random.rand(number) < 0.30, short, long).clip(1.3, 17.0)
    return np.exp(random.normal(np.log(2.6), 0.5, number)).clip(0.4, 9.0)


def measured(kind: str, batch_seconds: float, max_buckets: int, options: Options) -> dict[str, Any]:
    """One row of the table."""
    seconds = durations(kind, options.utterances)
    samples, tokens = (np.floor(seconds * rate).astype(np.int64) for rate in (RATE, TOKENS_PER_SECOND))
    shapes = bucketing.choose(
        samples,
        tokens,
        batch_samples=int(batch_seconds * RATE),
        max_buckets=max_buckets,
        rows_multiple=options.rows_multiple,
    )
    edges = np.array([shape.samples for shape in shapes])
    rooms = [room(samples, tokens, shapes, epoch) for epoch in range(EPOCHS)]
    return {
        "durations": kind,
        "batch_seconds": batch_seconds,
        "shapes": len(shapes),
        "padding_percent": float(np.mean([100 * (1 - samples.sum() / r) for r in rooms])),
        "to_the_edges_percent": 100 * (1 - float(samples.sum() / edges[np.searchsorted(edges, samples)].sum())),
    }


def room(samples: np.ndarray, tokens: np.ndarray, shapes: list[BucketShape], epoch: int) -> int:
    """Samples of all batches of an epoch."""
    plan = bucketing.plan(samples, tokens, shapes, np.random.default_rng([0, epoch]))
    return sum(batch.shape.rows * batch.shape.samples for batch in plan)


def measure(options: Options) -> list[dict[str, Any]]:
    """A row for every kind, size of batches and number of shapes."""
    rows = [
        measured(kind, seconds, buckets, options)
        for kind in KINDS
        for seconds in options.batch_seconds
        for buckets in BUCKETS
    ]
    if options.picture is not None:
        draw(rows, options.picture)
    return rows


def show(title: str, rows: list[dict[str, Any]]) -> None:
    table = rich.table.Table(title=f"{title}, % of all samples, by the most shapes")
    for name in ("durations", "seconds", *map(str, BUCKETS)):
        table.add_column(name, justify="left" if name == "durations" else "right")
    for kind, seconds in dict.fromkeys((r["durations"], r["batch_seconds"]) for r in rows):
        mine = [r for r in rows if (r["durations"], r["batch_seconds"]) == (kind, seconds)]
        table.add_row(kind, f"{seconds:g}", *(f"{r['padding_percent']:.1f}" for r in mine))
    for kind in KINDS:
        mine = [r for r in rows if r["durations"] == kind][: len(BUCKETS)]
        table.add_row(kind, "to edges", *(f"{r['to_the_edges_percent']:.1f}" for r in mine))
    rich.console.Console(width=120).print(table)


def draw(rows: list[dict[str, Any]], picture: pathlib.Path) -> None:
    """Padding over the number of shapes, a curve for each kind, of the first size of batches."""
    from jaxasr.reporting import browser, page
    from jaxasr.reporting.charts import Series, line_chart
    from jaxasr.reporting.html import Html, el

    first = rows[0]["batch_seconds"]
    series = [
        Series(
            kind.replace("_like", "-like"),
            [
                (float(r["shapes"]), r["padding_percent"])
                for r in rows
                if (r["durations"], r["batch_seconds"]) == (kind, first)
            ],
            dots=True,
        )
        for kind in KINDS
    ]
    chart = line_chart("Padding of random epochs over the number of shapes", series, percent=True, floor=0.0)
    style = (pathlib.Path(page.__file__).parent / "report.css").read_text(encoding="utf-8")
    head = el("head", el("meta", charset="utf-8"), el("style", Html(style)))
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "page.html"
        whole = el("html", head, el("body", el("main", chart)), data_height=380)
        file.write_text("<!doctype html>\n" + whole, encoding="utf-8")
        browser.picture(file, picture, width=560)
