"""RL2 whose recurrence is a Python loop over time, one call of the cell per step.

It makes the same update as `metarl.agents.rl2`, only slower.
"""

from __future__ import annotations

import numpy as np
import torch

from metarl.agents.rl2 import Rl2, Rl2Config
from metarl.scripts.reference.recurrence import Stepwise
from metarl.types import Spaces


class LoopRl2(Rl2):
    """RL2 that passes through its trials step by step; the arguments are those of `Rl2`."""

    def __init__(self, config: Rl2Config, spaces: Spaces, *, device: torch.device, rng: np.random.Generator) -> None:
        super().__init__(config, spaces, device=device, rng=rng)
        self._network.add_module("cell", Stepwise(self._network.cell))
