"""Reptile: moves the initial parameters toward the mean of what the tasks adapted them to.

Nichol, Achiam and Schulman 2018, "On First-Order Meta-Learning Algorithms" (arXiv:1803.02999), the batched version. The
page `docs/reptile.md` has the equations and every detail that changes a result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from metarl.config import Positive, Rounds
from metarl.learning.gradient.agent import GradientAgent, GradientAgentConfig
from metarl.learning.gradient.losses import adapted_by_policy_gradient
from metarl.learning.gradient.policy import task_chunks
from metarl.types import MetaBatch, Trajectories


@dataclass(frozen=True, kw_only=True)
class ReptileConfig(GradientAgentConfig):
    """Settings of Reptile."""

    inner_steps: Rounds = 3
    """Adaptation steps, each after a fresh collect (the outer step counts one more); usually 2 to 10."""
    outer_lr: Positive = 1.0
    """Fraction of the way to the mean of the adapted parameters (epsilon in the paper); usually 0.1 to 1."""


def reptile_step(parameters: Tensor, adapted_mean: Tensor, outer_lr: float) -> Tensor:
    """`theta + epsilon * mean over tasks of (theta_i - theta)`, `[P]` (equation 5 of the third arXiv version)."""
    return parameters + outer_lr * (adapted_mean - parameters)


class Reptile(GradientAgent[ReptileConfig]):
    """Reptile as a `metarl.agent.MetaAgent`; its state is an `AdaptedPolicy`."""

    Config: ClassVar[type] = ReptileConfig
    summary: ClassVar[str] = "moves toward the mean of the adapted parameters (Nichol et al. 2018)"

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """One step toward the mean of the adapted parameters.

        The last collect, made after the last adaptation, gives one more inner step: Reptile has no other use
        for it, and with a single step it would be plain training on all tasks at once.
        """
        num_tasks = len(batch.tasks)
        samples = [self._samples(t) for t in batch.collects]
        totals, distances = [], []
        for part in task_chunks(num_tasks, samples[0].weights.shape[1], self._policy.widths, self._device):
            chunk = [s.tasks(part) for s in samples]
            start = self._parameters.expand(len(chunk[0].weights), -1).contiguous()
            end = adapted_by_policy_gradient(self._policy, chunk, start, self.config.inner_lr)
            totals.append(end.sum(dim=0))
            distances.append((end - start).norm(dim=1).sum())
        moved = reptile_step(self._parameters, torch.stack(totals).sum(dim=0) / num_tasks, self.config.outer_lr)
        moved = self._policy.bound.project_(moved)
        step_norm = float((moved - self._parameters).norm())
        self._parameters = moved
        self._update_statistics(batch.collects)
        return {
            "update/step_norm": step_norm,
            "update/inner_distance": float(torch.stack(distances).sum() / num_tasks),
            "policy/std": self._policy.std(self._parameters),
        }
