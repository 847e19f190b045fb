"""Plain versions of agents: the same updates, computed in a slow and simple way."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any, cast

from metarl.agent import MetaAgent
from metarl.types import MetaBatch

REFERENCES: Mapping[str, str] = {
    "maml-trpo": "metarl.scripts.reference.maml_trpo:plain",
    "promp": "metarl.scripts.reference.promp:plain",
    "rl2": "metarl.scripts.reference.rl2:plain",
    "varibad": "metarl.scripts.reference.varibad:plain",
    "pearl": "metarl.scripts.reference.pearl_update:plain",
    "recurrent-sac": "metarl.scripts.reference.recurrent_sac:plain",
}
"""`module:function` by an agent's name; see `reference`."""


def reference(agent: str) -> Callable[[MetaAgent[Any]], MetaAgent[Any]]:
    """The function that makes the plain version of a built agent.

    The plain version is a copy with the same parameters, statistics and random numbers, which makes the same updates.
    The agent itself stays the same.

    Raises:
        ValueError: The agent has no plain version; the message names the agents that have one.
    """
    if agent not in REFERENCES:
        raise ValueError(f"reference: got agent {agent!r}, expected one of {', '.join(REFERENCES)}")
    module, _, name = REFERENCES[agent].partition(":")
    plain: Callable[[MetaAgent[Any]], MetaAgent[Any]] = getattr(importlib.import_module(module), name)
    return plain


class PlainAgent:
    """An agent with another `adapt` and another `meta_update`; everything else is the agent's own.

    Args:
        agent: The agent.
        adapt: Replaces `MetaAgent.adapt`.
        meta_update: Replaces `MetaAgent.meta_update`.
    """

    def __init__(
        self,
        agent: MetaAgent[Any],
        adapt: Callable[[Any, Any], Any],
        meta_update: Callable[[MetaBatch[Any]], dict[str, float]],
    ) -> None:
        self._agent, self.adapt, self.meta_update = agent, adapt, meta_update

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def actor(self) -> PlainAgent:
        """The agent itself, so that sampling uses the plain `adapt` too."""
        return self


def plain_agent(
    agent: MetaAgent[Any],
    *,
    adapt: Callable[[Any, Any], Any] | None = None,
    meta_update: Callable[[MetaBatch[Any]], dict[str, float]],
) -> MetaAgent[Any]:
    """An agent whose `meta_update`, and `adapt` if given, are replaced; see `PlainAgent`."""
    return cast(MetaAgent[Any], PlainAgent(agent, adapt or agent.adapt, meta_update))
