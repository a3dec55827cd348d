"""What can be told of notebooks without running them, which `make test-notebooks` does."""

import ast
import configparser
import json
import pathlib
import re

import pytest

from . import command_lines

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
def test_it_ends_with_something_to_try(file):
    assert any(text.startswith("## To try\n") for text in cells(file, "markdown")[-2:])


@each
def test_it_stands_on_the_page_of_notebooks(file):
    assert f"notebooks/{file.name}" in (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")


@each
def test_options_of_commands_exist(file):
    """What stands in braces is a word, or several where its name ends in FLAGS."""
    for line in (line for source in cells(file, "code") for line in commands(source)):
        for words in command_lines.divided(re.sub(r"\{\w+\}", "1", re.sub(r"\{\w*FLAGS\}", "", line))):
            assert words[0] not in command_lines.PROGRAMS or command_lines.fault(words) == "", line


def test_there_are_notebooks():
    assert FILES
