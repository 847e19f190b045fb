"""ProMP as it is usually written: task after task in a Python loop, with double backward through everything.

It makes the same update as `metarl.agents.promp`, only slower: the adapted parameters of all tasks stay in one
autograd graph, and the objective's gradient goes back through it to the initial parameters.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor

from metarl.agents.promp import OuterObjective, Promp, PrompConfig, clipped_objective
from metarl.learning.gradient.agent import AdaptedPolicy
from metarl.learning.gradient.losses import mean_divergence, probability_ratio, surrogate_objective
from metarl.learning.gradient.policy import Samples, StackedPolicy
from metarl.learning.networks.distributions import Distribution
from metarl.scripts.reference.policy import PlainPolicy, projected
from metarl.types import Trajectories


def one_step(
    policy: StackedPolicy,
    new: Distribution,
    old: Distribution,
    samples: Samples,
    start: Tensor,
    inner_lr: float,
    create_graph: bool,
) -> Tensor:
    """One task's parameters after an inner step, `[1, P]`; `new` is the policy at `start` `[1, P]`, with its graph.

    They are differentiable in what `start` depends on if asked to; else they are a leaf.
    """
    loss = -surrogate_objective(new, old, samples).sum()
    (gradient,) = torch.autograd.grad(loss, start, create_graph=create_graph)
    end = projected(policy, start - inner_lr * gradient)
    return end if create_graph else end.detach().requires_grad_()


def old_policies(
    policy: StackedPolicy, parameters: Tensor, samples: Sequence[Samples], inner_lr: float
) -> list[Distribution]:
    """The policies that collected one task's samples, without history; it began with the parameters `[P]`."""
    at, policies = parameters[None].detach().requires_grad_(), []
    for k, one in enumerate(samples):
        new = policy(at, one.observations)
        policies.append(new.detach())
        if k + 1 < len(samples):
            at = one_step(policy, new, policies[-1], one, at, inner_lr, create_graph=False)
    return policies


class LoopObjective:
    """The outer objective of all tasks, around the policies that collected their samples.

    Args:
        policy: The policy.
        parameters: The initial parameters that the samples were collected with, `[P]`.
        samples: One per collect, of all tasks.
        config: Step size, clipping, penalty.
    """

    def __init__(
        self, policy: StackedPolicy, parameters: Tensor, samples: Sequence[Samples], config: PrompConfig
    ) -> None:
        self._policy, self._config = policy, config
        self._samples = [[s.tasks(slice(i, i + 1)) for s in samples] for i in range(len(samples[0].weights))]
        self._old = [old_policies(policy, parameters, own, config.inner_lr) for own in self._samples]

    def _adapted(self, task: int, parameters: Tensor, create_graph: bool) -> tuple[Distribution, Tensor]:
        """One task's policy after adaptation from the parameters `[P]`, and the mean divergence before each step."""
        at, divergences = parameters[None], []
        *before, last = zip(self._samples[task], self._old[task], strict=True)
        for samples, old in before:
            new = self._policy(at, samples.observations)
            divergences.append(mean_divergence(new, old, samples).sum())
            at = one_step(self._policy, new, old, samples, at, self._config.inner_lr, create_graph)
        return self._policy(at, last[0].observations), torch.stack(divergences).mean()

    def _objective(self, task: int, new: Distribution, inner: Tensor) -> tuple[Tensor, Tensor]:
        """One task's objective, a scalar, and the probability ratios `[1, B]`."""
        samples, old = self._samples[task][-1], self._old[task][-1]
        ratio = probability_ratio(new, old.log_prob(samples.actions), samples)
        gain = clipped_objective(ratio, samples, self._config.clip).sum()
        return gain - self._config.inner_kl_penalty * inner, ratio

    def gradient(self, parameters: Tensor) -> Tensor:
        """Gradient of the objective with respect to the initial parameters, `[P]`, back through all inner steps."""
        leaf, objectives = parameters.detach().requires_grad_(), []
        for task in range(len(self._samples)):
            objective, _ = self._objective(task, *self._adapted(task, leaf, create_graph=True))
            objectives.append(objective)
        (gradient,) = torch.autograd.grad(torch.stack(objectives).sum(), leaf)
        return gradient

    def evaluate(self, parameters: Tensor) -> Tensor:
        """Summed over the tasks: objective, divergence after and before adaptation, clipped fraction, `[4]`."""
        leaf, numbers = parameters.detach().requires_grad_(), []
        for task in range(len(self._samples)):
            last, old = self._samples[task][-1], self._old[task][-1]
            new, inner = self._adapted(task, leaf, create_graph=False)
            objective, ratio = self._objective(task, new, inner)
            outer = mean_divergence(new, old, last).sum()
            clipped = (last.weights * ((ratio - 1.0).abs() > self._config.clip)).sum()
            numbers.append(torch.stack([objective, outer, inner, clipped]).detach())
        return torch.stack(numbers).sum(dim=0)


class LoopPromp(Promp):
    """ProMP that adapts and differentiates task after task."""

    Policy: ClassVar[type[StackedPolicy]] = PlainPolicy

    def adapt(self, state: AdaptedPolicy, trajectories: Trajectories) -> AdaptedPolicy:
        """One inner gradient step per task; the old policy is the one that acted."""
        samples, ends = self._samples(trajectories), []
        for i in range(len(samples.weights)):
            own, start = samples.tasks(slice(i, i + 1)), state.parameters[i : i + 1].detach().requires_grad_()
            new = self._policy(start, own.observations)
            rate = self.config.inner_lr
            ends.append(one_step(self._policy, new, new.detach(), own, start, rate, create_graph=False))
        return AdaptedPolicy(torch.cat(ends).detach())

    def _objectives(self, samples: Sequence[Samples]) -> Sequence[OuterObjective]:
        return [LoopObjective(self._policy, self._parameters, samples, self.config)]
