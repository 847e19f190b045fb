"""Finding agents and families by name, through Python entry points.

This package announces its own in `pyproject.toml`, under the groups `metarl.agents` and `metarl.families`;
any other package can do the same.
"""

from __future__ import annotations

import difflib
import importlib
import inspect
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from metarl.agent import MetaAgent
from metarl.custom.family import PREFIX, gym_family
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


def is_own_code(spec: str) -> bool:
    """Whether a family is given as the user's own `module:function` (or `gym:module:ID`), not by an announced name."""
    if spec.startswith(PREFIX):
        return ":" in spec.removeprefix(PREFIX).partition("?")[0]
    return ":" in spec and spec.partition(":")[0] not in names(FAMILIES)


def make_family(spec: str) -> Family:
    """A family from its name, its name with options (`bandit:arms=10,pulls=100`), `gym:ID?...`, or `module:function`.

    Only ever call this with `module:function` from the command line, never from a file: importing runs code
    (`is_own_code` tells).

    Raises:
        ValueError: There is none of that name (the message has the nearest), it takes no such options, or the
            function gives no family.
    """
    name, _, argument = spec.partition(":")
    if spec.startswith(PREFIX):
        family: Any = gym_family(spec)
    elif is_own_code(spec):
        module, function = name, argument
        try:
            factory = getattr(importlib.import_module(module), function)
        except (ImportError, AttributeError, ValueError) as error:
            raise ValueError(f"family {spec!r}: got {error}, expected an importable module:function") from error
        family = factory()
    else:
        factory = _find(FAMILIES, "family", name).load()
        if argument and not inspect.signature(factory).parameters:
            raise ValueError(f"family {spec!r}: got options {argument!r}, but {name!r} takes none")
        family = factory(argument) if argument else factory()
    if not isinstance(family, Family):
        raise ValueError(f"family {spec!r}: got a {type(family).__name__}, expected a metarl.Family")
    return family
