"""VariBAD with a recurrence in a Python loop over time: the same update as `metarl.agents.varibad`, only slower."""

from __future__ import annotations

import copy

from metarl.agents.varibad import Varibad
from metarl.scripts.reference.recurrence import Stepwise


def plain(agent: Varibad) -> Varibad:
    """A copy of the agent that infers its beliefs step by step, one call of the encoder's cell per step."""
    twin = copy.deepcopy(agent)
    encoder = twin.network.encoder  # the one that `twin.vae` trains
    encoder.add_module("cell", Stepwise(encoder.cell))
    return twin
