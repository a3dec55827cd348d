"""For every check a small corpus that it finds something in: a clean one, and what is done to it."""

import dataclasses
import json
import os
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np
import soundfile

RATE, SECONDS = 8000, 0.5
TEXTS = ["one good morning", "two good night", "three caf\u00e9s", "four \u4f60\u597d", "five times"]
NAMES = [f"{name}-1" for name in ("anna", "bert", "carl", "dora", "emil")]


def noise(seed: int, seconds: float = SECONDS, channels: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).uniform(-0.3, 0.3, (int(seconds * RATE), channels)).astype(np.float32)


def save(folder: pathlib.Path, name: str, samples: np.ndarray, rate: int = RATE, **more: Any) -> None:
    (folder / "audio").mkdir(parents=True, exist_ok=True)
    if not more.get("subtype"):
        samples = np.clip(np.rint(32768 * samples), -32768, 32767).astype(np.int16)
    soundfile.write(folder / "audio" / name, samples, rate, **more)


def build(folder: pathlib.Path) -> None:
    """Five utterances as a Kaldi folder `k`, cut out of one file `s`, and as `m.jsonl`, `m.csv` and `m.tsv`."""
    sounds = [noise(i) for i in range(len(NAMES))]
    for number, sound in enumerate(sounds):
        save(folder, f"{number}.wav", sound)
    save(folder, "long.wav", np.concatenate([-sound for sound in sounds]))
    speakers = [name.split("-")[0] for name in NAMES]
    lines = {
        "text": [f"{name} {text}" for name, text in zip(NAMES, TEXTS, strict=True)],
        "utt2spk": [f"{name} {speaker}" for name, speaker in zip(NAMES, speakers, strict=True)],
        "spk2utt": [f"{speaker} {name}" for name, speaker in zip(NAMES, speakers, strict=True)],
    }
    cut = [f"{name} long {i * SECONDS} {(i + 1) * SECONDS}" for i, name in enumerate(NAMES)]
    listed = [f"{name} ../audio/{i}.wav" for i, name in enumerate(NAMES)]
    kinds = {
        "k": {"wav.scp": listed, "utt2dur": [f"{name} {SECONDS}" for name in NAMES]},
        "s": {"wav.scp": ["long ../audio/long.wav"], "segments": cut},
    }
    for kind, files in kinds.items():
        (folder / kind).mkdir(parents=True)
        for name, content in (lines | files).items():
            (folder / kind / name).write_text("".join(f"{line}\n" for line in content))
    rows = [(n, f"audio/{i}.wav", TEXTS[i], SECONDS, speakers[i]) for i, n in enumerate(NAMES)]
    fields = ("id", "audio_filepath", "text", "duration", "speaker")
    objects = [json.dumps(dict(zip(fields, row, strict=True)), ensure_ascii=False) for row in rows]
    (folder / "m.jsonl").write_text("".join(f"{line}\n" for line in objects))
    for suffix, by in (("csv", ","), ("tsv", "\t")):
        cells = [by.join(map(str, row)) for row in (fields, *rows)]
        (folder / f"m.{suffix}").write_text("".join(f"{line}\n" for line in cells))


# What is done to it ------------------------------------------------------------------------------------------

Change = Callable[[pathlib.Path], object]


def put(file: str, old: str | bytes, new: str | bytes) -> Change:
    """Puts `new` in the place of the first `old` in a file; of an empty one at its end."""
    old, new = (x.encode() if isinstance(x, str) else x for x in (old, new))

    def change(folder: pathlib.Path) -> None:
        content = (folder / file).read_bytes()
        assert old in content
        (folder / file).write_bytes(content.replace(old, new, 1) if old else content + new)

    return change


def said(new: str, number: int = 1) -> Change:
    """Another transcript in the Kaldi folder."""
    return put("k/text", TEXTS[number], new)


def sound(name: str, samples: np.ndarray, rate: int = RATE, **more: Any) -> Change:
    return lambda folder: save(folder, name, samples, rate, **more)


def both(*changes: Change) -> Change:
    return lambda folder: [change(folder) for change in changes]


def without(file: str) -> Change:
    return lambda folder: (folder / file).unlink()


def shortened(name: str, size: int) -> Change:
    return lambda folder: os.truncate(folder / "audio" / name, size)


