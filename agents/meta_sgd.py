"""Meta-SGD: learns initial parameters and one step size of the adaptation for each of them.

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
from metarl.learning.gradient.adaptation import adapted_by_policy_gradient, policy_gradient_steps
from metarl.learning.gradient.policy import Samples, StackedPolicy
from metarl.learning.gradient.trust_region_agent import TrustRegionAgent, TrustRegionAgentConfig
from metarl.types import MetaBatch, Spaces, Trajectories


@dataclass(frozen=True, kw_only=True)
class MetaSgdConfig(TrustRegionAgentConfig):
    """Settings of Meta-SGD."""

    inner_lr: NonNegative = 0.1
    """Initial step size of every parameter; usually 0.01 to 0.5."""


class MetaSgdAdaptation:
    """The adaptation of some tasks from shared initial parameters with shared step sizes, differentiable in both.

    A step is `theta_(k+1) = project(theta_k - alpha * g_k)`, with the differential
    `d theta_(k+1) = D_k ((I - diag(alpha) H_k) d theta_k - g_k * d alpha)`; see `InnerStep`.

    Args:
        policy: The policy.
        samples: One per step, of these tasks.
        meta_parameters: Initial parameters and step sizes, concatenated, `[2 P]`.
    """

    def __init__(self, policy: StackedPolicy, samples: Sequence[Samples], meta_parameters: Tensor) -> None:
        self._policy, self._samples = policy, samples
        self._steps = policy_gradient_steps(policy, samples, *meta_parameters.chunk(2))

    @property
    def end(self) -> Tensor:
        """Parameters after the last step, `[M, P]`."""
        return self._steps[-1].end

    def jvp(self, v: Tensor) -> Tensor:
        """Jacobian times a tangent `[2 P]`: `[M, P]`."""
        start, step_sizes = v.chunk(2)
        tangent = start.expand_as(self.end)
        for step in self._steps:
            tangent = step.jvp(tangent, step_sizes)
        return tangent

    def vjp(self, w: Tensor) -> Tensor:
        """Transposed Jacobian times cotangents `[M, P]`, summed over the tasks: `[2 P]`."""
        step_sizes = torch.zeros_like(w[0])
        for step in reversed(self._steps):
            w = step.through_projection(w)
            step_sizes = step_sizes - (w * step.gradient).sum(dim=0)
            w = step.vjp(w)
        return torch.cat([w.sum(dim=0), step_sizes])

    def adapted_from(self, meta_parameters: Tensor) -> Tensor:
        """Parameters after adaptation from other meta-parameters with the same samples, `[M, P]`."""
        return adapted_by_policy_gradient(self._policy, self._samples, *meta_parameters.chunk(2))


class MetaSgd(TrustRegionAgent[MetaSgdConfig]):
    """Meta-SGD as a `metarl.agent.MetaAgent`; its state is an `AdaptedPolicy`. It is built like a `GradientAgent`."""

    Config: ClassVar[type] = MetaSgdConfig
    summary: ClassVar[str] = "adapts by policy gradient with a learned step size per parameter (Li et al. 2017)"

    def __init__(self, config: MetaSgdConfig, spaces: Spaces, *, device: torch.device, rng: np.random.Generator):
        super().__init__(config, spaces, device=device, rng=rng)
        self._step_sizes = torch.full_like(self.parameters, config.inner_lr)  # [P]

    @property
    def step_size(self) -> Tensor:
        """Learned step sizes, `[P]`."""
        return self._step_sizes

    @property
    def _meta_parameters(self) -> Tensor:
        """Initial parameters and step sizes, concatenated, `[2 P]`."""
        return torch.cat([self.parameters, self._step_sizes])

    @_meta_parameters.setter
    def _meta_parameters(self, meta_parameters: Tensor) -> None:
        self.parameters, self._step_sizes = (part.clone() for part in meta_parameters.chunk(2))

    def _adaptation(self, samples: Sequence[Samples]) -> MetaSgdAdaptation:
        """Policy-gradient steps with the learned step sizes."""
        return MetaSgdAdaptation(self.policy, samples, self._meta_parameters)

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """One trust-region step over initial parameters and step sizes together."""
        return {
            **super().meta_update(batch),
            "rates/mean": float(self._step_sizes.mean()),
            "rates/std": float(self._step_sizes.std()),
            "rates/negative": float((self._step_sizes < 0).float().mean()),
        }

    def tensors(self) -> dict[str, Tensor]:
        """Parameters, step sizes and running statistics."""
        return {**super().tensors(), "rates": self._step_sizes.detach().cpu()}

    def restore(self, tensors: Mapping[str, Tensor], counters: Mapping[str, Any]) -> None:
        """Restores the arrays of `tensors`.

        Raises:
            ValueError: Names or shapes differ from this agent's.
        """
        super().restore(tensors, counters)
        self._step_sizes = tensors["rates"].to(self.device)
