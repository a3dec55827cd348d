"""The main figures in Markdown: `python -m benchmarks.summary FILE...`.

FILE is what `python -m benchmarks all --json=FILE` writes (.json), or duels with peers (.jsonl; see beside_funasr.py).
"""

import json
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks.measure import Row

TIMED = {
    "fbank": ("features", ("log-mel, 80, LFR 7/6",)),
    "ctc": ("CTC loss and gradient", ("16,400,500,60", "16,400,5000,60")),
    "encoder": ("encoder, forward", ("SAN-M small", "SAN-M base", "Conformer small")),
    "train_step": ("training step", ("SAN-M small", "SAN-M base", "Conformer small")),
    "search": ("beam search", ("ctc_beam 32,400,500 peaked, all tokens", "joint, 40 tokens, SAN-M small, 16 rows")),
}
"""What each benchmark's cases are, and which are shown."""
PLAN = 12, 120.0
"""Shapes of batches at most, and the seconds of each, that padding is shown for."""
PEERS = {
    "fbank.knf": ("features, 80", "kaldi-native-fbank"),
    "fbank.funasr088_wavfrontend": ("features, 80", "FunASR 0.8.8"),
    "fbank.funasr088_wavfrontend_lfr": ("features, 80, LFR 7/6", "FunASR 0.8.8"),
    "fbank.espnet_defaultfrontend": ("features, 80, of a centred transform", "ESPnet"),
    "enc_fwd.sanm_small": ("encoder, forward, SAN-M small", "FunASR 0.8.8"),
    "enc_fwd.sanm_base": ("encoder, forward, SAN-M base", "FunASR 0.8.8"),
    "enc_fwd.conformer_small": ("encoder, forward, Conformer small", "FunASR 0.8.8"),
    "train.sanm_small": ("training step, SAN-M small", "FunASR 0.8.8"),
    "train.sanm_base": ("training step, SAN-M base", "FunASR 0.8.8"),
    "train.conformer_small": ("training step, Conformer small", "FunASR 0.8.8"),
    "train.conformer_small_espnet": ("training step, Conformer small", "ESPnet"),
    "ctc_loss.V500": ("CTC loss and gradient, 16,400,500,60", "torch"),
    "ctc_loss.V5000": ("CTC loss and gradient, 16,400,5000,60", "torch"),
    "data.torch_knf_2workers": ("600 FLAC files to features", "torch and kaldi-native-fbank"),
    "data.funasr088_small_2workers": ("600 FLAC files to features", "FunASR 0.8.8"),
    "data.espnet_2workers": ("600 FLAC files to features", "ESPnet"),
    "data.lhotse_2workers": ("600 FLAC files to features", "lhotse"),
}
"""What a duel's case is, and whose."""


def figures(results: dict[str, Any]) -> Iterator[Sequence[str]]:
    yield "what", "case", "time", "rate", "of the matmul's FLOP/s"
    for name, (what, cases) in TIMED.items():
        for row in rows_of(results, name):
            if row["case"] in cases and row["side"] == "jaxasr":
                share = f"{row['matmul_%']:.0f} %" if row["matmul_%"] else ""
                rate = f"{row['per_s']:,.0f} {row['unit']} a second"
                yield what, row["case"], f"{row['median_ms']:,.1f} ms", rate, share
    for row in rows_of(results, "pipeline"):
        if "manifest" in row:
            case, seconds = f"{row['manifest']}, {row['utterances']:,} utterances", (row["read_s"], row["plan_s"])
            yield "manifest read; epoch planned", case, "{:.1f} s; {:.1f} s".format(*seconds), "", ""
        elif (row["from"], row["by"]) == ("files", "2 threads"):
            yield "reading", f"FLAC to {row['to']}, {row['by']}", "", f"{row['per_s']:,.0f} utterances a second", ""
    for row in rows_of(results, "startup"):
        if "--help" not in row["what"]:
            yield "start", row["what"], f"{row['seconds']:.1f} s", "", ""
    for row in rows_of(results, "padding"):
        if (row["shapes"], row["batch_seconds"]) == PLAN:
            what, durations = (
                "padding, {} shapes, batches of {:.0f} s".format(*PLAN),
                row["durations"].replace("_", "-"),
            )
            yield what, durations, "", f"{row['padding_percent']:.1f} %", ""


def duels(rows: Sequence[Row]) -> Iterator[Sequence[str]]:
    yield "what", "peer", "peer's time", "ours", "peer's / ours"
    ours = {row["case"]: row["median_s"] for row in rows if row["side"] == "B"}
    for row in rows:
        if row["side"] == "A":
            theirs, mine = row["median_s"], ours[row["case"]]
            yield *PEERS[row["case"]], f"{1e3 * theirs:,.1f} ms", f"{1e3 * mine:,.1f} ms", f"{theirs / mine:.2f}"


def rows_of(results: dict[str, Any], name: str) -> list[Row]:
    return results.get(name, {}).get("rows", [])


def table(rows: Iterator[Sequence[str]]) -> str:
    head = next(rows)
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def summary(file: pathlib.Path) -> str:
    text = file.read_text(encoding="utf-8")
    if file.suffix == ".jsonl":
        return table(duels([json.loads(line) for line in text.splitlines()]))
    return table(figures(json.loads(text)["results"]))


def main() -> None:
    print("\n\n".join(summary(pathlib.Path(name)) for name in sys.argv[1:]))


if __name__ == "__main__":
    main()
