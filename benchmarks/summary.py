"""The main figures of `python -m benchmarks all --json=FILE` in Markdown: `python -m benchmarks.summary FILE`."""

import json
import pathlib
import sys
from collections.abc import Iterator
from typing import Any

from benchmarks.measure import Row

TIMED = {
    "fbank": ("log-mel, 80, LFR 7/6",),
    "ctc": ("16,400,500,60", "16,400,5000,60"),
    "encoder": ("SAN-M small", "SAN-M base", "Conformer small"),
    "train_step": ("SAN-M small", "SAN-M base", "Conformer small"),
    "search": ("ctc_beam 32,400,500 peaked, all tokens", "joint, 40 tokens, SAN-M small, 16 rows"),
}
"""Cases of each benchmark that are shown."""
WORDS = {
    "fbank": "features",
    "ctc": "CTC loss and gradient",
    "encoder": "encoder, forward",
    "train_step": "training step",
    "search": "beam search",
}
SHAPES = 12
"""Shapes of batches that the default plan has at most."""


def lines(results: dict[str, Any]) -> Iterator[str]:
    yield "| what | case | time | rate | of the matmul's FLOP/s |"
    yield "|---|---|---|---|---|"
    for cells in (*timed(results), *others(results)):
        yield f"| {' | '.join(cells)} |"


def timed(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, cases in TIMED.items():
        rows = [row for row in rows_of(results, name) if row["case"] in cases and row["side"] == "jaxasr"]
        for row in rows:
            rate = f"{row['per_s']:,.0f} {row['unit']} a second"
            share = f"{row['matmul_%']:.0f} %" if row["matmul_%"] else ""
            yield WORDS[name], row["case"], f"{row['median_ms']:,.0f} ms", rate, share


def others(results: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in rows_of(results, "pipeline"):
        if "manifest" in row:
            case = f"{row['manifest']}, {row['utterances']:,} utterances"
            seconds = f"{row['read_seconds']:.1f} s, {row['plan_seconds']:.1f} s"
            yield "manifest read, epoch planned", case, seconds, "", ""
        elif row["from"] == "files":
            case = f"FLAC to {row['to']}, {row['by']}"
            yield "reading", case, "", f"{row['utterances_per_second']:,.0f} utterances a second", ""
    for row in rows_of(results, "startup"):
        yield "start", row["what"], f"{row['seconds']:.1f} s", "", ""
    for row in rows_of(results, "padding"):
        if row["shapes"] == SHAPES:
            case = f"{row['durations'].replace('_', '-')}, batches of {row['batch_seconds']:.0f} s"
            yield f"padding, {SHAPES} shapes", case, "", f"{row['padding_percent']:.1f} %", ""


def rows_of(results: dict[str, Any], name: str) -> list[Row]:
    return results.get(name, {}).get("rows", [])


def main() -> None:
    print("\n".join(lines(json.loads(pathlib.Path(sys.argv[1]).read_text(encoding="utf-8"))["results"])))


if __name__ == "__main__":
    main()
