"""The section on the setting: tasks and their ranges, runs, evaluation, settings, versions and machines."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from metarl.names import without_folders
from metarl.report import counted, tasks_label
from metarl.scripts.report_page.blocks import Block, Fold, Section, Table, Text
from metarl.scripts.report_page.entries import RunFiles
from metarl.scripts.report_page.training import Trained
from metarl.tasks import TaskDistribution
from metarl.types import Task

LONGEST = 400
"""Characters of a setting that are shown."""


def section(
    trained: Sequence[Trained],
    summary: str,
    distribution: TaskDistribution,
    tasks: Sequence[Task],
    split: str,
    reward_version: str,
    notes: Sequence[str],
) -> Section:
    """Agents, tasks, settings, versions and machines.

    Args:
        trained: The agents.
        summary: The family in one line.
        distribution: Declares the parameters.
        tasks: The evaluated tasks.
        split: Label of their split.
        reward_version: Name of the reward function; empty if there is one only.
        notes: Notes of the evaluations.
    """
    first = trained[0].runs[0].config
    held = (
        "Training never draws one of the held-out tasks."
        if distribution.splits
        else "The family is too small to hold tasks out, so it is evaluated on training tasks."
    )
    evaluated = counted(len(tasks), tasks_label(split))
    lines = [f"{without_folders(first.family)}: {summary}. Evaluated on {evaluated}. {held}"]
    lines += [f"Reward: {reward_version}."] if reward_version else []
    blocks: list[Block] = [Text(line) for line in lines]
    blocks.append(_parameters(distribution))
    blocks.append(_runs(trained))
    blocks += [Text(f"Note: {note}.") for note in dict.fromkeys(notes) if not note.startswith("reward:")]
    blocks += [Fold(f"All settings of {one.label}", [_settings(one)]) for one in trained]
    blocks.append(Fold("Versions and machines", [_versions(trained)]))
    return Section("setup", "Setting: agents, tasks, versions", blocks)


def _parameters(distribution: TaskDistribution) -> Table:
    rows = [[p.name, "hidden" if p.hidden else "visible", p.meaning] for p in distribution.parameters]
    caption = "Parameters in which the tasks differ, with unit and range; hidden ones never reach an observation"
    return Table(caption, ["parameter", "the agent", "meaning and range"], rows, numeric=False)


def _runs(trained: Sequence[Trained]) -> Table:
    columns = ["run", "agent", "seed", "meta-batch", "training tasks", "device", "commit"]
    rows = []
    for one in trained:
        for run in one.runs:
            config: Any = run.config.training
            episodes = getattr(config, "episodes", None)
            batch = counted(config.tasks, "tasks")
            if episodes is not None:
                horizon = getattr(run.config.spaces, "horizon", 0)
                batch += f", {counted(episodes, 'episodes')} each of {counted(horizon, 'steps')}"
            finite = config.train_tasks
            commit = str((run.starts[-1] if run.starts else {}).get("commit") or "\u2013")
            rows.append(
                [
                    run.name,
                    run.config.agent,
                    str(config.seed),
                    batch,
                    f"a fixed set of {finite:,}" if finite else "drawn anew",
                    str(config.device),
                    commit[:10] + ("+" if commit.endswith("+") and len(commit) > 10 else ""),
                ]
            )
    return Table("The runs; + marks a commit with changes", columns, rows, numeric=False)


def _settings(one: Trained) -> Table:
    config = one.runs[0].config
    groups: tuple[tuple[str, Any], ...] = (("", config.training), ("agent.", config.agent_config))
    rows = [
        [f"{prefix}{field.name}", _shortened(getattr(settings, field.name))]
        for prefix, settings in groups
        for field in dataclasses.fields(settings)
    ]
    several = " (the seed is that of the first run)" if len(one.runs) > 1 else ""
    return Table(f"Settings of {one.label}, as in config.json{several}", ["setting", "value"], rows, numeric=False)


def _shortened(value: Any) -> str:
    text = str(list(value)) if isinstance(value, tuple) else str(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}\u2026"


def _versions(trained: Sequence[Trained]) -> Table:
    """Versions of packages and machines, one column per different set."""
    found: dict[str, tuple[dict[str, str], list[str]]] = {}
    for one in trained:
        for run in one.runs:
            sets: list[tuple[str, Any]] = [("trained", start) for start in run.starts[-1:]]
            sets += [("evaluated", run.evaluation.get("versions"))]
            for when, value in sets:
                flat = _flat(value)
                names = found.setdefault(repr(sorted(flat.items())), (flat, []))[1]
                names.append(f"{_name(one, run)} {when}")
    columns = [", ".join(names) if len(found) > 1 else "all runs" for _, names in found.values()]
    keys = list(dict.fromkeys(key for flat, _ in found.values() for key in flat))
    rows = [[key, *(flat.get(key, "\u2013") for flat, _ in found.values())] for key in keys]
    return Table("Versions of packages, and machines", ["", *columns], rows, numeric=False)


def _name(one: Trained, run: RunFiles) -> str:
    return f"{one.label}, seed {run.config.training.seed}" if len(one.runs) > 1 else one.label


def _flat(value: Any) -> dict[str, str]:
    """Versions as pairs of texts; empty if they have another form."""
    if not isinstance(value, Mapping):
        return {}
    parts: dict[str, str] = {}
    for group in ("packages", "machine"):
        pairs = value.get(group)
        if isinstance(pairs, Mapping):
            parts |= {str(key).replace("_", " "): "none" if one is None else str(one) for key, one in pairs.items()}
    return {"python": str(value.get("python", "\u2013")), **parts}
