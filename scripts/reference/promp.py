"""ProMP as it is usually written: task after task in a Python loop, with double backward through everything.

It makes the same update as `metarl.agents.promp`, only slower: the adapted parameters of all tasks stay in one
autograd graph, and the objective's gradient goes back through it to the initial parameters.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor

from metarl.agent import MetaAgent
from metarl.agents.promp import Promp, PrompConfig, clipped_objective
from metarl.learning.gradient.agent import AdaptedPolicy
from metarl.learning.gradient.losses import mean_divergence, probability_ratio, surrogate_objective
from metarl.learning.gradient.policy import Samples
from metarl.learning.networks.distributions import Distribution
from metarl.scripts.reference.agents import plain_agent
from metarl.scripts.reference.policy import PlainPolicy
from metarl.types import MetaBatch, Trajectories


def one_step(
    policy: PlainPolicy,
    new: Distribution,
    old: Distribution,
    samples: Samples,
    start: Tensor,
    step_size: float,
    create_graph: bool,
) -> Tensor:
    """Parameters of one task after an inner step, `[1, P]`; `new` is the policy at `start` `[1, P]`, with its graph.

    They have a graph if `create_graph`; otherwise they are a leaf.
    """
    loss = -surrogate_objective(new, old, samples).sum()
    (gradient,) = torch.autograd.grad(loss, start, create_graph=create_graph)
    end = policy.projected(start - step_size * gradient)
    return end if create_graph else end.detach().requires_grad_()


def old_policies(
    policy: PlainPolicy, parameters: Tensor, samples: Sequence[Samples], step_size: float
) -> list[Distribution]:
    """The policies that collected the samples of one task, without a graph; the initial parameters are `[P]`."""
    at, policies = parameters[None].detach().requires_grad_(), []
    for k, one in enumerate(samples):
        new = policy(at, one.observations)
        policies.append(new.detach())
        if k + 1 < len(samples):
            at = one_step(policy, new, policies[-1], one, at, step_size, create_graph=False)
    return policies


class LoopObjective:
    """The outer objective of all tasks as a function of the initial parameters.

    Args:
        policy: The policy.
        parameters: Initial parameters that the samples were collected with, `[P]`.
        samples: One per collect, of all tasks.
        config: Step size, clipping, penalty.
    """

    def __init__(
        self, policy: PlainPolicy, parameters: Tensor, samples: Sequence[Samples], config: PrompConfig
    ) -> None:
        self._policy, self._config = policy, config
        self._samples = [[s.tasks(slice(i, i + 1)) for s in samples] for i in range(len(samples[0].weights))]
        self._old = [old_policies(policy, parameters, own, config.inner_lr) for own in self._samples]

    def _adapted(self, task: int, parameters: Tensor, create_graph: bool) -> tuple[Distribution, Tensor]:
        """One task's policy after adaptation from the parameters `[P]`, and the mean divergence before its steps."""
        at, divergences = parameters[None], []
        *before, last = zip(self._samples[task], self._old[task], strict=True)
        for samples, old in before:
            new = self._policy(at, samples.observations)
            divergences.append(mean_divergence(new, old, samples).sum())
            at = one_step(self._policy, new, old, samples, at, self._config.inner_lr, create_graph)
        return self._policy(at, last[0].observations), torch.stack(divergences).mean()

    def _objective(self, task: int, new: Distribution, inner: Tensor) -> tuple[Tensor, Tensor]:
        """The objective of one task, a scalar, and the probability ratios `[1, B]`."""
        samples, old = self._samples[task][-1], self._old[task][-1]
        ratio = probability_ratio(new, old.log_prob(samples.actions), samples)
        gain = clipped_objective(ratio, samples, self._config.clip).sum()
        return gain - self._config.inner_kl_penalty * inner, ratio

    def gradient(self, parameters: Tensor) -> Tensor:
        """Gradient of the mean objective with respect to the initial parameters, `[P]`."""
        leaf, objectives = parameters.detach().requires_grad_(), []
        for task in range(len(self._samples)):
            objective, _ = self._objective(task, *self._adapted(task, leaf, create_graph=True))
            objectives.append(objective)
        (gradient,) = torch.autograd.grad(torch.stack(objectives).mean(), leaf)
        return gradient

    def evaluate(self, parameters: Tensor) -> Tensor:
        """Mean over the tasks of objective, divergence after and before adaptation, and clipped fraction, `[4]`."""
        leaf, numbers = parameters.detach().requires_grad_(), []
        for task in range(len(self._samples)):
            last, old = self._samples[task][-1], self._old[task][-1]
            new, inner = self._adapted(task, leaf, create_graph=False)
            objective, ratio = self._objective(task, new, inner)
            outer = mean_divergence(new, old, last).sum()
            clipped = (last.weights * ((ratio - 1.0).abs() > self._config.clip)).sum()
            numbers.append(torch.stack([objective, outer, inner, clipped]).detach())
        return torch.stack(numbers).mean(dim=0)


def plain(agent: Promp) -> MetaAgent[AdaptedPolicy]:
    """A copy of the agent that adapts and differentiates its tasks one after another."""
    agent = copy.deepcopy(agent)
    policy, config = PlainPolicy(agent.policy), agent.config

    def adapt(state: AdaptedPolicy, trajectories: Trajectories) -> AdaptedPolicy:
        samples, ends = agent.samples(trajectories), []
        for i in range(len(samples.weights)):
            own, start = samples.tasks(slice(i, i + 1)), state.parameters[i : i + 1].detach().requires_grad_()
            new = policy(start, own.observations)
            ends.append(one_step(policy, new, new.detach(), own, start, config.inner_lr, create_graph=False))
        return AdaptedPolicy(torch.cat(ends).detach())

    def meta_update(batch: MetaBatch[Trajectories]) -> dict[str, float]:
        samples = [agent.samples(t) for t in batch.collects]
        objective = LoopObjective(policy, agent.parameters, samples, config)
        before, lengths = objective.evaluate(agent.parameters)[0], []
        for _ in range(config.epochs):
            gradient = objective.gradient(agent.parameters)
            lengths.append(float(gradient.norm()))
            agent.ascend(gradient)
        numbers = objective.evaluate(agent.parameters)
        numbers[0] -= before
        agent.update_statistics(batch.collects)
        names = ("update/objective_gain", "update/kl", "update/inner_kl", "update/clipped")
        return {
            **dict(zip(names, numbers.tolist(), strict=True)),
            "update/gradient_norm": sum(lengths) / len(lengths),
            "policy/std": agent.policy.std(agent.parameters),
        }

    return plain_agent(agent, adapt=adapt, meta_update=meta_update)
