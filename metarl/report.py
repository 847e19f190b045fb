"""Reports of an evaluation: a figure, a table, and a file with every number."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from metarl.curves import adaptation_curve, adaptation_differences, by_class, success_intervals, success_rates
from metarl.files import write_bytes, write_json
from metarl.intervals import Interval
from metarl.results import EvalResult
from metarl.types import Floats, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TITLE_WIDTH = 80
"""Largest number of characters in a line of a picture's title."""


def _number(value: float) -> float | None:
    """A JSON number; null for a number that is not finite."""
    return value if math.isfinite(value) else None


def interval_json(interval: Interval) -> dict[str, float | None]:
    """A mean and its bounds as JSON; null for a missing bound."""
    return {
        "mean": _number(interval.mean),
        "ci_low": _number(interval.low),
        "ci_high": _number(interval.high),
    }


def curve_json(result: EvalResult) -> list[dict[str, Any]]:
    """The adaptation curve, one object per `k`.

    `success_last` is the fraction of episodes with a success at their last step, `success` at any step.
    """
    points = zip(result.episodes, adaptation_curve(result), strict=True)
    curve: list[dict[str, Any]] = [{"k": k, "episodes": n, **interval_json(i)} for k, (n, i) in enumerate(points)]
    kinds: tuple[tuple[str, Literal["last", "any"]], ...] = (("success_last", "last"), ("success", "any"))
    for name, at in kinds:
        rates, known = success_rates(result, at), success_intervals(result, at)
        for k, (point, rate) in enumerate(zip(curve, rates, strict=True)):
            bounds = interval_json(known[k]) if known else {"ci_low": None, "ci_high": None}
            point |= {name: rate, **{f"{name}_{bound}": bounds[bound] for bound in ("ci_low", "ci_high")}}
    return curve


def classes_json(result: EvalResult, class_of: Callable[[Task], str]) -> list[dict[str, Any]]:
    """The adaptation curve of each class of tasks."""
    return [
        {"class": name, "tasks": len(one.tasks), "curve": curve_json(one)}
        for name, one in by_class(result, class_of).items()
    ]


def differences_json(result: EvalResult) -> list[dict[str, Any]]:
    """Return at each `k >= 1` minus the return at `k = 0`, paired by task."""
    return [{"k": k, **interval_json(i)} for k, i in enumerate(adaptation_differences(result), start=1)]


def tasks_label(split: str) -> str:
    """Label of the tasks of a split in figures and tables."""
    return {"test": "held-out tasks", "tune": "tuning tasks"}.get(split, "training tasks")


def first_label(adapts_within_episodes: bool) -> str:
    """Label of the first point of a curve; an agent with a memory already adapts in its first episode."""
    return "first episode" if adapts_within_episodes else "before adaptation"


def counted(number: int, things: str, width: int = 0) -> str:
    """A count with its noun, `1 episode` or `20 episodes`; padded to the same length if `width` is set (columns)."""
    one = things.removesuffix("s") + (" " if width else "")
    return f"{number:{width}d} {one if number == 1 else things}"


def millions(env_steps: int) -> str:
    """A number of environment steps: `1.25M`, or all digits of a small number."""
    return f"{env_steps / 1e6:.2f}M" if env_steps >= 100_000 else f"{env_steps:,}"


def last_label(adapts_within_episodes: bool) -> str:
    """Label of the last point of a curve."""
    return "last episode" if adapts_within_episodes else "after adaptation"


REFERENCES = {"multitask": "multitask (no task information)", "oracle": "oracle (observes the task)"}
"""Reference agents, drawn as lines, and their labels: the value of adaptation lies between them."""


def write_report(
    out: Path,
    summary: Mapping[str, Any],
    result: EvalResult,
    others: Mapping[str, EvalResult],
    title: str,
    lines: Mapping[str, str] | None = None,
) -> None:
    """Writes `adaptation.png`, `adaptation.csv` and `evaluation.json`.

    Args:
        out: Folder; created if missing.
        summary: First entries of `evaluation.json`.
        result: Results of the evaluated agent.
        others: Further results by label: the untrained agent, other runs.
        title: Title of the figure.
        lines: Reference agent of each label in `others` that is drawn as a horizontal line at its last point.
    """
    out.mkdir(parents=True, exist_ok=True)
    raw = {
        "task_list": [task.to_json() for task in result.tasks],
        "returns": result.returns.tolist(),
        "successes": None if result.success is None else result.success.tolist(),
        "last_step_successes": None if result.last_step_success is None else result.last_step_success.tolist(),
        "diverged": None if result.diverged is None else result.diverged.astype(int).tolist(),
        "others": {label: curve_json(other) for label, other in others.items()},
        "returns_of_others": {label: other.returns.tolist() for label, other in others.items()},
    }
    write_json(out / "evaluation.json", {**summary, **raw})
    write_bytes(out / "adaptation.csv", _table(result, others).encode())
    write_bytes(out / "adaptation.png", _picture(result, others, title, lines or {}))


