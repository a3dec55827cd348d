"""Line charts as SVG, readable without a script; report.js shows values under the pointer."""

import json
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from jaxasr.reporting.html import Html, el

WIDTH, HEIGHT = 320, 190
LEFT, RIGHT, TOP, BOTTOM = 44, 304, 10, 166
MOST_POINTS = 240
LOG_RATIO = 20.0
"""Positive values that span more than this factor are drawn on a logarithmic axis."""


class Series(NamedTuple):
    """A named curve; its place in the chart gives colour and dashes."""

    name: str
    points: list[tuple[float, float]]
    dots: bool = False
    """Whether each point is marked, for curves of few."""


class Axis(NamedTuple):
    """Values to pixels, evenly or by their logarithm."""

    low: float
    high: float
    start: float
    end: float
    logarithmic: bool = False

    def __call__(self, value: float) -> float:
        low, high = (math.log10(v) if self.logarithmic else v for v in (self.low, self.high))
        value = math.log10(max(value, self.low)) if self.logarithmic else value
        return self.start + (value - low) / (high - low) * (self.end - self.start)

    def ticks(self, most: int) -> list[float]:
        """Round numbers on the axis, with at most so many parts between them; of a logarithmic one in even ratios.

        >>> Axis(low=0.0, high=10.0, start=0.0, end=100.0).ticks(5)
        [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]
        """
        if self.logarithmic:
            found = _decades(self.low, self.high, most)
            if len(found) > 1:
                return found
        step = _step(self.high - self.low, most)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _step(span: float, most: int) -> float:
    """The least of 1, 2, 5 times a power of ten that divides `span` into at most `most` parts."""
    power = 10.0 ** math.floor(math.log10(span / most))
    return next(factor * power for factor in (1, 2, 5, 10) if span / (factor * power) <= most + 1e-9)


