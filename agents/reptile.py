"""Reptile: moves the initial parameters toward the mean of the adapted parameters.

Nichol, Achiam and Schulman 2018, "On First-Order Meta-Learning Algorithms" (arXiv:1803.02999), the batched version. The
page `docs/reptile.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metarl.config import Positive, Rounds
from metarl.learning.gradient.adaptation import adapted_by_policy_gradient
from metarl.learning.gradient.agent import GradientAgent, GradientAgentConfig
from metarl.learning.gradient.policy import task_chunks
from metarl.types import MetaBatch, Trajectories


@dataclass(frozen=True, kw_only=True)
class ReptileConfig(GradientAgentConfig):
    """Settings of Reptile."""

    inner_steps: Rounds = 3
    """Adaptation steps, each after a fresh collect (the outer step adds one more); usually 2 to 10."""
    outer_lr: Positive = 1.0
    """Step size of the outer loop (epsilon); 1 moves to the mean of the adapted parameters; usually 0.1 to 1."""


def reptile_step(parameters: Tensor, adapted_mean: Tensor, step_size: float) -> Tensor:
    """`theta + epsilon * mean over tasks of (theta_i - theta)`, `[P]` (equation 5 of the third arXiv version)."""
    return parameters + step_size * (adapted_mean - parameters)


class Reptile(GradientAgent[ReptileConfig]):
    """Reptile as a `metarl.agent.MetaAgent`; its state is an `AdaptedPolicy`."""

    Config: ClassVar[type] = ReptileConfig
    summary: ClassVar[str] = "moves toward the mean of the adapted parameters (Nichol et al. 2018)"

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """One step toward the mean of the adapted parameters.

        The last collect, made after the last adaptation, adds one more inner step: Reptile does not use it otherwise,
        and with a single inner step it would be joint training on all tasks.
        """
        num_tasks = len(batch.tasks)
        samples = [self.samples(t) for t in batch.collects]
        totals, distances = [], []
        for part in task_chunks(num_tasks, samples[0].weights.shape[1], self.policy.widths, self.device):
            chunk = [s.tasks(part) for s in samples]
            end = adapted_by_policy_gradient(self.policy, chunk, self.parameters, self.config.inner_lr)
            totals.append(end.sum(dim=0))
            distances.append((end - self.parameters).norm(dim=1).sum())
        moved = reptile_step(self.parameters, torch.stack(totals).sum(dim=0) / num_tasks, self.config.outer_lr)
        moved = self.policy.bound.project_(moved)
        step_norm = float((moved - self.parameters).norm())
        self.parameters = moved
        self.update_statistics(batch.collects)
        return {
            "update/step_norm": step_norm,
            "update/inner_distance": float(torch.stack(distances).sum() / num_tasks),
            "policy/std": self.policy.std(self.parameters),
        }
