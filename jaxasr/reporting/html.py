"""HTML by calls; text is escaped unless it is `Html` already, so nothing that data says can become markup."""

import html
from collections.abc import Collection, Sequence
from typing import Any

_VOID = {"meta", "br", "img", "col"}


class Html(str):
    """Text that is markup."""

    __slots__ = ()


def el(name: str, /, *children: Any, **attributes: Any) -> Html:
    """An element; a list among the children is its items.

    Attributes lose an underscore at the end (`class_`), others become hyphens; None and False leave one out.

    >>> str(el("b", "1 < 2"))
    '<b>1 &lt; 2</b>'
    """
    written = "".join(_attribute(key, value) for key, value in attributes.items())
    if name in _VOID:
        return Html(f"<{name}{written}>")
    return Html(f"<{name}{written}>{join(children)}</{name}>")


def join(children: Any) -> Html:
    """The children one after the other; None is nothing.

    >>> str(join(["1 < 2", None, el("b", "!")]))
    '1 &lt; 2<b>!</b>'
    """
    return Html("".join(_child(child) for child in children))


def _child(child: Any) -> str:
    if child is None:
        return ""
    if isinstance(child, Html):
        return str(child)
    if isinstance(child, list | tuple):
        return str(join(child))
    return html.escape(_text(child))


def _attribute(key: str, value: Any) -> str:
    if value is None or value is False:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{html.escape(_text(value))}"'


def _text(value: Any) -> str:
    """Coordinates need no more than two decimals."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)


def table(
    headings: list[Any], rows: list[list[Any]], *, text: Collection[int] = (0,), class_: str | None = None
) -> Html:
    """A table whose columns `text` are that and whose others are numbers, under each other by their digits.

    >>> '<td class="number">3</td>' in table(["set", "WER"], [["test", 3]])
    True
    """

    def cells(row: list[Any]) -> list[Html]:
        names = ["th" if i == 0 and 0 in text and cell != "" else "td" for i, cell in enumerate(row)]
        return [
            el(name, cell, class_=None if i in text else "number", scope="row" if name == "th" else None)
            for i, (name, cell) in enumerate(zip(names, row, strict=True))
        ]

    head = head_of(headings, [i for i in range(len(headings)) if i not in text])
    body = el("tbody", [el("tr", cells(row)) for row in rows])
    label = ", ".join(str(heading) for heading in headings if heading)
    return scrollable(el("table", head, body, class_=class_), f"Table: {label}")


def head_of(headings: Sequence[Any], numbers: Collection[int]) -> Html:
    """A table's first line; one without words heads nothing.

    >>> str(head_of(["set"], []))
    '<thead><tr><th scope="col">set</th></tr></thead>'
    """
    return el(
        "thead",
        el(
            "tr",
            [
                el("th", heading, class_="number" if i in numbers else None, scope="col") if heading else el("td")
                for i, heading in enumerate(headings)
            ],
        ),
    )


def scrollable(child: Html, label: str, class_: str = "scroll") -> Html:
    """What may be wider than the page, to be moved with the keyboard too."""
    return el("div", child, class_=class_, tabindex=0, role="group", aria_label=label)


def percent(rate: float | None, digits: int = 2) -> str:
    """A share as text; a dash where there is none.

    >>> percent(0.0312)
    '3.12 %'
    """
    return "–" if rate is None else "∞" if rate == float("inf") else f"{100 * rate:.{digits}f} %"


def duration(seconds: float) -> str:
    """`3 min 20 s` and the like.

    >>> duration(3725.0)
    '1 h 02 min'
    """
    whole = round(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def count(number: float) -> str:
    """`2.15 M` and the like; small numbers as they are.

    >>> count(1234567)
    '1.23 M'
    """
    if number < 1e4:
        return f"{number:g}"
    rounded = [(float(f"{number / size:.3g}"), letter) for size, letter in ((1e9, " G"), (1e6, " M"), (1e3, " k"))]
    return next(f"{value:g}{letter}" for value, letter in rounded if value >= 1)
