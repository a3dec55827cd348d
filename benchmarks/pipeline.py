"""Reading FLAC, features and batching, in utterances a second; and manifests of a million utterances.

The rates are of 600 utterances of 4.6 s on average, in batches of up to 120 s by length, with the start of threads or
processes: read and batched alone, and with log-mel features (80, 7 stacked by 6) on the devices as well.
"""

import contextlib
import dataclasses
import functools
import json
import pathlib
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, ClassVar

import jax
import numpy as np
import soundfile

from benchmarks import table
from benchmarks.measure import Output
from benchmarks.padding import RATE, durations
from benchmarks.processes import call, resident
from jaxasr.data import manifest, pack, pipeline
from jaxasr.data.manifest import Utterance
from jaxasr.inputs import Inputs, evaluation_inputs, training_inputs
from jaxasr.nn.frontends import WavFrontend
from jaxasr.tasks import AsrTask

TASK = AsrTask(frontend=WavFrontend(num_mels=80, lfr_m=7, lfr_n=6), preprocess=None)
WAYS = {"2 threads": {"threads": 2}, "2 processes": {"workers": 2}}
MILLION = 1_000_000


@dataclasses.dataclass(frozen=True)
class Options(Output):
    """How fast utterances are read, and how long a large manifest takes."""

    utterances: int = 600
    """Of 4.6 s on average."""
    rounds: int = 5
    """How often they are read in each way."""
    lines: int = MILLION
    """Of the large manifests; 0 leaves them out."""
    LEAST: ClassVar[Mapping[str, float]] = {"utterances": 1, "rounds": 1, "lines": 0}


# Rate --------------------------------------------------------------------------------------------------------


def corpus(folder: pathlib.Path, number: int) -> str:
    """A manifest of so many FLAC files of noise and tone, spread in length as read sentences."""
    random, lines = np.random.RandomState(5), []
    for index, seconds in enumerate(durations("aishell_like", number, 5)):
        text = "".join(chr(97 + letter) for letter in random.randint(0, 26, int(seconds * 10)))
        soundfile.write(folder / f"{index}.flac", sound(index, int(seconds * RATE)), RATE, subtype="PCM_16")
        lines.append(json.dumps({"source": f"{index}.flac", "target": text}) + "\n")
    (folder / "manifest.jsonl").write_text("".join(lines))
    return str(folder / "manifest.jsonl")


def sound(seed: int, samples: int) -> np.ndarray:
    """Noise that swells four times a second, and a tone that wanders."""
    t = np.arange(samples) / RATE
    noise = np.convolve(np.random.RandomState(1000 + seed).randn(samples), np.hanning(9) / 4, "same")
    return noise * (0.55 + 0.45 * np.sin(8 * np.pi * t)) * 0.08 + 0.1 * np.sin(2 * np.pi * (120 + 20 * np.sin(t)) * t)


def by_length(utterances: Sequence[Utterance], batch_seconds: float = 120.0, max_buckets: int = 12) -> Inputs:
    """The utterances in batches of much the same length."""
    task = TASK.prepared(utterances)
    return evaluation_inputs(task, utterances, batch_seconds=batch_seconds, max_buckets=max_buckets)


@functools.cache
def features() -> Callable[..., Any]:
    """From a batch to its features on the devices; compiled once a shape."""
    return jax.jit(functools.partial(TASK.features, normalize=False))


def passes(inputs: Inputs, *, with_features: bool, **way: int) -> dict[str, int]:
    """Reads every utterance once; how many there were, and their frames."""
    utterances, made = 0, []
    with contextlib.closing(pipeline.load(inputs.epoch(0), **way)) as hosts:
        for host in hosts:
            utterances += len(host.ids)
            made += [features()(host.batch)] if with_features else []
    return {"utts": utterances, "frames": sum(int(lengths.sum()) for _, lengths in jax.block_until_ready(made))}


