"""The section on tasks: score against the hidden parameters, by class, and the tasks with the lowest scores."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metarl.intervals import Interval
from metarl.parameters import Parameter
from metarl.scripts.report_page.blocks import (
    MINUS,
    Block,
    Chart,
    Charts,
    Fold,
    Mark,
    Section,
    Table,
    Text,
    interval,
    number,
)
from metarl.scripts.report_page.charts import axes, colour, line_key, point_key, ramp
from metarl.tasks import TaskDistribution
from metarl.types import Floats, Task

FIFTHS = 5
"""Parts of a range over which means are drawn."""
FEWEST_FOR_FIFTHS = 10
MOST_PANELS = 6
"""Components of a parameter that get a panel each."""
FEW_VALUES = 12
"""Largest number of different values of a parameter that are shown as a table instead of a chart."""
MORE, JOIN = "\u2026", ",\u00a0"
LOWEST = 5
"""Tasks in the table of the lowest scores."""


@dataclass(frozen=True)
class Scored:
    """Scores of one agent, task by task.

    Args:
        label: Name of the agent.
        series: Number of its colour and shape.
        before: Score of each task at the first point, `[task]`; None if there is a single point.
        after: Score of each task at the last point, `[task]`.
        success: Success rate at the last step of each task; None if unknown.
        mean_of: Mean and interval of some of the tasks at the last point.
        cells: Further cells of a class in the table of classes.
    """

    label: str
    series: int
    before: Floats | None
    after: Floats
    success: Floats | None
    mean_of: Callable[[Sequence[int]], Interval]
    cells: Callable[[Sequence[int]], list[str]]


@dataclass(frozen=True)
class Words:
    """Names of the score and of its moments.

    Args:
        score: Name and unit.
        before: Name of the first point.
        after: Name of the last point.
        digits: Decimals.
        lower_is_better: Whether the worst tasks have the highest score.
        columns: Headings of `Scored.cells`.
    """

    score: str
    before: str
    after: str
    digits: int
    lower_is_better: bool = False
    columns: tuple[str, ...] = ()


def section(
    scored: Sequence[Scored],
    tasks: Sequence[Task],
    distribution: TaskDistribution,
    words: Words,
    class_of: Callable[[Task], str] | None = None,
) -> Section | None:
    """Shows on which part of the ranges of the hidden parameters the score is low.

    Args:
        scored: Agents.
        tasks: The evaluated tasks.
        distribution: Declares the parameters.
        words: Names.
        class_of: Maps a task to the name of its class, if the family has classes.

    Returns:
        The section; None if there is nothing to show.
    """
    charts: list[Chart] = []
    blocks: list[Block] = []
    for parameter in _hidden(distribution, tasks):
        values = np.array([task[parameter.name] for task in tasks])  # [task, component]
        if parameter.categorical or len(np.unique(values, axis=0)) <= min(FEW_VALUES, len(tasks) - 1):
            blocks.append(_by_value(parameter.name, values, scored, words))
        elif values.shape[1] == 2:
            charts += [_map(parameter, values, one, scored, words) for one in scored]
        else:
            shown = range(min(values.shape[1], MOST_PANELS))
            charts += [_panel(parameter, values, i, scored, words) for i in shown]
            if values.shape[1] > MOST_PANELS:
                blocks.append(
                    Text(f"{parameter.name} has {values.shape[1]} components; the first {MOST_PANELS} are shown.")
                )
    if charts:
        blocks.insert(0, Charts(charts))
    if class_of is not None:
        blocks += [_classes([class_of(task) for task in tasks], one, words) for one in scored]
    tables = [_lowest(one, tasks, words) for one in scored] if any(task.parameters for task in tasks) else []
    blocks += tables[:1]
    if len(tables) > 1:
        blocks.append(Fold("The same table of the other agents", tables[1:]))
    return Section("tasks", "Strong and weak tasks", blocks) if blocks else None


def _hidden(distribution: TaskDistribution, tasks: Sequence[Task]) -> list[Parameter]:
    """The hidden parameters of which the tasks have different values."""
    present = {name: len(values) for name, values in tasks[0].parameters}
    found = []
    for parameter in distribution.parameters:
        if not parameter.hidden or any(len(dict(task.parameters).get(parameter.name, ())) < 1 for task in tasks):
            continue
        values = {task[parameter.name] for task in tasks}
        if len(values) > 1 and {len(value) for value in values} == {present[parameter.name]}:
            found.append(parameter)
    return found


def _meaning(parameter: Parameter) -> str:
    """Meaning and unit, without the range."""
    return parameter.meaning.partition(";")[0]


def _panel(parameter: Parameter, values: Floats, component: int, scored: Sequence[Scored], words: Words) -> Chart:
    """Score of each task against one number, with means over fifths of its range."""
    xs = [float(v) for v in values[:, component]]
    alone = scored[0] if len(scored) == 1 else None
    before = alone.before if alone else None
    ys = [float(v) for one in scored for v in one.after] + ([float(v) for v in before] if before is not None else [])
    plot = axes(xs, ys)
    name = parameter.name if values.shape[1] == 1 else f"{parameter.name}[{component}]"
    marks: list[Mark | None] = []
    legend = []
    if alone and before is not None:
        for x, y in zip(xs, before, strict=True):
            tip = f"{name} = {x:.3g}: {number(float(y), words.digits)} {words.before}"
            marks.append(plot.point(x, float(y), 0, "ring", tip, 2.6))
        legend.append(point_key(f"a task, {words.before}", 0, "ring"))
    said = []
    for one in scored:
        style = colour(one.series)
        centres, means = _fifths(xs, one)
        if centres:
            low, high = [m.low for m in means], [m.high for m in means]
            marks.append(plot.band(centres, low, high, style))
            marks.append(plot.line(centres, [m.mean for m in means], style))
        for x, y in zip(xs, one.after, strict=True):
            tip = f"{one.label}, {name} = {x:.3g}: {number(float(y), words.digits)} {words.after}"
            marks.append(plot.point(x, float(y), one.series, f"{style} task", tip, 2.6))
        legend.append(line_key(f"a task, {words.after}" if alone else one.label, one.series))
        worst = int((np.argmax if words.lower_is_better else np.argmin)(one.after))
        said.append(
            f"{one.label} is worst at {name} = {xs[worst]:.3g} ({number(float(one.after[worst]), words.digits)})"
        )
    fifths = " Lines and bands: mean and 95 % interval of the tasks in each fifth of the range."
    return Chart(
        title=f"Against {name}",
        alt=f"{words.score} of each task {words.after} against {name}, {_meaning(parameter)}. {'; '.join(said)}.",
        caption=f"{name}: {parameter.meaning}.{fifths if len(xs) >= FEWEST_FOR_FIFTHS else ''}",
        x_label=_cut(f"{name}: {_meaning(parameter)}"),
        y_label=f"{words.score}{'' if alone else f', {words.after}'}",
        x_ticks=plot.x_ticks,
        y_ticks=plot.y_ticks,
        marks=[mark for mark in marks if mark],
        legend=legend,
        frame=plot.frame,
        size=plot.size,
    )


def _cut(text: str, most: int = 58) -> str:
    """A label that fits below a chart."""
    return text if len(text) <= most else f"{text[: most - 1].rstrip()}\u2026"


def _fifths(xs: Sequence[float], one: Scored) -> tuple[list[float], list[Interval]]:
    """Centres of the fifths of a range, and the mean score of the tasks in each."""
    if len(xs) < FEWEST_FOR_FIFTHS:
        return [], []
    edges = np.linspace(min(xs), max(xs), FIFTHS + 1)
    part = np.clip(np.searchsorted(edges, xs, side="right") - 1, 0, FIFTHS - 1)
    rows = [[i for i, p in enumerate(part) if p == k] for k in range(FIFTHS)]
    there = [k for k in range(FIFTHS) if rows[k]]
    return [float(edges[k] + edges[k + 1]) / 2 for k in there], [one.mean_of(rows[k]) for k in there]


def _map(parameter: Parameter, values: Floats, one: Scored, scored: Sequence[Scored], words: Words) -> Chart:
    """Tasks at their places in a plane, coloured by the score after adaptation."""
    every = np.concatenate([other.after for other in scored])
    low, high = float(every.min()), float(every.max())
    xs, ys = ([float(v) for v in column] for column in values.T)
    plot = axes(xs, ys)
    marks = []
    for x, y, score in zip(xs, ys, one.after, strict=True):
        tip = f"{parameter.name} = ({x:.3g}, {y:.3g}): {number(float(score), words.digits)} {words.after}"
        mark = plot.point(x, y, 0, "place", tip, 6.0)
        marks.append(Mark(mark.style, mark.path, tip, ramp(float(score), low, high)))
    worst = int((np.argmax if words.lower_is_better else np.argmin)(one.after))
    at = f"({xs[worst]:.3g}, {ys[worst]:.3g})"
    return Chart(
        title=f"Over {parameter.name}{f', {one.label}' if len(scored) > 1 else ''}",
        alt=f"{words.score} of {one.label} {words.after} at each {parameter.name}, {_meaning(parameter)}. "
        f"Worst at {at}: {number(float(one.after[worst]), words.digits)}.",
        caption=f"{parameter.name}: {parameter.meaning}. A point is a task; its colour is the {words.score}, "
        f"{words.after}.",
        x_label=_cut(f"{parameter.name}[0]: {_meaning(parameter)}"),
        y_label=f"{parameter.name}[1]",
        x_ticks=plot.x_ticks,
        y_ticks=plot.y_ticks,
        marks=marks,
        ramp=(number(low, words.digits), number(high, words.digits)),
        frame=plot.frame,
        size=plot.size,
    )


def _by_value(name: str, values: Floats, scored: Sequence[Scored], words: Words) -> Table:
    """Mean score at each value of a parameter that has few."""
    texts = [" ".join(f"{v:.4g}" for v in row) for row in values]
    order = sorted(range(len(texts)), key=lambda i: tuple(values[i]))
    rows = _rows_by([texts[i] for i in order], order)
    columns = [name, "tasks", *(one.label for one in scored)]
    cells = [
        [text, str(len(of)), *(interval(one.mean_of(of), words.digits) for one in scored)] for text, of in rows.items()
    ]
    caption = f"{words.score} {words.after}, by the value of {name}, mean [95 % interval over its tasks]"
    return Table(caption, columns, cells)


def _rows_by(keys: Sequence[str], rows: Sequence[int]) -> dict[str, list[int]]:
    """Rows by key, in the order of the first occurrence."""
    found: dict[str, list[int]] = {}
    for key, row in zip(keys, rows, strict=True):
        found.setdefault(key, []).append(row)
    return found


def _classes(classes: Sequence[str], one: Scored, words: Words) -> Table:
    """Score and success of each class of tasks."""
    rows = [
        [name, str(len(of)), interval(one.mean_of(of), words.digits), *one.cells(of)]
        for name, of in _rows_by(classes, range(len(classes))).items()
    ]
    caption = f"{one.label}: {words.score} {words.after}, by class of tasks, mean [95 % interval over its tasks]"
    return Table(caption, ["class", "tasks", words.score, *words.columns], rows)


def _lowest(one: Scored, tasks: Sequence[Task], words: Words) -> Table:
    """The tasks with the worst scores."""
    order = np.argsort(-one.after if words.lower_is_better else one.after, kind="stable")[:LOWEST]
    columns = ["task", *([words.before] if one.before is not None else []), words.after]
    columns += ["success, last step"] if one.success is not None else []
    rows = []
    for i in order:
        row = [in_words(tasks[i].parameters)]
        row += [number(float(one.before[i]), words.digits)] if one.before is not None else []
        row.append(number(float(one.after[i]), words.digits))
        row += [number(float(one.success[i]))] if one.success is not None else []
        rows.append(row)
    which = "highest" if words.lower_is_better else "lowest"
    return Table(f"{one.label}: the {len(rows)} tasks with the {which} {words.score} {words.after}", columns, rows)


def in_words(parameters: Sequence[tuple[str, Sequence[float]]] | Mapping[str, Sequence[float]]) -> str:
    """A task's values, the first few of long vectors."""
    pairs = parameters.items() if isinstance(parameters, Mapping) else parameters
    said = []
    for name, values in pairs:
        numbers = [number_text(v) for v in values[:MOST_PANELS]] + [MORE] * (len(values) > MOST_PANELS)
        said.append(f"{name} = {numbers[0] if len(numbers) == 1 else f'({JOIN.join(numbers)})'}")
    return ", ".join(said)


def number_text(value: float) -> str:
    """A number with three digits."""
    return f"{value:.3g}".replace("-", MINUS) if math.isfinite(value) else str(value)
