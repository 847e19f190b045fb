"""What an evaluation looks like: a picture, a table, and a file with every number."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from metarl.evaluation import Interval, adaptation_curve, adaptation_differences, by_class, success_rates
from metarl.storage import write_bytes, write_json
from metarl.types import EvalResult, Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def _number(value: float) -> float | None:
    """A JSON number; null for what is not finite."""
    return value if math.isfinite(value) else None


def interval_json(interval: Interval) -> dict[str, float | None]:
    """A mean and its bounds as JSON; null for a bound that there is none of."""
    return {
        "mean": _number(interval.mean),
        "ci_low": _number(interval.low),
        "ci_high": _number(interval.high),
    }


def curve_json(result: EvalResult) -> list[dict[str, Any]]:
    """The adaptation curve, one object per `k`.

    `success` is the share of episodes that were a success at any step, `success_last` at their last.
    """
    rates = success_rates(result), success_rates(result, "last")
    points = zip(result.episodes, adaptation_curve(result), *rates, strict=True)
    return [
        {"k": k, "episodes": n, **interval_json(i), "success": s, "success_last": last}
        for k, (n, i, s, last) in enumerate(points)
    ]


def classes_json(result: EvalResult, class_of: Callable[[Task], str]) -> list[dict[str, Any]]:
    """The adaptation curve of each class of tasks."""
    return [
        {"class": name, "tasks": len(one.tasks), "curve": curve_json(one)}
        for name, one in by_class(result, class_of).items()
    ]


def differences_json(result: EvalResult) -> list[dict[str, Any]]:
    """Return at each `k >= 1` minus that at `k = 0`, paired by task."""
    return [{"k": k, **interval_json(i)} for k, i in enumerate(adaptation_differences(result), start=1)]


def tasks_label(split: str) -> str:
    """How pictures and tables call the tasks of a split."""
    return "held-out tasks" if split == "test" else "training tasks"


def write_report(
    out: Path, summary: Mapping[str, Any], result: EvalResult, others: Mapping[str, EvalResult], title: str
) -> None:
    """Writes `adaptation.png`, `adaptation.csv` and `evaluation.json`.

    Args:
        out: Folder; made if need be.
        summary: What `evaluation.json` starts with.
        result: The evaluated agent.
        others: Further curves by label: the untrained agent, other runs.
        title: Of the picture.
    """
    out.mkdir(parents=True, exist_ok=True)
    raw = {
        "task_list": [task.to_json() for task in result.tasks],
        "returns": result.returns.tolist(),
        "successes": None if result.success is None else result.success.tolist(),
        "last_step_successes": None if result.last_step_success is None else result.last_step_success.tolist(),
        "diverged_episodes": result.diverged,
        "others": {label: curve_json(other) for label, other in others.items()},
    }
    write_json(out / "evaluation.json", {**summary, **raw})
    write_bytes(out / "adaptation.csv", _table(result, others).encode())
    write_bytes(out / "adaptation.png", _picture(result, others, title))


def _table(result: EvalResult, others: Mapping[str, EvalResult]) -> str:
    text = io.StringIO()
    columns = ("k", "episodes", "mean", "ci_low", "ci_high", "success", "success_last")
    writer = csv.DictWriter(text, ("agent", *columns), lineterminator="\n")
    writer.writeheader()
    for label, one in {"trained": result, **others}.items():
        writer.writerows({"agent": label, **point} for point in curve_json(one))
    return text.getvalue()


def _figure() -> Figure:
    """An empty figure; matplotlib is imported here, so that only who draws waits for it."""
    from matplotlib.figure import Figure

    return Figure(figsize=(7.5, 4.5), dpi=150, layout="constrained")


def _draw(axes: Axes, result: EvalResult, label: str, colour: str, **style: Any) -> None:
    curve = adaptation_curve(result)
    axes.plot(result.episodes, [i.mean for i in curve], marker="o", color=colour, label=label, **style)
    axes.fill_between(
        result.episodes, [i.low for i in curve], [i.high for i in curve], color=colour, alpha=0.2, linewidth=0
    )


def _picture(result: EvalResult, others: Mapping[str, EvalResult], title: str) -> bytes:
    figure = _figure()
    axes = figure.add_subplot()
    colours = ("0.55", "tab:green", "tab:purple", "tab:brown", "tab:olive", "tab:cyan")
    for i, (label, other) in enumerate(others.items()):
        _draw(axes, other, label, colours[i % len(colours)], linestyle="--" if i == 0 else "-")
    means = result.returns.mean(axis=2)  # [task, k]
    if means.shape[1] > 1:  # each task's own curve, thin
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
        gain = f"after minus before, paired by task: {last.mean:+.1f} [{last.low:+.1f}, {last.high:+.1f}]"
        axes.text(0.02, 0.02, gain, transform=axes.transAxes, fontsize="small")
    axes.set_xlabel("adaptation episodes per task")
    axes.set_ylabel(f"return per episode, {tasks_label(result.split)}")
    axes.set_xticks(sorted({n for one in (result, *others.values()) for n in one.episodes}))
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize="small")
    return _png(figure)


def comparison_picture(
    curves: Mapping[str, tuple[Sequence[int], Sequence[Interval]]], lines: Sequence[str], title: str
) -> bytes:
    """A PNG of several adaptation curves over the adaptation episodes they used.

    Args:
        curves: By label: the episodes and the interval of each `k`.
        lines: Labels whose last point is drawn as a horizontal line.
        title: Of the picture.
    """
    figure = _figure()
    axes = figure.add_subplot()
    for label, (episodes, curve) in curves.items():
        if label in lines:
            axes.axhline(curve[-1].mean, color="0.3", linestyle=("--", ":")[lines.index(label) % 2], label=label)
            continue
        (line,) = axes.plot(episodes, [i.mean for i in curve], marker="o", label=label)
        axes.fill_between(
            episodes, [i.low for i in curve], [i.high for i in curve], color=line.get_color(), alpha=0.2, linewidth=0
        )
    axes.set_xlabel("adaptation episodes per task")
    axes.set_ylabel("return per episode")
    axes.set_title(title, fontsize="medium")
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize="small")
    return _png(figure)


def training_picture(rows: Sequence[Mapping[str, Any]], title: str, evaluated: str) -> bytes:
    """A PNG of returns over environment steps, before and after adaptation.

    Args:
        rows: The lines of `metrics.jsonl`.
        title: Of the picture.
        evaluated: What the tasks of the evaluations are: held-out tasks or training tasks.
    """
    figure = _figure()
    axes = figure.add_subplot()
    last = max(int(key.split("/")[1]) for key in rows[-1] if key.startswith("return/"))
    for k, colour in ((0, "0.55"), (last, "tab:blue")):
        name = "before adaptation" if k == 0 else f"after {k} adaptation step{'s' if k > 1 else ''}"
        steps = np.array([row["env_steps"] for row in rows]) / 1e6
        axes.plot(steps, [row[f"return/{k}"] for row in rows], color=colour, label=f"while training, {name}")
        held = [row for row in rows if row.get(f"evaluation/return/{k}") is not None]
        if held:
            axes.plot(
                [row["env_steps"] / 1e6 for row in held],
                [row[f"evaluation/return/{k}"] for row in held],
                color=colour,
                linestyle="none",
                marker="o",
                label=f"evaluated on {evaluated}, {name}",
            )
    axes.set_xlabel("environment steps, millions")
    axes.set_ylabel("return per episode")
    axes.set_title(title)
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize="small")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    data = io.BytesIO()
    figure.savefig(data, format="png")
    return data.getvalue()
