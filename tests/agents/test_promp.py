from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents.promp import ChunkObjective, Promp, PrompConfig, RatioLoss, clipped_objective, clipped_slope
from metarl.learning.gradient.losses import inner_loss, mean_divergence, probability_ratio, surrogate_objective
from metarl.learning.gradient.policy import Samples
from metarl.learning.networks.distributions import Distribution
from metarl.learning.networks.linearised import HeadAutograd
from metarl.registry import make_family
from metarl.rollout import collect
from metarl.scripts.reference.policy import PlainPolicy
from metarl.seeding import Streams
from metarl.types import MetaBatch, Spaces

DOUBLE = torch.float64
CONFIG = PrompConfig(inner_kl_penalty=0.5, hidden=(5, 4))


@pytest.fixture(params=["continuous", "discrete"])
def some_spaces(request, spaces: Spaces, discrete_spaces: Spaces) -> Spaces:
    return spaces if request.param == "continuous" else discrete_spaces


@pytest.fixture(params=[(1, 1e-6), (2, 1e-6), (2, 1.3)], ids=lambda p: f"{p[0]} inner steps, floor {p[1]}")
def problem(request, make_agent, random_samples, some_spaces: Spaces):
    """A policy, its parameters in float64, samples of three tasks.

    With the high floor, some deviations of some tasks are projected onto it.
    """
    steps, min_std = request.param
    agent = make_agent(1, some_spaces, min_std=min_std)
    policy, parameters = agent.policy, agent.tensors()["parameters"].double()
    parameters[policy.bound.where].clamp_(min=policy.bound.value + 0.01)
    samples = [random_samples(3, 11, some_spaces, seed) for seed in range(steps + 1)]
    if min_std > 1.0 and not some_spaces.choices:
        for at in (parameters, nearby(parameters)):
            assert not policy.bound.broken(at).any()
            after = ChunkObjective(policy, parameters, samples, CONFIG)._pass(at).steps[-1].end
            projected = after[:, policy.bound.where] == policy.bound.value
            assert 0 < projected.sum() < projected.numel()
    return policy, parameters, samples


def ratio_loss(new: Distribution, old: Distribution, samples: Samples) -> Tensor:
    """The inner loss as in the paper, `[M]`."""
    return -surrogate_objective(new, old, samples)


def nearby(parameters: Tensor, size: float = 0.1) -> Tensor:
    noise = torch.randn(parameters.shape, generator=torch.Generator().manual_seed(5), dtype=DOUBLE)
    noise[-2:] = 0.1 * noise[-2:].abs()  # log-stds stay above their floor, and near enough to reach it
    return parameters + size * noise


def test_at_the_old_policy_the_inner_gradient_is_that_of_the_log_probability_sample_by_sample(problem) -> None:
    policy, parameters, samples = problem
    start = parameters.expand(3, -1)
    old = policy(start, samples[0].observations).detach()
    for b in range(11):
        alone = samples[0]._replace(weights=torch.nn.functional.one_hot(torch.full((3,), b), 11).double())
        gradients = []
        for loss in (
            lambda new, s=alone: ratio_loss(new, old, s),
            lambda new, s=alone: inner_loss(new, s),
        ):
            leaf = start.clone().requires_grad_()
            gradients.append(torch.autograd.grad(loss(policy(leaf, samples[0].observations)).sum(), leaf)[0])
        torch.testing.assert_close(*gradients)
        assert gradients[0].norm() > 0 or not alone.advantages[:, b].any()


def test_its_hessian_has_the_products_of_scores_that_the_log_probability_lacks(problem, plain) -> None:
    """H_ratio v = H_log v - sum over samples of weight * A * score (score . v)."""
    policy, parameters, samples = problem
    policy = plain(policy)
    one = samples[0].tasks(slice(0, 1))
    old = policy(parameters[None], one.observations).detach()
    v = nearby(torch.zeros_like(parameters), 1.0)

    def hessian_product(of) -> Tensor:
        leaf = parameters[None].clone().requires_grad_()
        loss = of(policy(leaf, one.observations)).sum()
        (gradient,) = torch.autograd.grad(loss, leaf, create_graph=True)
        return torch.autograd.grad(gradient, leaf, v[None])[0][0]

    products = torch.zeros_like(parameters)
    for b in range(11):
        leaf = parameters[None].clone().requires_grad_()
        (score,) = torch.autograd.grad(policy(leaf, one.observations).log_prob(one.actions)[0, b], leaf)
        products += one.weights[0, b] * one.advantages[0, b] * score[0] * (score[0] @ v)
    ratio = hessian_product(lambda new: ratio_loss(new, old, one))
    assert products.norm() > 1e-3
    torch.testing.assert_close(ratio, hessian_product(lambda new: inner_loss(new, one)) - products)


