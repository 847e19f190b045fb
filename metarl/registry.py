"""Finding agents and families by name, through Python entry points.

This package announces its own in `pyproject.toml`, under the groups `metarl.agents` and `metarl.families`;
any other package can do the same.
"""

from __future__ import annotations

import difflib
import importlib
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from metarl.agent import MetaAgent
from metarl.tasks import Family

AGENTS, FAMILIES = "metarl.agents", "metarl.families"


def names(group: str) -> list[str]:
    """What is announced under a group, sorted."""
    return sorted({point.name for point in entry_points(group=group)})


def _find(group: str, kind: str, name: str) -> EntryPoint:
    found = [point for point in entry_points(group=group) if point.name == name]
    if found:
        return found[0]
    near = difflib.get_close_matches(name, names(group), n=1, cutoff=0.0)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"unknown {kind} {name!r}.{hint} There are: {', '.join(names(group))}")


def agent_class(name: str) -> type[MetaAgent[Any]]:
    """The class of an agent.

    Raises:
        ValueError: There is none of that name; the message has the nearest.
    """
    loaded: type[MetaAgent[Any]] = _find(AGENTS, "agent", name).load()
    return loaded


def make_family(spec: str) -> Family:
    """A family from its name, or from `module:function` where the user named one.

    Only ever call this with `module:function` from the command line, never from a file: importing runs code.

    Raises:
        ValueError: There is none of that name (the message has the nearest), or the function gives no family.
    """
    if ":" in spec:
        module, _, function = spec.partition(":")
        try:
            factory = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"family {spec!r}: got {error}, expected an importable module:function") from error
    else:
        factory = _find(FAMILIES, "family", spec).load()
    family = factory()
    if not isinstance(family, Family):
        raise ValueError(f"family {spec!r}: got a {type(family).__name__}, expected a metarl.Family")
    return family
