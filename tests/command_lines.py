"""Command lines in the pages' fenced blocks, and what they must be to be right."""

import contextlib
import functools
import importlib
import io
import itertools
import pathlib
import re
import shlex
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias
from unittest import mock

import tyro

from jaxasr import command_line, train
from jaxasr.__main__ import COMMANDS, main_of
from jaxasr.errors import JaxasrError
from jaxasr.nn.encoders import ENCODERS
from jaxasr.tasks import TASKS
from jaxasr.train_config import TrainConfig

Main: TypeAlias = Callable[[Sequence[str]], None]
ROOT = pathlib.Path(__file__).parent.parent
FOREIGN = {"", "arecord", "cd", "cmp", "cp", "ffmpeg", "gcloud", "git", "grep", "ls", "pip", "printf", "sha256sum"}
"""Programs of others, whose options nobody checks here, and none."""


def commands(block: str) -> Iterator[list[str]]:
    """The words of each command of a block: all of its lines, or those with a prompt where some have one."""
    lines = re.sub(r"\\\n", " ", block).splitlines()
    typed = [line.removeprefix("$ ") for line in lines if line.startswith("$ ")] or lines
    for line in typed:
        yield from divided(line)


def divided(line: str) -> Iterator[list[str]]:
    """The commands of a line between `|`, `&&` and the like, without redirections and comments."""
    words = shlex.shlex(re.sub(r"\$\([^)]*\)", "SUBSTITUTED", line), posix=True, punctuation_chars="|&;<>")
    words.whitespace_split = True
    groups = itertools.groupby(words, lambda word: set(word) <= set("|&;<>"))
    before = ""
    for is_operator, group in groups:
        found = list(group)
        if not is_operator and before not in ("<", ">", ">>"):
            yield found
        before = found[-1] if is_operator else ""


def fault(words: Sequence[str], *, whole: bool = False) -> str:
    """What is wrong with a command; empty where nothing is.

    Args:
      whole: also whether the options of `train` go with each other, for which a network is traced.
    """
    program, *rest = [*bare(words), ""]
    if program.split("/")[-1] in PROGRAMS:
        return PROGRAMS[program.split("/")[-1]]([word for word in rest if word not in ("", "...")], whole)
    within = [line for word in rest for line in re.findall(r"\S*python -m jaxasr.*", word)]
    faults = [fault(inner, whole=whole) for line in within for inner in divided(line)]
    return "; ".join(filter(None, faults)) if program in FOREIGN else f"{program}: no program that the tests know"


def bare(words: Sequence[str]) -> Sequence[str]:
    """A command without what is set for it, and what it is run by."""
    if words and re.fullmatch(r"\w+=.*", words[0]):
        return bare(words[1:])
    number = {"srun": 1, "time": 1, "taskset": 3}.get(words[0], 0) if words else 0
    return bare(words[number:]) if number else words


def of_python(words: Sequence[str], whole: bool) -> str:
    if words[0] == "-c" or words[:2] == ["-m", "pytest"]:
        return ""
    if words[0] != "-m":
        return of_file(ROOT / words[0], words[1:])
    file = ROOT / words[1].replace(".", "/")
    file = file / "__main__.py" if file.is_dir() else file.with_suffix(".py")
    if words[1].startswith("jaxasr.") and file.exists():
        module = file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".")
        return of_ours(importlib.import_module(module).main, words[2:], whole)
    return of_file(file, words[2:])


def of_file(file: pathlib.Path, words: Sequence[str]) -> str:
    """Of a script, whose options stand in its text."""
    if not file.exists():
        return f"{file.relative_to(ROOT)}: there is no such file"
    folder = file.parent.glob("*.py") if file.name == "__main__.py" else [file]
    text = "\n".join(path.read_text(encoding="utf-8") for path in folder)
    names = [word[2:].partition("=")[0].replace("-", "_") for word in words if word.startswith("--")]
    return "; ".join(f"{file.name}: no option {name}" for name in names if not re.search(rf"\b{name}\b", text))


@functools.cache
def targets() -> set[str]:
    return set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def of_make(words: Sequence[str], _: bool) -> str:
    return "; ".join(f"make {word}: no such target" for word in words if "=" not in word and word not in targets())


class Read(BaseException):
    """A command has read its options, and does nothing with them."""


def of_jaxasr(words: Sequence[str], whole: bool) -> str:
    if not words or words[0].startswith("--"):
        return ""
    return of_ours(main_of(words[0]), words[1:], whole) if words[0] in COMMANDS else f"{words[0]}: no such command"


def of_ours(main: Main, words: Sequence[str], whole: bool) -> str:
    """By the command's own reading of its options; the files that they name need not be there."""
    if words == ["--help"]:
        return ""
    reading = tyro.cli

    def only_reading(*args: Any, **kwargs: Any) -> Any:
        raise Read(reading(*args, **kwargs))

    try:
        with mock.patch.object(tyro, "cli", only_reading), contextlib.redirect_stdout(io.StringIO()):
            of_train(words, whole) if main is train.main else main(list(words))
    except Read:
        return ""
    except (SystemExit, JaxasrError) as error:
        return "" if "o such file" in str(error) else f"{main.__module__} {shlex.join(words)}: {error}"
    return f"{main.__module__} {shlex.join(words)}: nothing was read"


def of_train(words: Sequence[str], whole: bool) -> None:
    """As `train` reads them, but for what it starts from. A recipe's name in capitals stands for any."""
    words = [re.sub(r"^--config=[A-Z]+$", "--config=digits", word) for word in words if word != "--help"]
    with own_parts():
        cfg = command_line.parse(TrainConfig, words, prog="", description="", fallback=train.digits_recipe)
        if whole and cfg is not None:
            cfg.check()
    raise Read


@contextlib.contextmanager
def own_parts() -> Iterator[None]:
    """Within it the modules of examples/ can be imported, and what they register is gone after it."""
    modules = set(sys.modules)
    with (
        mock.patch.object(sys, "path", [str(ROOT / "examples"), *sys.path]),
        mock.patch.dict(ENCODERS._entries),
        mock.patch.dict(TASKS._entries),
    ):
        yield
    for module in set(sys.modules) - modules:
        if str(getattr(sys.modules[module], "__file__", "")).startswith(str(ROOT / "examples")):
            del sys.modules[module]


PROGRAMS = {"python": of_python, "jaxasr": of_jaxasr, "make": of_make}
