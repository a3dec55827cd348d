"""What a notebook shows: curves while a run goes on, spectrograms, what a model makes of a sound.

from IPython.display import display
train(cfg, reporter=LiveCurves(display(display_id=True).update))
"""

import functools
import pathlib
import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from jaxasr import plot as plots
from jaxasr.reporting import gather, heat, page, results
from jaxasr.reporting.html import Html, el
from jaxasr.searching import SearchFlags

LEAST_SECONDS = 1.0


class Shown:
    """Markup that a notebook displays, with the looks of a run's report."""

    def __init__(self, *parts: Html):
        self.parts = parts

    def _repr_html_(self) -> str:
        return el("div", el("style", _styles()), list(self.parts), class_="jaxasr")


@functools.cache
def _styles() -> Html:
    """The report's, for what is inside of the element alone."""
    whole = (page.HERE / "report.css").read_text(encoding="utf-8")
    return Html(".jaxasr {" + re.sub(r"(?m)^( *)(:root|html|body)(?= \{)", r"\1&", whole) + "}")


class LiveCurves:
    """A reporter for `jaxasr.train.train` that draws the report's curves again whenever they have grown."""

    def __init__(self, update: Callable[[Shown], Any], workdir: str | pathlib.Path | None = None, charts: int = 6):
        """Curves of a run from here on.

        Args:
          update: is given the curves, at most once a second but for validations.
          workdir: of a run that may go on or be at its end, whose curves so far are drawn at once.
          charts: how many of them.
        """
        self._update = update
        self._log = gather.Log() if workdir is None else gather.read_log(pathlib.Path(workdir) / "log.jsonl")
        self._charts = charts
        self._drawn = -LEAST_SECONDS
        if self._log.train:
            self._draw()

    def __call__(self, record: dict[str, Any]) -> None:
        """Takes a record of log.jsonl."""
        self._log.add(record)
        due = record["split"] == "train" and time.monotonic() - self._drawn >= LEAST_SECONDS
        if due or record["split"] == "valid":
            self._draw()
            self._drawn = time.monotonic()

    def _draw(self) -> None:
        self._update(Shown(el("div", results.curves(self._log)[: self._charts], class_="charts")))


def spectrogram(sound: np.ndarray, rate: int) -> Shown:
    """The power of int16 `sound` (S,) over time and frequency, in dB below its strongest."""
    return Shown(heat.stack([heat.spectrogram(sound, rate)], len(sound) / rate, "Spectrogram"))


def plot(
    model: str | pathlib.Path,
    audio: str | pathlib.Path,
    *,
    start: float = 0.0,
    seconds: float | None = None,
    search: str | None = None,
) -> Shown:
    """What the model in a folder makes of a sound file, or a part of it: as `python -m jaxasr.plot`, to be heard."""
    options = plots.PlotOptions(str(model), str(audio), start=start, seconds=seconds, searching=SearchFlags(search))
    return Shown(*plots.drawn(options)[1])


def report(workdir: str | pathlib.Path, height: int = 700) -> Shown:
    """The report of a run in a frame of so many pixels."""
    text = (pathlib.Path(workdir) / "report.html").read_text(encoding="utf-8")
    return Shown(el("iframe", srcdoc=text, width="100%", height=height, title=f"Report of {workdir}"))
