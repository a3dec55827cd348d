"""The pages' blocks, as a reader would type them, page by page: those that `<!-- run -->` stands above.

Each block of commands or of Python has that mark, or `<!-- not run: REASON -->`.
"""

import csv
import doctest
import itertools
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import kaldiio
import numpy as np
import pytest
import sentencepiece
import soundfile

from jaxasr import corpora
from jaxasr.data import manifest
from tests.test_docs import PAGES, ROOT, SHELL, name_of, tokens_of

RUN = "<!-- run -->"
NOT_RUN = re.compile(r"<!-- not run: \S.* -->")
MARKED_THROUGHOUT = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "examples" / "README.md"]
STAND_INS = {"arecord": "tail -c +45 a16.wav", "ffmpeg": "cat talk.wav"}
"""Programs of others in the pages, and what is run in their place: they say 16-bit samples, and a sound file."""
AS_PRINTED = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
SMALL = "--encoder.num_layers=2 --encoder.d_model=32 --decoder.num_layers=1 --decoder.d_model=32 --max_buckets=1"
MODELS = f"""
python -m jaxasr.train --train=data/train --valid=data/dev --test=data/test --workdir=exp/mine --tokenizer=word \\
    --steps=20 {SMALL}
python -m jaxasr.train --train=data/train --valid=data/dev --workdir=exp/live --tokenizer=word --steps=2 {SMALL} \\
    --task=paraformer --encoder=sanm_chunk --decoder.shift=5 --decoder_look_back=1
for name in base digits; do cp -r exp/mine exp/$name; done
python -m jaxasr.data.pack data/valid packed/valid
"""


# Marks -------------------------------------------------------------------------------------------------------


def marks(path: pathlib.Path) -> Iterator[tuple[str, str, str]]:
    """(mark, language, text) of each block; the mark is the HTML that stands above it, or nothing."""
    for above, token in itertools.pairwise([None, *tokens_of(path)]):
        if token is not None and token.type == "fence":
            mark = above.content.strip() if above is not None and above.type == "html_block" else ""
            yield mark, token.info, token.content


def to_run(path: pathlib.Path) -> list[tuple[str, str]]:
    return [(language, text) for mark, language, text in marks(path) if mark == RUN]


def without_mark(path: pathlib.Path) -> list[str]:
    """Blocks of commands, or of Python, that say neither that they are run nor why they are not."""
    typed = [(mark, text) for mark, language, text in marks(path) if language in (*SHELL, "python") or "\n$ " in text]
    return [text for mark, text in typed if mark != RUN and not NOT_RUN.fullmatch(mark)]


@pytest.mark.parametrize("path", MARKED_THROUGHOUT, ids=name_of)
def test_every_block_is_run_or_says_why_not(path):
    assert without_mark(path) == [], f"{RUN} above it, or <!-- not run: REASON -->"


def test_blocks_without_a_mark_are_seen(tmp_path):
    kept = "<!-- run -->\n```\nls\n```\n<!-- not run: hours -->\n```python\nx = 1\n```\n```text\nwhat is printed\n```\n"
    bare = "<!-- run -->\nthen\n```\ncd a\n```\n```python\ny = 2\n```\n<!-- not run: -->\n```sh\ncd b\n```\n"
    (tmp_path / "page.md").write_text(kept + bare)
    assert without_mark(tmp_path / "page.md") == ["cd a\n", "y = 2\n", "cd b\n"]


# What is typed -----------------------------------------------------------------------------------------------


def run(folder: pathlib.Path, *command: str) -> str:
    """What a command prints; it has to end well."""
    programs = [folder / "bin", pathlib.Path(sys.executable).parent, os.environ["PATH"]]
    environment = os.environ | {
        "PATH": os.pathsep.join(map(str, programs)),
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples")]),
        "COLUMNS": "10000",  # no line is broken
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def shell(folder: pathlib.Path, typed: str) -> str:
    return run(folder, "bash", "-euxo", "pipefail", "-c", typed)


def shortened(block: str) -> str:
    """The same commands, but training has one shape, and 2 steps unless it says how many; examples take an epoch.

    Lines that train without a workdir are one choice each, and begin anew.
    """
    lines = []
    for line in re.sub(r" \\\n\s*", " ", block).splitlines():
        if "jaxasr.train " in line and not re.search("--(print_config|help)", line):
            if "--workdir" not in line:
                lines.append("rm -rf exp/asr exp/digits")
            few = "--max_buckets=1" if "--steps" in line else "--max_buckets=1 --steps=2"
            line = line.replace("jaxasr.train ", f"jaxasr.train {few} ")
        lines.append(re.sub(r"(python examples/.*--epochs)=\d+", r"\1=1", line))
    return "\n".join(lines)


def run_transcript(folder: pathlib.Path, block: str) -> None:
    """Each line behind a prompt, as it stands, which has to print what follows it; `...` stands for anything."""
    for typed, expected in re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n?)*)", block, re.MULTILINE):
        printed = shell(folder, typed)
        same = doctest.OutputChecker().check_output(expected, printed, AS_PRINTED)
        assert same or not expected, f"{typed}\nprinted\n{printed}\nand not\n{expected}"


def run_block(folder: pathlib.Path, language: str, block: str) -> None:
    for workdir in re.findall(r"""jaxasr\.(?:train|TrainConfig).*?workdir[= ]"?([\w/]+)""", block, re.DOTALL):
        shutil.rmtree(folder / workdir, ignore_errors=True)  # a page trains what another page has
    if language == "python":
        run(folder, sys.executable, "-c", block)
    elif block.startswith("$ "):
        run_transcript(folder, block)
    else:
        shell(folder, shortened(block))


