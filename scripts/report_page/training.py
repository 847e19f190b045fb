"""The section on training: learning curves, and what the runs cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from metarl.checkpoint import list_checkpoints
from metarl.memory import in_units
from metarl.report import COUNTED, SCORES, millions
from metarl.scripts.report_page.blocks import Block, Chart, Charts, Fact, Mark, Section, Table, Text, number
from metarl.scripts.report_page.charts import axes, colour, faint_key, line_key, point_key
from metarl.scripts.report_page.entries import RunFiles, is_number

MOST_POINTS = 400
"""Points of a line; of longer logs every n-th iteration is drawn."""
UNITS = ((1e6, "millions"), (1e3, "thousands"))


@dataclass(frozen=True)
class Trained:
    """The runs of one agent.

    Args:
        label: Name of the agent.
        series: Number of its colour and shape.
        runs: One per seed.
        names: Names of the first and the last point: "before adaptation", "after adaptation".
    """

    label: str
    series: int
    runs: Sequence[RunFiles]
    names: tuple[str, str]


def section(trained: Sequence[Trained], score: str, counted: str, evaluated: str) -> Section:
    """Learning curves and costs.

    Args:
        trained: The agents.
        score: Name of the score in the metrics, see `metarl.source.Source`.
        counted: Name of the things that training counts.
        evaluated: Label of the tasks of the evaluations while training.
    """
    blocks: list[Block] = []
    kinds = [(score, SCORES.get(score, score)), ("success_last", "success rate at the last step")]
    charts = [_curves(trained, name, label, counted, evaluated) for name, label in kinds]
    if drawn := [chart for chart in charts if chart]:
        blocks.append(Charts(drawn))
    else:
        blocks.append(Text("The runs have no metrics.jsonl with numbers, so there are no learning curves."))
    blocks.append(_costs(trained, counted))
    return Section("training", "Training and its cost", blocks)


def _last(run: RunFiles, score: str) -> int | None:
    """Largest `k` of the metrics `SCORE/k`; None if there is none."""
    found = [key.removeprefix(f"{score}/") for key in (run.log[-1] if run.log else {}) if key.startswith(f"{score}/")]
    return max((int(k) for k in found if k.isdecimal()), default=None)


def _curves(trained: Sequence[Trained], score: str, label: str, counted: str, evaluated: str) -> Chart | None:
    """A score against the steps of training; the first point of the curve too if there is a single run."""
    alone = len(trained) == 1 and len(trained[0].runs) == 1
    lines: list[tuple[list[tuple[float, float]], str]] = []
    dots: list[tuple[list[tuple[float, float]], Trained, str]] = []
    legend, said = [], []
    for one in trained:
        for i, run in enumerate(one.runs):
            last = _last(run, score)
            if last is None:
                continue
            if alone and last:
                lines.append((run.column(f"{score}/0"), "faint"))
                dots.append((run.column(f"evaluation/{score}/0"), one, "ring"))
                legend.append(faint_key(f"while training, {one.names[0]}"))
            column = run.column(f"{score}/{last}")
            lines.append((column, colour(one.series) if alone else f"slim {colour(one.series)}"))
            dots.append((run.column(f"evaluation/{score}/{last}"), one, colour(one.series)))
            if not i:
                legend.append(line_key(f"while training, {one.names[1]}" if alone else one.label, one.series))
                if alone and dots[-1][0]:
                    legend.append(point_key(f"evaluated on {evaluated}", one.series, colour(one.series)))
            if column:
                said.append(f"{one.label}: {number(column[-1][1])} at the end")
    places = [x for line, _ in lines for x, _ in line]
    if not places:
        return None
    scale, unit = next(((s, u) for s, u in UNITS if max(places) >= s), (1.0, ""))
    values = [y for line, _ in lines for _, y in line] + [y for points, *_ in dots for _, y in points]
    limits = (-0.02, 1.02) if score.startswith("success") else None
    plot = axes([x / scale for x in places], values, y_limits=limits)
    marks: list[Mark] = []
    for line, style in lines:
        thinned = line[:: max(1, -(-len(line) // MOST_POINTS))]
        marks.append(plot.line([x / scale for x, _ in thinned], [y for _, y in thinned], style))
    for points, one, style in dots:
        for x, y in points[:: max(1, -(-len(points) // MOST_POINTS))]:
            tip = f"{one.label}, {x:,.0f} {counted}: {number(y)} on {evaluated}"
            marks.append(plot.point(x / scale, y, one.series, style, tip, 2.8))
    single = "" if alone else f" Points: evaluations on {evaluated}. One line per seed, after adaptation."
    return Chart(
        title=f"{label[0].upper()}{label[1:]} while training",
        alt=f"{label} against {COUNTED.get(counted, counted)}. {'; '.join(said)}.",
        caption=f"Mean over the meta-batch of each iteration.{single}",
        x_label=f"{COUNTED.get(counted, counted)}{f', {unit}' if unit else ''}",
        y_label=label,
        x_ticks=plot.x_ticks,
        y_ticks=plot.y_ticks,
        marks=marks,
        legend=legend,
        frame=plot.frame,
        size=plot.size,
    )


def cost(runs: Sequence[RunFiles], counted: str) -> list[Fact]:
    """Time and steps of the first of an agent's trainings; none if its log lacks them."""
    run = runs[0]
    sampling, update = run.total("time/sample_s"), run.total("time/update_s")
    if not run.log or sampling is None or update is None:
        return []
    each = " per seed" if len(runs) > 1 else ""
    steps = f"{millions(int(run.log[-1]['env_steps']))} {counted}"
    return [Fact(f"Cost of training{each}", duration(sampling + update), steps)]


def _costs(trained: Sequence[Trained], counted: str) -> Table:
    """Steps, time, memory and size of each run."""
    columns = ["run", "iterations", COUNTED.get(counted, counted)]
    columns += ["time", "of it sampling", "steps per s", "peak memory", "checkpoint"]
    rows = []
    for one in trained:
        for run in one.runs:
            last: Mapping[str, Any] = run.log[-1] if run.log else {}
            sampling, update = run.total("time/sample_s"), run.total("time/update_s")
            total = None if sampling is None or update is None else sampling + update
            steps = last.get("env_steps")
            rows.append(
                [
                    f"{one.label}, seed {run.config.training.seed}",
                    f"{int(last['iteration']):,}" if last else "\u2013",
                    millions(int(steps)) if steps is not None else "\u2013",
                    duration(total),
                    f"{100 * sampling / total:.0f} %" if sampling is not None and total else "\u2013",
                    f"{steps / total:,.0f}" if steps is not None and total else "\u2013",
                    _memory(run),
                    _checkpoint(run),
                ]
            )
    caption = (
        "Cost of each training: time of sampling and updates, without evaluations; memory of the training process, "
        "without worker processes"
    )
    return Table(caption, columns, rows)


def duration(seconds: float | None) -> str:
    """A time as hours, minutes and seconds; a dash for None."""
    if seconds is None:
        return "\u2013"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _memory(run: RunFiles) -> str:
    """Peak memory over all starts that recorded it."""
    peaks = [one.get("peak_memory") for one in run.starts]
    found = []
    for name, label in (("host", ""), ("gpu", " on the GPU")):
        sizes = [peak[name] for peak in peaks if isinstance(peak, dict) and is_number(peak.get(name))]
        found += [f"{in_units(max(sizes))}{label}"] if sizes else []
    return ", ".join(found) or "not recorded"


def _checkpoint(run: RunFiles) -> str:
    saved = list_checkpoints(run.path / "checkpoints")
    return in_units(saved[-1].stat().st_size) if saved else "\u2013"
