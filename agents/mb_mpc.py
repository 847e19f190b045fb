"""Model-based control without adaptation: one model of the dynamics for all tasks, and planning with it.

The baseline of GrBAL (Nagabandi et al. 2019, arXiv:1803.11347), after Nagabandi et al. 2018 (arXiv:1708.02596): the
same model, data and planner, trained by the squared error of all transitions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metarl.config import Rows
from metarl.learning.planning.agent import PlanningAgent, PlanningConfig
from metarl.learning.planning.dynamics import Windows


@dataclass(frozen=True, kw_only=True)
class MbMpcConfig(PlanningConfig):
    """Settings of model-based control."""

    window: Rows = 16
    """Successive transitions of a window; shorter episodes are not learned from."""


class MbMpc(PlanningAgent[MbMpcConfig]):
    """Model-based control as a `metarl.agent.MetaAgent`; its state is `Plans`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds, and the declared reward.
        device: Device of the models.
        rng: Source of the initial parameters and of the minibatches.

    Raises:
        ValueError: Actions are discrete or unbounded, or the family declares no reward to plan with.
    """

    _name = "mb-mpc"
    Config: ClassVar[type] = MbMpcConfig
    summary: ClassVar[str] = "reference: plans with one model of the dynamics, without adaptation"

    @property
    def _past(self) -> int:
        return 0

    @property
    def _future(self) -> int:
        return self.config.window

    def _adapted(self, parameters: Tensor, past: Windows, *, exact: bool) -> Tensor:
        return parameters
