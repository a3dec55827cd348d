"""What holds docs/errors.md against the source sees a new error, a changed one and one that is gone."""

import pytest

from tests.errors import catalogue
from tests.errors.catalogue import Site

SOURCE = """
from jaxasr import errors
from jaxasr.errors import DataError

def read(path, names):
    if not path:
        raise ValueError("no path")
    if len(names) > 1:
        raise DataError(f"{path}: {len(names)} names ({names[0]}); one was expected; " "choose `one`." + hint(names))
    try:
        return open(path)
    except OSError as error:
        raise errors.ConfigError(f"{path}: {error}") from error

def blank(where):
    return DataError(f"{where}: blank; {WANTED}; fill it.")

WANTED = "text was expected"
"""

PAGE = """# Errors

- `{path}: gone; a name was expected; choose one.`

## Names

### Too many names

- ``{file}: {number} names ({a, b, ...}); one was expected; choose `one`.``
- `{file}: gone; a name was expected; choose one.`

**Cause**: there may be
only one.

**Fix**: take one.
"""


@pytest.fixture
def sites(tmp_path) -> list[Site]:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "names.py").write_text(SOURCE)
    return catalogue.sites(tmp_path / "toy")


def test_every_error_is_found_where_it_is_made(sites):
    assert [(str(site), site.last, site.kind, site.message) for site in sites] == [
        ("toy/names.py:7", 7, "ValueError", ""),
        ("toy/names.py:9", 9, "DataError", "{path}: {number} names ({...}); one was expected; choose `one`.{names}"),
        ("toy/names.py:13", 13, "ConfigError", "{path}: {error}"),
        ("toy/names.py:16", 16, "DataError", "{where}: blank; text was expected; fill it."),
    ]
    assert [site.only_says_where for site in sites[1:]] == [False, True, False]


def test_the_page_is_read():
    (entry,) = catalogue.entries(PAGE)
    assert (entry.line, entry.title, entry.cause, entry.fix) == (
        7, "Too many names", "there may be only one.", "take one."
    )  # fmt: skip
    assert [catalogue.key(message) for message in entry.messages] == [
        "{}: {} names ({}); one was expected; choose `one`.",
        "{}: gone; a name was expected; choose one.",
    ]
    assert catalogue.anchor("Sound, and wav.scp") == "sound-and-wavscp"


def test_what_is_missing_is_ready_to_paste(sites):
    listed = catalogue.entries(PAGE)
    missing = catalogue.undocumented(sites, listed)
    assert missing == sites[3:]
    assert list(catalogue.stale(sites, listed)) == [(7, "{file}: gone; a name was expected; choose one.")]
    assert catalogue.undocumented(sites, catalogue.entries(PAGE + catalogue.for_the_list(missing))) == []
    assert catalogue.undocumented(sites, catalogue.entries(catalogue.for_the_list(sites[1:]))) == []
    assert f"# {missing[0]}: {missing[0].message}" in catalogue.for_the_cases(missing)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 2 names (x, y); one was expected.", "{path}: {number} names ({names}); one was expected."),
        ("a: no name; one was expected. Did you mean 'x'?", "{path}: no name; one was expected.{near}"),
        ("a: a line\nand one more.", "{path}: {error}."),
    ],
)
def test_a_message_matches_its_text(text, message):
    assert catalogue.matches(text, message)
    assert not catalogue.matches(text, message.replace("{path}", "b"))


@pytest.mark.parametrize(
    ("message", "fault"),
    [
        ("{where}: {came}; a name was expected; choose one.", ""),
        ("{where}: {came}; a name was expected; choose one.{near}", ""),
        ("{came}; a name was expected; choose one.", ""),
        ("--name={name}: a word was expected; change it.", ""),
        ("{where}: no such name; correct it.{near}", ""),
        ("{where}: {error}", ""),
        ("{where}: {came}; a name was expected; choose one", "full stop"),
        ("{where}: {came}; choose one.", "2 of 3 parts"),
        ("--name={name}: change it.", "1 of 2 parts"),
        ("no name; a name was expected; choose one.", "the place"),
    ],
)
def test_the_form_of_a_message(message, fault):
    found = catalogue.malformed(Site("a.py", 1, 1, "DataError", message))
    assert fault in found
    assert bool(fault) == bool(found)


def test_a_brace_in_a_message_is_refused(tmp_path):
    (tmp_path / "names.py").write_text('raise DataError("{}: none")')
    with pytest.raises(ValueError, match="a brace in a message"):
        catalogue.sites(tmp_path)
