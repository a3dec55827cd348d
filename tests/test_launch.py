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
    assert launch.tunables_for_huge_pages({"JAXASR_STARTED_AGAIN": "1"}, MADVISE) is None  # it was taken away


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


@pytest.mark.parametrize(
    ("started", "argv", "ours"),
    [
        (["python", "-m", "jaxasr.train", "--a"], ["/x/jaxasr/train.py", "--a"], True),
        (["python", "-X", "dev", "-m", "jaxasr", "train"], ["/x/jaxasr/__main__.py", "train"], True),
        (["/v/bin/python", "/v/bin/jaxasr", "train"], ["/v/bin/jaxasr", "train"], True),
        (["python", "-m", "jaxasr.train"], ["/x/jaxasr/train.py"], True),
        (["python", "driver.py"], ["/x/jaxasr/train.py"], False),
        (["python", "driver.py", "--a"], ["driver.py", "--a"], False),
        (["python", "-c", "from multiprocessing.spawn import ...", "--fork"], ["-c"], False),
        (["python", "-m", "ipykernel_launcher", "-f", "x"], ["/x/jaxasr/train.py", "--steps=1"], False),
        (["python"], ["/x/jaxasr/train.py", "--a", "--b"], False),
    ],
)
def test_only_the_command_itself_is_started_again(started, argv, ours):
    assert launch.is_command(started, argv) is ours


def test_the_command_starts_again_with_the_same_arguments(tmp_path):
    (tmp_path / "jaxasr").mkdir()
    program = """
import os, sys
sys.path.append(os.environ["PACKAGE"])
import importlib.util
spec = importlib.util.spec_from_file_location("launch", os.environ["PACKAGE"] + "/jaxasr/launch.py")
launch = importlib.util.module_from_spec(spec)
spec.loader.exec_module(launch)
launch._policy, launch._glibc = lambda: "always [madvise] never", lambda: (2, 36)
print("started", flush=True)
launch.with_huge_pages()
print(sys.argv[1:], os.environ.get("GLIBC_TUNABLES"))
"""
    (tmp_path / "jaxasr" / "train.py").write_text(program)
    package = os.path.dirname(os.path.dirname(launch.__file__))
    environment = {name: value for name, value in os.environ.items() if name not in ("GLIBC_TUNABLES", "PYTHONPATH")}

    def said(*arguments):
        command = [sys.executable, "-m", "jaxasr.train", *arguments]
        done = subprocess.run(
            command, env=environment | {"PACKAGE": package}, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout.splitlines()

    assert said("a b", "--c=1") == ["started", "started", f"['a b', '--c=1'] {ASKED}"]
    assert said("--help") == ["started", "['--help'] None"]
