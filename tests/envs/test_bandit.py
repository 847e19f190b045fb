from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from metarl.registry import make_family
from metarl.scripts.reference.environments import BanditEnv

ARMS, PULLS = 5, 10


def play(choose, episodes: int = 1) -> float:
    """Mean return on all held-out bandits of the strategy `choose(wins [N, arms], losses [N, arms], pulls left)`."""
    family = make_family("bandit")
    tasks = family.distribution.held_out()
    envs = family.make_envs(len(tasks), episodes, PULLS)
    envs.set_tasks(tasks)
    envs.reset(seed=0)
    rows = np.arange(envs.num_envs)
    wins, losses, total = np.zeros((len(rows), ARMS)), np.zeros((len(rows), ARMS)), np.zeros(len(rows))
    for pull in range(PULLS):
        arms = choose(wins, losses, PULLS - pull)
        _, rewards, _, truncated, _ = envs.step(arms)
        wins[rows, arms] += rewards
        losses[rows, arms] += 1 - rewards
        total += rewards
    assert truncated.all()
    return float(total.mean())


@cache
def value_over_retiring(wins: int, losses: int, left: int, retire: float) -> float:
    """Optimal expected return of pulling one arm (uniform prior) or retiring to a constant reward per pull."""
    if not left:
        return 0.0
    p = (1 + wins) / (2 + wins + losses)
    go_on = p * (1 + value_over_retiring(wins + 1, losses, left - 1, retire))
    go_on += (1 - p) * value_over_retiring(wins, losses + 1, left - 1, retire)
    return max(retire * left, go_on)


@cache
def gittins_index(wins: int, losses: int, left: int) -> float:
    """The constant reward at which pulling the arm and retiring have the same value over the remaining pulls."""
    low, high = 0.0, 1.0
    for _ in range(12):
        middle = (low + high) / 2
        if value_over_retiring(wins, losses, left, middle) > middle * left + 1e-12:
            low = middle
        else:
            high = middle
    return low


def by_index(wins: np.ndarray, losses: np.ndarray, left: int) -> np.ndarray:
    indices = np.zeros_like(wins)
    for won, lost in {tuple(map(int, pair)) for pair in zip(wins.ravel(), losses.ravel(), strict=True)}:
        indices[(wins == won) & (losses == lost)] = gittins_index(won, lost, left)
    return indices.argmax(axis=1)


def test_returns_of_known_strategies_order_as_in_the_literature() -> None:
    """Duan et al. 2016, table 1, ten pulls of five arms: random 5.0, Gittins 6.6."""
    rng = np.random.default_rng(0)
    random = play(lambda won, lost, left: rng.integers(ARMS, size=len(won)))
    thompson = play(lambda won, lost, left: rng.beta(1 + won, 1 + lost).argmax(axis=1))
    greedy = play(lambda won, lost, left: ((1 + won) / (2 + won + lost)).argmax(axis=1))
    gittins = play(by_index)
    print(f"random {random:.3f}  Thompson {thompson:.3f}  greedy {greedy:.3f}  Gittins {gittins:.3f}")
    assert random == pytest.approx(5.0, abs=0.06)
    assert thompson == pytest.approx(5.75, abs=0.1)
    assert greedy == pytest.approx(6.55, abs=0.1)
    assert gittins == pytest.approx(6.6, abs=0.1)
    assert random < thompson < greedy


def test_an_arm_pays_with_its_probability_as_in_the_single_environment() -> None:
    family = make_family("bandit:arms=3,pulls=4000")
    (task,) = family.distribution.held_out(1)
    envs, single = family.make_envs(1, 2, 4000), BanditEnv(task)
    envs.set_tasks([task])
    envs.reset(seed=1)
    single.reset(seed=1)
    for arm in range(3):
        rewards = np.array([envs.step(np.array([arm, arm]))[1] for _ in range(1200)])
        assert np.allclose(rewards.mean(axis=0), task["probabilities"][arm], atol=0.06)
        assert abs(np.corrcoef(rewards.T)[0, 1]) < 0.1, "rows draw their own luck"
        alone = np.mean([single.step(arm)[1] for _ in range(1200)])
        assert alone == pytest.approx(task["probabilities"][arm], abs=0.06)


def test_there_are_ten_thousand_held_out_bandits_uniform_in_every_arm() -> None:
    tasks = make_family("bandit").distribution.held_out()
    probabilities = np.array([task["probabilities"] for task in tasks])
    assert probabilities.shape == (10_000, ARMS)
    for quantile in (0.1, 0.5, 0.9):
        assert np.allclose(np.quantile(probabilities, quantile, axis=0), quantile, atol=0.02)
    assert np.abs(np.corrcoef(probabilities.T) - np.eye(ARMS)).max() < 0.05
