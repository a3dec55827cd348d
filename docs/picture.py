"""Draws docs/digits.svg, the picture of README.md, of a run on the bundled digits: `python docs/picture.py exp/digits`.

Its curves are those of the run's report; below them the model's view of a piece of the test set's sound, as
`python -m jaxasr.plot` draws it. The colours suit a light page and a dark one.
"""

import pathlib
import re
import sys

from jaxasr import corpora, plot
from jaxasr.reporting import gather, page, results
from jaxasr.reporting.html import Html, el

PICTURE = pathlib.Path(__file__).with_name("digits.svg")
SPEAKER, START, END = "jackson", 18.2375, 18.669625
"""A word of his recording in the test set."""
WIDTH, CHART, MARGIN, TITLE, FOOT = 960, 460, 12, 34, 14


def drawing(html: str) -> Html:
    """The drawing in a figure of the report, without its caption."""
    found = re.search(r"<svg viewBox.*?</svg>", html.partition("</figcaption>")[2] or html)
    assert found is not None
    return Html(re.sub(r' data-chart="[^"]*"', "", found[0]))


def placed(html: str, x: float, y: float, width: float) -> tuple[Html, float]:
    """The drawing at a place in the picture, and how high it is there."""
    svg = drawing(html)
    size = re.match(r'<svg viewBox="0 0 (\S+) (\S+)"', svg)
    assert size is not None
    height = float(size[2]) * width / float(size[1])
    return Html(svg.replace("<svg", f'<svg x="{x:g}" y="{y:g}" width="{width:g}" height="{height:.1f}"', 1)), height


def picture(workdir: pathlib.Path) -> Html:
    """The whole, as SVG."""
    charts = results.curves(gather.read(workdir).log)[:2]  # loss, and errors on the validation set
    sound = corpora.digits() / "audio" / f"test-{SPEAKER}.flac"
    _, (_, body) = plot.drawn(plot.PlotOptions(str(workdir), str(sound), start=START, seconds=END - START), heard=False)
    titles = ("Loss: training, and validation (dashed)", "Validation: words wrong, and characters (dashed), %")
    parts, high = [], 0.0
    for number, (chart, title) in enumerate(zip(charts, titles, strict=True)):
        x = number * (WIDTH - CHART)
        svg, high = placed(chart, x, TITLE, CHART)
        parts += [el("text", title, x=x + 64, y=TITLE - MARGIN, class_="title"), svg]
    below = TITLE + high + MARGIN
    svg, high = placed(body, 0, below, WIDTH)
    whole = el(
        "svg",
        el("style", Html(styles())),
        el("rect", width="100%", height="100%", class_="paper"),
        [*parts, svg],
        xmlns="http://www.w3.org/2000/svg",
        viewBox=f"0 0 {WIDTH} {below + high + FOOT:.0f}",
    )
    return Html(whole + "\n")


def styles() -> str:
    """What of the report's looks a drawing needs."""
    css = (page.HERE / "report.css").read_text(encoding="utf-8")
    names = "grid|axis|tick|end|middle|curve|c[0-3]|dot|title|token|field|heat|box|over|playhead"
    rules = re.findall(rf"(?m)^(?:circle)?\.(?:{names})\b.*$", css)
    colours = re.match(r"(?s).*?\n}\n@media.*?\n}\n", css)
    assert colours is not None
    own = "text { font-family: sans-serif; } .title { font-size: 14px; font-weight: 600; fill: var(--ink); }"
    return "\n".join([colours[0], own, ".paper { fill: var(--page); }", *rules, ".playhead { display: none; }"])


if __name__ == "__main__":
    PICTURE.write_text(picture(pathlib.Path(sys.argv[1])), encoding="utf-8")
