"""The page of runs that adapt by episodes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from metarl.curves import adaptation_curve, success_rates
from metarl.intervals import Interval
from metarl.names import without_folders
from metarl.report import counted, first_label, last_label, tasks_label
from metarl.scripts.report_page import adaptation, setup, tasks, training
from metarl.scripts.report_page.blocks import Block, Film, Films, Page, Section, Text, number
from metarl.scripts.report_page.entries import Entry, digits_for
from metarl.tasks import Family, split_name


def page(
    entries: Sequence[Entry], family: Family, films: Sequence[Sequence[Film]], without_films: str, title: str, made: str
) -> Page:
    """The page.

    Args:
        entries: Agents; the first ones are not references.
        family: Their family.
        films: Films of each agent.
        without_films: Reason that there are none; empty if there are some, or none were wanted.
        title: Heading; empty for agents and family.
        made: Date and version.
    """
    main = [one for one in entries if not one.reference and not one.line] or list(entries[:1])
    result, config = entries[0].results[0], entries[0].runs[0].config
    trained = [training.Trained(one.label, one.series, one.runs, _names(one)) for one in entries]
    scored = [_scored(one) for one in main]
    within = main[0].results[0].adapts_within_episodes
    alike = len({one.results[0].adapts_within_episodes for one in main}) == 1
    words = tasks.Words(
        score="return",
        before=_moment(first_label(within)) if alike else "at first",
        after=_moment(last_label(within)) if alike else "after adaptation",
        digits=digits_for(entries),
        columns=("success, last step", "success, any step") if result.success is not None else (),
    )
    notes = [str(note) for one in entries for run in one.runs for note in _notes(run.evaluation)]
    sections = [
        adaptation.section(entries),
        tasks.section(scored, result.tasks, family.distribution, words, family.class_of),
        _films(films, without_films),
        training.section(trained, "return", "env steps", tasks_label(split_name(family.distribution, "tune"))),
        setup.section(
            trained, family.summary, family.distribution, result.tasks, result.split, family.reward_version, notes
        ),
    ]
    agents = ", ".join(dict.fromkeys(one.agent for one in main))
    return Page(
        title=title or f"{agents} on {without_folders(config.family)}",
        lead=f"{family.summary[:1].upper()}{family.summary[1:]}. {_lead(main, result.split, len(result.tasks))}",
        facts=[*adaptation.facts(main, entries), *training.cost(main[0].runs, "env steps")],
        sections=[section for section in sections if section],
        made=made,
    )


def _names(one: Entry) -> tuple[str, str]:
    within = one.results[0].adapts_within_episodes
    return first_label(within), last_label(within)


def _moment(label: str) -> str:
    """A label of the first or last point within a sentence."""
    return f"in the {label}" if label.endswith("episode") else label


def _notes(evaluation: Any) -> Sequence[Any]:
    """Notes of an evaluation on its own numbers; those on further references do not hold for the page."""
    notes = evaluation.get("notes")
    return [n for n in notes if not str(n).startswith("add --reference")] if isinstance(notes, list) else []


def _lead(main: Sequence[Entry], split: str, count: int) -> str:
    one = main[0]
    episodes = one.results[0].episodes[-1]
    adapted = f"adapted with {counted(episodes, 'episodes')}" if episodes else "adapted within an episode"
    seeds = f", {len(one.runs)} seeds" if len(one.runs) > 1 else ""
    if len(main) > 1:
        return f"{len(main)} agents compared on the same {count} {tasks_label(split)}."
    return f"Agent {one.agent}{seeds}, {adapted} to each of {count} {tasks_label(split)}."


def _scored(one: Entry) -> tasks.Scored:
    """Scores of an agent by task; statistics of some tasks by the functions of the evaluation."""
    result = one.pooled
    means = result.returns.mean(axis=2)

    def mean_of(rows: Sequence[int]) -> Interval:
        return adaptation_curve(result.of_tasks(rows))[-1]

    def cells(rows: Sequence[int]) -> list[str]:
        if result.success is None:
            return []
        some = result.of_tasks(rows)
        rates = success_rates(some, "last")[-1], success_rates(some)[-1]
        return [number(rate) if rate is not None else "\u2013" for rate in rates]

    last = result.last_step_success
    return tasks.Scored(
        label=one.label,
        series=one.series,
        before=means[:, 0] if means.shape[1] > 1 else None,
        after=means[:, -1],
        success=None if last is None else np.asarray(last[:, -1].mean(axis=1)),
        mean_of=mean_of,
        cells=cells,
    )


def _films(films: Sequence[Sequence[Film]], without: str) -> Section | None:
    blocks: list[Block] = [Films(pair) for pair in films]
    if without:
        blocks.append(Text(f"There are no films: {without}."))
    return Section("films", "Films before and after adaptation", blocks) if blocks else None
