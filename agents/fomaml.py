"""First-order MAML with a trust-region outer step: MAML that takes the gradients of the adaptation to be constant.

Finn, Abbeel and Levine 2017 (arXiv:1703.03400), section 5.2 (the first-order approximation), with the outer step of
MAML-TRPO. The page `docs/fomaml.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from metarl.learning.gradient.agent import GradientAgent, GradientAgentConfig
from metarl.learning.gradient.inner_loop import pull_back, push_forward
from metarl.learning.gradient.losses import adapted_by_policy_gradient, first_order_steps
from metarl.learning.gradient.meta_trust_region import TrustRegionConfig, linearise, meta_trust_region_step
from metarl.learning.gradient.policy import Samples, StackedPolicy
from metarl.types import MetaBatch, Trajectories


@dataclass(frozen=True, kw_only=True)
class FomamlConfig(TrustRegionConfig, GradientAgentConfig):
    """Settings of first-order MAML."""


class FirstOrderAdaptation:
    """Some tasks' adaptation from shared initial parameters, its gradients taken to be constant.

    The Jacobian is then the identity, but for the entries that a projection moved: there it is zero.

    Args:
        policy: The policy.
        parameters: The initial parameters, `[P]`.
        samples: One per step, of these tasks.
        inner_lr: Step size of the inner loop.
    """

    def __init__(self, policy: StackedPolicy, parameters: Tensor, samples: Sequence[Samples], inner_lr: float) -> None:
        self._policy, self._samples, self._inner_lr = policy, samples, inner_lr
        self._num_tasks = len(samples[0].observations)
        self._steps = first_order_steps(policy, samples, parameters.expand(self._num_tasks, -1).contiguous(), inner_lr)

    @property
    def end(self) -> Tensor:
        """Parameters after the last step, `[M, P]`."""
        return self._steps[-1].end

    def push(self, v: Tensor) -> Tensor:
        """`v` for each task, `[M, P]`, but for what a projection moved; `v` is `[P]`."""
        return push_forward(self._steps, v.expand(self._num_tasks, -1))

    def pull(self, w: Tensor) -> Tensor:
        """Sum over the tasks of `w` `[M, P]`, but for what a projection moved: `[P]`."""
        return pull_back(self._steps, w).sum(dim=0)

    def adapted_from(self, meta_parameters: Tensor) -> Tensor:
        """Where the same samples lead from other initial parameters, `[M, P]`."""
        start = meta_parameters.expand(self._num_tasks, -1).contiguous()
        return adapted_by_policy_gradient(self._policy, self._samples, start, self._inner_lr)


class Fomaml(GradientAgent[FomamlConfig]):
    """First-order MAML as a `metarl.agent.MetaAgent`; its state is an `AdaptedPolicy`."""

    Config: ClassVar[type] = FomamlConfig
    summary: ClassVar[str] = "maml-trpo without second derivatives (Finn et al. 2017, section 5.2)"

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """One trust-region step along the gradients at the adapted parameters."""
        samples = [self._samples(t) for t in batch.collects]
        chunks = linearise(
            self._policy,
            lambda own: FirstOrderAdaptation(self._policy, self._parameters, own, self.config.inner_lr),
            samples,
        )
        self._parameters, metrics = meta_trust_region_step(
            self._parameters, chunks, len(batch.tasks), self.config, self._policy.bound
        )
        self._update_statistics(batch.collects)
        return {**metrics, "policy/std": self._policy.std(self._parameters)}