def rates(options: Options) -> Iterator[dict[str, Any]]:
    """A row for every way, in turns."""
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        files = corpus(folder, options.utterances)
        pack.pack(pack.PackOptions((files, str(folder / "packed"))))
        corpora = {"files": by_length(manifest.read(files)), "pack": by_length(manifest.read(folder / "packed"))}
        cases = {
            (where, how, what): functools.partial(passes, inputs, with_features=what == "features", **way)
            for where, inputs in corpora.items()
            for how, way in WAYS.items()
            for what in ("batches", "features")
        }
        seconds: dict[tuple[str, str, str], list[float]] = {case: [] for case in cases}
        for turn in range(options.rounds + 1):
            for case, run in cases.items():
                began = time.perf_counter()
                run()
                if turn:  # the first one compiles
                    seconds[case].append(time.perf_counter() - began)
    for (where, how, what), times in seconds.items():
        rate = [options.utterances / t for t in times]
        yield {
            "from": where, "by": how, "to": what, "per_s": statistics.median(rate), "slowest": min(rate),
            "fastest": max(rate), "unit": "utterances",
        }  # fmt: skip


# A million utterances ----------------------------------------------------------------------------------------


def write_manifests(folder: pathlib.Path, number: int) -> list[str]:
    """The same utterances as JSON lines, as a table and as a Kaldi folder; there is no sound."""
    random, kaldi = np.random.default_rng(0), folder / "kaldi"
    kaldi.mkdir()
    words = ["".join(map(chr, random.integers(97, 123, length))) for length in random.integers(2, 9, 5000)]
    names = ("a.jsonl", "a.tsv", "kaldi/wav.scp", "kaldi/text", "kaldi/utt2spk", "kaldi/utt2dur")
    with contextlib.ExitStack() as stack:
        jsonl, tsv, *tables = (stack.enter_context(open(folder / name, "w")) for name in names)
        tsv.write("id\taudio_filepath\ttext\tduration\tspeaker\n")
        for index, seconds in enumerate(durations("aishell_like", number).round(3).tolist()):
            speaker = f"speaker{index // 200:05d}"
            name = f"{speaker}-chapter{index // 50:06d}-{index:07d}"
            path = f"/corpora/speech/train/{speaker}/{index // 50:06d}/{name}.flac"
            text = " ".join(words[word] for word in random.integers(0, 5000, int(2.5 * seconds)))
            row = {"id": name, "audio_filepath": path, "text": text, "duration": seconds, "speaker": speaker}
            jsonl.write(json.dumps(row) + "\n")
            tsv.write(f"{name}\t{path}\t{text}\t{seconds}\t{speaker}\n")
            for file, value in zip(tables, (path, text, speaker, seconds), strict=True):
                file.write(f"{name} {value}\n")
    return [str(folder / "a.jsonl"), str(folder / "a.tsv"), str(kaldi)]


def load_in_full(path: str) -> dict[str, Any]:
    """Seconds and memory that a manifest takes, to be read, measured and planned; called in a process of its own."""
    row: dict[str, Any] = {"manifest": pathlib.Path(path).name}
    began = time.perf_counter()
    utterances = manifest.read(path)
    row |= {"utterances": len(utterances), "read_s": time.perf_counter() - began, "read_mib": peak_mib()}
    began = time.perf_counter()
    task = dataclasses.replace(TASK, unknown_symbols="unk")
    inputs = training_inputs(
        task.prepared(utterances[:1000]), utterances, batch_seconds=120.0, max_buckets=12, check_sound=False
    )
    row |= {"measure_s": time.perf_counter() - began}
    began = time.perf_counter()
    inputs.epoch(1)
    return row | {"plan_s": time.perf_counter() - began, "peak_mib": peak_mib()}


def peak_mib() -> float:
    return resident("VmHWM") / 2**20


def large_manifests(lines: int) -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name:
        for path in write_manifests(pathlib.Path(name), lines):
            yield call("pipeline", "load_in_full", path)


def measure(options: Options) -> list[dict[str, Any]]:
    """A row for every way to read, and one for every large manifest."""
    return [*rates(options), *(large_manifests(options.lines) if options.lines else ())]


def show(title: str, rows: Sequence[dict[str, Any]]) -> None:
    read, planned = ([row for row in rows if ("manifest" in row) == wanted] for wanted in (False, True))
    table.show(title, read)
    if planned:
        table.show("Large manifests, each in a process of its own", planned)
