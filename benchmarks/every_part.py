"""Word error rate on the bundled digits of every encoder, and of every decoder that says one token after the other.

  python benchmarks/every_part.py [--only conformer rnn] [--limit=20] [--output=FILE.json]

Each is trained by the command line with the recipe that suits its frame rate. Prints a table, and ends with status 1
where a rate is above the limit; chance is 90 %.
"""

import dataclasses
import json
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import Any

import tyro

from jaxasr.nn.decoders import DECODERS
from jaxasr.nn.encoders import ENCODERS

OPTIONS = {
    "rnn": ("--encoder.d_model=128", "--encoder.d_hidden=128", "--encoder.num_layers=3"),
    "sanm_chunk": ("--encoder.chunk_size", "12", "--encoder.stride", "8"),
}
"""What an encoder needs beside its recipe's options."""
DECODER_OPTIONS = {"rnn": ("--decoder.d_hidden=128", "--decoder.d_attention=128", "--decoder.attention_filter=10")}


@dataclasses.dataclass(frozen=True)
class Options:
    """Trains each part and prints what it gives."""

    only: tuple[str, ...] = ()
    """Names of encoders and decoders, such as conformer; none for all."""
    epochs: int = 40
    """Epochs of each training."""
    limit: float = 20.0
    """Highest rate, in percent, that is good enough."""
    output: pathlib.Path | None = None
    """A JSON file for the same numbers."""


def trained(kind: str, name: str, epochs: int) -> dict[str, Any]:
    """Rates by search after a training with this encoder, or with this decoder behind SAN-M."""
    flags = [
        f"--{kind}={name}",
        f"--epochs={epochs}",
        *(OPTIONS if kind == "encoder" else DECODER_OPTIONS).get(name, ()),
    ]
    if kind == "decoder":
        flags.append("--encoder=sanm")
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "jaxasr.train", *flags, f"--workdir={folder}/run", "--report=false"]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        log = (pathlib.Path(folder) / "run" / "log.jsonl").read_text(encoding="utf-8")
    tests = [record for record in map(json.loads, log.splitlines()) if record["split"] == "test"]
    rates = {record["search"]: 100 * record["wer"] for record in tests}
    return {"kind": kind, "name": name, "flags": flags, "seconds": time.perf_counter() - began, "wer": rates}


def main() -> None:
    options = tyro.cli(Options)
    parts = [("encoder", name) for name in ENCODERS] + [("decoder", name) for name in DECODERS]
    chosen = [part for part in parts if not options.only or part[1] in options.only]
    print("| part | WER by ctc_greedy | by attention_greedy | seconds |\n|---|---|---|---|", flush=True)
    found = []
    for kind, name in chosen:
        found.append(run := trained(kind, name, options.epochs))
        ctc, attention = run["wer"]["ctc_greedy"], run["wer"]["attention_greedy"]
        print(f"| {kind} `{name}` | {ctc:.1f} % | {attention:.1f} % | {run['seconds']:.0f} |", flush=True)
    if options.output is not None:
        options.output.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    searches = {"encoder": "ctc_greedy", "decoder": "attention_greedy"}
    bad = [f"{run['kind']} {run['name']}" for run in found if run["wer"][searches[run["kind"]]] > options.limit]
    if bad:
        sys.exit(f"above {options.limit:g} %: {', '.join(bad)}")


if __name__ == "__main__":
    main()
