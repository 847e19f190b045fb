"""Predicted returns of plans, against the dynamics step by step and against a planner per environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents.grbal import Grbal
from metarl.agents.mb_mpc import MbMpc
from metarl.agents.rebal import Rebal
from metarl.learning.networks import fused
from metarl.learning.planning.agent import PlanningAgent
from metarl.learning.planning.state import Plans
from metarl.rewards import DeclaredReward
from metarl.scripts.reference.planning import act_one_by_one, plain_scores
from metarl.types import Spaces, Step, Task

AGENTS: dict[str, type[Any]] = {"mb-mpc": MbMpc, "grbal": Grbal, "rebal": Rebal}
CASES: dict[str, dict[str, Any]] = {
    "plain": {},
    "mppi": {"method": "mppi", "activation": "tanh"},
    "ensemble": {"ensemble": 3, "probabilistic": True},
}
ENVIRONMENTS = (2, 3)


def reward(observations: Any, actions: Any, following: Any, task: Mapping[str, Any]) -> Any:
    """Reads everything that it is given."""
    return observations[..., 0] * following[..., 1] - 0.1 * (actions * actions).sum(-1)


def built(name: str, **changes: Any) -> tuple[PlanningAgent[Any], Plans, Step]:
    """An agent with random statistics, a state with windows of different lengths, and the input of a step."""
    spaces = Spaces(4, (-1.0, 0.0), (2.0, 0.5), 12, reward=DeclaredReward(reward))
    kind, rng = AGENTS[name], np.random.default_rng(0)
    settings = {"hidden": (32, 32), "plan_steps": 4, "candidates": 40, "rounds": 3, "elites": 5, "warmup_iterations": 0}
    known = {key: 4 for key in ("window", "past", "future") if hasattr(kind.Config(), key)}
    agent = kind.build(kind.Config(**settings, **known, **changes), spaces, device=torch.device("cpu"), rng=rng)
    tensors = agent.tensors()
    moved = {
        key: torch.tensor(rng.uniform(0.2, 2.0, 4))
        for key in tensors
        if key.startswith(("observations", "differences")) and not key.endswith("count")
    }
    agent.restore({**tensors, **moved}, agent.counters())
    state = agent.begin([Task("one"), Task("two")], 3)
    window = torch.tensor(rng.standard_normal(state.window.shape, dtype=np.float32))
    plans = torch.tensor(rng.uniform(-1.0, 1.0, state.plans.shape), dtype=torch.float32)
    count = torch.tensor([[4.0, 1.0, 0.0], [2.0, 3.0, 4.0]])
    step = Step(
        observation=rng.standard_normal((*ENVIRONMENTS, 4), dtype=np.float32),
        previous_action=rng.uniform(0.0, 0.5, (*ENVIRONMENTS, 2)).astype(np.float32),
        previous_reward=np.zeros(ENVIRONMENTS, dtype=np.float32),
        first=np.array([[False, False, True], [False, True, False]]),
        live=np.ones(ENVIRONMENTS, dtype=np.bool_),
    )
    return agent, replace(state, window=window, plans=plans, count=count), step


@pytest.mark.parametrize("product", [1, 10**9])
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", AGENTS)
def test_the_returns_are_those_of_a_loop_over_environments_models_and_steps(
    name: str, case: str, product: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fused, "PRODUCT", product)  # every layer by oneDNN, none
    agent, state, step = built(name, **CASES[case])
    state = agent.observed(state, step)
    plans = torch.tensor(np.random.default_rng(1).uniform(-1.0, 1.0, (6, 7, 4, 2)), dtype=torch.float32)
    found = agent.scorer(state)(plans)
    assert found.shape == (6, 7)
    for n in range(6):
        one = Plans(*(t.flatten(0, 1)[n : n + 1, None] for t in vars(state).values()))
        expected = plain_scores(agent, one)(plans[n : n + 1])
        torch.testing.assert_close(found[n : n + 1], expected, rtol=1e-4, atol=1e-4)
    assert len({tuple(row) for row in found.tolist()}) == 6


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("name", AGENTS)
def test_a_control_step_is_that_of_one_planner_per_environment(name: str, case: str) -> None:
    agent, state, step = built(name, **CASES[case])
    mine, after = agent.act(state, step, np.random.default_rng(2))
    theirs, also = act_one_by_one(agent, state, step, np.random.default_rng(2))
    np.testing.assert_allclose(mine.environment, theirs.environment, rtol=0, atol=1e-4)
    torch.testing.assert_close(after.plans, also.plans, rtol=0, atol=1e-4)
    assert torch.equal(after.window, also.window)
    other, _ = agent.act(state, step, np.random.default_rng(3))
    assert not np.allclose(mine.environment, other.environment, atol=1e-3)


def test_predictions_are_those_of_the_dynamics() -> None:
    """The factors of the scales are in the last layer, and observations beyond the clip stay what they are."""
    agent, state, step = built("grbal")
    far = replace(step, observation=np.full_like(step.observation, 1e3))
    for given in (step, far):
        now = agent.observed(state, given)
        plan = torch.tensor(np.random.default_rng(1).uniform(-1.0, 1.0, (6, 1, 1, 2)), dtype=torch.float32)
        seen = now.observation.flatten(0, 1).unsqueeze(1)
        following = agent.dynamics.predicted(agent.models(now)[:, 0], seen, plan[:, :, 0], agent.scales())
        low, high = torch.tensor([-1.0, 0.0]), torch.tensor([2.0, 0.5])
        expected = reward(seen, low + (high - low) * (plan[:, :, 0] + 1) / 2, following, {})
        torch.testing.assert_close(agent.scorer(now)(plan), expected, rtol=1e-4, atol=1e-4)
