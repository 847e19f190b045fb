"""Reports of a few-shot evaluation: intervals, a table, a picture, and a file with every number."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from metarl.few_shot.evaluation import ShotResult
from metarl.files import write_bytes, write_json
from metarl.intervals import Interval, mean_intervals, rate_intervals
from metarl.report import interval_json, literal, png, tasks_label, wrapped


@dataclass(frozen=True)
class Contender:
    """An evaluated learner.

    Args:
        label: Label in tables and the picture.
        learner: Name of the learner.
        over_shots: Scores against the number of shots; the first point has none.
        over_steps: Scores against the number of steps, with all shots; None for a learner without steps.
        own: Index of the point of `over_shots` with the shots of training.
        own_steps: Steps of training; 0 for a learner without steps.
    """

    label: str
    learner: str
    over_shots: ShotResult
    over_steps: ShotResult | None
    own: int
    own_steps: int = 0

    @property
    def adapted(self) -> Any:
        """Score of each task after adaptation to the shots of training, `[task]`."""
        return self.over_shots.scores[:, self.own]


def score_intervals(result: ShotResult) -> list[Interval]:
    """Mean score of each point with its 95 % interval over tasks."""
    return rate_intervals(result.scores) if result.score == "accuracy" else mean_intervals(result.scores)


def difference(one: Contender, other: Any) -> Interval:
    """Score after adaptation minus other scores of the same tasks `[task]`, paired by task."""
    return mean_intervals((one.adapted - other)[:, None])[0]


def curve_json(result: ShotResult) -> list[dict[str, Any]]:
    """The curve, one object per point."""
    steps = result.steps or (None,) * len(result.shots)
    rows = zip(result.shots, steps, score_intervals(result), strict=True)
    return [{"shots": n, "steps": k, **interval_json(point)} for n, k, point in rows]


def contender_json(one: Contender) -> dict[str, Any]:
    """The curves of a learner."""
    return {
        "label": one.label,
        "learner": one.learner,
        "over_shots": curve_json(one.over_shots),
        "over_steps": curve_json(one.over_steps) if one.over_steps else None,
    }


def write_shot_report(
    out: Path,
    summary: Mapping[str, Any],
    contenders: Sequence[Contender],
    oracle: ShotResult | None,
    title: str,
) -> None:
    """Writes `adaptation.png`, `adaptation.csv` and `evaluation.json`.

    Args:
        out: Folder; created if missing.
        summary: First entries of `evaluation.json`.
        contenders: The evaluated learner, then the others.
        oracle: Scores of the oracle, or None.
        title: Title of the picture.
    """
    out.mkdir(parents=True, exist_ok=True)
    raw = {
        "task_list": [task.to_json() for task in contenders[0].over_shots.tasks],
        "scores": {one.label: one.over_shots.scores.tolist() for one in contenders},
        "scores_over_steps": {one.label: one.over_steps.scores.tolist() for one in contenders if one.over_steps},
        "scores_of_oracle": oracle.scores[:, 0].tolist() if oracle else None,
    }
    write_json(out / "evaluation.json", {**summary, **raw})
    write_bytes(out / "adaptation.csv", _table(contenders, oracle).encode())
    write_bytes(out / "adaptation.png", _picture(contenders, oracle, title))


def _table(contenders: Sequence[Contender], oracle: ShotResult | None) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, ("learner", "shots", "steps", "mean", "ci_low", "ci_high"), lineterminator="\n")
    writer.writeheader()
    for one in contenders:
        for result in filter(None, (one.over_shots, one.over_steps)):
            writer.writerows({"learner": one.label, **point} for point in curve_json(result))
    if oracle:
        writer.writerows({"learner": "oracle", **point} for point in curve_json(oracle))
    return text.getvalue()


def _picture(contenders: Sequence[Contender], oracle: ShotResult | None, title: str) -> bytes:
    """Score against shots, and beside it against steps if a learner has any."""
    from matplotlib.figure import Figure

    stepping = [one for one in contenders if one.over_steps]
    figure = Figure(figsize=(11.0 if stepping else 8.0, 4.5), dpi=150, layout="constrained")
    panels = list(figure.subplots(1, 2 if stepping else 1, sharey=True, squeeze=False)[0])
    colours = {one.label: f"C{i % 10}" for i, one in enumerate(contenders)}
    first = contenders[0].over_shots
    for axes, drawn, name in zip(panels, (contenders, stepping), ("shots per task", "steps"), strict=False):
        for one in drawn:
            result = one.over_shots if drawn is contenders else one.over_steps
            assert result is not None
            x = result.shots if drawn is contenders else result.steps
            points = score_intervals(result)
            axes.plot(x, [p.mean for p in points], marker="o", color=colours[one.label], label=literal(one.label))
            low, high = [p.low for p in points], [p.high for p in points]
            axes.fill_between(x, low, high, color=colours[one.label], alpha=0.2, linewidth=0)
        for one in contenders:
            if one.learner == POOLED:
                axes.axhline(float(one.over_shots.scores[:, 0].mean()), color="0.3", linestyle="--", label=NOT_ADAPTING)
        if oracle:
            label = f"oracle, {oracle_label(oracle)}"
            axes.axhline(float(oracle.scores.mean()), color="0.3", linestyle=":", label=label)
        axes.set_xlabel(name if drawn is not contenders or first.score == "error" else "shots per class")
        axes.grid(alpha=0.3)
    panels[0].set_ylabel(f"{SCORES[first.score]}, {tasks_label(first.split)}")
    if first.score == "error" and all((one.over_shots.scores > 0).all() for one in contenders):
        panels[0].set_yscale("log")
    figure.suptitle(literal(wrapped(title)), fontsize="medium")
    handles, labels = panels[0].get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    figure.legend(unique.values(), unique.keys(), loc="outside right upper", fontsize="small")
    return png(figure)


PRINTED_STEPS = (0, 1, 2, 3, 5, 10)
"""Numbers of steps that are printed, besides the last and that of training; files have all."""
POOLED = "pooled"
"""Name of the learner that is drawn as a line as well, where it has not adapted."""
NOT_ADAPTING = "pooled, not adapting"
SCORES = {"error": "mean squared error", "accuracy": "accuracy"}
"""Labels of the scores."""


def oracle_label(oracle: ShotResult) -> str:
    """The oracle in words."""
    per = " per class" if oracle.score == "accuracy" else ""
    return f"fitted to {oracle.shots[0]:,} shots{per} of the task itself"


def bounds(interval: Interval, digits: int, sign: str = "") -> str:
    """The bounds in brackets; empty if they are unknown."""
    if math.isnan(interval.low):
        return ""
    return f" [{interval.low:{sign}.{digits}f}, {interval.high:{sign}.{digits}f}]"