def many(number: int, odd: dict[str, Any]) -> Change:
    """A manifest of so many utterances, of which the tenth is odd."""

    def change(folder: pathlib.Path) -> None:
        rows = [{"source": f"{i}.wav", "target": f"good {i:04d}", "duration": 1 + i % 3 / 10} for i in range(number)]
        rows[9] |= odd
        (folder / "many.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    return change


@dataclasses.dataclass(frozen=True)
class Case:
    """A corpus in which a check finds something; `where` is what it names first."""

    paths: tuple[str, ...]
    change: Change
    where: str
    id: str = ""
    sound: str = "no"
    options: dict[str, Any] = dataclasses.field(default_factory=dict)
    lost: bool = False
    """Whether nothing is left for a copy."""


def in_k(change: Change, where: str, id_: str = NAMES[1], **more: Any) -> Case:
    return Case(("k",), change, f"k/{where}", id_, **more)


def in_s(change: Change, where: str, id_: str = NAMES[1], **more: Any) -> Case:
    return Case(("s",), change, f"s/{where}", id_, **more)


def in_m(change: Change, suffix: str, line: int, id_: str = "", **more: Any) -> Case:
    return Case((f"m.{suffix}",), change, f"m.{suffix}:{line}" if line else f"m.{suffix}", id_, **more)


def heard(change: Change, **more: Any) -> Case:
    """The Kaldi folder, of which the second sound is odd."""
    return in_k(change, "wav.scp:2", **({"sound": "all"} | more))


def text(new: str, **more: Any) -> Case:
    return in_k(said(new), "text:2", **more)


LOUD = np.where(noise(1) > 0, 1.0, -1.0).astype(np.float32)
KANA = "\u30cf\u309a"  # pa, in two parts

CASES: dict[str, Case] = {
    # files
    "not-a-manifest": Case(("nothing",), lambda _: None, "nothing", lost=True),
    "unreadable-file": in_m(put("m.jsonl", '{"id"', b'\x1f\x8b{"id"'), "jsonl", 0, lost=True),
    "empty-file": Case(("e.jsonl",), lambda f: (f / "e.jsonl").write_text("\n"), "e.jsonl", lost=True),
    "not-utf8": in_k(put("k/text", "two", b"tw\xf6"), "text:2", ""),
    "nul": in_m(put("m.csv", "two", "tw\0"), "csv", 3),
    "blank-line": in_m(put("m.tsv", "bert", "\nbert"), "tsv", 3),
    "huge-line": in_m(put("m.jsonl", "two", "two " * 300_000), "jsonl", 2),
    "bom": in_m(put("m.csv", "id", "\ufeffid"), "csv", 1),
    "crlf": in_k(put("k/wav.scp", "1.wav\n", "1.wav\r\n"), "wav.scp:2", ""),
    "no-final-newline": in_k(put("k/text", "five times\n", "five times"), "text:5", ""),
    # JSON lines and tables
    "not-json": in_m(put("m.jsonl", '{"id": "bert', '{id: "bert'), "jsonl", 2),
    "not-an-object": in_m(put("m.jsonl", "\n", "\n[]\n"), "jsonl", 2),
    "field-twice": in_m(put("m.jsonl", '"text": "two', '"text": "zwei", "text": "two'), "jsonl", 2),
    "not-csv": in_m(put("m.csv", "two good night", '"two" good night'), "csv", 3),
    "columns": in_m(put("m.csv", "two", "two, too"), "csv", 3),
    "column-twice": in_m(put("m.tsv", "speaker", "text"), "tsv", 1, lost=True),
    "header-alone": Case(("e.csv",), lambda f: (f / "e.csv").write_text("path,text\n"), "e.csv:1", lost=True),
    "no-audio-field": in_m(put("m.jsonl", "\n", '\n{"text": "x"}\n'), "jsonl", 2),
    "no-text-field": in_m(put("m.jsonl", "\n", '\n{"path": "audio/1.wav"}\n'), "jsonl", 2, "audio/1.wav"),
    "misspelt-field": in_m(
        put("m.jsonl", "\n", '\n{"path": "a", "text": "x", "ofset": 1}\n'), "jsonl", 2, "a"
    ),
    "field-type": in_m(put("m.jsonl", '"two good night"', "2"), "jsonl", 2),
    "id-of-words": in_m(put("m.jsonl", "bert-1", "bert 1"), "jsonl", 2, "bert 1"),
    "mixed-fields": in_m(put("m.tsv", "\tbert", "\t"), "tsv", 3, NAMES[1]),
    # Kaldi folders
    "missing-file": in_k(without("k/text"), "text", "", lost=True),
    "no-path": in_k(put("k/wav.scp", " ../audio/1.wav", ""), "wav.scp:2"),
    "pipe": in_k(put("k/wav.scp", "../audio/1.wav", "sox ../audio/1.wav -t wav - |"), "wav.scp:2"),
    "url": in_m(put("m.csv", "audio/1.wav", "https://example.org/1.wav"), "csv", 3, NAMES[1]),
    "segment-fields": in_s(put("s/segments", "long 0.5 1.0", "long 0.5"), "segments:2"),
    "bad-time": in_s(put("s/segments", "0.5 1.0", "0:00.5 0:01"), "segments:2"),
    "segment-order": in_s(put("s/segments", "0.5 1.0", "1.0 0.5"), "segments:2"),
    "unknown-recording": in_s(put("s/segments", "long 0.5", "short 0.5"), "segments:2"),
    "speaker-fields": in_k(put("k/utt2spk", "bert-1 bert", "bert-1 bert b"), "utt2spk:2"),
    "unsorted": in_k(put("k/text", "anna-1", "dora-0 x\nanna-1"), "text:2", NAMES[0]),
    "no-text": in_k(put("k/text", f"bert-1 {TEXTS[1]}\n", ""), "wav.scp:2"),
    "orphan-text": in_k(put("k/text", "bert", "bert-0 x\nbert"), "text:2", "bert-0"),
    "no-speaker": in_k(put("k/utt2spk", "bert-1 bert\n", ""), "wav.scp:2"),
    "orphan-speaker": in_s(put("s/utt2spk", "bert-1", "bert-0 bert\nbert-1"), "utt2spk:2", "bert-0"),
    "no-duration": in_k(put("k/utt2dur", "bert-1 0.5\n", ""), "wav.scp:2"),
    "orphan-duration": in_k(put("k/utt2dur", "bert", "bert-0 1\nbert"), "utt2dur:2", "bert-0"),
    "unused-recording": in_s(put("s/wav.scp", "", "short ../audio/0.wav\n"), "wav.scp:2", "short"),
    "spk2utt": in_k(put("k/spk2utt", "bert bert-1", "bert bert-2"), "spk2utt:2", "bert"),
    "speaker-prefix": in_k(
        both(put("k/utt2spk", "bert-1 bert", "bert-1 x"), put("k/spk2utt", "bert bert-1", "x bert-1")), "wav.scp:2"
    ),
    # ids
    "duplicate-id": in_m(put("m.csv", "bert-1", "anna-1"), "csv", 3, NAMES[0]),
    "invisible-in-id": in_m(put("m.jsonl", "bert-1", "bert\\u200b-1"), "jsonl", 2, "bert\u200b-1"),
    "id-as-file-name": in_m(put("m.csv", "bert-1", "../../bert-1"), "csv", 3, "../../bert-1"),
    "ids-alike": in_m(put("m.csv", "bert-1", "ANNA-1"), "csv", 3, "ANNA-1"),
    "speakers-alike": in_m(put("m.tsv", "\tbert", "\tAnna"), "tsv", 3, NAMES[1]),
    "same-stretch": in_m(put("m.jsonl", "audio/1.wav", "audio//0.wav"), "jsonl", 2, NAMES[1]),
    "overlap": in_s(put("s/segments", "0.5 1.0", "0.2 1.0"), "segments:2"),
    # texts
    "empty-text": text(" "),
    "control-character": in_m(put("m.jsonl", "two good", "two\\tgood"), "jsonl", 2, NAMES[1]),
    "zero-width": text("two go\u200bod night"),
    "direction-mark": text("two \u200fgood night"),
    "nfc-and-nfd": in_m(put("m.tsv", "two", "cafe\u0301"), "tsv", 3, NAMES[1]),
    "not-nfc": in_k(both(said("cafes", 2), said("cafe\u0301")), "text:2"),
    "replacement-character": text("two g\ufffdod"),
    "mojibake": text("caf\u00c3\u00a9"),
    "no-character": text("two \ue000"),
    "special-token": text("<s> two"),
    "unknown-symbols": text("two zz", options={"tokens": "tokens.txt"}),
    "markup": text("two &amp; three"),
    "odd-space": text("two\u00a0good"),
    "mixed-scripts": text("tw\u043e good"),
    "wide-forms": text("two \uff11"),
    "rare-symbol": Case(("many.jsonl",), many(1000, {"target": "good; 0009"}), "many.jsonl:10", "9"),
    "case": Case(("many.jsonl",), many(20, {"target": "GOOD"}), "many.jsonl:10", "9"),
    # lengths
    "too-short": in_k(put("k/utt2dur", "bert-1 0.5", "bert-1 0.01"), "wav.scp:2"),
    "too-long": in_k(put("k/utt2dur", "bert-1 0.5", "bert-1 100"), "wav.scp:2"),
    "too-much-text": in_k(said("two " * 20), "wav.scp:2"),
    "too-few-frames": in_k(said("a" * 11), "wav.scp:2", options={"frame_ms": 25.0}),
    "too-little-text": in_k(put("k/utt2dur", "bert-1 0.5", "bert-1 39"), "wav.scp:2"),
    "odd-pace": Case(("many.jsonl",), many(100, {"target": "good " * 6}), "many.jsonl:10", "9"),
    "odd-length": Case(("many.jsonl",), many(100, {"duration": 30}), "many.jsonl:10", "9"),
    "odd-text": Case(("many.jsonl",), many(100, {"target": "good " * 6}), "many.jsonl:10", "9"),
    # sound files
    "missing-sound": heard(put("k/wav.scp", "1.wav", "11.wav"), sound="headers"),
    "unreadable-sound": heard(lambda f: (f / "audio" / "1.wav").write_bytes(b"RIFF"), sound="headers"),
    "empty-sound": heard(sound("1.wav", noise(1)[:0]), sound="headers"),
    "truncated-sound": heard(shortened("1.wav", 5000), sound="headers"),
    "segment-outside": in_s(put("s/segments", "0.5 1.0", "0.5 3.0"), "segments:2", sound="headers"),
    "not-finite": heard(sound("1.wav", np.full((4000, 1), np.nan, np.float32), subtype="FLOAT")),
    "duration-mismatch": heard(put("k/utt2dur", "bert-1 0.5", "bert-1 0.38"), sound="headers"),
    "lower-rate": heard(sound("1.wav", noise(1)[::2], 4000), sound="headers"),
    "higher-rate": heard(sound("1.wav", np.repeat(noise(1), 2, 0), 16_000), sound="headers"),
    "rate-of-model": Case(("k",), lambda _: None, "k/wav.scp:1", NAMES[0], "headers", {"model": "m"}),
    "channels": heard(sound("1.wav", noise(1, channels=2)), sound="headers"),
    "ending": heard(sound("1.wav", noise(1), format="FLAC"), sound="headers"),
    # sound
    "silent": heard(sound("1.wav", 0 * noise(1))),
    "constant": heard(sound("1.wav", 0 * noise(1) + 0.25)),
    "clipped": heard(sound("1.wav", LOUD)),
    "dc-offset": heard(sound("1.wav", noise(1) + 0.1)),
    "opposed-channels": heard(sound("1.wav", noise(1) * [[1, -1]])),
    "quiet": heard(sound("1.wav", noise(1) * 0.005)),
    "same-sound": in_k(both(sound("1.flac", noise(0)), put("k/wav.scp", "1.wav", "1.flac"), said(TEXTS[0])),
                       "wav.scp:2", sound="all"),
    "same-sound-other-text": in_k(sound("1.wav", noise(0)), "wav.scp:1", NAMES[0], sound="all"),
    # several manifests
    "shared-id": Case(("s", "m.csv"), lambda _: None, "s/segments:1", NAMES[0], lost=True),
    "shared-stretch": Case(("m.tsv", "other.jsonl"), lambda f: other(f, "audio/1.wav"), "m.tsv:3", NAMES[1]),
    "shared-sound": Case(
        ("m.tsv", "other.jsonl"),
        both(sound("copy.flac", noise(1)), lambda f: other(f, "audio/copy.flac")), "m.tsv:3", NAMES[1], "all",
    ),
    "shared-speaker": Case(("m.tsv", "other.jsonl"), lambda f: other(f, "audio/long.wav"), "m.tsv:3", NAMES[1]),
    "shared-text": Case(("m.tsv", "other.jsonl"), lambda f: other(f, "audio/long.wav"), "m.tsv:3", NAMES[1]),
}  # fmt: skip


def other(folder: pathlib.Path, audio: str) -> None:
    """A manifest of one utterance, which says what another says."""
    row = {"id": "x", "source": audio, "target": TEXTS[1], "speaker": "bert", "duration": SECONDS}
    (folder / "other.jsonl").write_text(json.dumps(row) + "\n")
