"""RL2 with a recurrence in a Python loop over time: the same update as `metarl.agents.rl2`, only slower."""

from __future__ import annotations

import copy

from metarl.agents.rl2 import Rl2
from metarl.scripts.reference.recurrence import Stepwise


def plain(agent: Rl2) -> Rl2:
    """A copy of the agent that passes through its trials step by step, one call of the cell per step."""
    twin = copy.deepcopy(agent)
    twin.network.add_module("cell", Stepwise(twin.network.cell))
    return twin
