"""For each agent that has one, the class that makes the same update in the plain, slow way."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from metarl.agent import MetaAgent

REFERENCES: Mapping[str, str] = {
    "maml-trpo": "metarl.scripts.reference.maml_trpo:LoopMamlTrpo",
    "promp": "metarl.scripts.reference.promp:LoopPromp",
    "rl2": "metarl.scripts.reference.rl2:LoopRl2",
    "varibad": "metarl.scripts.reference.varibad:LoopVaribad",
    "pearl": "metarl.scripts.reference.pearl_update:PlainPearl",
}
"""From an agent's name to `module:class`."""


def reference_class(agent: str) -> type[MetaAgent[Any]]:
    """The plain version of an agent.

    Raises:
        ValueError: It has none; the message names the agents that have.
    """
    if agent not in REFERENCES:
        raise ValueError(f"reference: got agent {agent!r}, expected one of {', '.join(REFERENCES)}")
    module, _, name = REFERENCES[agent].partition(":")
    found: type[MetaAgent[Any]] = getattr(importlib.import_module(module), name)
    return found