# Where it is typed -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> pathlib.Path:
    """A folder with what the pages speak of: data, sounds, models in exp/, and parts of a checkout."""
    top = tmp_path_factory.mktemp("desk")
    for name, part in (("train", "train"), ("dev", "valid"), ("valid", "valid"), ("test", "test")):
        triples(corpora.digits() / part, top / "data" / name, step=5 if name == "train" else 10)
    for name in ("tests", "examples", "jaxasr", "setup.cfg", "pyproject.toml"):
        (top / name).symlink_to(ROOT / name)
    (top / "DIGITS").symlink_to(corpora.digits())
    sounds(top)
    tables(top)
    features(top)
    lists(top)
    shell(top, MODELS)
    return top


def triples(source: pathlib.Path, target: pathlib.Path, step: int) -> None:
    """A Kaldi folder whose utterances are three of a corpus that follow each other, said slowly enough for CTC."""
    words = dict(line.split() for line in (source / "text").read_text().splitlines())
    segments = [line.split() for line in (source / "segments").read_text().splitlines()]
    texts, stretches = [], []
    for first, second, third in (segments[i : i + 3] for i in range(1, len(segments) - 2, step)):
        text = " ".join(words[name] for name, *_ in (first, second, third))
        name, recording, start, end = *first[:3], third[3]
        if third[1] == recording and float(end) - float(start) > 0.1 * len(text):
            texts.append(f"{name} {text}")
            stretches.append(f"{name} {recording} {start} {end}")
    files = (line.split(" ", 1) for line in (source / "wav.scp").read_text().splitlines())
    write(target / "text", texts)
    write(target / "segments", stretches)
    write(target / "wav.scp", [f"{recording} {(source / path).resolve()}" for recording, path in files])


def write(path: pathlib.Path, lines: list[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def sounds(top: pathlib.Path) -> None:
    """Sound files, some without any words, and the stand-ins of those who would make some."""
    sound, rate = soundfile.read(corpora.digits() / "audio" / "test-george.flac")
    lengths = {"a.wav": 1, "b.wav": 1, "talk.wav": 3, "lecture.mp3": 20, "lecture.flac": 80}
    for name, seconds in (lengths | {"recordings/b.flac": 2, "NOISES/street.wav": 4, "ROOMS/hall.wav": 1}).items():
        (top / name).parent.mkdir(exist_ok=True)
        soundfile.write(top / name, np.resize(sound, seconds * rate), rate)
    soundfile.write(top / "a16.wav", np.repeat(sound[: 2 * rate], 2), 2 * rate, subtype="PCM_16")
    for name, said in STAND_INS.items():
        write(top / "bin" / name, ["#!/bin/sh", said])
        (top / "bin" / name).chmod(0o755)


def tables(top: pathlib.Path) -> None:
    """JSON lines, tables as Common Voice has them, and text, of the utterances under data/."""
    for name in ("train", "valid", "dev", "test"):
        utterances = manifest.read(top / "data" / name)
        rows = [{"audio": u.audio, "offset": u.start, "duration": u.seconds, "sentence": u.text} for u in utterances]
        write(top / f"{name}.jsonl", [json.dumps(row) for row in rows])
        write(top / "text.txt" if name == "train" else top / f"{name}.txt", [row["sentence"] for row in rows])
        (top / "cv" / "de").mkdir(parents=True, exist_ok=True)
        with (top / "cv" / "de" / f"{name}.tsv").open("w") as file:
            table = csv.DictWriter(file, list(rows[0]), delimiter="\t")
            table.writeheader()
            table.writerows(rows)
    for copy in ("more.jsonl", "small.jsonl", "big.jsonl"):
        shutil.copy(top / "valid.jsonl", top / copy)


def features(top: pathlib.Path) -> None:
    """Kaldi's archives, and a table of .npy files; they are noise."""
    rng = np.random.default_rng(0)
    np.save(top / "a.npy", rng.normal(size=(60, 80)).astype(np.float32))
    write(top / "feats.csv", ["path,text", *["a.npy,ONE"] * 20])
    for name in ("train", "test"):
        folder = top / "fbank" / name
        frames = {f"{name}-digit-{n:04}": rng.normal(size=(60, 80)).astype(np.float32) for n in range(20)}
        write(folder / "text", [f"{key} TWO" for key in frames])
        with kaldiio.WriteHelper(f"ark,scp:{folder}/feats.ark,{folder}/feats.scp") as file:
            for key, values in frames.items():
                file(key, values)


def lists(top: pathlib.Path) -> None:
    """Words and the like, and more text."""
    words = sorted(set((top / "text.txt").read_text().split()))
    write(top / "words.txt", ["<blank>", "<s>", "</s>", *words, "TEN", "ELEVEN", "<unk>"])
    write(top / "names.txt", ["ZERO", "SEVEN\t2.5"])
    write(top / "conf" / "nlsyms.txt", ["<noise>"])
    write(top / "lang" / "lexicon.txt", [f"{word} {' '.join(word)}" for word in words])
    sentencepiece.SentencePieceTrainer.train(
        input=str(top / "text.txt"), model_prefix=str(top / "lang" / "bpe"), vocab_size=24, minloglevel=2
    )
    shell(top, "gzip --stdout text.txt > more.txt.gz")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", [path for path in PAGES if to_run(path)], ids=name_of)
def test_what_a_page_says_can_be_typed(path, desk, tmp_path):
    if "chromium" in "".join(text for _, text in to_run(path)) and shutil.which("chromium") is None:
        pytest.skip("no chromium: pictures were not drawn (Debian: apt install chromium)")
    folder = tmp_path / "desk"
    shutil.copytree(desk, folder, symlinks=True)
    for language, block in to_run(path):
        run_block(folder, language, block)
