"""The role of a few-shot learner."""

from __future__ import annotations

from typing import Any, Protocol, TypeVar

from torch import Tensor

from metarl.agent import MetaAgent
from metarl.few_shot.shots import Shots

StateT = TypeVar("StateT")


class FewShotLearner(MetaAgent[StateT], Protocol[StateT]):
    """An agent that learns from examples: it begins, adapts and updates itself, and predicts instead of acting.

    A trial is one support to adapt to, then the queries. An implementation inherits from this class, or from
    `metarl.learning.few_shot.base.Learner`, which is trained by Adam. Register it under the entry-point group
    `metarl.few_shot_learners`, or name it as `module:Class`.

    Attributes:
        spaces: `ShotSpaces`.
        adapts_in_steps: Whether adaptation is a sequence of steps on the support, so that an evaluation can vary their
            number (`adapt_in_steps`).
    """

    spaces: Any
    adapts_in_steps: bool = False

    @property
    def adaptation_steps(self) -> int:
        """1: the support, then the queries."""
        return 1

    def episodes_per_adaptation(self, episodes: int) -> int:
        """All examples of a task are pooled."""
        return episodes

    def adapt(self, state: StateT, shots: Shots) -> StateT:
        """The state after adapting to the support of each task.

        Args:
            state: The state before.
            shots: The support, any number of shots from 1 on.
        """
        ...

    def adapt_in_steps(self, state: StateT, shots: Shots, steps: int) -> StateT:
        """As `adapt`, with a given number of steps; only if `adapts_in_steps`."""
        ...

    def predict(self, state: StateT, x: Any) -> Tensor:
        """Predictions for inputs, without a graph; also before any adaptation.

        Args:
            state: The state of M tasks.
            x: Inputs, `[M, E, T, *x_shape]` NumPy.

        Returns:
            `[M, E, T, O]` on the learner's device: means of a regression, or probabilities of the classes.
        """
        ...
