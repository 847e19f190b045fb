"""The numbers of a few-shot table: its trained learners, evaluated as `metarl evaluate` does, over several seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from metarl.comparison import OVERS, Over, intervals, paired_difference, share_interval
from metarl.few_shot.evaluation import ShotResult
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.learner import FewShotLearner
from metarl.few_shot.picture import Line, ShotCurve, shots_picture
from metarl.few_shot.report import POOLED, Contender
from metarl.few_shot.run import FewShotRun
from metarl.few_shot.shots import Score
from metarl.intervals import UNTOLD, Interval, mean_intervals
from metarl.registry import find_family
from metarl.report import interval_json, tasks_label
from metarl.scripts.compare import success_interval
from metarl.scripts.evaluate_shots import MOST_STEPS, EvaluateShotsCommand, ShotsEvaluation, few_shot_family_of_run
from metarl.scripts.families import agent_of_run
from metarl.scripts.groups import Group
from metarl.scripts.recipes import Recipe, Row
from metarl.scripts.reproducing.plan import Plan, Training
from metarl.scripts.reproducing.table import (
    finished_rows,
    groups_of,
    minus_value,
    of_trainings,
    over_of,
    rounded,
    table_head,
)
from metarl.types import Floats

LINES = ("--", ":", "-.")
"""Styles of the lines of learners that do not adapt."""


@dataclass(frozen=True)
class ShotRow:
    """A row of a few-shot table.

    Args:
        row: The row of the recipe.
        contenders: Its evaluations, one per seed, all on the same examples.
        seeds: The seeds.
        iterations: Meta-updates of each training.
        examples: Examples of each training.
    """

    row: Row
    contenders: tuple[Contender, ...]
    seeds: tuple[int, ...]
    iterations: int
    examples: tuple[int, ...]

    @property
    def score(self) -> Score:
        """Name of the score."""
        return self.contenders[0].over_shots.score

    @property
    def over_shots(self) -> Floats:
        """Scores against shots, `[seed, task, point]`; NaN where the adaptation diverges."""
        return np.stack([one.over_shots.scores for one in self.contenders])

    @property
    def shots(self) -> tuple[int, ...]:
        """Shots of each point of `over_shots`."""
        return self.contenders[0].over_shots.shots

    @property
    def own(self) -> int:
        """Index of the point of `over_shots` with all shots of training."""
        return self.contenders[0].own

    @property
    def own_steps(self) -> int:
        """Steps of adaptation in training; 0 for a learner without steps."""
        return self.contenders[0].own_steps

    @property
    def steps(self) -> tuple[int, ...]:
        """Numbers of steps of the curve over steps; none for a learner without steps."""
        steps = self.contenders[0].over_steps
        return () if steps is None else steps.steps or ()

    @property
    def end(self) -> Floats:
        """Scores after all shots and the learner's own number of steps, `[seed, task]`."""
        return self.over_shots[..., self.own]

    @property
    def first(self) -> Floats:
        """Scores without adaptation, `[seed, task]`."""
        return self.over_shots[..., 0]

    def after(self, steps: int) -> Floats:
        """Scores after all shots and a number of steps, one of `steps`, `[seed, task]`."""
        results = [cast(ShotResult, one.over_steps) for one in self.contenders]
        return np.stack([result.scores[:, self.steps.index(steps)] for result in results])


@dataclass(frozen=True)
class ShotComparison:
    """The rows of a few-shot table on the same examples.

    Args:
        rows: The rows.
        evaluation: The evaluation.
        over: Source of error of the intervals.
    """

    rows: tuple[ShotRow, ...]
    evaluation: ShotsEvaluation
    over: Over

    def picture(self) -> bytes:
        """A PNG of all curves, the best first, with each pooled network without adaptation as a line.

        The axis of errors shows all errors without adaptation, with all shots, and up to the own number of steps.
        """
        family, seen, curves = self.evaluation.family, list[float](), list[ShotCurve]()
        sign = 1.0 if family.spaces.score == "error" else -1.0
        ends = {one.row.label: sign * float(one.end.mean()) for one in self.rows}
        for one in sorted(self.rows, key=lambda one: (np.isnan(ends[one.row.label]), ends[one.row.label])):
            over_shots = [self._interval(scores, one) for scores in np.moveaxis(one.over_shots, -1, 0)]
            over_steps = [self._interval(one.after(n), one) for n in one.steps]
            curves.append(ShotCurve(one.row.label, one.shots, over_shots, one.steps, over_steps))
            seen += [over_shots[0].mean, over_shots[one.own].mean]
            seen += [point.mean for n, point in zip(one.steps, over_steps, strict=True) if n <= one.own_steps]
        pooled = [one for one in self.rows if one.row.agent == POOLED]
        lines = [
            Line(f"{one.row.label}, not adapting", float(one.first.mean()), LINES[i % len(LINES)])
            for i, one in enumerate(pooled)
        ]
        tasks = f"{len(self.evaluation.tasks)} {tasks_label(self.evaluation.split)}"
        over = "tasks and seeds" if self.over == "both" else "tasks"
        title = f"{family.name}, {tasks}, 95 % intervals over {over}"
        top = float(np.nanmax(seen)) if family.spaces.score == "error" else None
        positive = all(np.nanmin(one.over_shots) > 0 for one in self.rows)
        return shots_picture(curves, lines, family.spaces.score, self.evaluation.split, title, positive, top)

    def _interval(self, scores: Floats, one: ShotRow) -> Interval:
        found = score_interval(scores, self.over, one.score)
        if np.isnan(found.mean) or not np.isnan(found.low):
            return found
        return score_interval(scores, "tasks", one.score)  # a single seed of a row whose others failed


