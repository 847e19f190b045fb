"""The picture of a study: scores over iterations and trials, and against every varied setting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.report import literal, png, wrapped
from metarl.scripts.tuning.ranges import VariedSetting
from metarl.scripts.tuning.result import Result, shown
from metarl.scripts.tuning.study import State, Tried

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLUMNS = 3
MARKERS: dict[State, tuple[str, str]] = {
    "complete": ("o", "tab:blue"),
    "pruned": ("v", "0.6"),
    "unfinished": (".", "0.6"),
}
MARGIN = 1.05
PRESET, BEST = "tab:orange", "tab:green"


def picture(result: Result) -> bytes:
    """A PNG of a study.

    Args:
        result: The study; at least one trial has a score.
    """
    from matplotlib.figure import Figure

    panels = 2 + len(result.varied)
    rows = -(-panels // COLUMNS)
    figure = Figure(figsize=(4.2 * COLUMNS, 3.2 * rows + 0.5), layout="constrained")
    axes = np.ravel(figure.subplots(rows, COLUMNS, squeeze=False))
    label = f"{result.record.score.replace('_', ' ')}, tuning tasks"
    _curves(axes[0], result)
    _trials(axes[1], result)
    for panel, setting in zip(axes[2:], result.varied, strict=False):
        _setting(panel, result, setting)
    for i, panel in enumerate(axes):
        if i >= panels:
            panel.set_visible(False)
        panel.grid(alpha=0.3)
        if i % COLUMNS == 0:
            panel.set_ylabel(label)
    title = f"{result.record.agent} on {result.record.family}: {len(result.trials)} trials"
    figure.suptitle(literal(wrapped(title)), fontsize="medium")
    figure.legend(*axes[1].get_legend_handles_labels(), loc="outside lower center", ncols=6, fontsize="small")
    return png(figure)


def _colour(result: Result, number: int) -> str | None:
    if result.preset is not None and number == result.preset.number:
        return PRESET
    return BEST if result.best is not None and number == result.best.number else None


def _curves(axes: Axes, result: Result) -> None:
    from matplotlib.ticker import MaxNLocator

    for one in result.trials:
        if one.curve:
            colour = _colour(result, one.number)
            steps, scores = zip(*one.curve, strict=True)
            axes.plot(steps, scores, color=colour or "0.75", linewidth=2.0 if colour else 0.8, zorder=2 + bool(colour))
    axes.set_xlabel("iteration")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _scored(result: Result, *states: State) -> list[tuple[Tried, float]]:
    """The trials that have a score, with it."""
    return [(one, one.score) for one in result.trials if one.state in states and one.score is not None]


def _trials(axes: Axes, result: Result) -> None:
    from matplotlib.ticker import MaxNLocator

    for state, (marker, colour) in MARKERS.items():
        found = [(one.number, score) for one, score in _scored(result, state)]
        if found:
            axes.plot(*zip(*found, strict=True), linestyle="none", marker=marker, color=colour, label=state)
    complete = _scored(result, "complete")
    if complete:
        best = np.maximum.accumulate([score for _, score in complete])
        axes.step([one.number for one, _ in complete], best, where="post", color=BEST, label="best so far")
    if result.preset is not None and result.preset.score is not None:
        axes.axhline(result.preset.score, color=PRESET, linestyle="--", label="preset")
    if result.best is not None and result.best.score is not None and not result.best.preset:
        axes.plot(result.best.number, result.best.score, linestyle="none", marker="o", color=BEST, label="best")
    axes.set_xlabel("trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _setting(axes: Axes, result: Result, setting: VariedSetting) -> None:
    from matplotlib.ticker import NullFormatter

    scored = _scored(result, *MARKERS)
    ticks: list[Any] = list(setting.ends) if setting.form == "choice" else []
    for one, score in scored:
        value = result.value(one, setting)
        if setting.form == "choice" and value not in ticks:
            ticks.append(value)  # the preset's, outside the range
        marker, colour = MARKERS[one.state]
        special = _colour(result, one.number)
        place = ticks.index(value) if setting.form == "choice" else value
        if place is not None:
            axes.plot(place, score, marker=marker, color=special or colour, zorder=3 if special else 2)
    if setting.form == "choice":
        axes.set_xticks(range(len(ticks)), [shown(value) for value in ticks])
    else:
        values = (result.value(one, setting) for one, _ in scored)
        places = [setting.low, setting.high, *(value for value in values if value is not None)]
        low, high = min(places), max(places)
        if setting.form == "log" and low > 0.0:
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
            axes.set_xlim(low / MARGIN, high * MARGIN)
        else:
            axes.set_xlim(low - (MARGIN - 1.0) * (high - low), high + (MARGIN - 1.0) * (high - low))
    axes.set_xlabel(literal(setting.name))
