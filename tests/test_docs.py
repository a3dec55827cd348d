"""The pages: their links lead somewhere, and what is made of the source is up to date."""

import ast
import functools
import importlib
import itertools
import json
import os
import pathlib
import re
from collections.abc import Iterator

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

import jaxasr
from docs import architecture, checks, dependencies, parts
from docs import commands as commands_page
from tests import command_lines
from tests import test_imports as imports
from tests.errors import catalogue

ROOT = pathlib.Path(__file__).parent.parent
PLACES = ("*.md", "docs/*.md", "notebooks/*", "examples/*.md", "benchmarks/*.md", "jaxasr/**/*.md", "tests/**/*.md")
PAGES = sorted(path for place in PLACES for path in ROOT.glob(place) if path.suffix in (".md", ".ipynb"))
IN_REPOSITORY = re.compile(r"github(?:\.com)?/jaxasr/jaxasr/(?:blob|tree|raw)/main/([^)\s?]+)")


def name_of(path: pathlib.Path) -> str:
    return path.relative_to(ROOT).as_posix()


@functools.cache
def text_of(path: pathlib.Path) -> str:
    """A page's Markdown; of a notebook that of its cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".md":
        return text
    cells = json.loads(text)["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")


@functools.cache
def tokens_of(path: pathlib.Path) -> list[Token]:
    """What GitHub sees in a page, paragraphs and what stands in them in one list."""
    blocks = MarkdownIt("commonmark").enable("table").parse(text_of(path))
    return [token for block in blocks for token in (block, *(block.children or ()))]


def links(path: pathlib.Path) -> Iterator[str]:
    for token in tokens_of(path):
        if token.type in ("link_open", "image"):
            yield str(token.attrGet("href") or token.attrGet("src"))
        elif token.type in ("html_block", "html_inline"):
            yield from re.findall(r'\b(?:href|src)="([^"]+)"', token.content)


@functools.cache
def anchors(path: pathlib.Path) -> set[str]:
    """As GitHub makes them of headings, and those given as `id`."""
    found, tokens = set(re.findall(r'\bid="([^"]+)"', text_of(path))), tokens_of(path)
    for before, token in itertools.pairwise(tokens):
        if before.type == "heading_open":
            words = "".join(child.content for child in token.children or ())
            found.add(re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-"))
    return found


def leads_nowhere(path: pathlib.Path, link: str) -> bool:
    if inside := IN_REPOSITORY.search(link):
        return leads_nowhere(ROOT / "README.md", inside[1])
    if re.match(r"\w+:", link):
        return False
    place, _, anchor = link.partition("#")
    target = pathlib.Path(os.path.normpath(path.parent / place)) if place else path
    if not target.exists() or target.resolve() != target:  # GitHub follows no symbolic link
        return True
    return bool(anchor) and target.suffix == ".md" and anchor not in anchors(target)


def blocks(path: pathlib.Path, language: str) -> list[str]:
    """What stands in a page's fenced blocks of a language."""
    return [token.content for token in tokens_of(path) if token.type == "fence" and token.info == language]


# Links -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_links_lead_somewhere(path):
    assert [link for link in links(path) if leads_nowhere(path, link)] == []


def test_a_link_that_leads_nowhere_is_seen():
    readme = ROOT / "README.md"
    there = ["docs/data.md", "docs/data.md#what-is-used", "https://example.org", "docs"]
    nowhere = ["docs/dat.md", "docs/data.md#what-is-not", "#nothing", "configs/README.md"]
    assert [link for link in [*there, *nowhere] if leads_nowhere(readme, link)] == nowhere


def test_every_page_is_in_the_navigation():
    nav = (ROOT / "mkdocs.yml").read_text(encoding="utf-8").partition("\nnav:\n")[2]
    listed = re.findall(r"(\S+\.md)$", nav, re.MULTILINE)
    assert len(listed) == len(set(listed))
    assert {path.name for path in (ROOT / "docs").glob("*.md")} <= set(listed), "name it in mkdocs.yml"


# What one types -----------------------------------------------------------------------------------------------

SHELL = ("", "sh", "bash", "console")
"""Languages of blocks of commands; what is printed, and the like, is `text`."""


def commands(path: pathlib.Path) -> Iterator[list[str]]:
    for language in SHELL:
        for block in blocks(path, language):
            yield from command_lines.commands(block)


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_commands_are_those_that_there_are(path):
    faults = [fault for words in commands(path) if (fault := command_lines.fault(words))]
    assert not faults, faults


