"""The base class of agents whose outer step is a trust-region step (MAML-TRPO and its relatives)."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from torch import Tensor

from metarl.learning.gradient.adaptation import Adaptation
from metarl.learning.gradient.agent import GradientAgent, GradientAgentConfig
from metarl.learning.gradient.meta_trust_region import TrustRegionConfig, linearise, meta_trust_region_step
from metarl.learning.gradient.policy import Samples
from metarl.types import MetaBatch, Trajectories


@dataclass(frozen=True, kw_only=True)
class TrustRegionAgentConfig(TrustRegionConfig, GradientAgentConfig):
    """Settings of an agent with a trust-region outer step."""


ConfigT = TypeVar("ConfigT", bound=TrustRegionAgentConfig)


class TrustRegionAgent(GradientAgent[ConfigT], Generic[ConfigT]):
    """Meta-learns by trust-region steps on the mean surrogate of the adapted policies.

    A subclass defines `_adaptation`, and `_meta_parameters` if it learns more than the initial parameters. It is built
    like a `GradientAgent`.
    """

    @property
    def _meta_parameters(self) -> Tensor:
        """Parameters of the outer loop, `[Q]`: by default the initial parameters, `[P]`."""
        return self.parameters

    @_meta_parameters.setter
    def _meta_parameters(self, meta_parameters: Tensor) -> None:
        self.parameters = meta_parameters

    @property
    def _task_bytes(self) -> int:
        """Bytes of each task's graph besides the policy's: none by default."""
        return 0

    @abstractmethod
    def _adaptation(self, samples: Sequence[Samples]) -> Adaptation:
        """The adaptation of some tasks from the current meta-parameters; `samples` has one entry per step."""

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """One trust-region step on the mean surrogate of the adapted policies."""
        samples = [self.samples(t) for t in batch.collects]
        chunks = linearise(self.policy, self._adaptation, samples, self._task_bytes)
        self._meta_parameters, metrics = meta_trust_region_step(
            self._meta_parameters, chunks, len(batch.tasks), self.config, self.policy.bound
        )
        self.update_statistics(batch.collects)
        return {**metrics, "policy/std": self.policy.std(self.parameters)}
