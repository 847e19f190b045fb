"""The page of few-shot runs: error or accuracy against shots and against steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from metarl.few_shot.evaluation import ShotResult
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.picture import SCORES
from metarl.few_shot.report import NOT_ADAPTING, POOLED, oracle_label, score_intervals
from metarl.intervals import UNTOLD, Interval, mean_intervals
from metarl.names import without_folders
from metarl.report import counted, tasks_label
from metarl.scripts.report_page import setup, tasks, training
from metarl.scripts.report_page.blocks import (
    Block,
    Chart,
    Charts,
    Fact,
    Fold,
    Key,
    Mark,
    Page,
    Section,
    Table,
    interval,
    interval_in_words,
    number,
)
from metarl.scripts.report_page.charts import axes, colour, level_key, line_key
from metarl.scripts.report_page.entries import RunFiles, is_number
from metarl.tasks import split_name
from metarl.types import Task

DIGITS = 3


@dataclass(frozen=True)
class Learner:
    """One learner, trained with one or several seeds.

    Args:
        label: Name on the page.
        series: Number of its colour and shape.
        runs: One per seed.
        over_shots: Scores against shots, mean over the seeds.
        over_steps: Scores against steps, mean over the seeds; None for a learner without steps.
        own: Index of the point with the shots of training.
    """

    label: str
    series: int
    runs: tuple[RunFiles, ...]
    over_shots: ShotResult
    over_steps: ShotResult | None
    own: int

    @property
    def agent(self) -> str:
        """Name of the learner."""
        return self.runs[0].config.agent


def learner_of(
    label: str, series: int, runs: Sequence[RunFiles], family: FewShotFamily, found: Sequence[Task], split: str
) -> Learner:
    """Reads the evaluations of a learner's runs.

    Args:
        label: Name on the page.
        series: Number of its colour and shape.
        runs: One per seed.
        family: Their family.
        found: The evaluated tasks.
        split: Label of their split.

    Raises:
        ValueError: An evaluation has another form.
    """
    results = [_results(run.evaluation, family, found, split) for run in runs]
    over_shots, over_steps = (_mean([one[i] for one in results]) for i in (0, 1))
    if over_shots is None or family.spaces.shots not in over_shots.shots:
        raise ValueError(f"{runs[0].path}: got an evaluation without the shots of training; evaluate it again")
    return Learner(label, series, tuple(runs), over_shots, over_steps, over_shots.shots.index(family.spaces.shots))


def _results(
    value: Mapping[str, Any], family: FewShotFamily, found: Sequence[Task], split: str
) -> tuple[ShotResult | None, ShotResult | None]:
    """Scores of a learner against shots, and against steps."""
    try:
        first, pair = value["learners"][0], list[ShotResult | None]()
        for key, name in (("scores", "over_shots"), ("scores_over_steps", "over_steps")):
            if first[name] is None:
                pair.append(None)
                continue
            scores = np.asarray(value[key][first["label"]], dtype=np.float64)
            shots = tuple(int(point["shots"]) for point in first[name])
            steps = tuple(int(p["steps"]) for p in first[name]) if name == "over_steps" else None
            if scores.shape != (len(found), len(shots)) or not np.isfinite(scores).all():
                raise ValueError(f"scores of the shape {scores.shape}")
            pair.append(ShotResult(family.name, split, tuple(found), family.spaces.score, scores, shots, steps))
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"evaluation.json: got results that do not fit this version ({error})") from error
    return pair[0], pair[1]


def _mean(results: Sequence[ShotResult | None]) -> ShotResult | None:
    """Scores of each task, mean over seeds; None if any is unknown, or points differ."""
    known = [one for one in results if one is not None]
    if len(known) < len(results) or len({(one.shots, one.steps) for one in known}) > 1:
        return None
    return replace(known[0], scores=np.mean([one.scores for one in known], axis=0))


def page(learners: Sequence[Learner], family: FewShotFamily, title: str, made: str) -> Page:
    """The page.

    Args:
        learners: The learners; the first evaluation has the oracle.
        family: Their family.
        title: Heading; empty for learners and family.
        made: Date and version.
    """
    first, config = learners[0], learners[0].runs[0].config
    result, per = first.over_shots, " per class" if family.spaces.classification else ""
    score = SCORES[result.score]
    trained = [training.Trained(one.label, one.series, one.runs, ("without shots", "with shots")) for one in learners]
    words = tasks.Words(score, "without shots", "with shots", DIGITS, lower_is_better=result.score == "error")
    sections = [
        _adaptation(learners, score, per),
        tasks.section([_scored(one) for one in learners], result.tasks, family.distribution, words),
        training.section(trained, result.score, "examples", tasks_label(split_name(family.distribution, "tune"))),
        setup.section(trained, family.summary, family.distribution, result.tasks, result.split, "", ()),
    ]
    names = ", ".join(dict.fromkeys(one.agent for one in learners))
    shots = f"{counted(result.shots[first.own], 'shots')}{per}"
    lead = f"{family.summary[:1].upper()}{family.summary[1:]}. Adapted with {shots} to each of "
    return Page(
        title=title or f"{names} on {without_folders(config.family)}",
        lead=f"{lead}{counted(len(result.tasks), tasks_label(result.split))}.",
        facts=_facts(first, score, shots, len(learners) > 1),
        sections=[section for section in sections if section],
        made=made,
    )


def _facts(one: Learner, score: str, shots: str, several: bool) -> list[Fact]:
    after, gain = score_intervals(one.over_shots)[one.own], _gain(one)
    who = f", {one.label}" if several else ""
    return [
        Fact(
            f"{score[:1].upper()}{score[1:]}{who}, {shots}",
            number(after.mean, DIGITS),
            interval_in_words(after, DIGITS),
        ),
        Fact("Change by adaptation", number(gain.mean, DIGITS, "+"), interval_in_words(gain, DIGITS, "+")),
        *training.cost(one.runs, "examples"),
    ]


def _gain(one: Learner) -> Interval:
    """Score with the shots of training minus that without shots, paired by task."""
    scores = one.over_shots.scores
    return mean_intervals((scores[:, one.own] - scores[:, 0])[:, None])[0]


def _adaptation(learners: Sequence[Learner], score: str, per: str) -> Section:
    charts = [_chart(learners, "shots", score, f"shots per {'class' if per else 'task'}")]
    if any(one.over_steps for one in learners):
        charts.append(_chart(learners, "steps", score, "steps of adaptation"))
    counts = counted(len(learners[0].over_shots.tasks), tasks_label(learners[0].over_shots.split))
    rows = []
    for one in learners:
        points = score_intervals(one.over_shots)
        cells = [interval(points[0], DIGITS), interval(points[one.own], DIGITS), interval(_gain(one), DIGITS, "+")]
        rows.append([one.label, str(len(one.runs)), *cells])
    if oracle := _oracle(learners[0]):
        rows.append([oracle[1], "\u2013", "\u2013", interval(oracle[0], DIGITS), "\u2013"])
    shots = f"{counted(learners[0].over_shots.shots[learners[0].own], 'shots')}{per}"
    blocks: list[Block] = [
        Charts(charts),
        Table(
            f"{score}, mean [95 % interval over {counts}]",
            ["learner", "seeds", "without shots", shots, "change, paired"],
            rows,
        ),
        Fold("All numbers of the curves", [_points(one, score) for one in learners]),
    ]
    return Section("adaptation", "Adaptation", blocks)


def _oracle(first: Learner) -> tuple[Interval, str] | None:
    """Score of the oracle with its name; None if the evaluation has none."""
    found = first.runs[0].evaluation.get("oracle")
    if not isinstance(found, Mapping) or not is_number(found.get("mean")) or not is_number(found.get("shots")):
        return None
    low, high = (found[key] if is_number(found.get(key)) else UNTOLD for key in ("ci_low", "ci_high"))
    label = oracle_label(replace(first.over_shots, shots=(int(found["shots"]),)))
    return Interval(found["mean"], low, high), f"oracle, {label}"


def _chart(learners: Sequence[Learner], kind: str, score: str, label: str) -> Chart:
    """Score against shots or against steps."""
    drawn = [(one, one.over_shots if kind == "shots" else one.over_steps) for one in learners]
    there = [(one, result, score_intervals(result)) for one, result in drawn if result is not None]
    pooled = [one.over_shots for one in learners if one.agent == POOLED]
    levels = [(float(one.scores[:, 0].mean()), "multitask", NOT_ADAPTING) for one in pooled]
    if oracle := _oracle(learners[0]):
        levels.append((oracle[0].mean, "oracle", oracle[1]))
    xs = [n for _, result, _ in there for n in _places(result)]
    ys = [v for *_, points in there for p in points for v in (p.mean, p.low, p.high)] + [y for y, *_ in levels]
    log = learners[0].over_shots.score == "error" and min(ys) > 0 and max(ys) >= 30 * min(ys)
    limits = (-0.02, 1.02) if learners[0].over_shots.score == "accuracy" else None
    plot = axes(xs, ys, episodes=True, log=log, y_limits=limits)
    marks: list[Mark | None] = [plot.level(y, style, name) for y, style, name in levels]
    legend: list[Key] = []
    said = []
    for one, result, points in there:
        style, places = colour(one.series), _places(result)
        marks.append(plot.band(places, [p.low for p in points], [p.high for p in points], style))
        marks.append(plot.line(places, [p.mean for p in points], style))
        for x, p in zip(places, points, strict=True):
            tip = f"{one.label}, {counted(x, kind)}: {interval(p, DIGITS)}"
            marks.append(plot.point(x, p.mean, one.series, style, tip))
        legend.append(line_key(one.label, one.series))
        said.append(f"{one.label}: {interval(points[0], DIGITS)} at first, {interval(points[-1], DIGITS)} at the end")
    legend += [level_key(name, style) for _, style, name in levels]
    full = "" if kind == "shots" else " Adapted to the shots of training."
    return Chart(
        title=f"{score[:1].upper()}{score[1:]} against {kind}",
        alt=f"{score} against {label}. {'; '.join(said)}.",
        caption=f"Mean over the tasks; bands are 95 % intervals over tasks.{full}",
        x_label=label,
        y_label=f"{score}{', logarithmic' if log else ''}",
        x_ticks=plot.x_ticks,
        y_ticks=plot.y_ticks,
        marks=[mark for mark in marks if mark],
        legend=legend,
        frame=plot.frame,
        size=plot.size,
    )


def _places(result: ShotResult) -> tuple[int, ...]:
    return result.shots if result.steps is None else result.steps


def _points(one: Learner, score: str) -> Table:
    """Every point of the curves."""
    rows = []
    for result in (one.over_shots, one.over_steps):
        if result is not None:
            steps = result.steps or ("own",) * len(result.shots)
            for n, k, point in zip(result.shots, steps, score_intervals(result), strict=True):
                rows.append([f"{n:,}", str(k), interval(point, DIGITS)])
    return Table(f"{one.label}: {score}, mean [95 % interval over tasks]", ["shots", "steps", score], rows)


def _scored(one: Learner) -> tasks.Scored:
    scores = one.over_shots.scores

    def mean_of(rows: Sequence[int]) -> Interval:
        return score_intervals(replace(one.over_shots, scores=scores[list(rows)]))[one.own]

    return tasks.Scored(one.label, one.series, scores[:, 0], scores[:, one.own], None, mean_of, lambda rows: [])