@pytest.mark.slow
def test_options_of_commands_go_with_each_other():
    faults = [fault for path in PAGES for words in commands(path) if (fault := command_lines.fault(words, whole=True))]
    assert not faults, faults


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("python -m jaxasr.train --train a --encoder=rnn --encoder.num_layer=3", "no such option"),
        ("python -m jaxasr.train --epochs=few", "--epochs"),
        ("python -m jaxasr.decode --model=exp/a a.wav --beams=3", "decode"),
        ("FLAG=1 taskset -c 0 python -m jaxasr.decode a.wav | tee out", "decode"),
        ("cd there && python -m jaxasr.trian", "no such file"),
        ("jaxasr trian", "no such command"),
        ("python -m benchmarks.nothing", "no such file"),
        ("python benchmarks/mean_over_seeds.py ref hyp --nothing=1", "no option nothing"),
        ("make dmo", "no such target"),
        ("utt1 good morning", "no program"),
        ("gcloud ssh --command='cd a && python -m jaxasr.train --nothing=1'", "no such option"),
    ],
)
def test_a_wrong_command_is_seen(line, said):
    assert said in "; ".join(map(command_lines.fault, command_lines.commands(line)))


def test_only_lines_behind_a_prompt_are_commands_where_there_are_some():
    block = "$ make demo > log  # as it is\nutt1 good\n$ python -m jaxasr.info \\\n  exp/a\n"
    assert list(command_lines.commands(block)) == [["make", "demo"], ["python", "-m", "jaxasr.info", "exp/a"]]


@pytest.mark.parametrize("path", PAGES, ids=name_of)
def test_python_uses_names_that_there_are(path):
    for block in blocks(path, "python"):
        for node in ast.walk(ast.parse(block)):
            if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "jaxasr":
                for alias in node.names:
                    exec(f"from {node.module} import {alias.name}")
            elif isinstance(node, ast.Attribute) and ast.unparse(node.value) == "jaxasr":
                assert hasattr(importlib.import_module("jaxasr"), node.attr), node.attr


# What is quoted, and made, of the source ---------------------------------------------------------------------


def test_errors_that_the_questions_quote_are_on_the_list_of_errors():
    known = [message for entry in catalogue.entries(catalogue.PAGE.read_text("utf-8")) for message in entry.messages]
    quoted = blocks(ROOT / "docs" / "faq.md", "error")
    assert quoted
    for block in quoted:
        text = " ".join(block.removeprefix("error: ").split())
        assert any(catalogue.matches(text, message) for message in known), f"no message of docs/errors.md: {text}"


def test_the_page_of_functions_has_every_public_name():
    listed = re.findall(r"^::: (\S+)", (ROOT / "docs" / "api.md").read_text(encoding="utf-8"), re.MULTILINE)
    public = {name.removeprefix("jaxasr.") for name in listed if re.fullmatch(r"jaxasr\.\w+", name)}
    assert public == set(jaxasr.__all__) - {"__version__"}
    for name in listed:
        place, _, last = name.rpartition(".")
        assert getattr(importlib.import_module(place), last).__doc__, name


def test_the_picture_of_the_modules_is_that_of_their_imports():
    parts = {imports.part(file) for file in imports.FILES} - architecture.ABOVE_ALL
    shown = {module for group in architecture.GROUPS.values() for module in group.modules.split()}
    assert shown == parts, "give it a group in docs/architecture.py"
    drawn = architecture.PICTURE.read_text(encoding="utf-8")
    assert drawn == architecture.picture(), "python -m docs.architecture draws it anew"


def test_the_page_of_commands_is_what_they_print():
    """Word by word, or by options where it was written with another tyro, which may lay them out otherwise."""
    written, now = commands_page.PAGE.read_text(encoding="utf-8"), commands_page.page()
    if re.findall(r"tyro [\d.]+", written) != re.findall(r"tyro [\d.]+", now):
        written, now = (set(re.findall(r"^[ │]+(--\w[\w.-]*)", page, re.MULTILINE)) for page in (written, now))
    assert written == now, "python docs/commands.py writes it anew"


def test_the_page_of_parts_is_what_the_registries_hold():
    assert parts.PAGE.read_text(encoding="utf-8") == parts.page(), "python docs/parts.py writes it anew"


def test_the_page_of_checks_is_what_the_table_holds():
    assert checks.PAGE.read_text(encoding="utf-8") == checks.page(), "python docs/checks.py writes it anew"


def test_the_page_of_dependencies_is_that_of_setup_cfg():
    """With the licence of each, as long as it is the version of the page that is installed."""
    written = dependencies.rows(dependencies.PAGE.read_text(encoding="utf-8"))
    now = dependencies.rows(dependencies.page())
    said = "python docs/dependencies.py writes it anew"
    for name, (least, use, version, licence) in dependencies.rows("\n".join(dependencies.direct())).items():
        assert written.get(name, [])[:2] == [least, use], said
        assert version != written[name][2] or licence == written[name][3], said
    assert {name for name, row in written.items() if len(row) == 4} <= now.keys(), said
