"""`metarl list`: agents, families, schemes of families and presets."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from metarl.registry import (
    AGENTS,
    FAMILIES,
    FEW_SHOT_FAMILIES,
    LEARNERS,
    SCHEMES,
    agent_class,
    announcement,
    find_entry,
    make_family,
    names,
    scheme,
)
from metarl.scripts.common import border, end_with_json, parse
from metarl.scripts.ending import run_as_process
from metarl.scripts.presets import PRESETS, PUBLISHED
from metarl.scripts.terminal import console
from metarl.tasks import Family


@dataclass(frozen=True, kw_only=True)
class ListCommand:
    """Lists agents, families, schemes of families and presets."""

    json: bool = False
    """Print one JSON line instead of the tables."""


def catalogue() -> dict[str, Any]:
    """Agents, families, schemes and presets as a JSON value; names that cannot be loaded are under `broken`."""
    broken: list[dict[str, str]] = []
    return {
        "agents": _rows(AGENTS, "agent", _agent_row, broken),
        "families": _rows(FAMILIES, "family", lambda name: _family_row(make_family(name)), broken),
        "schemes": _rows(SCHEMES, "scheme", _scheme_row, broken),
        "few_shot_learners": _rows(LEARNERS, "few-shot learner", _learner_row, broken),
        "few_shot_families": _rows(FEW_SHOT_FAMILIES, "few-shot family", _few_shot_row, broken),
        "presets": [
            {
                "agent": agent,
                "family": family,
                "preset": name,
                "training": p.training,
                "agent_settings": p.agent,
                "source": p.source,
            }
            for name, presets in (("default", PRESETS), ("published", PUBLISHED))
            for (agent, family), p in presets.items()
        ],
        "broken": broken,
    }


def _rows(
    group: str, kind: str, row_of: Callable[[str], dict[str, Any]], broken: list[dict[str, str]]
) -> list[dict[str, Any]]:
    """A row for each registered name; a name that raises is added to `broken`."""
    rows = []
    for name in names(group):
        try:
            rows.append(row_of(name))
        except (Exception, SystemExit) as error:
            problem = " ".join(f"{type(error).__name__}: {error}".split())
            broken.append({"kind": kind, "name": name, "announced_by": announcement(group, name), "problem": problem})
    return rows


def _agent_row(name: str) -> dict[str, Any]:
    return {"name": name, "summary": str(agent_class(name).summary)}


def _scheme_row(name: str) -> dict[str, Any]:
    return {"name": f"{name}:", "summary": scheme(name).usage}


def _learner_row(name: str) -> dict[str, Any]:
    return {"name": name, "summary": str(agent_class(name, LEARNERS).summary)}


def _few_shot_row(name: str) -> dict[str, Any]:
    """A row of its factory's docstring: some families need a subject, such as a folder, before they can be made."""
    point = find_entry(FEW_SHOT_FAMILIES, name)
    return {"name": name, "summary": " ".join((inspect.getdoc(point.load()) or "").partition("\n\n")[0].split())}


def _family_row(family: Family) -> dict[str, Any]:
    return {
        "name": str(family.name),
        "summary": str(family.summary),
        "horizon": int(family.horizon),
        "splits": bool(family.distribution.splits),
        "parameters": [
            {"name": str(p.name), "meaning": str(p.meaning), "hidden": bool(p.hidden)}
            for p in family.distribution.parameters
        ],
    }


TITLES = {"broken": "broken: registered by a package, but cannot be loaded"}


def _table(title: str, rows: list[dict[str, Any]]) -> Table:
    table = Table(*rows[0], title=title, title_justify="left")
    for row in rows:
        table.add_row(*map(str, row.values()))
    return table


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    with border():
        command = parse(ListCommand, "metarl list", sys.argv[1:] if arguments is None else arguments)
        found = catalogue()
    if command.json:
        for one in found["broken"]:
            kind, name, problem = (one[key] for key in ("kind", "name", "problem"))
            print(f"warning: {kind} {name!r} cannot be made ({problem})", file=sys.stderr)
        end_with_json(found)
        return 0
    for family in found["families"]:
        family["parameters"] = "; ".join(
            f"{p['name']} ({'hidden' if p['hidden'] else 'visible'}): {p['meaning']}" for p in family["parameters"]
        )
    for one in found["presets"]:
        for key in ("training", "agent_settings"):
            one[key] = ", ".join(f"{name}={value}" for name, value in one[key].items())
    terminal = console()
    for title, rows in found.items():
        if rows:
            terminal.print(_table(TITLES.get(title, title), rows))
    return 0


if __name__ == "__main__":
    run_as_process(main)