def test_the_derivatives_of_the_inner_loss_are_those_of_autograd(problem) -> None:
    policy, parameters, samples = problem
    one = samples[0]
    old = policy(parameters.expand(3, -1), one.observations).detach()
    new = policy(nearby(parameters).expand(3, -1), one.observations).detach()
    ours = RatioLoss(new, old.log_prob(one.actions), one)
    plain_one = HeadAutograd(new, lambda d: ratio_loss(d, old, one))
    assert all(g.norm() > 1e-3 for g in ours.gradient)
    torch.testing.assert_close(ours.gradient, plain_one.gradient)
    tangents = [torch.randn(t.shape, generator=torch.Generator().manual_seed(6), dtype=DOUBLE) for t in new]
    torch.testing.assert_close(ours.hessian_product(tangents), plain_one.hessian_product(tangents))


def test_clipping_by_hand() -> None:
    """A ratio beyond the clip has no gradient if the advantage pushed it there; otherwise it has one."""
    ratio = torch.tensor([[1.5, 1.5, 0.5, 0.5, 1.1, 9.0]])
    samples = Samples(
        observations=torch.zeros(1, 6, 1),
        actions=torch.zeros(1, 6, 1),
        advantages=torch.tensor([[1.0, -1.0, 1.0, -1.0, 2.0, 7.0]]),
        weights=torch.tensor([[0.2, 0.2, 0.2, 0.2, 0.2, 0.0]]),
    )
    expected = 0.2 * (1.3 - 1.5 + 0.5 - 0.7 + 2.2)
    assert clipped_objective(ratio, samples, 0.3).tolist() == pytest.approx([expected])
    leaf = ratio.clone().requires_grad_()
    clipped_objective(leaf, samples, 0.3).sum().backward()
    torch.testing.assert_close(leaf.grad, torch.tensor([[0.0, -0.2, 0.2, 0.0, 0.4, 0.0]]))
    # With respect to the log-probability, a ratio's derivative is the ratio itself.
    torch.testing.assert_close(clipped_slope(ratio, samples, 0.3), leaf.grad * ratio)
    far = ratio.clone()
    far[0, 0] = torch.inf  # clipped: an infinite ratio does not affect the gradient
    torch.testing.assert_close(clipped_slope(far, samples, 0.3), leaf.grad * ratio)


@pytest.mark.parametrize("where", ["at the old parameters", "away from them"])
def test_the_outer_gradient_agrees_with_finite_differences(problem, where: str) -> None:
    policy, parameters, samples = problem
    chunk = ChunkObjective(policy, parameters, samples, CONFIG)
    at = parameters if where == "at the old parameters" else nearby(parameters)
    _, outer, inner, clipped = chunk.evaluate(at).tolist()
    if at is not parameters:
        assert min(outer, inner) > 1e-3, "the penalty counts"
        assert 0.0 < clipped < 3.0, "some samples are clipped, some are not"
    numbers = []
    for i in range(len(at)):
        unit = torch.zeros_like(at)
        unit[i] = 1.0

        def slope(h: float, unit: Tensor = unit) -> Tensor:
            return (chunk.evaluate(at + h * unit)[0] - chunk.evaluate(at - h * unit)[0]) / (2 * h)

        numbers.append((4 * slope(5e-6) - slope(1e-5)) / 3)  # Richardson: an error of fourth order
    torch.testing.assert_close(chunk.gradient(at), torch.stack(numbers), rtol=1e-5, atol=1e-7)


def test_at_the_old_parameters_nothing_is_clipped_and_nothing_diverges(problem) -> None:
    policy, parameters, samples = problem
    chunk = ChunkObjective(policy, parameters, samples, CONFIG)
    mean_advantage = (samples[-1].weights * samples[-1].advantages).sum()
    torch.testing.assert_close(chunk.evaluate(parameters), torch.stack([mean_advantage, *torch.zeros(3).double()]))


