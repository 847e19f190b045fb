"""Charts as paths: scales, ticks, and the marks of lines, bands and points."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from matplotlib import colormaps
from matplotlib.colors import to_hex
from matplotlib.ticker import MaxNLocator

from metarl.report import MANY_EPISODES, episode_ticks
from metarl.scripts.report_page.blocks import MINUS, Key, Mark, Tick

SERIES = 6
"""Colours and shapes; the next series begin from the first again."""
SIZE = 420.0, 280.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 14.0, 26.0, 44.0
"""Margins for labels and ticks."""


def straight(value: float) -> float:
    """Places on a linear scale."""
    return value


def doubling(value: float) -> float:
    """Places on a scale that is linear up to 1, then takes the same step for every doubling."""
    return value if value <= 1.0 else 1.0 + math.log2(value)


def decades(value: float) -> float:
    """Places on a logarithmic scale."""
    return math.log10(value)


@dataclass(frozen=True)
class Scale:
    """Maps numbers to places in the picture.

    Args:
        low: Number at `start`.
        high: Number at `end`.
        start: Place.
        end: Place.
        bend: Transformation before the linear map.
    """

    low: float
    high: float
    start: float
    end: float
    bend: Callable[[float], float] = straight

    def __call__(self, value: float) -> float:
        """The place of a number, to a tenth."""
        low, high = self.bend(self.low), self.bend(self.high)
        return round(self.start + (self.bend(value) - low) / (high - low) * (self.end - self.start), 1)


@dataclass(frozen=True)
class Axes:
    """Both scales of a chart, with their ticks.

    Args:
        x: Horizontal scale.
        y: Vertical scale.
        x_ticks: Ticks.
        y_ticks: Ticks.
        size: Width and height of the picture.
    """

    x: Scale
    y: Scale
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    size: tuple[float, float]

    @property
    def frame(self) -> tuple[float, float, float, float]:
        """Edges: left, right, top, bottom."""
        return self.x.start, self.x.end, self.y.end, self.y.start

    def line(self, xs: Sequence[float], ys: Sequence[float | None], style: str, tip: str = "") -> Mark:
        """A line, broken where a number is missing."""
        path, pen = [], "M"
        for x, y in zip(xs, ys, strict=True):
            if y is None or not math.isfinite(y):
                pen = "M"
                continue
            path.append(f"{pen}{self.x(x):g} {self.y(y):g}")
            pen = "L"
        return Mark(f"line {style}", "".join(path), tip)

    def band(self, xs: Sequence[float], low: Sequence[float], high: Sequence[float], style: str) -> Mark | None:
        """The area between bounds; bars for single points, None if no bounds are known."""
        known = [(x, a, b) for x, a, b in zip(xs, low, high, strict=True) if math.isfinite(a) and math.isfinite(b)]
        if len(known) == 1:
            ((x, a, b),) = known
            return Mark(f"bar {style}", f"M{self.x(x):g} {self.y(a):g}V{self.y(b):g}")
        there = [f"{self.x(x):g} {self.y(b):g}" for x, _, b in known]
        back = [f"{self.x(x):g} {self.y(a):g}" for x, a, _ in reversed(known)]
        return Mark(f"band {style}", f"M{'L'.join([*there, *back])}Z") if known else None

    def point(self, x: float, y: float, series: int, style: str, tip: str = "", radius: float = 3.4) -> Mark:
        """A point in the shape of a series."""
        return Mark(f"dot {style}", shape(series, self.x(x), self.y(y), radius), tip)

    def level(self, y: float, style: str, tip: str = "") -> Mark:
        """A horizontal line across the chart."""
        return Mark(f"level {style}", f"M{self.x.start:g} {self.y(y):g}H{self.x.end:g}", tip)


def axes(
    xs: Sequence[float],
    ys: Sequence[float],
    *,
    size: tuple[float, float] = SIZE,
    episodes: bool = False,
    log: bool = False,
    y_limits: tuple[float, float] | None = None,
) -> Axes:
    """Axes that hold some numbers.

    Args:
        xs: Numbers on the horizontal axis.
        ys: Numbers on the vertical axis; those that are not finite do not count.
        size: Width and height of the picture.
        episodes: The horizontal axis counts episodes or shots: ticks at the numbers themselves.
        log: The vertical axis is logarithmic.
        y_limits: Limits of the vertical axis, if they are fixed.
    """
    found = [y for y in ys if math.isfinite(y)] or [0.0]
    low, high = y_limits or _widened(min(found), max(found), 0.06)
    y_places: Sequence[float]
    if log:
        low, high = 10.0 ** math.floor(math.log10(min(found))), 10.0 ** math.ceil(math.log10(max(found)))
        high = high if high > low else 10.0 * low
        y_places = [10.0**i for i in range(round(math.log10(low)), round(math.log10(high)) + 1)]
    else:
        y_places = ticks(low, high)
    y = Scale(low, high, size[1] - BOTTOM, TOP, decades if log else straight)
    x_places: Sequence[float]
    if episodes:
        whole = sorted({int(x) for x in xs})
        bend = doubling if whole[-1] > MANY_EPISODES else straight
        margin = 0.04 * max(bend(whole[-1]), 1.0)
        edges = -margin, whole[-1] * 1.06 if bend is doubling else max(whole[-1], 1) + margin
        x_places = episode_ticks(whole)
    else:
        bend, edges = straight, _widened(min(xs), max(xs), 0.03)
        x_places = ticks(*edges)
    x = Scale(*edges, LEFT, size[0] - RIGHT, bend)
    return Axes(x, y, _at(x, x_places), _at(y, y_places), size)


def _widened(low: float, high: float, part: float) -> tuple[float, float]:
    """Limits with a margin on each side."""
    span = high - low
    if span <= 1e-12 * max(abs(low), abs(high), 1e-12):
        span = max(abs(high), 1.0)
        return low - 0.5 * span, high + 0.5 * span
    return low - part * span, high + part * span


def ticks(low: float, high: float) -> list[float]:
    """Round numbers within limits."""
    places = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(low, high)
    return [float(place) for place in places if low <= place <= high]


def _at(scale: Scale, places: Sequence[float]) -> tuple[Tick, ...]:
    return tuple(Tick(scale(place), text) for place, text in zip(places, labels(places), strict=True))


def labels(places: Sequence[float]) -> list[str]:
    """Labels of ticks: all with the same decimals, large and small ones in powers of ten."""
    if not places:
        return []
    largest, step = max(map(abs, places)), min((b - a for a, b in pairwise(places)), default=1.0)
    if largest >= 1e6 or 0 < step < 1e-4 or (min(places) > 0 and largest / min(places) >= 100):
        return [f"{place:g}".replace("-", MINUS) for place in places]
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    return [f"{place + 0.0:,.{digits}f}".replace("-", MINUS) for place in places]


def shape(series: int, x: float, y: float, r: float) -> str:
    """A circle, square, triangle, diamond, inverted triangle or cross: shapes tell series apart without colours."""
    kind, s, t = series % SERIES, round(0.9 * r, 2), round(1.2 * r, 2)
    return (
        f"M{x - r:g} {y:g}a{r:g} {r:g} 0 1 0 {2 * r:g} 0a{r:g} {r:g} 0 1 0 {-2 * r:g} 0Z",
        f"M{x - s:g} {y - s:g}h{2 * s:g}v{2 * s:g}h{-2 * s:g}Z",
        f"M{x:g} {y - t:g}l{t:g} {2 * s:g}h{-2 * t:g}Z",
        f"M{x:g} {y - t:g}l{t:g} {t:g}l{-t:g} {t:g}l{-t:g} {-t:g}Z",
        f"M{x:g} {y + t:g}l{t:g} {-2 * s:g}h{-2 * t:g}Z",
        f"M{x - t:g} {y - s / 2:g}h{2 * t:g}v{s:g}h{-2 * t:g}ZM{x - s / 2:g} {y - t:g}v{2 * t:g}h{s:g}v{-2 * t:g}Z",
    )[kind]


def colour(series: int) -> str:
    """CSS class of the colour of a series."""
    return f"c{series % SERIES}"


def line_key(label: str, series: int) -> Key:
    """A line with the point of a series in a legend."""
    return Key(label, f"key {colour(series)}", f"M0 5.5h26v1h-26Z{shape(series, 13, 6, 4)}")


def faint_key(label: str) -> Key:
    """A line that is not in the foreground, in a legend."""
    return Key(label, "key faint", "M0 5.2h26v1.6h-26Z")


def point_key(label: str, series: int, style: str) -> Key:
    """A point in a legend."""
    return Key(label, f"dot {style}", shape(series, 13, 6, 4))


def level_key(label: str, style: str) -> Key:
    """A horizontal line in a legend."""
    return Key(label, f"level {style}", "M0 6h26")


def ramp(value: float, low: float, high: float) -> str:
    """Colour of a number in a map, as hexadecimal digits; the same in light and dark."""
    share = 0.5 if high <= low else (value - low) / (high - low)
    return to_hex(colormaps["viridis"](min(max(share, 0.0), 1.0)))
