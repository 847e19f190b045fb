"""VariBAD with its memory in a Python loop over time: the same update as `metarl.agents.varibad`, only slower."""

from __future__ import annotations

import copy

from metarl.agents.varibad import Varibad
from metarl.scripts.reference.recurrence import step_by_step


def plain(agent: Varibad) -> Varibad:
    """A copy of the agent that infers its beliefs step by step, one call of the encoder's cell per step."""
    twin = copy.deepcopy(agent)
    step_by_step(twin.network.encoder.cell)  # the one that `twin.vae` trains
    return twin
