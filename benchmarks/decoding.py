"""How fast models find text, search beside search: `python benchmarks/decoding.py DATA DIR:SEARCH ... [--output=FILE]`.

  python benchmarks/decoding.py CORPORA/an4/test exp/a:parallel_greedy "exp/b:joint --beam=5 --lm=exp/lm" --rows 1 32

Timed is what is computed of sound that is in memory: features, network and search, for all batches of the data, one
after the other; reading files is not. The models take turns, so that a busy machine slows all of them.
"""

import dataclasses
import json
import pathlib
import shlex
import statistics
import time
from collections.abc import Callable
from typing import Annotated, Any

import jax
import rich.console
import rich.table
import tyro

from jaxasr import checkpoint
from jaxasr.compiled import use_persistent_cache
from jaxasr.data import manifest, pipeline
from jaxasr.errors import exit_with_message
from jaxasr.inputs import evaluation_inputs
from jaxasr.parallel import Devices
from jaxasr.recognizer import Recognizer
from jaxasr.searching import SearchFlags
from jaxasr.validate import score_of


@dataclasses.dataclass(frozen=True)
class Options:
    """Audio seconds a second, utterances a second and error rates of each model by each search."""

    data: Annotated[str, tyro.conf.Positional]
    """Manifest or Kaldi folder with transcripts."""
    models: Annotated[tuple[str, ...], tyro.conf.Positional]
    """"DIR:SEARCH [OPTION...]" each, with the options of that search."""
    rows: tuple[int, ...] = (32,)
    """Utterances in a batch; each number is timed."""
    rounds: int = 7
    """How often each is timed; the median counts."""
    output: pathlib.Path | None = None
    """A JSON file for the same numbers."""


def measured(name: str, data: str, rows: int) -> tuple[dict[str, Any], Callable[[], None]]:
    """What is known of a model, a search and batches without timing, and what is to be timed."""
    model, *options = shlex.split(name)
    folder, search = model.rsplit(":", 1)
    flags = tyro.cli(SearchFlags, args=[f"--search={search}", *options])
    task, params = checkpoint.load_model(folder)
    devices = Devices.first()
    inputs = evaluation_inputs(
        task, manifest.read(pathlib.Path(data), kind=task.source.kind), batch_seconds=200.0, max_buckets=6, rows=rows
    )
    recognizer = Recognizer(task, flags.choices(task), devices, fusion=flags.fusion(flags.scorers(task)))
    params = jax.device_put(params, devices.replicated)
    found = score_of(inputs, recognizer(params, inputs)[0])
    batches = [(h.planned.shape, devices.put(h.batch)) for h in pipeline.load(inputs.epoch(0))]
    known = {
        "model": pathlib.Path(folder).name,
        "search": " ".join([search, *options]),
        "rows": rows,
        "parameters": sum(leaf.size for leaf in jax.tree.leaves(params)),
        "utterances": len(inputs.selection.utterances),
        "audio_s": float(inputs.selection.plain_samples.sum() / task.input_rate),
        "wer": found.wer.rate,
        "cer": found.cer.rate,
    }

    def run() -> None:
        jax.block_until_ready(
            [recognizer.compiled[shape](params, batch, recognizer.fusion) for shape, batch in batches]
        )

    return known, run


def timed(options: Options) -> list[dict[str, Any]]:
    use_persistent_cache()
    cases = [measured(name, options.data, rows) for rows in options.rows for name in options.models]
    print("all compiled; timing", flush=True)
    seconds: list[list[float]] = [[] for _ in cases]
    for _ in range(options.rounds):
        for (_, run), times in zip(cases, seconds, strict=True):
            began = time.perf_counter()
            run()
            times.append(time.perf_counter() - began)
    return [
        known
        | {"seconds": [round(t, 4) for t in times], "audio_s_per_s": known["audio_s"] / statistics.median(times)}
        | {"utterances_per_s": known["utterances"] / statistics.median(times)}
        for (known, _), times in zip(cases, seconds, strict=True)
    ]


def show(results: list[dict[str, Any]]) -> None:
    table = rich.table.Table(title=f"Decoding on {jax.devices()[0].device_kind}, jax {jax.__version__}")
    headings = ("model", "search", "rows", "parameters", "audio s/s", "utterances/s", "WER %", "CER %")
    for heading in headings:
        table.add_column(heading, justify="left" if heading in ("model", "search") else "right")
    for r in results:
        rates = f"{r['audio_s_per_s']:.0f}", f"{r['utterances_per_s']:.1f}", f"{100 * r['wer']:.2f}"
        table.add_row(r["model"], r["search"], str(r["rows"]), f"{r['parameters']:,}", *rates, f"{100 * r['cer']:.2f}")
    rich.console.Console(width=110).print(table)


def main(options: Options) -> None:
    results = timed(options)
    show(results)
    if options.output is not None:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        versions = {
            "device": jax.devices()[0].device_kind,
            "jax": jax.__version__,
            "data": pathlib.Path(options.data).name,
        }
        options.output.write_text(json.dumps(versions | {"results": results}, indent=1) + "\n")


if __name__ == "__main__":
    exit_with_message(main, tyro.cli(Options))
