"""Hours of sound in one file against its parts: word error rate, peak memory, and whether times drift.

  python benchmarks/long_sound.py exp/an4 CORPORA/an4/test
  python benchmarks/long_sound.py exp/an4 CORPORA/an4/test --hours=0.5 --silence_db=-100

The file is made of the corpus's utterances, all of them in a new order again and again, with silence of 0.5 to 6 s
between them. It is decoded by `python -m jaxasr.decode` as the corpus is, each in a process of its own. A word of the
long file belongs to the utterance that its middle is nearest to; times are compared in utterances whose words are the
same.
"""

import dataclasses
import itertools
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, NamedTuple

import numpy as np
import soundfile
import tyro

from jaxasr.data import audio, manifest
from jaxasr.data.utterance import Utterance
from jaxasr.errors import exit_with_message
from jaxasr.scoring import score

RATE = 16_000
GAP_SECONDS = (0.5, 6.0)


@dataclasses.dataclass(frozen=True)
class Options:
    """Decodes a file of hours and one of ten minutes."""

    model: Annotated[str, tyro.conf.Positional]
    """Workdir of a run, or its model folder."""
    corpus: Annotated[str, tyro.conf.Positional]
    """Manifest whose utterances the files are made of."""
    hours: float = 3.0
    silence_db: float = -60.0
    """Level of the noise between utterances, in dB of full scale."""
    flags: tuple[str, ...] = ()
    """For `jaxasr.decode`, such as --flags --search=attention_greedy; behind everything else."""
    output: str | None = None
    """File to write the numbers to, as JSON."""


class Put(NamedTuple):
    """An utterance where it was put, in seconds."""

    id: str
    start: float
    end: float


def build(path: pathlib.Path, corpus: Sequence[Utterance], hours: float, silence_db: float) -> list[Put]:
    """Writes the file, and says where what was put."""
    rng = np.random.default_rng(0)
    places, samples = [], 0
    with soundfile.SoundFile(path, "w", RATE, 1, subtype="PCM_16") as file:

        def write(sound: np.ndarray) -> int:
            file.write(audio.to_int16(sound))
            return len(sound)

        for utterance in _without_end(corpus, rng):
            gap = rng.normal(scale=10 ** (silence_db / 20), size=int(rng.uniform(*GAP_SECONDS) * RATE))
            samples += write(gap)
            if samples >= hours * 3600 * RATE:
                return places
            sound = audio.read(utterance, RATE)
            places.append(Put(utterance.id, samples / RATE, (samples + len(sound)) / RATE))
            samples += write(sound)
    raise AssertionError


def _without_end(corpus: Sequence[Utterance], rng: np.random.Generator) -> Iterator[Utterance]:
    while True:
        yield from (corpus[i] for i in rng.permutation(len(corpus)))


def decoded(options: Options, what: str, output: pathlib.Path) -> tuple[dict[str, dict[str, Any]], float, float]:
    """What is said, by id, with the process's peak memory in MB and its seconds."""
    command = [sys.executable, "-m", "jaxasr.decode", what, f"--model={options.model}", f"--output={output}"]
    began = time.perf_counter()
    process = subprocess.Popen([*command, *options.flags], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"jaxasr.decode {what} failed")
    lines = (output / "hyp.jsonl").read_text().splitlines()
    found = {row["id"]: row for row in map(json.loads, lines)}
    return found, usage.ru_maxrss / 1024, time.perf_counter() - began


def by_utterance(words: Sequence[dict[str, Any]], places: Sequence[Put]) -> list[list[dict[str, Any]]]:
    """The words of each place: a word belongs to the one that its middle is nearest to."""
    borders = [(a.end + b.start) / 2 for a, b in itertools.pairwise(places)]
    found: list[list[dict[str, Any]]] = [[] for _ in places]
    for word in words:
        found[int(np.searchsorted(borders, (word["start"] + word["end"]) / 2))].append(word)
    return found


def shifts(
    places: Sequence[Put], words: Sequence[Sequence[dict[str, Any]]], parts: dict[str, dict[str, Any]]
) -> np.ndarray:
    """(N, 2) of words: where they are in the long file, and how much later than in their part, in seconds."""
    found = []
    for place, of_place in zip(places, words, strict=True):
        of_part = parts[place.id]["words"]
        if [w["word"] for w in of_place] == [w["word"] for w in of_part]:
            found += [
                (a["start"], a["start"] - b["start"] - place.start) for a, b in zip(of_place, of_part, strict=True)
            ]
    return np.array(found).reshape(-1, 2)


def rate(references: dict[str, str], places: Sequence[Put], texts: Sequence[str]) -> float:
    """Word error rate in percent."""
    numbered = [f"{i}" for i in range(len(places))]
    reference = {n: references[p.id] for n, p in zip(numbered, places, strict=True)}
    return 100 * score(reference, dict(zip(numbered, texts, strict=True))).wer.rate


def run(options: Options) -> None:
    corpus = manifest.read(options.corpus)
    references = {u.id: u.text for u in corpus}
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        build(folder / "short.wav", corpus, 1 / 6, options.silence_db)
        places = build(folder / "long.wav", corpus, options.hours, options.silence_db)
        parts, _, _ = decoded(options, options.corpus, folder / "parts")
        for _ in range(2):  # the first time programs are compiled, and kept on disk
            _, short_mb, _ = decoded(options, str(folder / "short.wav"), folder / "short")
            whole, long_mb, seconds = decoded(options, str(folder / "long.wav"), folder / "long")
    said = whole["long"]
    words = by_utterance(said["words"], places)
    moved = shifts(places, words, parts)
    late = moved[:, 0] > moved[:, 0].max() - 600
    numbers = {
        "hours": options.hours,
        "utterances": len(places),
        "silence": round(said["silence"], 3),
        "put_silence": round(1 - sum(p.end - p.start for p in places) / (3600 * options.hours), 3),
        "wer": round(rate(references, places, [" ".join(w["word"] for w in of) for of in words]), 2),
        "wer_of_parts": round(rate(references, places, [parts[p.id]["text"] for p in places]), 2),
        "peak_mb": round(long_mb),
        "peak_mb_of_10_minutes": round(short_mb),
        "compared_words": len(moved),
        "shift_ms": [round(1000 * float(np.median(moved[part, 1])), 1) for part in (moved[:, 0] < 600, late)],
        "shift_ms_95": round(1000 * float(np.percentile(np.abs(moved[:, 1]), 95)), 1),
        "seconds": round(seconds, 1),
    }
    print(json.dumps(numbers, indent=1))
    if options.output is not None:
        pathlib.Path(options.output).write_text(json.dumps(numbers, indent=1) + "\n")


if __name__ == "__main__":
    exit_with_message(run, tyro.cli(Options))
