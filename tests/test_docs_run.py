"""The pages' blocks that `<!-- run -->` stands above, as a reader would type them, page by page."""

import doctest
import itertools
import os
import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator

import pytest
import soundfile

from jaxasr import corpora
from tests.test_docs import PAGES, ROOT, name_of, tokens_of

MARK = "<!-- run -->"
TRAIN = """python -m jaxasr.train --train=data/train --valid=data/dev --test=data/test --workdir=exp/mine --steps=20 \\
    --tokenizer=word --encoder.num_layers=1 --encoder.d_model=32 --decoder.num_layers=1 --decoder.d_model=32"""
AS_PRINTED = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def marked(path: pathlib.Path) -> Iterator[tuple[str, str]]:
    """(language, text) of each block that is to be run."""
    tokens = [token for token in tokens_of(path) if token.type in ("html_block", "fence")]
    for above, token in itertools.pairwise(tokens):
        if token.type == "fence" and above.content.strip() == MARK:
            yield token.info, token.content


PAGES_TO_RUN = [path for path in PAGES if any(marked(path))]


def run(folder: pathlib.Path, *command: str) -> str:
    """What a command prints; it has to end well."""
    path = os.pathsep.join([str(pathlib.Path(sys.executable).parent), os.environ["PATH"]])
    environment = os.environ | {
        "PATH": path,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples")]),
        "COLUMNS": "10000",  # no line is broken
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"
    return done.stdout


def run_transcript(folder: pathlib.Path, block: str) -> None:
    """Each line behind a prompt, which has to print what follows it; `...` stands for anything."""
    for typed, expected in re.findall(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n?)*)", block, re.MULTILINE):
        printed = run(folder, "bash", "-euo", "pipefail", "-c", typed)
        same = doctest.OutputChecker().check_output(expected, printed, AS_PRINTED)
        assert same or not expected, f"{typed}\nprinted\n{printed}\nand not\n{expected}"


@pytest.fixture(scope="module")
def desk(tmp_path_factory) -> pathlib.Path:
    """A folder with what the pages speak of: data, sounds, a model in exp/mine, and the fixtures under tests/."""
    top = tmp_path_factory.mktemp("desk")
    for name, part in (("train", "train"), ("dev", "valid"), ("valid", "valid"), ("test", "test")):
        few(corpora.digits() / part, top / "data" / name)
    sound, rate = soundfile.read(corpora.digits() / "audio" / "test-george.flac")
    (top / "recordings").mkdir()
    for name, seconds in (("a.wav", 1), ("talk.wav", 3), ("lecture.mp3", 20), ("recordings/b.flac", 2)):
        soundfile.write(top / name, sound[: seconds * rate], rate)
    for name, file in (("train", "text.txt"), ("test", "test.txt")):
        lines = (top / "data" / name / "text").read_text(encoding="utf-8").splitlines()
        (top / file).write_text("\n".join(line.partition(" ")[2] for line in lines) + "\n")
    (top / "tests").symlink_to(ROOT / "tests")
    (top / "jaxasr").mkdir()  # no package: Python finds the real one
    (top / "jaxasr" / "corpora").symlink_to(ROOT / "jaxasr" / "corpora")
    run(top, "bash", "-c", TRAIN)
    for name in ("asr", "digits"):
        shutil.copytree(top / "exp" / "mine", top / "exp" / name)
    return top


def few(source: pathlib.Path, target: pathlib.Path) -> None:
    """A Kaldi folder of every tenth utterance of another."""
    target.mkdir(parents=True)
    for name in ("text", "segments", "utt2spk"):
        lines = (source / name).read_text(encoding="utf-8").splitlines()[::10]
        (target / name).write_text("\n".join(lines) + "\n", encoding="utf-8")
    recordings = (line.split(" ", 1) for line in (source / "wav.scp").read_text(encoding="utf-8").splitlines())
    lines = [f"{recording} {(source / path).resolve()}\n" for recording, path in recordings]
    (target / "wav.scp").write_text("".join(lines), encoding="utf-8")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("path", PAGES_TO_RUN, ids=name_of)
def test_what_a_page_says_can_be_typed(path, desk, tmp_path):
    folder = tmp_path / "desk"
    shutil.copytree(desk, folder, symlinks=True)
    for language, block in marked(path):
        if language == "python":
            run(folder, sys.executable, "-c", block)
        elif block.startswith("$ "):
            run_transcript(folder, block)
        else:
            run(folder, "bash", "-euo", "pipefail", "-c", block)
