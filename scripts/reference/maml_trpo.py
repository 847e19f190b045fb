"""MAML-TRPO as it is usually written: task after task in a Python loop, with double backward through everything.

It takes the samples of one meta-batch and makes the same update as `metarl.agents.maml_trpo`, only slower. The
adapted parameters stay in the autograd graph, and the curvature product differentiates the gradient of the mean
divergence once more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
from torch import Tensor

from metarl.agents.maml_trpo import MamlTrpo, MamlTrpoConfig
from metarl.learning.gradient.agent import AdaptedPolicy
from metarl.learning.gradient.losses import inner_loss, mean_divergence, surrogate_objective
from metarl.learning.gradient.policy import Samples, StackedPolicy
from metarl.learning.networks.distributions import Distribution
from metarl.scripts.reference.policy import PlainPolicy, floors, projected
from metarl.types import MetaBatch, Trajectories


def adapt_one(
    policy: StackedPolicy, parameters: Tensor, samples: Sequence[Samples], inner_lr: float, create_graph: bool
) -> Tensor:
    """One task's adapted parameters, `[1, P]`, differentiable in the initial ones `[P]` if asked to."""
    adapted = parameters[None]
    for one in samples[:-1]:
        loss = inner_loss(policy(adapted, one.observations), one).sum()
        (gradient,) = torch.autograd.grad(loss, adapted, create_graph=create_graph)
        adapted = projected(policy, adapted - inner_lr * gradient)
    return adapted


def old_policies(
    policy: StackedPolicy, parameters: Tensor, samples: Sequence[Samples], inner_lr: float
) -> list[Distribution]:
    """Each task's adapted policy at the old parameters, without history."""
    start, policies = parameters.detach().requires_grad_(), []
    for i in range(len(samples[0].weights)):
        one = [s.tasks(slice(i, i + 1)) for s in samples]
        adapted = adapt_one(policy, start, one, inner_lr, create_graph=False)
        policies.append(policy(adapted, one[-1].observations).detach())
    return policies


def objective_and_divergence(
    policy: StackedPolicy,
    parameters: Tensor,
    samples: Sequence[Samples],
    old: Sequence[Distribution],
    inner_lr: float,
    create_graph: bool,
) -> tuple[Tensor, Tensor]:
    """Mean surrogate and mean divergence over the tasks, scalars, one task after the other."""
    surrogates, divergences = [], []
    for i, before in enumerate(old):
        one = [s.tasks(slice(i, i + 1)) for s in samples]
        new = policy(adapt_one(policy, parameters, one, inner_lr, create_graph), one[-1].observations)
        surrogates.append(surrogate_objective(new, before, one[-1]))
        divergences.append(mean_divergence(new, before, one[-1]))
    return torch.cat(surrogates).mean(), torch.cat(divergences).mean()


def curvature_product(
    policy: StackedPolicy, parameters: Tensor, samples: Sequence[Samples], old: Sequence[Distribution], inner_lr: float
) -> Callable[[Tensor], Tensor]:
    """`v -> H v` with `H` the full Hessian of the mean divergence at the parameters, by double backward each time."""

    def product(v: Tensor) -> Tensor:
        leaf = parameters.detach().requires_grad_()
        _, kl = objective_and_divergence(policy, leaf, samples, old, inner_lr, create_graph=True)
        (gradient,) = torch.autograd.grad(kl, leaf, create_graph=True)
        (hessian_product,) = torch.autograd.grad(gradient @ v, leaf)
        return hessian_product

    return product


def meta_gradient(
    policy: StackedPolicy, parameters: Tensor, samples: Sequence[Samples], inner_lr: float
) -> tuple[Tensor, float]:
    """Gradient of the mean surrogate, `[P]`, and its value."""
    old = old_policies(policy, parameters, samples, inner_lr)
    leaf = parameters.detach().requires_grad_()
    surrogate, _ = objective_and_divergence(policy, leaf, samples, old, inner_lr, create_graph=True)
    (gradient,) = torch.autograd.grad(surrogate, leaf)
    return gradient, surrogate.item()


def update(policy: StackedPolicy, parameters: Tensor, samples: Sequence[Samples], config: MamlTrpoConfig) -> Tensor:
    """One whole meta-update: the new initial parameters, `[P]`; the old ones if no candidate is accepted."""
    old = old_policies(policy, parameters, samples, config.inner_lr)
    gradient, old_surrogate = meta_gradient(policy, parameters, samples, config.inner_lr)
    hessian = curvature_product(policy, parameters, samples, old, config.inner_lr)
    # What lies at its floor and is to go below it takes no part in the step.
    free = torch.where((parameters <= floors(policy, parameters)) & (gradient < 0), 0.0, 1.0)
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
        candidate = projected(policy, parameters + config.line_search_decay**attempt * full_step)
        candidate = candidate.detach().requires_grad_()
        surrogate, kl = objective_and_divergence(policy, candidate, samples, old, config.inner_lr, create_graph=False)
        if surrogate.item() > old_surrogate and kl.item() <= config.max_kl:
            return candidate.detach()
    return parameters


class LoopMamlTrpo(MamlTrpo):
    """MAML-TRPO whose tasks are adapted, differentiated and tried one after another."""

    Policy: ClassVar[type[StackedPolicy]] = PlainPolicy

    def adapt(self, state: AdaptedPolicy, trajectories: Trajectories) -> AdaptedPolicy:
        """One policy-gradient step, task after task."""
        samples, adapted = self._samples(trajectories), []
        for i in range(len(state.parameters)):
            one = samples.tasks(slice(i, i + 1))
            leaf = state.parameters[i : i + 1].detach().requires_grad_()
            (gradient,) = torch.autograd.grad(inner_loss(self._policy(leaf, one.observations), one).sum(), leaf)
            adapted.append(projected(self._policy, leaf.detach() - self.config.inner_lr * gradient))
        return AdaptedPolicy(torch.cat(adapted))

    def meta_update(self, batch: MetaBatch[Trajectories]) -> dict[str, float]:
        """The same trust-region step by `update`."""
        samples = [self._samples(t) for t in batch.collects]
        self._parameters = update(self._policy, self._parameters, samples, self.config)
        self._update_statistics(batch.collects)
        return {"policy/std": self._policy.std(self._parameters)}
