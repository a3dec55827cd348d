"""Reports of runs, and pictures of them."""

import pathlib

import pytest

from jaxasr.report import ReportOptions, report, write
from jaxasr.reporting import browser, gather
from tests.errors import files


def unwritable_output() -> None:
    config = pathlib.Path(files.write("run/config.yaml", "train: train.jsonl\n"))
    write(config.parent, config / "report.html")


def picture(chromium: str | None) -> None:
    """With another program in Chromium's place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(browser, "find", lambda: chromium)
        browser.picture(pathlib.Path("report.html"), pathlib.Path("report.png"))


CASES = {
    "a folder without a run": lambda: gather.read(pathlib.Path()),
    "a count below 0": lambda: report(ReportOptions("run", worst=-1)),
    "an output that cannot be written": unwritable_output,
    "a picture that cannot be written": lambda: browser.picture(pathlib.Path("report.html"), pathlib.Path()),
    "no Chromium": lambda: picture(None),
    "a Chromium that draws nothing": lambda: picture("true"),
    "a Chromium that does not start": lambda: picture("./nowhere"),
}
