"""Reports of runs, and pictures of them."""

import pathlib

import numpy as np
import pytest

from jaxasr import checkpoint, plot
from jaxasr.data.utterance import Utterance
from jaxasr.report import ReportOptions, report, write
from jaxasr.reporting import browser, gather
from tests import tiny
from tests.errors import files


def unwritable_output() -> None:
    config = pathlib.Path(files.write("run/config.yaml", "train: train.jsonl\n"))
    write(config.parent, config / "report.html")


def picture(chromium: str | None) -> None:
    """With another program in Chromium's place."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(browser, "find", lambda: chromium)
        browser.picture(pathlib.Path("report.html"), pathlib.Path("report.png"))


def too_long() -> None:
    plot.check_length(tiny.TASK, Utterance("a", files.sound("a.wav", np.zeros(31 * files.RATE)), ""))


def plot_of_no_speech() -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpoint, "load_model", lambda _: ("text", {}))
        plot.plot(plot.PlotOptions("model", "a.wav"))


CASES = {
    "a picture of another kind": lambda: plot.plot(plot.PlotOptions("model", "a.wav", "a.pdf")),
    "a picture of what was before": lambda: plot.plot(plot.PlotOptions("model", "a.wav", start=-1.0)),
    "a picture of too much sound": too_long,
    "a picture of no speech": plot_of_no_speech,
    "a folder without a run": lambda: gather.read(pathlib.Path()),
    "a count below 0": lambda: report(ReportOptions("run", worst=-1)),
    "an output that cannot be written": unwritable_output,
    "a picture that cannot be written": lambda: browser.picture(pathlib.Path("report.html"), pathlib.Path()),
    "no Chromium": lambda: picture(None),
    "a Chromium that draws nothing": lambda: picture("true"),
    "a Chromium that does not start": lambda: picture("./nowhere"),
}
