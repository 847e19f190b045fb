"""Agents that learn from trials: the end of returns, and bootstrapping there."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metarl.learning.networks.cells.table import CELLS
from metarl.registry import agent_class
from metarl.rollout import TrajectoryBuilder
from metarl.types import MetaBatch, Spaces, Task, TaskParameter, Trajectories

LENGTHS = np.array([[[5, 2], [1, 5], [3, 4]], [[4, 5], [5, 1], [5, 5]], [[5, 5], [2, 3], [1, 5]]])
"""Steps of the episodes `[K + 1, M, E]`."""
CUT = np.array([[[1, 1], [0, 1], [1, 0]], [[0, 1], [1, 1], [1, 0]], [[1, 0], [1, 1], [0, 1]]], dtype=np.bool_)
"""Episodes that a time limit cut; the others end by themselves."""
TASKS = tuple(Task.of("noise", number=i) for i in range(3))
SMALL = {
    "units": 8,
    "encoder": (5,),
    "hidden": (7,),
    "decoder": (6,),
    "latent": 2,
    "vae_updates": 0,
}
AGENTS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"rl2 {cell}": ("rl2", {"cell": cell}) for cell in CELLS},
    "rl2 in segments": ("rl2", {"segment_steps": 4}),
    "rl2 normalised": ("rl2", {"normalise_observations": True}),
    "rl2 aggregated": ("rl2", {"aggregate": "max"}),
    "rl2 hypernetwork": ("rl2", {"head": "hypernetwork"}),
    **{f"varibad {cell}": ("varibad", {"cell": cell}) for cell in CELLS if cell != "gru"},
    "varibad": ("varibad", {}),
    "varibad aggregated": ("varibad", {"aggregate": "max"}),
    "varibad normalised": ("varibad", {"normalise_observations": True}),
    "rma": ("rma", {}),
    "rma normalised": ("rma", {"normalise_observations": True}),
}


def make(name: str, spaces: Spaces, **settings: Any) -> Any:
    """A small agent none of whose parameters is zero; discount 0.5, lambda 0.8, rewards and advantages as they are."""
    kind: Any = agent_class(name)
    spaces = replace(spaces, task_parameters=(TaskParameter("number", 1),))
    plain = {"normalise_rewards": False, "normalise_advantages": False, "gamma": 0.5, "gae_lambda": 0.8}
    known = {k: v for k, v in SMALL.items() if hasattr(kind.Config(), k)}
    config = kind.Config(**{**known, **plain, "episodes_per_trial": 3, **settings})
    agent = kind(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    generator = torch.Generator().manual_seed(0)
    tensors = {
        name: t + 0.3 * torch.randn(t.shape, generator=generator) if name.startswith(("parameters.", "vae.")) else t
        for name, t in agent.tensors().items()
    }
    agent.restore(tensors, agent.counters())
    return agent


def play(agent: Any) -> tuple[list[Trajectories], np.ndarray]:
    """Trials in a world of noise, and the value that acting gives if each episode went on, `[K + 1, M, E]`."""
    rng, aside = np.random.default_rng(0), np.random.default_rng(1)
    state, trajectories, going_on = agent.begin_training(TASKS, 2), [], np.zeros(LENGTHS.shape)
    for k, (length, cut) in enumerate(zip(LENGTHS, CUT, strict=True)):
        if k:
            state = agent.adapt(state, trajectories[-1])
        builder = TrajectoryBuilder(3, 2, agent.spaces, rng.standard_normal((3, 2, 3)))
        for t in range(1, 6):
            action, state = agent.act(state, builder.step, rng)
            over, seen, reward = length == t, rng.standard_normal((3, 2, 3)), rng.standard_normal((3, 2))
            builder.add(action, seen, reward, over & ~cut, over & cut)
            one_more, _ = agent.act(state, builder.step, aside)
            going_on[k] = np.where(over, one_more.extras["value"], going_on[k])
        trajectories.append(builder.build())
    return trajectories, going_on


def learnt(agent: Any, trajectories: list[Trajectories], monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """The advantages that PPO is given, of the steps that happened, trial after trial."""
    seen: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(agent._learner, "update", lambda samples, *_: seen.append(samples) or {"update/entropy": 0.0})
        agent.meta_update(MetaBatch(TASKS, tuple(trajectories)))
    [samples] = seen
    return samples.advantages[samples.mask > 0].numpy()


def by_hand(trajectories: list[Trajectories], last_values: np.ndarray) -> list[float]:
    """Advantages of each episode on its own, with `last_values` `[K + 1, M, E]` after its end, trial after trial."""
    advantages = []
    for row in np.ndindex(3, 2):
        for k, episode in enumerate(trajectories):
            following, advantage, backwards = last_values[k][row], 0.0, []
            for t in reversed(range(LENGTHS[k][row])):
                value = float(episode.extras["value"][row][t])
                advantage = float(episode.rewards[row][t]) + 0.5 * following - value + 0.4 * advantage
                following = value
                backwards.append(advantage)
            advantages += backwards[::-1]
    return advantages


@pytest.mark.parametrize("which", AGENTS)
def test_each_episode_that_the_clock_cut_is_bootstrapped_from_its_own_last_observation(
    spaces: Spaces, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    name, settings = AGENTS[which]
    agent = make(name, spaces, episodes_cut_returns=True, **settings)
    agent.meta_update(MetaBatch(TASKS, tuple(play(agent)[0])))  # so that there are statistics
    trajectories, going_on = play(agent)
    expected = by_hand(trajectories, np.where(CUT, going_on, 0.0))
    assert np.abs(going_on[CUT]).min() > 1e-3
    assert learnt(agent, trajectories, monkeypatch) == pytest.approx(np.array(expected), abs=1e-5)


@pytest.mark.parametrize("which", ["rl2 gru", "varibad", "rma"])
def test_finite_trials_leave_nothing_after_any_episode_whose_end_cuts_the_return(
    spaces: Spaces, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    name, settings = AGENTS[which]
    agent = make(name, spaces, episodes_cut_returns=True, finite_trials=True, **settings)
    trajectories, _ = play(agent)
    expected = by_hand(trajectories, np.zeros(LENGTHS.shape))
    assert learnt(agent, trajectories, monkeypatch) == pytest.approx(np.array(expected), abs=1e-5)


def linear_baseline(episodes: list[Trajectories], row: tuple[int, ...]) -> list[np.ndarray]:
    """Values of a trial's episodes by ridge regression of its returns, written out step by step."""
    seen, targets = [], []
    for k, episode in enumerate(episodes):
        for t in range(LENGTHS[k][row]):
            o = episode.observations[row][t].astype(np.float64)
            seen.append([*o, *o**2, t / 100, (t / 100) ** 2, (t / 100) ** 3, 1.0])
            targets.append(float(episode.rewards[row][t]))
    for t in reversed(range(len(targets) - 1)):
        targets[t] += 0.5 * targets[t + 1]  # the discount; returns go on into the next episode
    x, y = np.array(seen), np.array(targets)
    weights = np.linalg.solve(x.T @ x + 1e-5 * np.eye(x.shape[1]), x.T @ y)
    return np.split(x @ weights, np.cumsum([LENGTHS[k][row] for k in range(len(episodes))])[:-1])


