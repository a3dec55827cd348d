"""Heat maps over time: spectrogram, CTC posteriors, attention; PNG pictures in an SVG with axes.

A picture is one colour of growing opacity, so that it suits a light page and a dark one.
"""

import base64
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from jaxasr.reporting.charts import Axis, figure
from jaxasr.reporting.html import Html, el, scrollable
from jaxasr.typing import Float

WIDTH, LEFT, RIGHT = 960, 92, 950
ROW_HEIGHT, LEAST_LABEL_HEIGHT, MOST_HEIGHT = 15.0, 11.0, 420.0
BLUE, GREY = (45, 112, 190), (104, 112, 122)
RANGE_DB = 65.0
MOST_COLUMNS, MOST_BANDS = 900, 80


class Box(NamedTuple):
    """A frame around a part of a picture: from and to in seconds, and in shares of the height from the top."""

    start: float
    end: float
    top: float
    bottom: float
    label: str = ""


class Panel(NamedTuple):
    """One picture of the stack: values in [0, 1], the first row on top, and how much time they cover."""

    title: str
    values: Float[np.ndarray, "R T"]
    seconds: float
    labels: Sequence[str] = ()
    """What each row stands for; empty where `ticks` says it."""
    ticks: Sequence[tuple[float, str]] = ()
    """Labels at shares of the height, from the top."""
    height: float | None = None
    colour: tuple[int, int, int] = BLUE
    boxes: Sequence[Box] = ()


def png(values: Float[np.ndarray, "R T"], colour: tuple[int, int, int]) -> bytes:
    """A picture of `colour` whose opacity is the value, by a palette of 256 entries (PNG, third edition, W3C, 2025).

    >>> png(np.eye(2), (0, 0, 0))[1:4]
    b'PNG'
    """
    rows, columns = values.shape
    pixels = np.rint(255 * np.clip(values, 0.0, 1.0)).astype(np.uint8)
    lines = np.concatenate([np.zeros((rows, 1), np.uint8), pixels], axis=1).tobytes()  # filter 0 before every row
    header = struct.pack(">IIBBBBB", columns, rows, 8, 3, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"PLTE", bytes(colour) * 256), (b"tRNS", bytes(range(256)))]
    chunks += [(b"IDAT", zlib.compress(lines, 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def spectrogram(sound: np.ndarray, rate: int) -> Panel:
    """The power of windows of 25 ms of int16 (S,), in dB below the strongest, low frequencies at the bottom.

    >>> spectrogram(np.zeros(8000, np.int16), 8000).ticks
    [(1.0, '0 kHz'), (0.5, '2 kHz'), (0.0, '4 kHz')]
    """
    size, hop = round(0.025 * rate), max(round(0.005 * rate), len(sound) // MOST_COLUMNS)
    padded = np.pad(sound.astype(np.float32) / 32768.0, (size // 2, size))
    frames = np.lib.stride_tricks.sliding_window_view(padded, size)[: max(len(sound), 1) : hop]
    power = np.abs(np.fft.rfft(frames * np.hanning(size).astype(np.float32), axis=1)) ** 2
    edges = np.unique(np.linspace(0, power.shape[1], MOST_BANDS, endpoint=False).astype(int))
    bands = np.add.reduceat(power, edges, axis=1) / np.diff(np.append(edges, power.shape[1]))
    decibels = 10 * np.log10(bands + 1e-10)
    values = 1.0 + (decibels - decibels.max()) / RANGE_DB
    top = rate / 2000
    ticks = [(1.0 - share, f"{figure(share * top)} kHz") for share in (0.0, 0.5, 1.0)]
    return Panel("Spectrogram", values.T[::-1], len(frames) * hop / rate, ticks=ticks, height=92.0, colour=GREY)


def stack(panels: Sequence[Panel], seconds: float, name: str) -> Html:
    """The panels one below the other over one axis of time."""
    x = Axis(0.0, max([seconds, *(p.seconds for p in panels)]), LEFT, RIGHT)
    parts, top = [], 0.0
    for panel in panels:
        parts.append(el("text", panel.title, x=LEFT, y=top + 13, class_="title"))
        top += 20
        height = panel.height or min(ROW_HEIGHT * len(panel.values), MOST_HEIGHT)
        parts += _panel(panel, x, top, height)
        top += height + 10
    for value in x.ticks(10):
        parts.append(el("line", x1=x(value), x2=x(value), y1=20, y2=top, class_="grid over"))
        parts.append(el("text", figure(value), x=x(value), y=top + 12, class_="tick middle"))
    parts.append(el("text", "seconds", x=LEFT - 6, y=top + 12, class_="tick end"))
    parts.append(el("line", x1=LEFT, x2=LEFT, y1=20, y2=top, class_="playhead"))
    picture = el(
        "svg",
        parts,
        viewBox=f"0 0 {WIDTH} {top + 18:g}",
        role="img",
        aria_label=name,
        data_left=LEFT,
        data_per_second=x(1.0) - x(0.0),
    )
    return scrollable(picture, f"Pictures over time of {name}", "scroll stack")


def _panel(panel: Panel, x: Axis, top: float, height: float) -> list[Html]:
    uri = "data:image/png;base64," + base64.b64encode(png(panel.values, panel.colour)).decode()
    width = x(panel.seconds) - LEFT
    parts = [
        el("rect", x=LEFT, y=top, width=RIGHT - LEFT, height=height, class_="field"),
        el("image", href=uri, x=LEFT, y=top, width=width, height=height, preserveAspectRatio="none", class_="heat"),
    ]
    for box in panel.boxes:
        edges = {"x": x(box.start), "y": top + box.top * height, "width": x(box.end) - x(box.start)}
        parts.append(el("rect", **edges, height=(box.bottom - box.top) * height, class_="box"))
        if box.label:
            middle = (x(box.start) + x(box.end)) / 2
            parts.append(el("text", _short(box.label), x=middle, y=top + height / 2 + 4, class_="tick middle token"))
    ticks = panel.ticks or _row_ticks(panel.labels, height)
    offset = 4.0 if panel.labels else None
    for share, label in ticks:
        shift = offset if offset is not None else 9.0 if share == 0 else 0.0 if share == 1 else 4.0
        parts.append(el("text", label, x=LEFT - 6, y=top + share * height + shift, class_="tick end token"))
    return parts


def _row_ticks(labels: Sequence[str], height: float) -> list[tuple[float, str]]:
    """A label at the middle of each row, or of every so many where rows are low."""
    if not labels:
        return []
    every = max(1, round(LEAST_LABEL_HEIGHT * len(labels) / height))
    return [((i + 0.5) / len(labels), _short(labels[i])) for i in range(0, len(labels), every)]


def _short(label: str) -> str:
    return label if len(label) <= 12 else label[:11] + "…"
