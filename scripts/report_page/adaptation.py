"""The section on adaptation: curves with intervals, the table of agents, paired differences, and seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence

from metarl.comparison import OVERS, aggregate, intervals
from metarl.intervals import Interval
from metarl.report import REFERENCES, counted, first_label, last_label, tasks_label
from metarl.scripts.report_page.blocks import (
    Block,
    Chart,
    Charts,
    Fact,
    Fold,
    Key,
    Mark,
    Section,
    Table,
    Text,
    interval,
    interval_in_words,
    number,
)
from metarl.scripts.report_page.charts import Axes, axes, colour, faint_key, level_key, line_key
from metarl.scripts.report_page.entries import Entry, digits_for

FIRST = "before adaptation; the first episode for agents with a memory, which already adapt in it"


def facts(main: Sequence[Entry], entries: Sequence[Entry], higher: str = "") -> list[Fact]:
    """The numbers at the top: those of the first agent."""
    one, digits = main[0], digits_for(entries)
    last, gain, share = one.curve()[-1], one.gain(), one.share(entries)
    within = one.results[0].adapts_within_episodes
    who = f"{one.label}, " if len(main) > 1 else ""
    found = [
        Fact(f"Return, {who}{last_label(within)}{higher}", number(last.mean, digits), interval_in_words(last, digits))
    ]
    if gain:
        found.append(
            Fact(
                f"Gain over {first_label(within)}", number(gain.mean, digits, "+"), interval_in_words(gain, digits, "+")
            )
        )
    if rates := one.success("last"):
        found.append(Fact("Success at the last step", _percent(rates[-1].mean), _percents(rates[-1])))
    if share:
        found.append(Fact("Share of the gap to the oracle", number(share.mean, 2), interval_in_words(share, 2)))
    return found


def _percent(rate: float) -> str:
    return f"{100 * rate:.0f}\u00a0%"


def _percents(one: Interval) -> str:
    return "" if math.isnan(one.low) else f"95 % interval {_percent(one.low)} to {_percent(one.high)}"


def section(entries: Sequence[Entry]) -> Section:
    """Curves, tables and differences."""
    digits = digits_for(entries)
    result = entries[0].results[0]
    counts = counted(len(result.tasks), tasks_label(result.split))
    blocks: list[Block] = [Charts([_returns_chart(entries, digits, counts)])]
    if entries[0].success("last"):
        kinds = ["last", "any"] if any(one.success("last") != one.success("any") for one in entries) else ["last"]
        blocks.append(Charts([_success_chart(entries, at) for at in kinds]))
    blocks.append(_agents(entries, digits, counts))
    if differences := _differences(entries, digits):
        blocks.append(differences)
    if any(len(one.results) > 1 for one in entries):
        blocks.append(_seeds(entries, digits))
    blocks.append(Fold("All numbers of the curves", [_points(one, digits) for one in entries]))
    if blown := sum(result.diverged_episodes for one in entries for result in one.results):
        blocks.append(Text(f"{blown} evaluated episodes diverged and count with the worst return of their task."))
    return Section("adaptation", "Adaptation", blocks)


def _returns_chart(entries: Sequence[Entry], digits: int, counts: str) -> Chart:
    curves = {one.label: one.curve() for one in entries}
    drawn = [one for one in entries if not one.line]
    alone = drawn[0] if len(drawn) == 1 else None
    untrained = alone.untrained if alone else None
    extra = Entry("untrained", 0, drawn[0].runs, (untrained,)) if untrained and drawn else None
    xs = [n for one in drawn for n in one.results[0].episodes] or [0, 1]
    shown = [*curves.values(), *([extra.curve()] if extra else [])]
    ys = [v for points in shown for p in points for v in (p.mean, p.low, p.high)]
    plot = axes(xs, ys, episodes=True)
    marks: list[Mark | None] = []
    legend: list[Key] = []
    if extra:
        marks += _curve(plot, extra, extra.curve(), "faint", digits)
        legend.append(faint_key("untrained"))
    for one in entries:
        points = curves[one.label]
        if one.line:
            marks.append(plot.level(points[-1].mean, one.line, f"{one.label}: {interval(points[-1], digits)}"))
            legend.append(level_key(f"{REFERENCES[one.line]}", one.line))
            continue
        for seed in one.scores.mean(axis=1) if len(one.results) > 1 else ():
            marks.append(plot.line(one.results[0].episodes, [float(v) for v in seed], f"thin {colour(one.series)}"))
        marks += _curve(plot, one, points, colour(one.series), digits)
        legend.append(line_key(one.label, one.series))
    several = " Thin lines are single seeds." if any(len(one.results) > 1 for one in drawn) else ""
    return Chart(
        title="Return while adapting",
        alt=f"Return per episode against adaptation episodes. {_in_words(entries, curves, digits)}",
        caption=f"Mean over {counts} that training never saw; bands are 95 % intervals over tasks.{several}"
        if entries[0].results[0].split != "train"
        else f"Mean over {counts}; bands are 95 % intervals over tasks.{several}",
        x_label="adaptation episodes per task",
        y_label="return per episode",
        x_ticks=plot.x_ticks,
        y_ticks=plot.y_ticks,
        marks=[mark for mark in marks if mark],
        legend=legend,
        frame=plot.frame,
        size=plot.size,
    )


def _curve(plot: Axes, one: Entry, points: Sequence[Interval], style: str, digits: int) -> list[Mark | None]:
    xs = one.results[0].episodes
    return [
        plot.band(xs, [p.low for p in points], [p.high for p in points], style),
        plot.line(xs, [p.mean for p in points], style),
        *(
            plot.point(x, p.mean, one.series, style, f"{one.label}, {counted(x, 'episodes')}: {interval(p, digits)}")
            for x, p in zip(xs, points, strict=True)
        ),
    ]


def _success_chart(entries: Sequence[Entry], at: str) -> Chart:
    """Success rates while adapting, at the last or at any step."""
    rates = {one.label: one.success("last" if at == "last" else "any") for one in entries}
    drawn = [one for one in entries if not one.line]
    xs = [n for one in drawn for n in one.results[0].episodes] or [0, 1]
    plot = axes(xs, [0.0, 1.0], episodes=True, y_limits=(-0.02, 1.02))
    marks: list[Mark | None] = []
    for one in entries:
        if one.line:
            marks.append(
                plot.level(rates[one.label][-1].mean, one.line, f"{one.label}: {interval(rates[one.label][-1])}")
            )
        else:
            marks += _curve(plot, one, rates[one.label], colour(one.series), 2)
    where = "at the last step" if at == "last" else "at any step"
    words = "; ".join(f"{label}: {interval(points[-1])} at the end" for label, points in rates.items())
    return Chart(
        title=f"Success {where}",
        alt=f"Share of successful episodes against adaptation episodes. {words}.",
        caption=f"Share of episodes with success {where}; bands are 95 % intervals over tasks.",
        x_label="adaptation episodes per task",
        y_label="success rate, 0 to 1",
        x_ticks=plot.x_ticks,
        y_ticks=plot.y_ticks,
        marks=[mark for mark in marks if mark],
        legend=[level_key(one.label, one.line) if one.line else line_key(one.label, one.series) for one in entries],
        frame=plot.frame,
        size=plot.size,
    )


def _in_words(entries: Sequence[Entry], curves: dict[str, list[Interval]], digits: int) -> str:
    said = []
    for one in entries:
        points = curves[one.label]
        first = f"{interval(points[0], digits)} at first, " if len(points) > 1 and not one.line else ""
        said.append(f"{one.label}: {first}{interval(points[-1], digits)} at the end")
    return "; ".join(said) + "."


def _agents(entries: Sequence[Entry], digits: int, counts: str) -> Table:
    """The main table, one row per agent."""
    columns = ["agent", "seeds", "first *", "after adaptation", "gain, paired"]
    success = bool(entries[0].success("last"))
    columns += ["success, last step", "success, any step"] if success else []
    shares = {one.label: one.share(entries) for one in entries}
    columns += ["share of the gap"] if any(shares.values()) else []
    rows = []
    for one in entries:
        points = one.curve()
        row = [one.label, str(len(one.results)), interval(points[0], digits), interval(points[-1], digits)]
        row.append(interval(one.gain(), digits, "+"))
        row += [interval(one.success("last")[-1]), interval(one.success("any")[-1])] if success else []
        row += [interval(shares[one.label])] if any(shares.values()) else []
        rows.append(row)
    gap = " Share of the gap: 0 is multitask, which cannot tell tasks apart; 1 is the oracle, which observes the task."
    caption = f"Return per episode, mean [95 % interval over {counts}]. * {FIRST}.{gap if any(shares.values()) else ''}"
    return Table(caption, columns, rows)


def _differences(entries: Sequence[Entry], digits: int) -> Table | None:
    """The first agent minus the others, paired by task; None for a single agent."""
    first, *others = entries
    if not others:
        return None
    rows = [[one.label, interval(first.minus(one), digits, "+")] for one in others]
    caption = f"Return of {first.label} after adaptation minus that of each other agent, paired by task [95 % interval]"
    return Table(caption, ["other agent", f"{first.label} minus it"], rows)


def _seeds(entries: Sequence[Entry], digits: int) -> Table:
    """Intervals over tasks, over seeds and over both, for agents with several seeds."""
    rows = []
    for one in (one for one in entries if len(one.results) > 1):
        singles = [float(aggregate(score[None], "mean")[-1]) for score in one.scores]
        over = [interval(intervals(one.scores, o, "mean")[-1], digits) for o in OVERS]
        rows.append([one.label, *over, ", ".join(number(value, digits) for value in singles)])
    caption = "Return after adaptation with 95 % intervals by source of error: new tasks, new trainings, or both"
    return Table(caption, ["agent", *(f"over {o}" for o in OVERS), "single seeds"], rows)


def _points(one: Entry, digits: int) -> Table:
    """Every point of a curve."""
    result, points = one.results[0], one.curve()
    last, some = one.success("last"), one.success("any")
    columns = ["k", "adaptation episodes", "return"]
    columns += ["success, last step", "success, any step"] if some else []
    rows = [
        [str(k), f"{result.episodes[k]:,}", interval(p, digits)]
        + ([interval(last[k]), interval(some[k])] if some else [])
        for k, p in enumerate(points)
    ]
    return Table(f"{one.label}: return per episode, mean [95 % interval over tasks]", columns, rows)
