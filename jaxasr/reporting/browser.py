"""A picture of a page by Chromium without a window."""

import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from typing import NamedTuple

from jaxasr.errors import ConfigError

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # root has none; the page is our own and may load nothing
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--enable-logging=stderr",
)
TALLEST = 16_000
"""Pixels; the largest picture that Chromium draws."""
SECONDS = 60


class Loaded(NamedTuple):
    """A page as the browser had it in the end."""

    dom: str
    console: list[str]
    """What the page wrote to its console, faults and refusals among it."""

    @property
    def height(self) -> int:
        """Pixels, as the page's own script measured it."""
        found = re.search(r'<html[^>]* data-height="(\d+)"', self.dom)
        return int(found[1]) if found else 2000


def find() -> str | None:
    """The path of a Chromium or Chrome, if there is one."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


def load(page: pathlib.Path, *flags: str, width: int = 1120) -> Loaded:
    """The page after its script has run."""
    done = _run(page, "--dump-dom", f"--window-size={width},800", *flags)
    return Loaded(done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line])


def picture(page: pathlib.Path, file: pathlib.Path, *flags: str, width: int = 1120) -> Loaded:
    """Writes the whole page, from top to bottom, as a PNG picture; returns the page as it was before.

    Raises:
      ConfigError: there is no Chromium, it drew nothing, or the file cannot be written.
    """
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigError(f"{file}: {error.strerror}; a file to write was expected; choose another.") from error
    loaded = load(page, *flags, width=width)
    height = min(loaded.height, TALLEST)
    if height < loaded.height:
        print(
            f"note: {file}: the upper {height} of the page's {loaded.height} pixels; more is not drawn.",
            file=sys.stderr,
        )
    done = _run(page, f"--screenshot={file.resolve()}", f"--window-size={width},{height}", *flags)
    if not file.exists():
        said = done.stderr.strip().splitlines()[-1:] or ["nothing"]
        raise ConfigError(f"{file}: Chromium said {said[0]}; a picture was expected; see what is wrong there.")
    return loaded


def _run(page: pathlib.Path, *flags: str) -> subprocess.CompletedProcess[str]:
    program = find()
    if program is None:
        raise ConfigError(
            f"PNG: no {' or '.join(NAMES[:3])} is installed; one was expected, since it draws the page; install "
            "Debian's and Ubuntu's package chromium, or open the page (.html) in a browser and print it."
        )
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = [program, *FLAGS, f"--user-data-dir={profile}", *flags, page.resolve().as_uri()]
        try:
            return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ConfigError(f"{program}: {error}; a picture was expected; try again.") from error
