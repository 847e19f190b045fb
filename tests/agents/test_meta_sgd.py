from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents.meta_sgd import MetaSgd, MetaSgdAdaptation, MetaSgdConfig
from metarl.learning.gradient.adaptation import PolicyGradientAdaptation
from metarl.learning.gradient.losses import inner_loss
from metarl.learning.gradient.meta_trust_region import ChunkLinearisation
from metarl.learning.gradient.policy import Samples, StackedPolicy
from metarl.types import Spaces, Task

DOUBLE = torch.float64
LR = 0.1


@pytest.fixture(params=["continuous", "discrete"])
def some_spaces(request, spaces: Spaces, discrete_spaces: Spaces) -> Spaces:
    return spaces if request.param == "continuous" else discrete_spaces


@pytest.fixture(params=[(1, 1e-6), (2, 1e-6), (2, 1.3)], ids=lambda p: f"{p[0]} inner steps, floor {p[1]}")
def problem(request, make_agent, random_samples, some_spaces: Spaces):
    """A policy, initial parameters and unequal step sizes in float64, samples of three tasks.

    With the high floor, some deviations of some tasks are projected onto it.
    """
    steps, min_std = request.param
    agent = make_agent(1, some_spaces, min_std=min_std)
    parameters, bound = agent.tensors()["parameters"].double(), agent.policy.bound
    parameters[bound.where].clamp_(min=bound.value + 0.01)
    generator = torch.Generator().manual_seed(3)
    rates = LR + 0.05 * torch.randn(parameters.shape, generator=generator, dtype=DOUBLE)
    samples = [random_samples(3, 11, some_spaces, seed) for seed in range(steps + 1)]
    if min_std > 1.0 and not some_spaces.choices:
        end = MetaSgdAdaptation(agent.policy, samples[:-1], torch.cat([parameters, rates])).end
        projected = end[:, bound.where] == bound.value
        assert 0 < projected.sum() < projected.numel()
    return agent.policy, parameters, rates, samples


def linearised(policy: StackedPolicy, joined: Tensor, samples: list[Samples]) -> ChunkLinearisation:
    return ChunkLinearisation(policy, MetaSgdAdaptation(policy, samples[:-1], joined), samples[-1])


def test_with_equal_step_sizes_the_gradient_for_the_parameters_is_mamls(problem) -> None:
    policy, parameters, _, samples = problem
    joined = torch.cat([parameters, torch.full_like(parameters, LR)])
    gradient = linearised(policy, joined, samples).gradient
    maml = PolicyGradientAdaptation(policy, samples[:-1], parameters, LR)
    expected = ChunkLinearisation(policy, maml, samples[-1]).gradient
    torch.testing.assert_close(gradient[: len(parameters)], expected)


def test_the_gradient_for_parameters_and_step_sizes_agrees_with_finite_differences(problem) -> None:
    policy, parameters, rates, samples = problem
    joined = torch.cat([parameters, rates])
    chunk = linearised(policy, joined, samples)
    numbers = []
    for i in range(len(joined)):
        unit = torch.zeros_like(joined)
        unit[i] = 1.0

        def slope(h: float, unit: Tensor = unit) -> Tensor:
            return (chunk.evaluate(joined + h * unit)[0] - chunk.evaluate(joined - h * unit)[0]) / (2 * h)

        numbers.append((4 * slope(5e-5) - slope(1e-4)) / 3)  # Richardson: an error of fourth order
    assert chunk.gradient[len(parameters) :].norm() > 1e-3
    torch.testing.assert_close(chunk.gradient, torch.stack(numbers), rtol=1e-6, atol=1e-8)


def test_the_curvature_product_agrees_with_finite_differences_of_the_divergence(problem) -> None:
    policy, parameters, rates, samples = problem
    joined = torch.cat([parameters, rates])
    chunk = linearised(policy, joined, samples)
    generator = torch.Generator().manual_seed(0)
    for _ in range(3):
        u, v = (torch.randn(joined.shape, generator=generator, dtype=DOUBLE) for _ in range(2))

        def second(direction: Tensor, h: float) -> Tensor:
            return sum(chunk.evaluate(joined + s * h * direction)[1] for s in (1, -1)) / h**2

        coarse, fine = ((second(u + v, h) - second(u - v, h)) / 4 for h in (1e-3, 5e-4))
        by_difference = (4 * fine - coarse) / 3
        torch.testing.assert_close(u @ chunk.curvature_product(v), by_difference, rtol=1e-5, atol=1e-6)


def test_the_products_forwards_and_backwards_are_transposes(problem) -> None:
    policy, parameters, rates, samples = problem
    adaptation = MetaSgdAdaptation(policy, samples[:-1], torch.cat([parameters, rates]))
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(2 * len(parameters), generator=generator, dtype=DOUBLE)
    w = torch.randn(3, len(parameters), generator=generator, dtype=DOUBLE)
    torch.testing.assert_close((w * adaptation.jvp(v)).sum(), adaptation.vjp(w) @ v)


def test_each_parameter_moves_by_its_own_step_size(problem) -> None:
    policy, parameters, rates, samples = problem
    leaf = parameters.expand(3, -1).clone().requires_grad_()
    inner_loss(policy(leaf, samples[0].observations), samples[0]).sum().backward()
    adaptation = MetaSgdAdaptation(policy, samples[:1], torch.cat([parameters, rates]))
    torch.testing.assert_close(adaptation.end, policy.bound.project_(parameters - rates * leaf.grad))


def make_meta_sgd(spaces: Spaces) -> MetaSgd:
    config = MetaSgdConfig(hidden=(4,), inner_lr=0.2)
    return MetaSgd(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))


def test_step_sizes_start_at_the_setting_and_are_restored(spaces: Spaces) -> None:
    agent = make_meta_sgd(spaces)
    tensors = agent.tensors()
    assert torch.equal(tensors["rates"], torch.full_like(tensors["parameters"], 0.2))
    ramp = torch.linspace(-1, 1, len(tensors["rates"]))
    agent.restore({**tensors, "rates": ramp}, {})
    assert torch.equal(agent.tensors()["rates"], ramp)
    with pytest.raises(ValueError, match="rates"):
        agent.restore({**tensors, "rates": ramp[:-1]}, {})


def test_adapting_takes_the_learned_step_sizes(spaces: Spaces, random_samples, monkeypatch) -> None:
    agent = make_meta_sgd(spaces)
    tensors = agent.tensors()
    ramp = torch.linspace(-1, 1, len(tensors["rates"]))
    agent.restore({**tensors, "rates": ramp}, {})
    samples = random_samples(2, 11, spaces, 0, dtype=torch.float32)
    monkeypatch.setattr(agent, "samples", lambda _: samples)
    tasks = [Task.of("toy", index=i) for i in range(2)]
    leaf = tensors["parameters"].expand(2, -1).clone().requires_grad_()
    inner_loss(agent.policy(leaf, samples.observations), samples).sum().backward()
    adapted = agent.adapt(agent.begin(tasks, 11), None)
    torch.testing.assert_close(adapted.parameters, tensors["parameters"] - ramp * leaf.grad)
