"""Checking data."""

import contextlib

from jaxasr.data import check
from jaxasr.data.check import CheckOptions
from jaxasr.data.checks.table import info
from tests.errors.files import kaldi, sound, write


def checked(**options: object) -> None:
    """A Kaldi folder of one sound."""
    with contextlib.suppress(FileExistsError):
        sound(f"{kaldi('data')}/u.wav")
    check.check(CheckOptions(**({"manifest": ("data",), "sound": "no"} | options)))  # type: ignore[arg-type]


def full_folder() -> None:
    write("clean/x")
    checked(fix="clean")


def file_for_a_folder() -> None:
    write("clean")
    checked(fix="clean/x")


CASES = {
    "nothing to check": lambda: checked(manifest=()),
    "sound read by nobody": lambda: checked(workers=0),
    "a model and a token list": lambda: checked(model="m", tokens="tokens.txt"),
    "a check that there is not": lambda: checked(ignore=("dublicate-id",)),
    "a check's name twice": lambda: info("bom", "x", fix="y")(len),
    "a clean copy into a full folder": full_folder,
    "a clean copy below a file": file_for_a_folder,
    "a clean copy of nothing": lambda: checked(manifest=("nowhere",), fix="clean"),
    "findings into a folder": lambda: checked(findings="."),
}
