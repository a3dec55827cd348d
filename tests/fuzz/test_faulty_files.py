"""Files that are not what they should be: our own errors alone, in little time and memory; nothing dropped untold."""

import json
import pathlib
import subprocess
import sys

import pytest

from tests.fuzz.examples import read, run
from tests.fuzz.targets import LAUGHS, learnt, sounds, targets

ROOT = pathlib.Path(__file__).parents[2]
KINDS = targets(learnt())
MANY = "9" * 50_000

FOUND = {  # by what was wrong with their reading once
    "50,000 digits and a letter": ("jsonl", "m.jsonl", f'{{"path": "a.wav", "text": "", "duration": {MANY}x}}'),
    "such a time": ("kaldi", "segments", f"u1 a 0 {MANY}x\nu2 a 1 2\nu3 a 1 2\n"),
    "such a cell": ("csv", "m.csv", f"path,text,duration\na.wav,a,{MANY}x\n"),
    "a number and a control character": ("csv", "m.csv", "path,text,duration\na.wav,a,2\x1f\n"),
    "a column twice among many": ("csv", "m.csv", ",".join(map(str, [*range(30_000), 7])) + "\npath\n"),
    "hours that cannot be counted": ("jsonl", "m.jsonl", '{"path": "/a", "text": "a", "duration": 1e300}'),
    "an archive of features that long": ("jsonl", "m.jsonl", f'{{"path": "a.ark:{MANY}", "text": "a"}}'),
    "a list in 100,000 lists": ("tokens.json", "tokens.json", "[" * 100_000),
    "a long number for a token": ("tokens.json", "tokens.json", f"[{MANY}]"),
    "half a character for a token": ("tokens.json", "tokens.json", '["<blank>", "<s>", "</s>", "\\ud800", "<unk>"]'),
    "a long token": ("tokens.txt", "tokens.txt", "<blank>\n<s>\n</s>\n" + "a " * 50_000),
    "as many n-grams": ("arpa", "lm.arpa", f"\\data\\\nngram 1={MANY}\n"),
    "a long phrase": ("hot words", "hotwords.txt", "o" * 50_000),
    "a weight and a control character": ("hot words", "hotwords.txt", "one\t2\x1f\n"),
    "statistics without brackets": ("am.mvn", "am.mvn", "<AddShift> 2 2\n<LearnRateCoef> 0 1 2 3 4\n"),
    "statistics of nothing": ("am.mvn", "am.mvn", "".join(
        f"{name} 0 0\n<LearnRateCoef> 0 [ ]\n" for name in ("<AddShift>", "<Rescale>")
    )),
    "an empty archive": ("feats_stats.npz", "s.npz", ""),
    "a billion laughs": ("config.yaml", "config.yaml", LAUGHS.decode() + "seed: *a29\n"),
    "a list in itself": ("config.yaml", "config.yaml", "train: &a [*a]\n"),
    "10,000 lists": ("config.yaml", "config.yaml", "seed: " + "[" * 10_000),
    "a day that is none": ("config.yaml", "config.yaml", "workdir: 2001-99-99\n"),
    "a tag that is wrong": ("config.yaml", "config.yaml", "seed: !!int x\n"),
    "a number that Python does not print": ("config.yaml", "config.yaml", "seed: 0x" + "f" * 5000),
    "half a character": ("config.yaml", "config.yaml", 'workdir: "\\ud800"\n'),
    "a NUL": ("config.yaml", "config.yaml", 'workdir: "\\0"\n'),
}  # fmt: skip
TAKEN = {name for name in FOUND if name.endswith("control character")} | {
    "hours that cannot be counted",
    "an archive of features that long",
}
"""What is in order, and once made an error of Python's."""


@pytest.mark.parametrize("kind", KINDS)
def test_faulty_files_are_refused_or_counted(kind, tmp_path):
    target = KINDS[kind]
    assert read(target, tmp_path, target.files)[0]
    outcome = run(target, tmp_path, 60, 0)
    assert outcome.refused > 0


@pytest.mark.parametrize("name", FOUND)
def test_what_once_went_wrong(name, tmp_path):
    kind, file, content = FOUND[name]
    target = KINDS[kind]
    fine, seconds = read(target, tmp_path, target.files | {file: content.encode()})
    assert fine == (name in TAKEN)
    assert seconds < 1.0


# The full numbers: 20,000 faulty files of all kinds, and 10,000 of sound


def limited(kind: str, count: int) -> None:
    """Runs `examples` in a process of its own, with a limit to its memory; what it ends by fails the test."""
    command = [sys.executable, "-W", "ignore", "-m", "tests.fuzz.examples", kind, str(count), "1"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-3000:]}"
    found = json.loads(done.stdout)
    print(f"{kind}: {found}")
    assert found["taken"] + found["refused"] >= count


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", KINDS)
def test_many_faulty_files(kind):
    limited(kind, 1 + 20_000 // len(KINDS))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("kind", sounds())
def test_many_faulty_headers_of_sound(kind):
    limited(kind, 1 + 10_000 // len(sounds()))
