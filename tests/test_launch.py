import os
import subprocess
import sys

import pytest

from jaxasr import launch

MADVISE = "always [madvise] never"
ASKED = "glibc.malloc.hugetlb=1"


@pytest.fixture(autouse=True)
def new_glibc(monkeypatch):
    monkeypatch.setattr(launch, "_glibc", lambda: (2, 36))


def test_huge_pages_are_asked_for_once():
    assert launch.tunables_for_huge_pages({}, MADVISE) == ASKED
    assert launch.tunables_for_huge_pages({"GLIBC_TUNABLES": ASKED}, MADVISE) is None


def test_other_tunables_stay_and_a_choice_made_is_kept():
    given = {"GLIBC_TUNABLES": "glibc.malloc.arena_max=1"}
    assert launch.tunables_for_huge_pages(given, MADVISE) == f"glibc.malloc.arena_max=1:{ASKED}"
    assert launch.tunables_for_huge_pages({"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}, MADVISE) is None


@pytest.mark.parametrize("policy", ["[always] madvise never", "always madvise [never]", ""])
def test_nothing_is_asked_where_it_changes_nothing(policy):
    assert launch.tunables_for_huge_pages({}, policy) is None


@pytest.mark.parametrize("version", [(2, 31), (0,)])
def test_nothing_is_asked_of_a_library_that_cannot(monkeypatch, version):
    monkeypatch.setattr(launch, "_glibc", lambda: version)
    assert launch.tunables_for_huge_pages({}, MADVISE) is None


def test_the_program_starts_again_with_the_same_arguments(tmp_path):
    program = (
        "import os, sys; from jaxasr import launch; launch._policy = lambda: 'always [madvise] never';"
        "launch._glibc = lambda: (2, 36); print('started'); launch.with_huge_pages(sys.argv);"
        "print(sys.argv[1:], os.environ.get('GLIBC_TUNABLES'))"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GLIBC_TUNABLES"}

    def said(*arguments):
        command = [sys.executable, "-c", program, *arguments]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return done.stdout.splitlines()

    assert said("a b", "--c=1") == ["started", "started", f"['a b', '--c=1'] {ASKED}"]
    assert said("--help") == ["started", "['--help'] None"]
