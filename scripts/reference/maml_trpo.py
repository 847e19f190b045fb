"""MAML-TRPO as it is usually written: task after task in a Python loop, with double backward through everything.

It makes the same update as `metarl.agents.maml_trpo`, only slower. The adapted parameters stay in the autograd graph,
and the curvature product differentiates the gradient of the mean divergence once more.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from metarl.agent import MetaAgent
from metarl.agents.maml_trpo import MamlTrpo, MamlTrpoConfig
from metarl.learning.gradient.agent import AdaptedPolicy
from metarl.learning.gradient.losses import inner_loss, mean_divergence, surrogate_objective
from metarl.learning.gradient.policy import Samples
from metarl.learning.networks.distributions import Distribution
from metarl.scripts.reference.agents import plain_agent
from metarl.scripts.reference.policy import PlainPolicy
from metarl.types import MetaBatch, Trajectories


def adapt_one(
    policy: PlainPolicy, parameters: Tensor, samples: Sequence[Samples], step_size: float, create_graph: bool
) -> Tensor:
    """Adapted parameters of one task, `[1, P]`; differentiable in the initial ones `[P]` if `create_graph`."""
    adapted = parameters[None]
    for one in samples[:-1]:
        loss = inner_loss(policy(adapted, one.observations), one).sum()
        (gradient,) = torch.autograd.grad(loss, adapted, create_graph=create_graph)
        adapted = policy.projected(adapted - step_size * gradient)
    return adapted


def old_policies(
    policy: PlainPolicy, parameters: Tensor, samples: Sequence[Samples], step_size: float
) -> list[Distribution]:
    """The adapted policy of each task at the old parameters, without a graph."""
    start, policies = parameters.detach().requires_grad_(), []
    for i in range(len(samples[0].weights)):
        one = [s.tasks(slice(i, i + 1)) for s in samples]
        adapted = adapt_one(policy, start, one, step_size, create_graph=False)
        policies.append(policy(adapted, one[-1].observations).detach())
    return policies


def objective_and_divergence(
    policy: PlainPolicy,
    parameters: Tensor,
    samples: Sequence[Samples],
    old: Sequence[Distribution],
    step_size: float,
    create_graph: bool,
) -> tuple[Tensor, Tensor]:
    """Mean surrogate and mean divergence over the tasks, scalars, one task after another."""
    surrogates, divergences = [], []
    for i, before in enumerate(old):
        one = [s.tasks(slice(i, i + 1)) for s in samples]
        new = policy(adapt_one(policy, parameters, one, step_size, create_graph), one[-1].observations)
        surrogates.append(surrogate_objective(new, before, one[-1]))
        divergences.append(mean_divergence(new, before, one[-1]))
    return torch.cat(surrogates).mean(), torch.cat(divergences).mean()


def curvature_product(
    policy: PlainPolicy, parameters: Tensor, samples: Sequence[Samples], old: Sequence[Distribution], step_size: float
) -> Callable[[Tensor], Tensor]:
    """`v -> H v` with the full Hessian `H` of the mean divergence at the parameters, by double backward."""

    def product(v: Tensor) -> Tensor:
        leaf = parameters.detach().requires_grad_()
        _, kl = objective_and_divergence(policy, leaf, samples, old, step_size, create_graph=True)
        (gradient,) = torch.autograd.grad(kl, leaf, create_graph=True)
        (hessian_product,) = torch.autograd.grad(gradient @ v, leaf)
        return hessian_product

    return product


def meta_gradient(
    policy: PlainPolicy, parameters: Tensor, samples: Sequence[Samples], step_size: float
) -> tuple[Tensor, float]:
    """Gradient of the mean surrogate, `[P]`, and the mean surrogate."""
    old = old_policies(policy, parameters, samples, step_size)
    leaf = parameters.detach().requires_grad_()
    surrogate, _ = objective_and_divergence(policy, leaf, samples, old, step_size, create_graph=True)
    (gradient,) = torch.autograd.grad(surrogate, leaf)
    return gradient, surrogate.item()


def update(policy: PlainPolicy, parameters: Tensor, samples: Sequence[Samples], config: MamlTrpoConfig) -> Tensor:
    """The initial parameters after a meta-update, `[P]`: the old ones if no candidate is accepted."""
    old = old_policies(policy, parameters, samples, config.inner_lr)
    gradient, old_surrogate = meta_gradient(policy, parameters, samples, config.inner_lr)
    hessian = curvature_product(policy, parameters, samples, old, config.inner_lr)
    # Entries at their floor that the step would take below it are left out.
    free = torch.where((parameters <= policy.floors(parameters)) & (gradient < 0), 0.0, 1.0)
    gradient = free * gradient

    def product(v: Tensor) -> Tensor:
        return free * (hessian(v) + config.damping * v)

    direction, residual, conjugate = torch.zeros_like(gradient), gradient.clone(), gradient.clone()
    for _ in range(config.cg_iterations):
        image = product(conjugate)
        step = (residual @ residual) / (conjugate @ image)
        direction = direction + step * conjugate
        new_residual = residual - step * image
        conjugate = new_residual + (new_residual @ new_residual) / (residual @ residual) * conjugate
        residual = new_residual
    full_step = direction * torch.sqrt(2.0 * config.max_kl / (direction @ product(direction)))
    for attempt in range(config.line_search_steps):
        candidate = policy.projected(parameters + config.line_search_decay**attempt * full_step)
        candidate = candidate.detach().requires_grad_()
        surrogate, kl = objective_and_divergence(policy, candidate, samples, old, config.inner_lr, create_graph=False)
        if surrogate.item() > old_surrogate and kl.item() <= config.max_kl:
            return candidate.detach()
    return parameters


def plain(agent: MamlTrpo) -> MetaAgent[AdaptedPolicy]:
    """A copy of the agent that adapts, differentiates and evaluates its tasks one after another."""
    agent = copy.deepcopy(agent)
    policy, config = PlainPolicy(agent.policy), agent.config

    def adapt(state: AdaptedPolicy, trajectories: Trajectories) -> AdaptedPolicy:
        samples, adapted = agent.samples(trajectories), []
        for i in range(len(state.parameters)):
            one = samples.tasks(slice(i, i + 1))
            leaf = state.parameters[i : i + 1].detach().requires_grad_()
            (gradient,) = torch.autograd.grad(inner_loss(policy(leaf, one.observations), one).sum(), leaf)
            adapted.append(policy.projected(leaf.detach() - config.inner_lr * gradient))
        return AdaptedPolicy(torch.cat(adapted))

    def meta_update(batch: MetaBatch[Trajectories]) -> dict[str, float]:
        samples = [agent.samples(t) for t in batch.collects]
        agent.parameters = update(policy, agent.parameters, samples, config)
        agent.update_statistics(batch.collects)
        return {"policy/std": agent.policy.std(agent.parameters)}

    return plain_agent(agent, adapt=adapt, meta_update=meta_update)
