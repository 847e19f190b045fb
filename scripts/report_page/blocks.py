"""The parts of a page, as the template reads them: plain text, tables, charts and films. The template escapes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from metarl.intervals import Interval


@dataclass(frozen=True)
class Key:
    """An entry of a legend.

    Args:
        label: Text.
        style: CSS classes of its sign.
        path: Path of its sign in a box of 26 by 12.
    """

    label: str
    style: str
    path: str


@dataclass(frozen=True)
class Mark:
    """A path of a chart.

    Args:
        style: CSS classes.
        path: Path data.
        tip: Text that is shown when the pointer rests on it; empty for none.
        fill: Colour; empty for that of the style.
    """

    style: str
    path: str
    tip: str = ""
    fill: str = ""


@dataclass(frozen=True)
class Tick:
    """A tick of an axis.

    Args:
        at: Place in the picture.
        text: Label.
    """

    at: float
    text: str


@dataclass(frozen=True, kw_only=True)
class Chart:
    """A chart with its legend and caption.

    Args:
        title: Heading.
        alt: The chart in words, for those who do not see it.
        caption: Explanation below it.
        x_label: Quantity and unit of the horizontal axis.
        y_label: Quantity and unit of the vertical axis.
        x_ticks: Ticks.
        y_ticks: Ticks.
        marks: Paths, in the order of drawing.
        legend: Entries of the legend.
        ramp: Labels of the lowest and the highest colour of a map; None for another chart.
        frame: Edges of the axes: left, right, top, bottom.
        size: Width and height.
    """

    title: str
    alt: str
    caption: str
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    marks: Sequence[Mark]
    legend: Sequence[Key] = ()
    ramp: tuple[str, str] | None = None
    frame: tuple[float, float, float, float]
    size: tuple[float, float]


@dataclass(frozen=True)
class Table:
    """A table whose first column names the rows.

    Args:
        caption: Content and units.
        columns: Headings.
        rows: Cells.
        numeric: Whether the cells after the first are numbers.
    """

    kind: str = field(default="table", init=False)
    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    numeric: bool = True


@dataclass(frozen=True)
class Film:
    """A film as data URIs.

    Args:
        title: Agent and moment.
        alt: The film in words.
        caption: Task and return.
        video: MP4, base64.
        poster: JPEG, base64.
        size: Width and height, pixels.
    """

    title: str
    alt: str
    caption: str
    video: str
    poster: str
    size: tuple[int, int]


@dataclass(frozen=True)
class Films:
    """Films side by side."""

    kind: str = field(default="films", init=False)
    films: Sequence[Film]


@dataclass(frozen=True)
class Charts:
    """Charts side by side; a single one has its legend and caption beside it."""

    kind: str = field(default="charts", init=False)
    charts: Sequence[Chart]


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    kind: str = field(default="text", init=False)
    text: str


@dataclass(frozen=True)
class Fold:
    """Blocks that are folded in until one opens them."""

    kind: str = field(default="fold", init=False)
    title: str
    blocks: Sequence[Block]


Block = Text | Table | Charts | Films | Fold


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        name: Anchor.
        title: Heading.
        blocks: Content.
    """

    name: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Fact:
    """A number at the top of the page.

    Args:
        label: Name.
        value: Number with its unit.
        detail: Interval or explanation.
    """

    label: str
    value: str
    detail: str = ""


@dataclass(frozen=True)
class Page:
    """The whole page.

    Args:
        title: Heading and title of the document.
        lead: One sentence below it.
        facts: Numbers at the top.
        sections: Content.
        made: Date and version, for the last line.
    """

    title: str
    lead: str
    facts: Sequence[Fact]
    sections: Sequence[Section]
    made: str


MINUS, NARROW = "\u2212", "\u00a0"


def number(value: float, digits: int = 2, sign: str = "") -> str:
    """A number with thousands separated, and a minus as long as a plus."""
    return f"{value:{sign},.{digits}f}".replace("-", MINUS)


def interval(one: Interval | None, digits: int = 2, sign: str = "") -> str:
    """A mean with its bounds in brackets, as `metarl compare` prints it; a dash for None."""
    if one is None:
        return "\u2013"
    return f"{number(one.mean, digits, sign)}{bounds(one, digits, sign)}"


def interval_in_words(one: Interval, digits: int, sign: str = "") -> str:
    """The bounds in words; empty if the data do not determine them."""
    if math.isnan(one.low):
        return ""
    return f"95 % interval {number(one.low, digits, sign)} to {number(one.high, digits, sign)}"


def bounds(one: Interval, digits: int = 2, sign: str = "") -> str:
    """The bounds in brackets; empty if the data do not determine them."""
    if math.isnan(one.low):
        return ""
    return f" [{number(one.low, digits, sign)},{NARROW}{number(one.high, digits, sign)}]"
