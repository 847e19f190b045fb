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
from metarl.few_shot.picture import Line, ShotCurve, shots_picture
from metarl.files import write_bytes, write_json
from metarl.intervals import Interval, mean_intervals, rate_intervals
from metarl.report import interval_json


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
    first = contenders[0].over_shots
    pooled = [one.over_shots.scores[:, 0] for one in contenders if one.learner == POOLED]
    lines = [Line(NOT_ADAPTING, float(scores.mean()), "--") for scores in pooled]
    if oracle:
        lines.append(Line(f"oracle, {oracle_label(oracle)}", float(oracle.scores.mean()), ":"))
    positive = all((one.over_shots.scores > 0).all() for one in contenders)
    return shots_picture([_curve(one) for one in contenders], lines, first.score, first.split, title, positive)


def _curve(one: Contender) -> ShotCurve:
    steps = one.over_steps
    return ShotCurve(
        one.label,
        one.over_shots.shots,
        score_intervals(one.over_shots),
        () if steps is None else steps.steps or (),
        () if steps is None else score_intervals(steps),
    )


PRINTED_STEPS = (0, 1, 2, 3, 5, 10)
"""Numbers of steps that are printed, besides the last and that of training; files have all."""
POOLED = "pooled"
"""Name of the learner that is drawn as a line as well, where it has not adapted."""
NOT_ADAPTING = "pooled, not adapting"


def oracle_label(oracle: ShotResult) -> str:
    """The oracle in words."""
    per = " per class" if oracle.score == "accuracy" else ""
    return f"fitted to {oracle.shots[0]:,} shots{per} of the task itself"


def bounds(interval: Interval, digits: int, sign: str = "") -> str:
    """The bounds in brackets; empty if they are unknown."""
    if math.isnan(interval.low):
        return ""
    return f" [{interval.low:{sign}.{digits}f}, {interval.high:{sign}.{digits}f}]"