@pytest.mark.parametrize("which", ["rl2 gru", "rl2 in segments", "varibad", "rma"])
def test_the_linear_critic_is_fitted_to_each_trial_and_ends_with_it(
    spaces: Spaces, monkeypatch: pytest.MonkeyPatch, which: str
) -> None:
    name, settings = AGENTS[which]
    agent = make(name, spaces, critic="linear", episodes_cut_returns=False, **settings)
    trajectories, _ = play(agent)
    expected = []
    for row in np.ndindex(3, 2):
        values = np.concatenate(linear_baseline(trajectories, row))
        rewards = np.concatenate([e.rewards[row][: LENGTHS[k][row]] for k, e in enumerate(trajectories)])
        advantage, backwards = 0.0, []
        for reward, value, following in zip(rewards[::-1], values[::-1], [0.0, *values[:0:-1]], strict=True):
            advantage = reward + 0.5 * following - value + 0.4 * advantage
            backwards.append(advantage)
        expected += backwards[::-1]
    assert learnt(agent, trajectories, monkeypatch) == pytest.approx(np.array(expected), abs=1e-5)


def test_the_linear_critic_leaves_the_value_function_untrained(spaces: Spaces) -> None:
    changed = {}
    for critic in ("network", "linear"):
        agent = make("rl2", spaces, critic=critic, epochs=1)
        before = {name: t.clone() for name, t in agent.tensors().items()}
        agent.meta_update(MetaBatch(TASKS, tuple(play(agent)[0])))
        changed[critic] = {
            n for n, t in agent.tensors().items() if n.startswith("parameters.") and (t != before[n]).any()
        }
    assert {n.split(".")[1] for n in changed["network"] - changed["linear"]} == {"value", "critic"}
    assert changed["linear"]
