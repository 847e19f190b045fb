"""The picture of a few-shot evaluation: error or accuracy against shots, and against steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING

from metarl.few_shot.shots import Score
from metarl.intervals import Interval
from metarl.report import literal, png, tasks_label, wrapped

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SCORES = {"error": "mean squared error", "accuracy": "accuracy"}
"""Labels of the scores."""
STYLES = [(f"C{i}", *style) for style, i in product((("o", "-"), ("s", "--"), ("^", "-.")), range(10))]
"""Colour, marker and line of each curve, then again from the first."""
BESIDE_LEGEND = 60
"""Characters of a line of the title, which starts at the left: the legend is at the right."""
MARGIN = 2.0
"""Factor between the largest point that has to be seen and the end of a cut axis of errors."""


@dataclass(frozen=True)
class ShotCurve:
    """A learner in the picture.

    Args:
        label: Label in the legend.
        shots: Numbers of shots.
        over_shots: Intervals at them; a mean that is not finite leaves a gap.
        steps: Numbers of steps; empty for a learner without steps.
        over_steps: Intervals at them.
    """

    label: str
    shots: Sequence[int]
    over_shots: Sequence[Interval]
    steps: Sequence[int] = ()
    over_steps: Sequence[Interval] = ()


@dataclass(frozen=True)
class Line:
    """A score that depends on neither shots nor steps.

    Args:
        label: Label in the legend.
        level: The score.
        style: Style of the line.
    """

    label: str
    level: float
    style: str


def shots_picture(
    curves: Sequence[ShotCurve],
    lines: Sequence[Line],
    score: Score,
    split: str,
    title: str,
    logarithmic: bool,
    top: float | None = None,
) -> bytes:
    """A PNG of scores against shots, and beside it against steps if a learner has any.

    Args:
        curves: The learners.
        lines: Horizontal lines.
        score: Name of the score.
        split: Name of the evaluated tasks.
        title: Title of the picture.
        logarithmic: Whether the axis of errors is logarithmic.
        top: Largest error that has to be seen; the axis ends a little above it. By default it shows all.
    """
    from matplotlib.figure import Figure

    stepping = [one for one in curves if one.steps]
    figure = Figure(figsize=(11.0 if stepping else 8.0, 4.5), dpi=150, layout="constrained")
    panels = list(figure.subplots(1, 2 if stepping else 1, sharey=True, squeeze=False)[0])
    styles = {one.label: STYLES[i % len(STYLES)] for i, one in enumerate(curves)}
    for one in curves:
        _draw(panels[0], one.label, one.shots, one.over_shots, styles[one.label])
        if one.steps:
            _draw(panels[1], one.label, one.steps, one.over_steps, styles[one.label])
    for axes, name in zip(panels, ("shots per task" if score == "error" else "shots per class", "steps"), strict=False):
        for line in lines:
            axes.axhline(line.level, color="0.3", linestyle=line.style, label=literal(line.label))
        axes.set_xlabel(name)
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"{SCORES[score]}, {tasks_label(split)}")
    if score == "error" and logarithmic:
        panels[0].set_yscale("log")
    if top is not None and panels[0].get_ylim()[1] > MARGIN * top:
        panels[0].set_ylim(top=MARGIN * top)
        if logarithmic:
            panels[0].set_ylim(bottom=_lowest(curves) / MARGIN)
    figure.suptitle(literal(wrapped(title, BESIDE_LEGEND)), fontsize="medium", x=0.02, horizontalalignment="left")
    handles, labels = panels[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside right upper", fontsize="small")
    return png(figure)


def _lowest(curves: Sequence[ShotCurve]) -> float:
    """The smallest positive bound or mean of all curves."""
    points = [point for one in curves for point in (*one.over_shots, *one.over_steps)]
    return min(value for point in points for value in (point.low, point.mean) if value > 0)


def _draw(axes: Axes, label: str, x: Sequence[int], points: Sequence[Interval], style: tuple[str, str, str]) -> None:
    colour, marker, line = style
    axes.plot(x, [p.mean for p in points], marker=marker, linestyle=line, color=colour, label=literal(label))
    low, high = [p.low for p in points], [p.high for p in points]
    axes.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0)