def _table(result: EvalResult, others: Mapping[str, EvalResult]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ("agent", "actions", *curve_json(result)[0]), lineterminator="\n")
    writer.writeheader()
    for label, one in {"trained": result, **others}.items():
        writer.writerows({"agent": label, "actions": one.actions, **point} for point in curve_json(one))
    return text.getvalue()


def _figure(width: float = 7.5) -> Figure:
    """An empty figure. Matplotlib is imported here, so that only commands that draw load it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, 4.5), dpi=150, layout="constrained")


MANY_EPISODES = 10
"""Number of episodes above which their axis is logarithmic."""


def episode_ticks(episodes: Iterable[int]) -> list[int]:
    """Ticks at the numbers of episodes; with many, those that would overlap on a logarithmic axis are left out."""
    ticks = sorted(set(episodes))
    if ticks[-1] <= MANY_EPISODES:
        return ticks
    return [n for i, n in enumerate(ticks) if n < 2 or all(n >= 1.3 * m for m in ticks[:i])]


def _episodes_axis(axes: Axes, episodes: Iterable[int]) -> None:
    """Ticks at the numbers of episodes; logarithmic above 1 if there are more than 10."""
    every = set(episodes)
    if max(every) > MANY_EPISODES:
        axes.set_xscale("symlog", base=2, linthresh=1.0)
        axes.set_xlim(-0.3, 1.3 * max(every))
    ticks = episode_ticks(every)
    axes.set_xticks(ticks, [str(n) for n in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("adaptation episodes per task")


def literal(text: str) -> str:
    """Escapes a text for Matplotlib, which reads dollars as formulas and hides labels that begin with `_`."""
    return (f" {text}" if text.startswith("_") else text).replace("$", r"\$")


def wrapped(text: str, width: int = TITLE_WIDTH) -> str:
    """Breaks a title into lines of at most `width` characters, after spaces, `?` and `&` where possible.

    The name of a family may be longer than a picture is wide.
    """
    lines = [""]
    for piece in re.findall(r"[^ ?&]*[ ?&]?", text):
        if lines[-1] and len(lines[-1]) + len(piece.rstrip()) > width:
            lines.append("")
        lines[-1] += piece
        while len(lines[-1].rstrip()) > width:
            lines[-1:] = [lines[-1][:width], lines[-1][width:]]
    return "\n".join(line.strip() for line in lines)


def _line(axes: Axes, level: float, name: str, label: str) -> None:
    axes.axhline(level, color="0.3", linestyle="--" if name == "multitask" else ":", label=literal(label))


def _draw(axes: Axes, result: EvalResult, label: str, colour: str, **style: Any) -> None:
    curve = adaptation_curve(result)
    axes.plot(result.episodes, [i.mean for i in curve], marker="o", color=colour, label=literal(label), **style)
    low, high = [i.low for i in curve], [i.high for i in curve]
    if len(curve) == 1:
        axes.vlines(result.episodes, low, high, color=colour)
    axes.fill_between(result.episodes, low, high, color=colour, alpha=0.2, linewidth=0)


def _picture(result: EvalResult, others: Mapping[str, EvalResult], title: str, lines: Mapping[str, str]) -> bytes:
    figure = _figure(width=10.0)
    axes = figure.add_subplot()
    colours = ("0.55", "tab:green", "tab:purple", "tab:brown", "tab:olive", "tab:cyan")
    for i, (label, other) in enumerate(others.items()):
        if label in lines:
            _line(axes, adaptation_curve(other)[-1].mean, lines[label], REFERENCES[lines[label]])
            continue
        _draw(axes, other, label, colours[i % len(colours)], linestyle="--" if i == 0 else "-")
    means = result.returns.mean(axis=2)  # [task, k]
    if means.shape[1] > 1:  # a thin curve per task
        axes.plot(result.episodes, means.T, color="tab:blue", alpha=0.15, linewidth=0.8)
    _draw(
        axes,
        result,
        f"trained, mean and 95 % interval over {len(result.tasks)} tasks",
        "tab:blue",
        linewidth=2,
    )
    differences = adaptation_differences(result)
    if differences:
        last = differences[-1]
        first = first_label(result.adapts_within_episodes)
        bounds = "" if math.isnan(last.low) else f" [{last.low:+.1f}, {last.high:+.1f}]"
        gain = f"last minus {first}, paired by task: {last.mean:+.1f}{bounds}"
        axes.text(0.02, 0.02, gain, transform=axes.transAxes, fontsize="small")
    axes.set_ylabel(f"return per episode, {tasks_label(result.split)}")
    _episodes_axis(axes, (n for one in (result, *others.values()) for n in one.episodes))
    axes.set_title(literal(wrapped(title)), fontsize="medium")
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    return png(figure)


@dataclass(frozen=True)
class Curve:
    """A contender in the figure of a comparison.

    Args:
        label: Label in the legend.
        episodes: Adaptation episodes of each `k`.
        over_tasks: Intervals over new tasks, drawn as a band.
        over_seeds: Intervals over new trainings, drawn as bars.
        single_seeds: `[seed, k]`, drawn as points; empty if there are many seeds.
        line: Name of the reference agent if the contender is drawn as a line, else None.
    """

    label: str
    episodes: Sequence[int]
    over_tasks: Sequence[Interval]
    over_seeds: Sequence[Interval]
    single_seeds: Floats
    line: str | None = None


def comparison_picture(curves: Sequence[Curve], title: str) -> bytes:
    """A PNG of several adaptation curves over the number of adaptation episodes, with references as lines.

    Bands are intervals over tasks; next to each point, bars are intervals over seeds and rings are single seeds.
    """
    from matplotlib.transforms import offset_copy

    figure = _figure(width=10.0)
    axes = figure.add_subplot()
    drawn = [curve for curve in curves if not curve.line]
    several = 0
    for curve in curves:
        means = [i.mean for i in curve.over_tasks]
        if curve.line:
            _line(axes, means[-1], curve.line, curve.label)
            continue
        (line,) = axes.plot(curve.episodes, means, marker="o", label=literal(curve.label))
        low, high = [i.low for i in curve.over_tasks], [i.high for i in curve.over_tasks]
        axes.fill_between(curve.episodes, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        if not math.isfinite(curve.over_seeds[0].low):
            continue
        beside: dict[str, Any] = {
            "transform": offset_copy(axes.transData, fig=figure, x=8.0 + 4.0 * several, units="points"),
            "color": line.get_color(),
        }
        low, high = [i.low for i in curve.over_seeds], [i.high for i in curve.over_seeds]
        axes.vlines(curve.episodes, low, high, linewidth=1.2, **beside)
        for one in curve.single_seeds:
            axes.plot(curve.episodes, one, linestyle="none", marker="o", markersize=3.5, fillstyle="none", **beside)
        several += 1
    _episodes_axis(axes, [n for curve in drawn for n in curve.episodes] or [0])
    axes.set_ylim(*_return_range(curves))
    axes.set_ylabel("return per episode")
    axes.set_title(
        f"{literal(wrapped(title))}\nbands: over tasks, bars: over seeds, rings: single seeds", fontsize="medium"
    )
    axes.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    return png(figure)


def _return_range(curves: Sequence[Curve]) -> tuple[float, float]:
    """Limits of the return axis: the range of means, bands and seeds, extended by at most half of it for bars."""
    points = [x for c in curves for i in c.over_tasks for x in (i.mean, i.low, i.high)]
    points += [float(x) for c in curves for x in c.single_seeds.ravel()]
    low, high = np.nanmin(points), np.nanmax(points)
    span = max(float(high - low), 1e-6)
    bars = [x for c in curves if not c.line for i in c.over_seeds for x in (i.low, i.high) if math.isfinite(x)]
    low, high = max(min([low, *bars]), low - 0.5 * span), min(max([high, *bars]), high + 0.5 * span)
    return float(low) - 0.05 * span, float(high) + 0.05 * span


def training_picture(
    rows: Sequence[Mapping[str, Any]],
    title: str,
    evaluated: str,
    adapts_within_episodes: bool = False,
    score: str = "return",
    counted: str = "env steps",
) -> bytes:
    """A PNG of a score over environment steps or examples, before and after adaptation.

    Args:
        rows: The lines of `metrics.jsonl`.
        title: Title of the figure.
        evaluated: Label of the evaluated tasks; see `tasks_label`.
        adapts_within_episodes: Whether the agent adapts during an episode; see `first_label`.
        score: Name of the score; see `metarl.source.Source`.
        counted: Name of the things that the horizontal axis counts.
    """
    figure = _figure()
    axes = figure.add_subplot()
    last = max(int(key.split("/")[1]) for key in rows[-1] if key.startswith(f"{score}/"))
    later = (
        f"episode {last + 1}" if adapts_within_episodes else f"after {last} adaptation step{'s' if last > 1 else ''}"
    )
    names = {0: first_label(adapts_within_episodes), last: later} if last else {0: "no adaptation"}
    for (k, name), colour in zip(names.items(), ("0.55", "tab:blue"), strict=False):
        steps = np.array([row["env_steps"] for row in rows]) / 1e6
        axes.plot(steps, [row[f"{score}/{k}"] for row in rows], color=colour, label=f"while training, {name}")
        held = [row for row in rows if row.get(f"evaluation/{score}/{k}") is not None]
        if held:
            axes.plot(
                [row["env_steps"] / 1e6 for row in held],
                [row[f"evaluation/{score}/{k}"] for row in held],
                color=colour,
                linestyle="none",
                marker="o",
                label=f"evaluated on {evaluated}, {name}",
            )
    axes.set_xlabel(f"{COUNTED.get(counted, counted)}, millions")
    axes.set_ylabel(SCORES.get(score, score))
    axes.set_title(literal(wrapped(title)), fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize="small")
    return png(figure)


COUNTED = {"env steps": "environment steps"}
SCORES = {"return": "return per episode"}
"""Labels of axes, if they differ from the name."""


def png(figure: Figure) -> bytes:
    """The picture as a PNG."""
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()
