"""Builds jaxasr/corpora/digits from a copy of the Free Spoken Digit Dataset: see `--help`."""

import argparse
import collections
import pathlib
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import soundfile

from jaxasr import corpora
from jaxasr.data import audio, manifest
from jaxasr.data.manifest import Utterance

RATE = 8000
LIMIT_BYTES = 5_950_000
NUM_VALID = 2

LICENCE = """\
The sound files and transcripts in this folder are licensed under the
Creative Commons Attribution-ShareAlike 4.0 International licence (CC BY-SA 4.0):
https://creativecommons.org/licenses/by-sa/4.0/
Its full text: https://creativecommons.org/licenses/by-sa/4.0/legalcode

Attribution: Free Spoken Digit Dataset by Zohar Jackson and contributors,
https://github.com/Jakobovski/free-spoken-digit-dataset
(commit 26eb9aaf76e81b692f806f9140c2d2777410d7a1).
Changed here: a part of the training recordings was left out, and the recordings were
joined into one FLAC file for each speaker and set. The README.md beside this file says how.

The material is offered as it is, without warranties. What is made from it and passed on
stays under the same licence. The code of jaxasr is not part of it and has its own licence.
"""

README = """\
# Spoken digits

One English digit an utterance, a part of the
[Free Spoken Digit Dataset]({url}) at commit `26eb9aaf76e8`:
{speakers} speakers ({names}), {rate} Hz, 16 bits, one channel.

| set | utterances | minutes | which recordings of each digit and speaker |
|---|---|---|---|
{table}

- **Layout.** Each set is a Kaldi folder (`wav.scp`, `segments`, `text`, `utt2spk`); `jaxasr.data.manifest.read`
  reads it. `audio/` holds one FLAC file for each speaker and set, the clips end to end; times in `segments` are
  whole samples.
- **Same speakers in every set.** A score on `test` says how well a model knows these speakers, no more.
- **Clips are short and uneven.** {shortest:.2f} s to {longest:.2f} s, {median:.2f} s in the median; the speaker
  `theo` is recorded very quietly.
- **Licence.** CC BY-SA 4.0, see `LICENSE`; the code of jaxasr has its own. Attribution: Free Spoken Digit Dataset
  by Zohar Jackson and contributors.
- **Built by** `python tools/build_digits.py FSDD_DIR`, where FSDD_DIR holds the dataset at 16 kHz as Kaldi folders
  `train` and `test`, its utterances named `SPEAKER-DIGIT-RECORDING`. The originals are 8 kHz, so the tool resamples
  back to 8 kHz and rounds to 16 bits: close to the originals, not bit for bit the same. `test` is the official
  test set whole. Of the other recordings of every digit and speaker as many are taken as keep this folder under
  {limit:.2f} MB, spread evenly over their numbers; {valid} of them make `valid`.
"""


def recording(utterance: Utterance) -> int:
    return int(utterance.id.rpartition("-")[2])


def spread(numbers: Sequence[int], count: int) -> list[int]:
    """`count` of the sorted numbers, evenly far apart."""
    return [numbers[i] for i in np.linspace(0, len(numbers) - 1, count).round().astype(int)]


def split(train: Sequence[Utterance], test: Sequence[Utterance], count: int) -> dict[str, list[Utterance]]:
    """The utterances of each set, with `count` recordings of every digit and speaker beside the test set."""
    taken = spread(sorted(set(map(recording, train))), count)
    valid = spread(taken[1:-1], NUM_VALID + 2)[1:-1]  # from within, so that training sees both ends
    return {
        "train": [utterance for utterance in train if recording(utterance) in set(taken) - set(valid)],
        "valid": [utterance for utterance in train if recording(utterance) in valid],
        "test": list(test),
    }


def read_sounds(utterances: Iterable[Utterance]) -> dict[str, np.ndarray]:
    """int16 samples at RATE by utterance id."""
    return {utterance.id: audio.to_int16(audio.read(utterance, RATE)) for utterance in utterances}