def score_interval(scores: Floats, over: Over, score: Score) -> Interval:
    """Mean error or accuracy with its 95 % interval; over tasks that of `metarl evaluate`.

    Args:
        scores: `[seed, task]`.
        over: Source of the error.
        score: Name of the score.

    Returns:
        The interval, NaN if a score is not finite.
    """
    if not np.isfinite(scores).all():
        return Interval(UNTOLD, UNTOLD, UNTOLD)
    if score == "accuracy":
        return success_interval(scores[..., None], over)
    if over == "tasks":
        return mean_intervals(scores.mean(axis=0)[:, None])[0]
    return intervals(scores[..., None], over, "mean")[0]


def shot_measure(recipe: Recipe) -> dict[str, Any]:
    """The measure of a recipe: number of tasks, numbers of shots, queries, and the score."""
    family = find_family(recipe.family)
    if not isinstance(family, FewShotFamily):
        raise ValueError(f"{recipe.name}: got the family {recipe.family!r} of environments, expected a few-shot family")
    return _measure(_evaluation(family))


def _evaluation(family: FewShotFamily) -> ShotsEvaluation:
    return ShotsEvaluation(EvaluateShotsCommand(run_dir=Path(), oracle=False), family, keep_going=True)


def _measure(evaluation: ShotsEvaluation) -> dict[str, Any]:
    return {
        "tasks": len(evaluation.tasks),
        "shots": list(evaluation.shots),
        "queries": evaluation.queries,
        "score": evaluation.family.spaces.score,
    }


def evaluated_shots(plan: Plan) -> ShotComparison:
    """Evaluates all finished trainings on the same examples of the same held-out tasks.

    Raises:
        ValueError: The seeds of a row differ in a setting, rows in their spaces, or a checkpoint is damaged.
    """
    groups = groups_of(plan, FewShotRun)
    evaluation = _evaluation(few_shot_family_of_run(groups[0].config, None))
    steps = {int(getattr(group.config.agent_config, "inner_steps", 0)) for group in groups}
    rows = [
        _row(row, trainings, group, evaluation, sorted(steps - {0}))
        for (row, trainings), group in zip(finished_rows(plan), groups, strict=True)
    ]
    return ShotComparison(tuple(rows), evaluation, over_of(len(plan.seeds)))


def _row(
    row: Row,
    trainings: Sequence[Training],
    group: Group[FewShotRun],
    evaluation: ShotsEvaluation,
    steps: Sequence[int],
) -> ShotRow:
    """Evaluates the trainings of a row; the curves over steps have points at the steps of training of all rows."""
    contenders, examples = list[Contender](), list[int]()
    for one in trainings:
        learner, progress = agent_of_run(one.out, "cpu")
        if progress.iteration != group.iteration:
            raise ValueError(
                f"reproduce: got {one.out}, whose checkpoint of iteration {group.iteration} is damaged; the one before "
                f"it has iteration {progress.iteration}. Remove its folder, and train it again with --resume"
            )
        contenders.append(evaluation.contender(one.name, row.agent, cast(FewShotLearner[Any], learner), steps))
        examples.append(progress.env_steps)
    return ShotRow(row, tuple(contenders), tuple(one.seed for one in trainings), group.iteration, tuple(examples))


