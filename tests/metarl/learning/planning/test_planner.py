"""The planner against a grid search, and the defects of other planners that it must not have."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from torch import Tensor

from metarl.learning.planning.planner import (
    Bounds,
    PlannerConfig,
    elite_moments,
    fresh_plans,
    planned,
    shifted,
    weighted_mean,
)

STEPS = 3
BOUNDS = Bounds(torch.tensor([-1.0], dtype=torch.float64), torch.tensor([0.5], dtype=torch.float64))
STARTS = torch.tensor([0.0, 1.0, -2.0], dtype=torch.float64)
GOALS = torch.tensor([0.9, -1.5, -1.7], dtype=torch.float64)
GAINS = torch.tensor([1.0, 0.5, -1.0], dtype=torch.float64)
CEM = PlannerConfig(plan_steps=STEPS, candidates=200, rounds=10, elites=20, plan_std=1.0)
MPPI = PlannerConfig(method="mppi", plan_steps=STEPS, candidates=500, rounds=10, plan_std=0.5, temperature=0.01)


def returns_of(plans: Tensor, which: slice = slice(None)) -> Tensor:
    """Returns `[N, C]` of plans `[N, C, H, 1]`: points on a line, each with its own gain and goal."""
    x, total = STARTS[which, None].expand(plans.shape[:2]), torch.zeros(plans.shape[:2], dtype=torch.float64)
    for step in range(plans.shape[2]):
        action = plans[:, :, step, 0]
        x = x + GAINS[which, None] * action
        total = total - (x - GOALS[which, None]) ** 2 - 0.1 * action**2
    return total


def grid_best(points: int = 61) -> tuple[Tensor, Tensor]:
    """The best plan `[N, H]` of a grid over all actions, and its return `[N]`."""
    axis = torch.linspace(-1.0, 0.5, points, dtype=torch.float64)
    grid = torch.tensor(list(product(axis.tolist(), repeat=STEPS)), dtype=torch.float64)
    returns = returns_of(grid[None, :, :, None].expand(len(STARTS), -1, -1, -1))
    best = returns.max(dim=1)
    return grid[best.indices], best.values


@pytest.mark.parametrize("config", [CEM, MPPI], ids=["cem", "mppi"])
def test_plans_reach_the_best_of_a_grid_search(config: PlannerConfig) -> None:
    plans, best = planned(config, returns_of, fresh_plans(config, BOUNDS, 3), BOUNDS, np.random.default_rng(0))
    grid, value = grid_best()
    assert (returns_of(plans[:, None])[:, 0] >= value - 0.02).all()
    assert (plans[..., 0] - grid).abs().max() < 0.15
    assert (best >= value - 0.02).all()


@pytest.mark.parametrize("config", [CEM, MPPI], ids=["cem", "mppi"])
def test_the_plan_of_an_environment_does_not_depend_on_the_others(config: PlannerConfig) -> None:
    class Repeating:
        """The same noise for every environment, so that one alone draws what it draws among others."""

        def __init__(self) -> None:
            self.rng = np.random.default_rng(5)

        def standard_normal(self, shape: tuple[int, ...], dtype: type) -> np.ndarray:
            return np.broadcast_to(self.rng.standard_normal(shape[1:], dtype=dtype), shape).copy()

    def result(which: slice, count: int) -> Tensor:
        rng = Repeating()
        return planned(config, lambda p: returns_of(p, which), fresh_plans(config, BOUNDS, count), BOUNDS, rng)[0]  # type: ignore[arg-type]

    together = result(slice(None), 3)
    for n in range(3):
        assert torch.allclose(together[n], result(slice(n, n + 1), 1)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("config", [CEM, MPPI], ids=["cem", "mppi"])
def test_only_actions_within_the_bounds_are_scored_and_played(config: PlannerConfig) -> None:
    seen: list[Tensor] = []

    def spying(plans: Tensor) -> Tensor:
        seen.append(plans)
        return 100.0 * plans.sum(dim=(2, 3))  # better and better beyond the upper bound

    plans, _ = planned(config, spying, fresh_plans(config, BOUNDS, 2), BOUNDS, np.random.default_rng(0))
    assert len(seen) == config.rounds
    for scored in (*seen, plans):
        assert scored.min() >= -1.0
        assert scored.max() <= 0.5
    assert max(float(s.max()) for s in seen) == 0.5
    assert (plans > 0.45).all()


def test_elites_are_those_of_each_environment() -> None:
    candidates = torch.tensor([[1.0, 2.0, 3.0, 4.0], [10.0, 20.0, 30.0, 40.0]])[..., None, None]
    returns = torch.tensor([[0.0, 5.0, 1.0, 4.0], [900.0, 100.0, 800.0, 0.0]])
    mean, deviation = elite_moments(candidates, returns, 2)
    assert mean.flatten().tolist() == [3.0, 20.0]
    assert deviation.flatten().tolist() == [1.0, 10.0]
    mean, _ = elite_moments(candidates, returns, 99)
    assert mean.flatten().tolist() == [2.5, 25.0]


def test_weights_are_exponential_in_the_return_of_each_environment() -> None:
    candidates = torch.tensor([[0.0, 1.0], [0.0, 1.0]], dtype=torch.float64)[..., None, None]
    returns = torch.tensor([[0.0, np.log(3.0)], [7.0, 7.0]], dtype=torch.float64)
    assert weighted_mean(candidates, returns, 1.0).flatten().tolist() == pytest.approx([0.75, 0.5], abs=1e-12)
    assert weighted_mean(candidates, returns, 0.5).flatten().tolist() == pytest.approx([0.9, 0.5], abs=1e-12)


def test_the_next_search_starts_from_the_rest_of_the_plan() -> None:
    plans = torch.tensor([[[0.1], [0.2], [0.3]]], dtype=torch.float64)
    assert shifted(plans, BOUNDS).flatten().tolist() == pytest.approx([0.2, 0.3, -0.25])
    assert fresh_plans(CEM, BOUNDS, 2).shape == (2, STEPS, 1)
    one = PlannerConfig(plan_steps=STEPS, candidates=30, rounds=1, elites=3, plan_std=0.1)
    good = planned(CEM, returns_of, fresh_plans(CEM, BOUNDS, 3), BOUNDS, np.random.default_rng(0))[0]
    warm, cold = (
        returns_of(planned(one, returns_of, start, BOUNDS, np.random.default_rng(1))[0][:, None])[:, 0]
        for start in (good, fresh_plans(one, BOUNDS, 3))
    )
    assert (warm > cold + 0.1).all()


@pytest.mark.parametrize("config", [CEM, MPPI], ids=["cem", "mppi"])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_predictions_that_are_not_finite_lose(config: PlannerConfig, bad: float) -> None:
    def scores(plans: Tensor) -> Tensor:
        returns = returns_of(plans)
        return torch.where(plans[:, :, 0, 0] > 0.0, torch.full_like(returns, bad), returns)

    plans, _ = planned(config, scores, fresh_plans(config, BOUNDS, 3), BOUNDS, np.random.default_rng(0))
    assert torch.isfinite(plans).all()
    assert (plans[:, 0, 0] <= 0.0).all()

    def never(plans: Tensor) -> Tensor:
        return torch.full(plans.shape[:2], bad, dtype=plans.dtype)

    plans, best = planned(config, never, fresh_plans(config, BOUNDS, 3), BOUNDS, np.random.default_rng(0))
    assert torch.isfinite(plans).all()
    assert (best < -1e29).all()


def test_a_seed_fixes_the_plan_and_torch_draws_nothing() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    runs = [
        planned(CEM, returns_of, fresh_plans(CEM, BOUNDS, 3), BOUNDS, np.random.default_rng(s))[0] for s in (1, 1, 2)
    ]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])
    assert torch.equal(torch.get_rng_state(), before)
