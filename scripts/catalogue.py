"""`metarl list`: agents, families and presets."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from metarl.registry import AGENTS, FAMILIES, agent_class, make_family, names
from metarl.scripts.common import border, end_with_json, parse
from metarl.scripts.presets import PRESETS, PUBLISHED


@dataclass(frozen=True, kw_only=True)
class ListCommand:
    """Lists agents, families and presets."""

    json: bool = False
    """Print one line of JSON in place of the tables."""


def catalogue() -> dict[str, Any]:
    """Agents, families and presets as a JSON value."""
    families = []
    for name in names(FAMILIES):
        try:
            families.append(make_family(name))
        except Exception as error:  # another package's code must not hide what else there is
            print(f"warning: family {name!r} cannot be made ({type(error).__name__}: {error})", file=sys.stderr)
    return {
        "agents": [{"name": name, "summary": agent_class(name).summary} for name in names(AGENTS)],
        "families": [
            {
                "name": family.name,
                "summary": family.summary,
                "horizon": family.horizon,
                "splits": family.distribution.splits,
                "parameters": [
                    {"name": p.name, "meaning": p.meaning, "hidden": p.hidden} for p in family.distribution.parameters
                ],
            }
            for family in families
        ],
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
    }


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
        end_with_json(found)
        return 0
    for family in found["families"]:
        family["parameters"] = "; ".join(
            f"{p['name']} ({'hidden' if p['hidden'] else 'visible'}): {p['meaning']}" for p in family["parameters"]
        )
    for one in found["presets"]:
        for key in ("training", "agent_settings"):
            one[key] = ", ".join(f"{name}={value}" for name, value in one[key].items())
    console = Console(width=None if sys.stdout.isatty() else 160)
    for title, rows in found.items():
        console.print(_table(title, rows))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
