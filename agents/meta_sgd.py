"""Meta-SGD: learns initial parameters and, for each of them, the step size of the adaptation.

Li, Zhou, Chen and Li 2017, "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning" (arXiv:1707.09835),
algorithm 2, with a trust-region outer step over both. The page `docs/meta-sgd.md` has the equations and every detail
that changes a result.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from metarl.config import NonNegative
from metarl.learning.gradient.agent import AdaptedPolicy, GradientAgent, GradientAgentConfig
from metarl.learning.gradient.losses import adapted_by_policy_gradient, policy_gradient_steps
from metarl.learning.gradient.meta_trust_region import TrustRegionConfig, linearise, meta_trust_region_step
from metarl.learning.gradient.policy import Samples, StackedPolicy
from metarl.types import MetaBatch, Spaces, Trajectories


@dataclass(frozen=True, kw_only=True)
class MetaSgdConfig(TrustRegionConfig, GradientAgentConfig):
    """Settings of Meta-SGD."""

    inner_lr: NonNegative = 0.1
    """Step size of every parameter at the start of training; usually 0.01 to 0.5."""


class MetaSgdAdaptation:
    """Some tasks' adaptation from shared initial parameters with shared step sizes, differentiable in both.

    A step is `theta_(k+1) = project(theta_k - alpha * g_k)`, with the differential
    `d theta_(k+1) = D_k ((I - diag(alpha) H_k) d theta_k - g_k * d alpha)`; see `InnerStep`.

    Args:
        policy: The policy.
        meta_parameters: Initial parameters and step sizes, joined, `[2 P]`.
        samples: One per step, of these tasks.
    """

    def __init__(self, policy: StackedPolicy, meta_parameters: Tensor, samples: Sequence[Samples]) -> None:
        self._policy, self._samples = policy, samples
        self._num_tasks = len(samples[0].observations)
        parameters, rates = meta_parameters.chunk(2)
        start = parameters.expand(self._num_tasks, -1).contiguous()
        self._steps = policy_gradient_steps(policy, samples, start, rates)

    @property
    def end(self) -> Tensor:
        """Parameters after the last step, `[M, P]`."""
        return self._steps[-1].end

    def push(self, v: Tensor) -> Tensor:
        """Jacobian times a tangent `[2 P]`, for each task `[M, P]`."""
        start, rates = v.chunk(2)
        tangent = start.expand(self._num_tasks, -1)
        for step in self._steps:
            tangent = step.push(tangent, rates)
        return tangent

    def pull(self, w: Tensor) -> Tensor:
        """Transposed Jacobian times cotangents `[M, P]`, summed over the tasks, `[2 P]`."""
        rates = torch.zeros_like(w[0])
        for step in reversed(self._steps):
            w = step.through_projection(w)
            rates = rates - (w * step.gradient).sum(dim=0)
            w = step.pull(w)
        return torch.cat([w.sum(dim=0), rates])

    def adapted_from(self, meta_parameters: Tensor) -> Tensor:
        """Where the same samples lead from other initial parameters with other step sizes, `[M, P]`."""
        parameters, rates = meta_parameters.chunk(2)
        start = parameters.expand(self._num_tasks, -1).contiguous()
        return adapted_by_policy_gradient(self._policy, self._samples, start, rates)


class MetaSgd(GradientAgent[MetaSgdConfig]):
    """Meta-SGD as a `metarl.agent.MetaAgent`; its state is an `AdaptedPolicy`.

    Args:
        config: The settings.
        spaces: Sizes and action bounds of the environments.
        device: Where the meta-update and the policy run.
        rng: Source of the initial parameters.
    """

    Config: ClassVar[type] = MetaSgdConfig
    summary: ClassVar[str] = "adapts by policy gradient with a learned step size per parameter (Li et al. 2017)"

    def __init__(self, config: MetaSgdConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator):
        super().__init__(config, spaces, device=device, rng=rng)
        self._rates = torch.full_like(self._parameters, config.inner_lr)  # [P]

    def adapt(self, state: AdaptedPolicy, trajectories: Trajectories) -> AdaptedPolicy:
        """One inner gradient step per task, with the learned step sizes."""
        samples = [self._samples_for(state, trajectories)]
        return AdaptedPolicy(adapted_by_policy_gradient(self._policy, samples, state.parameters, self._rates))

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """One trust-region step over initial parameters and step sizes together."""
        samples = [self._samples(t) for t in batch.collects]
        meta_parameters = torch.cat([self._parameters, self._rates])
        chunks = linearise(self._policy, lambda own: MetaSgdAdaptation(self._policy, meta_parameters, own), samples)
        meta_parameters, metrics = meta_trust_region_step(
            meta_parameters, chunks, len(batch.tasks), self.config, self._policy.bound
        )
        self._parameters, self._rates = (part.clone() for part in meta_parameters.chunk(2))
        self._update_statistics(batch.collects)
        return {
            **metrics,
            "rates/mean": float(self._rates.mean()),
            "rates/std": float(self._rates.std()),
            "rates/negative": float((self._rates < 0).float().mean()),
            "policy/std": self._policy.std(self._parameters),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, step sizes and running statistics."""
        return {**super().tensors(), "rates": self._rates.detach().cpu()}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Takes back what `tensors` gave.

        Raises:
            ValueError: Names or shapes do not fit this agent.
        """
        super().restore(tensors, counters)
        self._rates = tensors["rates"].to(self._device)