def plain_objective(
    policy: PlainPolicy, old_parameters: Tensor, parameters: Tensor, samples: list[Samples], config: PrompConfig
) -> Tensor:
    """ProMP's objective, task after task with everything in one graph: mean over the tasks."""
    values = []
    for i in range(len(samples[0].weights)):
        one = [s.tasks(slice(i, i + 1)) for s in samples]
        was, now = old_parameters[None], parameters[None]
        penalties = []
        for s in one[:-1]:
            before = policy(was, s.observations).detach()
            penalties.append(mean_divergence(policy(now, s.observations), before, s).sum())
            leaf = was.detach().requires_grad_()
            (at_old,) = torch.autograd.grad(ratio_loss(policy(leaf, s.observations), before, s).sum(), leaf)
            (at_new,) = torch.autograd.grad(
                ratio_loss(policy(now, s.observations), before, s).sum(), now, create_graph=True
            )
            was = policy.projected(was - config.inner_lr * at_old)
            now = policy.projected(now - config.inner_lr * at_new)
        before = policy(was, one[-1].observations).detach()
        ratio = probability_ratio(policy(now, one[-1].observations), before.log_prob(one[-1].actions), one[-1])
        penalty = config.inner_kl_penalty * torch.stack(penalties).mean()
        values.append(clipped_objective(ratio, one[-1], config.clip).sum() - penalty)
    return torch.stack(values).mean()


def test_gradient_and_value_equal_the_plain_loop_with_double_backward(problem, plain) -> None:
    policy, parameters, samples = problem
    chunk = ChunkObjective(policy, parameters, samples, CONFIG)
    leaf = nearby(parameters).requires_grad_()
    value = plain_objective(plain(policy), parameters, leaf, samples, CONFIG)
    (gradient,) = torch.autograd.grad(value, leaf)
    torch.testing.assert_close(chunk.evaluate(leaf.detach())[0] / 3, value.detach())
    torch.testing.assert_close(chunk.gradient(leaf.detach()) / 3, gradient)


@pytest.fixture
def real_batch() -> tuple[Promp, MetaBatch]:
    family = make_family("point-robot")
    envs = family.make_envs(4, 3, 15)
    agent = Promp(PrompConfig(hidden=(8,)), envs.spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    streams = Streams(0)
    tasks = family.distribution.sample(4, streams.tasks)
    envs.set_tasks(tasks)
    before, state = collect(envs, agent, agent.begin(tasks, 3), streams)
    after, _ = collect(envs, agent, agent.adapt(state, before), streams)
    return agent, MetaBatch(tuple(tasks), (before, after))


def test_a_whole_update_is_five_steps_of_adam_on_the_plain_objective(real_batch, plain) -> None:
    agent, batch = real_batch
    start = agent.tensors()["parameters"].clone()
    samples = [agent.samples(t) for t in batch.collects]
    leaf = start.clone().requires_grad_()
    adam = torch.optim.Adam([leaf], lr=agent.config.lr)
    for _ in range(5):
        adam.zero_grad()
        (-plain_objective(plain(agent.policy), start, leaf, samples, agent.config)).backward()
        adam.step()
    metrics = agent.meta_update(batch)
    moved = (leaf.detach() - start).norm()
    # Adam makes a full step of a tiny gradient entry: compare the difference with the length of the whole step.
    assert (agent.tensors()["parameters"] - leaf.detach()).norm() < 1e-2 * moved
    assert metrics["update/objective_gain"] > 0
    assert 0 < metrics["update/kl"] < 1


def test_the_state_of_adam_matters_to_what_comes_next(real_batch) -> None:
    agent, batch = real_batch
    agent.meta_update(batch)
    assert agent.tensors()["adam.0.step"].item() == 5
    fresh = Promp(agent.config, agent.spaces, device=torch.device("cpu"), rng=np.random.default_rng(1))
    empty = {name: t for name, t in fresh.tensors().items() if name.startswith("adam.")}
    fresh.restore({**agent.tensors(), **empty}, {})
    agent.meta_update(batch)
    fresh.meta_update(batch)
    assert not torch.equal(fresh.tensors()["parameters"], agent.tensors()["parameters"])
