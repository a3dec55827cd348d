"""What hot words do to spelled names: `python benchmarks/hotwords.py MODEL TEST... [--others MANIFEST...]`.

  python benchmarks/hotwords.py exp/an4 CORPORA/an4/test CORPORA/an4/train_dev --others CORPORA/an4/train_nodev

A name is a transcript of single letters alone, at least three, as AN4 has many. The list has all names of the tests
and, so that there is more to go wrong, of the others. Missed are names that a test says and the text found does not;
false are those that it does where nobody says them. The search is the same with the list and without.
"""

import dataclasses
import json
import pathlib
import re
import tempfile
from collections.abc import Iterable, Mapping
from typing import Annotated, Any

import rich.console
import rich.table
import soundfile
import tyro

from jaxasr.data import manifest
from jaxasr.data.manifest import Utterance
from jaxasr.decode import DecodeOptions, decode
from jaxasr.errors import exit_with_message
from jaxasr.scoring import score
from jaxasr.searching import SearchFlags


@dataclasses.dataclass(frozen=True)
class Options:
    """Misses and false insertions of listed names, without hot words and with them."""

    model: Annotated[str, tyro.conf.Positional]
    """Workdir or model folder."""
    tests: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Manifests of whole sound files with transcripts."""
    others: tuple[str, ...] = ()
    """More of them, whose names are on the list as well."""
    search: str = "ctc_beam"
    beam: int = 10
    weights: tuple[float, ...] = (1.0, 2.0, 3.0)
    """Nats for every token of a name."""
    output: pathlib.Path | None = None
    """A JSON file for the same numbers."""


def names(utterances: Iterable[Utterance]) -> set[str]:
    return {u.text for u in utterances if re.fullmatch(r"\w( \w){2,}", u.text)}


def spoken(texts: Mapping[str, str], listed: Iterable[str]) -> set[tuple[str, str]]:
    """(utterance, name) of every listed name in the texts."""
    return {(id_, name) for id_, text in texts.items() for name in listed if f" {name} " in f" {text} "}


def measured(options: Options, references: Mapping[str, str], listed: set[str], weight: float) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "names.txt"
        file.write_text("".join(f"{name}\n" for name in sorted(listed)), encoding="utf-8")
        flags = SearchFlags(options.search, beam=options.beam)
        if weight:
            flags = dataclasses.replace(flags, hotwords=str(file), hotwords_weight=weight)
        found = {said.id: said.text for said in decode(DecodeOptions(options.tests, options.model, searching=flags))}
    said, heard = spoken(references, listed), spoken(found, listed)
    missed, false, wer = len(said - heard), len(heard - said), score(references, found).wer.rate
    return {"weight": weight, "said": len(said), "missed": missed, "false": false, "wer": wer}


def main() -> None:
    options = tyro.cli(Options, prog="python benchmarks/hotwords.py", config=(tyro.conf.FlagCreatePairsOff,))
    tests = manifest.read_all(options.tests)
    listed = names(tests) | names(manifest.read_all(options.others))
    minutes = sum(soundfile.info(u.audio).duration for u in tests) / 60.0
    references = {u.id: u.text for u in tests}
    rows = [measured(options, references, listed, weight) for weight in (0.0, *options.weights)]
    table = rich.table.Table("weight", "missed", "fewer", "false in 10 min", "WER", box=None, pad_edge=False)
    for row in rows:
        row |= {"fewer": 1.0 - row["missed"] / rows[0]["missed"], "false_in_10_minutes": 10.0 * row["false"] / minutes}
        shares = f"{100 * row['fewer']:.1f} %", f"{row['false_in_10_minutes']:.2f}", f"{100 * row['wer']:.2f} %"
        table.add_row(str(row["weight"]), f"{row['missed']} of {row['said']}", *shares)
    console = rich.console.Console()
    console.print(f"{len(listed)} names listed, {len(tests)} utterances, {minutes:.1f} minutes", highlight=False)
    console.print(table)
    if options.output is not None:
        content = {
            "search": options.search,
            "beam": options.beam,
            "listed": len(listed),
            "minutes": minutes,
            "rows": rows,
        }
        options.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    exit_with_message(main)