def _decades(low: float, high: float, most: int) -> list[float]:
    """Powers of ten inside, with their 2- and 5-fold where there are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**e for e in range(first, last + 1) for f in factors]
        found = [value for value in found if low <= value * (1 + 1e-9) and value <= high * (1 + 1e-9)]
        if len(found) <= most + 1:
            break
    return found[:: -(-len(found) // (most + 1))]


def figure(value: float) -> str:
    """A tick or a value, as short as four digits allow.

    >>> figure(0.00012345)
    '1.23e-4'
    """
    if value == 0 or 1e-3 <= abs(value) < 1e5:
        return f"{value:.4g}"
    mantissa, _, exponent = f"{value:.2e}".partition("e")
    return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"


def _value(value: float, percent: bool) -> str:
    return f"{value:.2f} %" if percent else figure(value)


def line_chart(
    title: str, series: Sequence[Series], *, percent: bool = False, floor: float | None = None, wide: bool = False
) -> Html | None:
    """A figure with a caption that is the legend, last values included; None where no series has a point.

    Args:
      floor: what an even axis reaches down to at least.
      wide: whether values that span more than LOG_RATIO go on a logarithmic axis.
    """
    series = [Series(s.name, _thinned(_finite(s.points)), s.dots) for s in series]
    drawn = [(i, s) for i, s in enumerate(series) if s.points]
    if not drawn:
        return None
    x, y = _axes([point for _, s in drawn for point in s.points], floor, wide)
    picture = el(
        "svg",
        _grid(x, y),
        [_curve(i, s, x, y) for i, s in drawn],
        el("g", class_="cursor"),
        viewBox=f"0 0 {WIDTH} {HEIGHT}",
        role="img",
        aria_label=f"{title}: {'; '.join(_course(s, percent) for _, s in drawn)}",
        data_chart=json.dumps(_hover(drawn, x, y, percent), ensure_ascii=False, separators=(",", ":")),
    )
    legend = [
        el("span", [_swatch(i), s.name, " "] if s.name else None, el("b", _value(s.points[-1][1], percent)))
        for i, s in drawn
    ]
    scale = el("span", "log scale", class_="scale") if y.logarithmic else None
    caption = el("figcaption", el("h3", title, scale), el("p", legend, class_="legend"))
    return el("figure", caption, picture, class_="chart")


def _course(series: Series, percent: bool) -> str:
    """The curve for who does not see it: from where to where, and its ends up and down."""
    values = [y for _, y in series.points]
    first, last, low, high = (_value(v, percent) for v in (values[0], values[-1], min(values), max(values)))
    steps = f"steps {figure(series.points[0][0])} to {figure(series.points[-1][0])}"
    return f"{series.name} from {first} to {last}, between {low} and {high}, {steps}".strip()


def _finite(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return [point for point in points if math.isfinite(point[1])]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """Means of neighbours, so that there are not more points than pixels; the last one stays as it is."""
    size = -(-len(points) // MOST_POINTS)
    if size <= 1:
        return points
    groups = [points[:-1][i : i + size] for i in range(0, len(points) - 1, size)]
    return [(g[-1][0], sum(y for _, y in g) / len(g)) for g in groups] + points[-1:]


def _axes(points: list[tuple[float, float]], floor: float | None, wide: bool) -> tuple[Axis, Axis]:
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    low, high = min(ys), max(ys)
    logarithmic = wide and low > 0 and high / low > LOG_RATIO
    if logarithmic:
        low, high = low / 1.15, high * 1.15
    else:
        low = low if floor is None else min(low, floor)
        room = 0.06 * (high - low) or 0.1 * abs(high) or 1.0
        low, high = low - (room if low != floor else 0.0), high + room
    left, right = min(xs), max(xs)
    if left == right:
        left, right = left - 1, right + 1
    return Axis(left, right, LEFT, RIGHT), Axis(low, high, BOTTOM, TOP, logarithmic)


def _grid(x: Axis, y: Axis) -> list[Html]:
    lines = []
    for value in y.ticks(5):
        height = y(value)
        lines.append(el("line", x1=LEFT, x2=RIGHT, y1=height, y2=height, class_="grid"))
        lines.append(el("text", figure(value), x=LEFT - 6, y=height + 3.5, class_="tick end"))
    for value in x.ticks(5):
        lines.append(el("line", x1=x(value), x2=x(value), y1=BOTTOM, y2=BOTTOM + 4, class_="axis"))
        lines.append(el("text", figure(value), x=x(value), y=BOTTOM + 16, class_="tick middle"))
    lines.append(el("line", x1=LEFT, x2=RIGHT, y1=BOTTOM, y2=BOTTOM, class_="axis"))
    return lines


def _curve(number: int, series: Series, x: Axis, y: Axis) -> list[Html]:
    corners = [f"{x(a):.1f},{y(b):.1f}" for a, b in series.points]
    drawn = [el("polyline", points=" ".join(corners), class_=f"curve c{number}")]
    if series.dots or len(corners) == 1:
        size = 2.0 if len(corners) < 60 else 1.2
        drawn += [el("circle", cx=x(a), cy=y(b), r=size, class_=f"dot c{number}") for a, b in series.points]
    return drawn


def _swatch(number: int) -> Html:
    line = el("line", x1=1, x2=19, y1=5, y2=5, class_=f"curve c{number}")
    return el("svg", line, viewBox="0 0 20 10", class_="swatch", aria_hidden="true")


def _hover(drawn: list[tuple[int, Series]], x: Axis, y: Axis, percent: bool) -> list[dict[str, Any]]:
    """What the script needs: places in the picture beside the values."""
    return [
        {
            "name": s.name,
            "colour": i,
            "points": [[round(x(a), 1), round(y(b), 1), round(a, 2), _value(b, percent)] for a, b in s.points],
        }
        for i, s in drawn
    ]


def interval_bar(rate: float, interval: tuple[float, float], most: float) -> Html:
    """A dot at the rate and a line over its interval, on a scale from 0 to `most`.

    >>> 'cx="50"' in interval_bar(0.1, (0.05, 0.2), 0.4)  # a quarter of 200
    True
    """
    scale = 200 / most if most > 0 else 0.0
    low, middle, high = (min(scale * value, 200.0) for value in (interval[0], rate, interval[1]))
    parts = [
        el("line", x1=0, x2=200, y1=8, y2=8, class_="grid"),
        el("line", x1=low, x2=high, y1=8, y2=8, class_="whisker"),
        el("circle", cx=middle, cy=8, r=4, class_="mark"),
    ]
    return el("svg", parts, viewBox="-6 0 212 16", class_="interval", aria_hidden="true")