def shot_table_value(plan: Plan, comparison: ShotComparison, failed: Mapping[Training, str]) -> dict[str, Any]:
    """The table as a JSON value, with what a check of it needs.

    Args:
        plan: The plan.
        comparison: Its evaluated rows.
        failed: Last lines of failed trainings.
    """
    rows = {one.row.label: one for one in comparison.rows}
    kept = []
    for one, (of_plan, trainings) in zip(comparison.rows, finished_rows(plan), strict=True):
        other = rows.get(plan.recipe.subtracted(of_plan))
        kept.append({**_row_value(one, other, comparison.over), **of_trainings(plan, of_plan, trainings)})
    evaluation = {"split": comparison.evaluation.split, **_measure(comparison.evaluation)}
    evaluation |= {"per_class": comparison.evaluation.family.spaces.classification}
    evaluation |= {"statistic": "mean", "over": comparison.over}
    return {**table_head(plan, evaluation, failed, best=best(comparison)), "rows": kept}


def _row_value(one: ShotRow, other: ShotRow | None, over: Over) -> dict[str, Any]:
    change = (one.end - one.first)[..., None]
    finite = bool(np.isfinite(one.end).all())
    return {
        "agent": one.row.label,
        "learner": one.row.agent,
        "seed_list": list(one.seeds),
        "iterations": one.iterations,
        "examples": list(one.examples),
        "own_steps": one.own_steps,
        "curve": [
            {"shots": n, **point_value(scores, over, one.score)}
            for n, scores in zip(one.shots, np.moveaxis(one.over_shots, -1, 0), strict=True)
        ],
        "over_steps": [{"steps": n, **point_value(one.after(n), over, one.score)} for n in one.steps] or None,
        "end": {o: interval_json(score_interval(one.end, o, one.score)) for o in OVERS},
        "end_of_each_seed": [float(end.mean()) if np.isfinite(end).all() else None for end in one.end],
        "difference": interval_json(intervals(change, over, "mean")[0]) if finite else None,
        **(_beside(one, other, over) if other is not None else NOTHING_BESIDE),
        "bounds": [],
        "scores": rounded(one.end),
        "first_scores": rounded(one.first),
    }


NOTHING_BESIDE = {"minus": None, "minus_adapted": None, "shares": None}


def _beside(one: ShotRow, other: ShotRow, over: Over) -> dict[str, Any]:
    """A row minus the one that is subtracted from it, and its shares of the error of the latter after as many steps."""
    pooled = other.row.agent == POOLED
    name, scores = ("first_scores", other.first) if pooled else ("scores", other.end)
    stepping = bool(one.steps and other.steps)
    shares = None
    if stepping and one.score == "error":
        steps = sorted({1, one.own_steps, MOST_STEPS})
        shares = [{"steps": n, **interval_json(_share(one.after(n), other.after(n), over))} for n in steps]
    adapted = minus_value(other.row.label, "scores", one.end, other.end, "mean") if pooled and stepping else None
    return {
        "minus": minus_value(other.row.label, name, one.end, scores, "mean"),
        "minus_adapted": adapted,
        "shares": shares,
    }


def _share(one: Floats, other: Floats, over: Over) -> Interval:
    """Mean error as a share of another one, with an interval by Fieller's method; NaN if one diverges or is zero."""
    if not (np.isfinite(one).all() and np.isfinite(other).all()):
        return Interval(UNTOLD, UNTOLD, UNTOLD)
    share = share_interval(one, np.zeros_like(other), other, over, "mean")
    return share.clipped(0.0, np.inf) if share else Interval(UNTOLD, UNTOLD, UNTOLD)


def point_value(scores: Floats, over: Over, score: Score) -> dict[str, Any]:
    """A point of a curve, and the number of seeds whose adaptation diverges there.

    Args:
        scores: `[seed, task]`.
        over: Source of error of its interval.
        score: Name of the score.
    """
    diverged = int((~np.isfinite(scores).all(axis=1)).sum())
    return {**interval_json(score_interval(scores, over, score)), "diverged": diverged}


def best(comparison: ShotComparison) -> dict[str, Any] | None:
    """The row with the best mean at the end, and the rows whose paired difference from it is not significant."""
    rows = [one for one in comparison.rows if np.isfinite(one.end).all()]
    if not rows:
        return None
    sign = -1.0 if rows[0].score == "error" else 1.0
    first = max(rows, key=lambda one: sign * float(one.end.mean()))
    level = []
    for one in rows:
        found = paired_difference(first.end, one.end, comparison.over, "mean")
        if one is not first and not (found.low > 0 or found.high < 0):
            level.append(one.row.label)
    return {"row": first.row.label, "level": level}