def write_set(folder: pathlib.Path, utterances: Sequence[Utterance], sounds: Mapping[str, np.ndarray]) -> None:
    """Writes a Kaldi folder, and its sound files into `audio` beside it."""
    folder.mkdir()
    speakers = collections.defaultdict(list)
    for utterance in sorted(utterances, key=lambda utterance: utterance.id):
        speakers[utterance.speaker].append(utterance)
    tables: dict[str, list[str]] = {"wav.scp": [], "segments": [], "text": [], "utt2spk": []}
    for speaker, spoken in speakers.items():
        name = f"{folder.name}-{speaker}"
        clips = [sounds[utterance.id] for utterance in spoken]
        path = folder.parent / "audio" / f"{name}.flac"
        soundfile.write(path, np.concatenate(clips), RATE, subtype="PCM_16", compression_level=1.0)
        tables["wav.scp"].append(f"{name} ../audio/{name}.flac")
        ends = np.cumsum([len(clip) for clip in clips])
        for utterance, clip, end in zip(spoken, clips, ends, strict=True):
            start = (end - len(clip)) / RATE
            tables["segments"].append(f"{utterance.id} {name} {start:.6f} {end / RATE:.6f}")
            tables["text"].append(f"{utterance.id} {utterance.text}")
            tables["utt2spk"].append(f"{utterance.id} {speaker}")
    for table, lines in tables.items():
        (folder / table).write_text("\n".join(lines) + "\n", encoding="utf-8")


def describe(sets: Mapping[str, Sequence[Utterance]], sounds: Mapping[str, np.ndarray]) -> str:
    """The corpus's README."""
    which = {name: ", ".join(map(str, sorted(set(map(recording, chosen))))) for name, chosen in sets.items()}
    which["test"] += " (the official test set)"
    rows = [
        f"| `{name}` | {len(chosen)} | {sum(len(sounds[u.id]) for u in chosen) / RATE / 60:.2f} | {which[name]} |"
        for name, chosen in sets.items()
    ]
    seconds = [len(sounds[u.id]) / RATE for chosen in sets.values() for u in chosen]
    names = sorted({utterance.speaker for utterance in sets["test"]})
    return README.format(
        url="https://github.com/Jakobovski/free-spoken-digit-dataset",
        speakers=len(names),
        names=", ".join(names),
        rate=RATE,
        table="\n".join(rows),
        shortest=min(seconds),
        longest=max(seconds),
        median=np.median(seconds),
        limit=LIMIT_BYTES / 1e6,
        valid=NUM_VALID,
    )


def write(folder: pathlib.Path, sets: Mapping[str, Sequence[Utterance]], sounds: Mapping[str, np.ndarray]) -> int:
    """Writes the corpus into an empty folder and returns its bytes."""
    (folder / "audio").mkdir()
    for name, utterances in sets.items():
        write_set(folder / name, utterances, sounds)
    (folder / "README.md").write_text(describe(sets, sounds), encoding="utf-8")
    (folder / "LICENSE").write_text(LICENCE, encoding="utf-8")
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def build(source: pathlib.Path, target: pathlib.Path, limit_bytes: int = LIMIT_BYTES) -> int:
    """Replaces what is in `target` and returns its bytes, at most `limit_bytes`."""
    train, test = manifest.read(source / "train"), manifest.read(source / "test")
    sounds = read_sounds([*train, *test])
    for count in range(len(set(map(recording, train))), NUM_VALID + 3, -1):
        with tempfile.TemporaryDirectory() as folder:
            size = write(pathlib.Path(folder), split(train, test, count), sounds)
            if size < limit_bytes:
                for name in ("audio", "train", "valid", "test"):
                    shutil.rmtree(target / name, ignore_errors=True)
                shutil.copytree(folder, target, dirs_exist_ok=True)
                return size
    raise SystemExit(f"{source}: not even a few training recordings of each digit fit into {limit_bytes} bytes.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("fsdd_dir", type=pathlib.Path, help="FSDD at 16 kHz as Kaldi folders train and test")
    parser.add_argument("--out", type=pathlib.Path, default=corpora.digits(), help="default: %(default)s")
    arguments = parser.parse_args()
    print(f"{arguments.out}: {build(arguments.fsdd_dir, arguments.out)} bytes")


if __name__ == "__main__":
    main()
