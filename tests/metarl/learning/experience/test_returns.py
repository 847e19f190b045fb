from __future__ import annotations

import numpy as np
import pytest
import torch

from metarl.learning.experience import device_returns, returns
from metarl.learning.experience.returns import (
    baseline_features,
    discounted_sums,
    fit_linear_baseline,
    generalised_advantages,
    normalise,
    policy_advantages,
)
from metarl.types import Trajectories


def row(*values: float, kind: type = float) -> np.ndarray:
    return np.array([[values]], dtype=kind)


def test_discounted_sums_by_hand() -> None:
    assert discounted_sums(row(1, 2, 4), row(1, 1, 0), 0.5).tolist() == [[[3.0, 4.0, 4.0]]]
    assert discounted_sums(row(1, 2, 4), row(0, 1, 1), 0.5).tolist() == [[[1.0, 4.0, 4.0]]]


def test_a_terminated_step_is_not_bootstrapped_and_a_truncated_one_is() -> None:
    no, end = row(False, False, kind=bool), row(False, True, kind=bool)
    arguments = (row(1, 1), row(10, 20), row(20, 40))
    terminated = generalised_advantages(*arguments, end, no, gamma=0.5, lam=1.0)
    truncated = generalised_advantages(*arguments, no, end, gamma=0.5, lam=1.0)
    # last step: 1 - 20 = -19, or 1 + 0.5 * 40 - 20 = 1; first: 1 + 0.5 * 20 - 10 = 1, plus half of the last
    assert terminated.tolist() == [[[1 - 9.5, -19.0]]]
    assert truncated.tolist() == [[[1.5, 1.0]]]


def test_lambda_zero_is_the_one_step_residual_and_lambda_one_the_return_minus_the_value() -> None:
    rng = np.random.default_rng(0)
    rewards, values = rng.standard_normal((2, 3, 6)), rng.standard_normal((2, 3, 7))
    never = np.zeros((2, 3, 6), dtype=bool)
    arguments = (rewards, values[..., :-1], values[..., 1:], never, never)
    one_step = generalised_advantages(*arguments, gamma=0.9, lam=0.0)
    assert np.allclose(one_step, rewards + 0.9 * values[..., 1:] - values[..., :-1])
    all_steps = generalised_advantages(*arguments, gamma=0.9, lam=1.0)
    for t in range(6):
        left = sum(0.9**i * rewards[..., t + i] for i in range(6 - t)) + 0.9 ** (6 - t) * values[..., 6]
        assert np.allclose(all_steps[..., t], left - values[..., t])


def test_normalised_advantages_have_mean_zero_and_deviation_one_over_the_steps_that_count() -> None:
    rng = np.random.default_rng(1)
    values, mask = 5 + 3 * rng.standard_normal((2, 3, 8)), rng.random((2, 3, 8)) < 0.7
    result = normalise(values, mask)
    for m in range(2):
        assert result[m][mask[m]].mean() == pytest.approx(0, abs=1e-9)
        assert result[m][mask[m]].std() == pytest.approx(1, abs=1e-6)
    assert not result[~mask].any()


def test_baseline_features_are_observation_square_powers_of_time_and_one() -> None:
    features = baseline_features(np.array([[[[2.0], [3.0]]]]))
    assert features[0, 0, 1].tolist() == pytest.approx([3.0, 9.0, 0.01, 1e-4, 1e-6, 1.0])


def test_the_batched_baseline_equals_ridge_regression_task_by_task() -> None:
    rng = np.random.default_rng(2)
    features, targets = rng.standard_normal((3, 4, 10, 5)), rng.standard_normal((3, 4, 10))
    mask = rng.random((3, 4, 10)) < 0.6
    values = fit_linear_baseline(features, targets, mask, ridge=0.1)
    for m in range(3):
        x, y = features[m][mask[m]], targets[m][mask[m]]
        augmented = np.vstack([x, np.sqrt(0.1) * np.eye(5)]), np.concatenate([y, np.zeros(5)])
        weights = np.linalg.lstsq(*augmented, rcond=None)[0]
        assert np.allclose(values[m], features[m] @ weights)


def test_with_more_features_than_steps_the_fit_is_the_same_with_fewer_unknowns(monkeypatch) -> None:
    rng = np.random.default_rng(4)
    features, targets = rng.standard_normal((2, 2, 10, 600)), rng.standard_normal((2, 2, 10))
    mask = rng.random((2, 2, 10)) < 0.6
    solved, solve = [], np.linalg.solve
    monkeypatch.setattr(np.linalg, "solve", lambda a, b: solved.append(a.shape) or solve(a, b))
    values = fit_linear_baseline(features, targets, mask, ridge=0.1)
    on_device = device_returns.fit_linear_baseline  # makes its features itself: the same observations for both
    seen = features[..., :298]
    theirs = on_device(*(torch.tensor(a) for a in (seen, targets, mask)), ridge=0.1).numpy()
    ours = fit_linear_baseline(baseline_features(seen), targets, mask, ridge=0.1)
    assert set(solved) == {(2, 20, 20)}
    monkeypatch.setattr(returns, "PRIMAL_FEATURES", 10_000)
    assert np.allclose(values, fit_linear_baseline(features, targets, mask, ridge=0.1), atol=1e-9)
    assert solved[-1] == (2, 600, 600)
    assert np.allclose(ours, fit_linear_baseline(baseline_features(seen), targets, mask, ridge=0.1), atol=1e-9)
    assert np.allclose(ours, theirs, atol=1e-9)


def test_a_task_that_cannot_be_fitted_does_not_spoil_the_others() -> None:
    features, targets = np.ones((2, 1, 3, 2)), np.ones((2, 1, 3))
    features[0] = np.nan
    values = fit_linear_baseline(features, targets, np.ones((2, 1, 3), dtype=bool), ridge=1e-5)
    assert np.allclose(values[1], 1.0, atol=1e-4)


def test_a_return_that_the_baseline_explains_leaves_no_advantage() -> None:
    """One reward at a fixed time: the return is a function of time alone within the features' reach."""
    t, rng = 4, np.random.default_rng(3)
    observations = rng.standard_normal((1, 50, t, 2)).astype(np.float32)
    rewards = np.zeros((1, 50, t), dtype=np.float32)
    rewards[..., -1] = 1.0  # gamma 1: the return is 1 everywhere
    flags = np.zeros((1, 50, t), dtype=bool)
    end = flags.copy()
    end[..., -1] = True
    trajectories = Trajectories(
        all_observations=np.concatenate([observations, observations[:, :, -1:]], axis=2),
        actions=np.zeros((1, 50, t, 1)),
        rewards=rewards,
        terminated=flags,
        truncated=end,
        mask=~flags,
        success=None,
        diverged=flags[..., 0],
        extras={},
    )
    returns = discounted_sums(rewards.astype(float), (~end).astype(float), 1.0)
    values = fit_linear_baseline(baseline_features(observations), returns, ~flags, 1e-5)
    assert np.allclose(values, 1.0, atol=1e-3)
    without = policy_advantages(observations, rewards, trajectories, gamma=1.0, lam=1.0, ridge=None)
    assert np.allclose(without, 0.0), "normalised: all returns are equal"
