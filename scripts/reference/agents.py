"""Agents whose updates are written out plainly, task after task or step after step, for others to be held against."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

REFERENCES: Mapping[str, str] = {
    "maml-trpo": "metarl.scripts.reference.maml_trpo:LoopMamlTrpo",
}
"""By the name of the agent, its reference: a subclass that gives the same update, only slower."""


def reference_class(agent: str) -> type[Any]:
    """The reference of an agent.

    Raises:
        ValueError: There is none.
    """
    if agent not in REFERENCES:
        raise ValueError(f"agent: got {agent!r}, expected one that has a reference: {', '.join(REFERENCES)}")
    module, _, name = REFERENCES[agent].partition(":")
    kind: type[Any] = getattr(importlib.import_module(module), name)
    return kind
