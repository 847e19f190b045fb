"""VariBAD whose encoder's recurrence is a Python loop over time, one call of the cell per step.

It makes the same update as `metarl.agents.varibad`, only slower.
"""

from __future__ import annotations

import numpy as np
import torch

from metarl.agents.varibad import Varibad, VaribadConfig
from metarl.scripts.reference.recurrence import Stepwise
from metarl.types import Spaces


class LoopVaribad(Varibad):
    """VariBAD that infers its beliefs step by step; the arguments are those of `Varibad`."""

    def __init__(
        self, config: VaribadConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator
    ) -> None:
        super().__init__(config, spaces, device=device, rng=rng)
        self._vae.encoder.add_module("cell", Stepwise(self._vae.encoder.cell))
