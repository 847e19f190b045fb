from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.learning.experience import device_returns, returns
from metarl.types import Trajectories

M, E, T, SEEN = 3, 4, 9, 2


@pytest.fixture(params=[0, 1])
def trajectories(request: pytest.FixtureRequest) -> Trajectories:
    """Episodes of different lengths, terminated or truncated."""
    rng = np.random.default_rng(request.param)
    length = rng.integers(1, T + 1, size=(M, E, 1))
    length[0, 0], length[1, 1] = T, 1
    mask = np.arange(T) < length
    last = np.arange(T) == length - 1
    by_itself = rng.random((M, E, 1)) < 0.5
    return Trajectories(
        all_observations=rng.standard_normal((M, E, T + 1, SEEN)).astype(np.float32),
        actions=np.zeros((M, E, T, 1)),
        rewards=rng.standard_normal((M, E, T)) * mask,
        terminated=last & by_itself,
        truncated=last & ~by_itself,
        mask=mask,
        success=None,
        diverged=np.zeros((M, E), dtype=bool),
        extras={},
    )


@pytest.mark.parametrize("steps", [1, 2, 7, 8, 9])
def test_sums_in_a_few_passes_are_the_sums_step_by_step(steps: int) -> None:
    rng = np.random.default_rng(steps)
    values, continues = rng.standard_normal((2, 3, steps)), (rng.random((2, 3, steps)) < 0.8).astype(float)
    expected = returns.discounted_sums(values, continues, 0.9)
    before = torch.tensor(values)
    found = device_returns.discounted_sums(before, torch.tensor(continues), 0.9)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-12)
    assert np.array_equal(before.numpy(), values), "what it was given is left alone"


def test_the_baseline_is_numpys(trajectories: Trajectories) -> None:
    observations, targets = trajectories.observations, trajectories.rewards
    found = device_returns.fit_linear_baseline(
        *(torch.tensor(a) for a in (observations, targets, trajectories.mask)), ridge=1e-3
    )
    features = returns.baseline_features(observations)
    expected = returns.fit_linear_baseline(features, targets, trajectories.mask, 1e-3)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-6, atol=1e-8)


def test_a_task_that_cannot_be_fitted_does_not_spoil_the_others() -> None:
    observations, targets = torch.ones(2, 1, 3, 1), torch.ones(2, 1, 3, dtype=torch.float64)
    observations[0] = torch.nan
    values = device_returns.fit_linear_baseline(observations, targets, torch.ones(2, 1, 3, dtype=torch.bool), 1e-5)
    torch.testing.assert_close(values[1], targets[1], rtol=0.0, atol=1e-4)


def test_a_singular_task_is_solved_with_more_ridge() -> None:
    observations, targets = torch.full((1, 1, 3, 1), 1e30), torch.ones(1, 1, 3, dtype=torch.float64)
    values = device_returns.fit_linear_baseline(observations, targets, torch.ones(1, 1, 3, dtype=torch.bool), 1e-5)
    assert bool(values.isfinite().all())


@pytest.mark.parametrize("ridge", [None, 1e-5])
@pytest.mark.parametrize("lam", [0.7, 1.0])
def test_advantages_are_numpys(trajectories: Trajectories, lam: float, ridge: float | None) -> None:
    observations, rewards = trajectories.observations, 0.5 * trajectories.rewards
    expected = returns.policy_advantages(observations, rewards, trajectories, gamma=0.9, lam=lam, ridge=ridge)
    found = device_returns.policy_advantages(
        torch.tensor(observations), rewards, trajectories, gamma=0.9, lam=lam, ridge=ridge
    )
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-5)
    assert not found.numpy()[~trajectories.mask].any()


def test_tasks_that_do_not_fit_together_are_fitted_apart(trajectories: Trajectories, monkeypatch) -> None:
    arguments = (torch.tensor(trajectories.observations), trajectories.rewards, trajectories)
    together = device_returns.policy_advantages(*arguments, gamma=0.9, lam=0.9, ridge=1e-5)
    monkeypatch.setattr(device_returns, "chunks_that_fit", lambda m, *_: [slice(i, i + 1) for i in range(m)])
    apart = device_returns.policy_advantages(*arguments, gamma=0.9, lam=0.9, ridge=1e-5)
    torch.testing.assert_close(apart, together)
