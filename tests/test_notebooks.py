"""What can be told of notebooks without running them, which `make test-notebooks` does."""

import ast
import configparser
import importlib
import json
import pathlib
import re
import shlex

import pytest

from jaxasr import train

ROOT = pathlib.Path(__file__).parent.parent
FILES = sorted((ROOT / "notebooks").glob("*.ipynb"))
SETUP = configparser.ConfigParser()
SETUP.read(ROOT / "setup.cfg")
URL = SETUP["metadata"]["url"]
COLAB = URL.replace("https://github.com/", "https://colab.research.google.com/github/") + "/blob/main/notebooks"

each = pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)


def cells(file: pathlib.Path, kind: str) -> list[str]:
    """The sources of the cells of a kind."""
    found = json.loads(file.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in found if cell["cell_type"] == kind]


def commands(source: str) -> list[str]:
    """What a cell runs by `!`, each on one line."""
    return re.findall(r"^ *!(.*)$", source.replace("\\\n", " "), re.MULTILINE)


def python(source: str) -> str:
    """A cell without what only IPython understands."""
    return re.sub(r"^( *)[!%].*$", r"\1pass", source.replace("\\\n", " "), flags=re.MULTILINE)


def options(command: str) -> list[str]:
    """The words behind `python -m jaxasr.MODULE`, up to what the shell does with it."""
    return shlex.split(re.split(r" (?:\||\|\||&&|;|>|2>) ?", command)[0])[3:]


@each
def test_nothing_but_the_source_is_kept(file):
    notebook = json.loads(file.read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4
    assert notebook["metadata"].keys() <= {"accelerator", "colab", "kernelspec", "language_info"}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert cell["metadata"] == {} and cell["source"], cell["id"]
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None, cell["id"]


@each
def test_it_opens_in_colab(file):
    badge = cells(file, "markdown")[0].splitlines()[0]
    assert badge == f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({COLAB}/{file.name})"


@each
def test_the_first_cell_installs(file):
    install = cells(file, "code")[0]
    assert install == cells(FILES[0], "code")[0]
    assert f"%pip install --quiet --constraint jax-as-it-is.txt git+{URL}\n" in install


@each
def test_what_is_code_can_be_parsed(file):
    for source in cells(file, "code"):
        ast.parse(python(source), file.name)


@each
def test_it_stands_on_the_page_of_notebooks(file):
    assert f"notebooks/{file.name}" in (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")


class _Parsed(Exception):  # noqa: N818
    """The options of a command were understood."""


@each
def test_options_of_commands_exist(file, monkeypatch):
    """Each command gets as far as to what it would do."""

    def parsed(*_, **__):
        raise _Parsed

    monkeypatch.setattr(train, "options_below", lambda _: None)  # the models of --init are made by cells before
    for command in (c for source in cells(file, "code") for c in commands(source)):
        if not (found := re.match(r"(?:python -m jaxasr[. ]|jaxasr )([\w.]+)", command)):
            continue
        words = options(command.replace("jaxasr ", "python -m jaxasr.", 1) if command.startswith("jaxasr") else command)
        module = importlib.import_module(f"jaxasr.{found[1]}")
        module = importlib.import_module(f"{module.__name__}.__main__") if hasattr(module, "__path__") else module
        monkeypatch.setattr(module, "train" if found[1] == "train" else "exit_with_message", parsed)
        with pytest.raises(_Parsed):
            module.main([re.sub(r"\{\w+\}", "1", word) for word in words])


def test_there_are_notebooks():
    assert FILES
