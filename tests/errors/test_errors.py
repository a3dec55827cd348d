"""Every error of the package is in docs/errors.md, has a case that raises it, and has the form of its messages."""

import collections
import functools
import pathlib
import re
import sys
from collections.abc import Callable
from typing import NamedTuple

import pytest

from jaxasr.errors import JaxasrError
from tests.errors import catalogue
from tests.errors.cases import CASES
from tests.errors.catalogue import Site

SITES = catalogue.sites()
PAGE = catalogue.PAGE.read_text(encoding="utf-8")
LISTED = catalogue.entries(PAGE)

NOT_MET = {  # classes of others that no user meets, by file
    *(  # caught, where the option is known
        (f"jaxasr/convert/{name}.py", "UnlikeOursError")
        for name in ("options", "encoder_options", "decoder_options", "feature_options", "espnet_options")
    ),
    ("jaxasr/__init__.py", "AttributeError"),  # what Python expects of a module
    ("jaxasr/config.py", "ImportError"),  # caught
    ("jaxasr/convert/espnet_options.py", "UnlikeOursError"),  # caught, and told with the key before it
    ("jaxasr/data/packs.py", "ValueError"),  # caught
    ("jaxasr/data/selection.py", "AssertionError"),  # cannot happen
    ("jaxasr/data/subwords.py", "RuntimeError"),  # caught, as those of sentencepiece
    ("jaxasr/errors.py", "SystemExit"),
    ("jaxasr/fetch.py", "TimeoutError"),  # caught, where the URL is known
    ("jaxasr/nn/normalize.py", "ValueError"),  # caught
    ("jaxasr/loop.py", "Stopped"),  # no error
}


class Outcome(NamedTuple):
    """Where a case's error was made, and what it says."""

    site: Site
    message: str


@pytest.fixture(scope="module")
def outcome(tmp_path_factory) -> Callable[[str], Outcome]:
    """What the case of a name comes to; each is run once."""
    return functools.cache(lambda name: _outcome(name, tmp_path_factory.mktemp("case")))


def _outcome(name: str, folder: pathlib.Path) -> Outcome:
    made = {}

    def note(error: JaxasrError, *_: object) -> None:
        caller = sys._getframe(1)
        made[id(error)] = pathlib.Path(caller.f_code.co_filename).as_posix(), caller.f_lineno

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(sys, "path", [*sys.path])
        patch.setattr(JaxasrError, "__init__", note)
        with pytest.raises(JaxasrError) as caught:
            CASES[name]()
    file, line = made[id(caught.value)]
    site = next((s for s in SITES if file.endswith(f"/{s.file}") and s.first <= line <= s.last), None)
    assert site, f"{name}: the error was made at {file}:{line}, which is not the package"
    return Outcome(site, str(caught.value))


# The list


def test_every_error_is_on_the_list():
    missing = catalogue.undocumented(SITES, LISTED)
    assert not missing, catalogue.for_the_list(missing)


def test_nothing_is_on_the_list_that_is_not_raised():
    gone = [f"docs/errors.md:{line}: no longer raised: {text}" for line, text in catalogue.stale(SITES, LISTED)]
    assert not gone, "\n".join([*gone, "Correct these, as the source has them now, or remove them."])


def test_every_entry_has_messages_a_cause_and_a_fix():
    for entry in LISTED:
        where = f"docs/errors.md:{entry.line}: {entry.title}"
        assert entry.messages, f"{where}: no message; '- `MESSAGE`' was expected"
        assert len(entry.cause.split()) > 3, f"{where}: no cause; '**Cause**: why it happens.' was expected"
        assert len(entry.fix.split()) > 2, f"{where}: no fix; '**Fix**: what to do.' was expected"


def test_titles_and_messages_stand_once():
    anchors = collections.Counter(catalogue.anchor(entry.title) for entry in LISTED)
    keys = collections.Counter(catalogue.key(message) for entry in LISTED for message in entry.messages)
    assert [name for name, count in (anchors + keys).items() if count > 1] == []


def test_links_and_examples_of_the_page():
    headings = {catalogue.anchor(title) for title in re.findall(r"^#+ (.+)", PAGE, re.MULTILINE)}
    for file, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", PAGE):
        assert (catalogue.PAGE.parent / file).exists() if file else anchor in headings, f"({file}#{anchor})"
    for example in re.findall(r"^error: (.+)", PAGE, re.MULTILINE):
        assert any(catalogue.matches(example, site.message) for site in SITES if not site.only_says_where), example


# The cases


@pytest.mark.parametrize("name", CASES)
def test_a_case_raises_what_its_place_says(outcome, name):
    site, message = outcome(name)
    assert catalogue.matches(message, site.message)


def test_every_error_has_a_case(outcome):
    reached = {outcome(name).site for name in CASES}
    missing = [site for site in SITES if site.kind in catalogue.OURS and site not in reached]
    assert not missing, catalogue.for_the_cases(missing)


# The form


def test_messages_have_their_form():
    faults = {site: fault for site in SITES if site.kind in catalogue.OURS if (fault := catalogue.malformed(site))}
    shown = [f"{site}: {fault}: {site.message}" for site, fault in faults.items()]
    assert not shown, "\n".join([*shown, "'Where: what came; what was expected; what to do.' was expected."])


def test_users_meet_no_errors_of_others():
    others = [site for site in SITES if site.kind not in {*catalogue.OURS, "NotImplementedError"}]
    shown = [f"{site}: {site.kind}, a traceback to users" for site in others if (site.file, site.kind) not in NOT_MET]
    assert not shown, "\n".join([*shown, "Raise one of jaxasr.errors, or, where it is caught, add it to NOT_MET."])
    assert {(site.file, site.kind) for site in others} >= NOT_MET, "NOT_MET lists what is raised no more"
