"""RL2 with its memory in a Python loop over time: the same update as `metarl.agents.rl2`, only slower."""

from __future__ import annotations

import copy

from metarl.agents.rl2 import Rl2
from metarl.scripts.reference.recurrence import step_by_step


def plain(agent: Rl2) -> Rl2:
    """A copy of the agent that passes through its trials step by step, one call of the cell per step."""
    twin = copy.deepcopy(agent)
    step_by_step(twin.network.cell)
    return twin
