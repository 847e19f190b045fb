"""The adaptation by an update rule, against the adaptations whose derivatives are written by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.agents.meta_sgd import MetaSgdAdaptation
from metarl.learning.gradient.adaptation import PolicyGradientAdaptation, first_order_steps, policy_gradient_steps
from metarl.learning.gradient.autograd_adaptation import RuleAgent, RuleAgentConfig, RuleState
from metarl.learning.rules.base import GradientStep, LearnedStepSizes, UpdateRule
from metarl.types import Spaces, Task

DOUBLE = torch.float64
RULES: dict[str, UpdateRule] = {"gradient": GradientStep(0.1), "step sizes": LearnedStepSizes(0.1)}


class Ruled(RuleAgent[RuleAgentConfig]):
    Config = RuleAgentConfig
    summary = "an agent with a rule"
    made: UpdateRule = GradientStep(0.1)

    def _make_rule(self) -> UpdateRule:
        return self.made


@pytest.fixture(params=["continuous", "discrete"])
def some_spaces(request, spaces: Spaces, discrete_spaces: Spaces) -> Spaces:
    return spaces if request.param == "continuous" else discrete_spaces


def agent_of(rule: UpdateRule, spaces: Spaces, *, first_order: bool = False, min_std: float = 1e-6) -> Ruled:
    kind = type("Ruled", (Ruled,), {"made": rule})
    config = RuleAgentConfig(hidden=(5, 4), inner_steps=2, first_order=first_order, min_std=min_std)
    agent: Ruled = kind(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    agent.parameters, agent.own = agent.parameters.double(), agent.own.double()
    return agent


@pytest.mark.parametrize(("rule", "first_order"), [("gradient", False), ("gradient", True), ("step sizes", False)])
@pytest.mark.parametrize("min_std", [1e-6, 1.0])
def test_the_derivatives_are_those_by_hand(
    random_samples, some_spaces: Spaces, rule: str, first_order: bool, min_std: float
) -> None:
    """With the high floor some deviations are projected."""
    agent = agent_of(RULES[rule], some_spaces, first_order=first_order, min_std=min_std)
    samples = [random_samples(3, 7, some_spaces, seed) for seed in (0, 1)]
    found = agent._adaptation(samples)
    expected: Any
    if rule == "gradient":
        steps = first_order_steps if first_order else policy_gradient_steps
        expected = PolicyGradientAdaptation(agent.policy, samples, agent.parameters, 0.1, steps)
    else:
        expected = MetaSgdAdaptation(agent.policy, samples, agent._meta_parameters)
    if min_std == 1.0 and not some_spaces.choices:
        projected = expected.end[:, agent.policy.bound.where] == agent.policy.bound.value
        assert 0 < projected.sum() < projected.numel()
    generator = torch.Generator().manual_seed(0)
    v = torch.randn(agent._meta_parameters.shape, generator=generator, dtype=DOUBLE)
    w = torch.randn(found.end.shape, generator=generator, dtype=DOUBLE)

    def same(one: Tensor, other: Tensor) -> None:
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-12)

    same(found.end, expected.end)
    same(found.vjp(w), expected.vjp(w))
    for tangent in (v, 2.0 * v):  # the second one through the graph that is kept
        same(found.jvp(tangent), expected.jvp(tangent))
    same(found.adapted_from(agent._meta_parameters + 0.01), expected.adapted_from(agent._meta_parameters + 0.01))
    assert not found.end.requires_grad


def test_a_state_is_cut_and_joined_with_the_memory_of_its_rule() -> None:
    memory = (torch.arange(6.0).view(3, 2), (torch.arange(3.0),))
    state = RuleState(torch.rand(3, 4), memory)
    joined = RuleState.join([state.tasks(slice(0, 1)), state.tasks(slice(1, 3))])
    assert torch.equal(joined.parameters, state.parameters)
    assert torch.equal(joined.memory[0], memory[0])
    assert torch.equal(joined.memory[1][0], memory[1][0])
    assert state.tasks(slice(1, 2)).memory[0].tolist() == [[2.0, 3.0]]


def test_adapting_is_the_step_that_the_meta_update_differentiates(random_samples, play, spaces: Spaces) -> None:
    agent = agent_of(LearnedStepSizes(0.1), spaces)
    agent.parameters, agent.own = agent.parameters.float(), agent.own.float()
    trajectories = play(agent, [[[4, 3], [2, 4]]] * 2)
    state = agent.begin([Task.of("noise")] * 2, 2)
    for one in trajectories:
        state = agent.adapt(state, one)
    expected = agent._adaptation([agent.samples(one) for one in trajectories]).end
    torch.testing.assert_close(state.parameters, expected)
