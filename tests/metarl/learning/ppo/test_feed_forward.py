from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from metarl.learning.ppo import learner as ppo
from metarl.learning.ppo.feed_forward import FeedForwardAgent, FeedForwardSettings, bootstrapped_advantages
from metarl.learning.ppo.learner import PpoSamples
from metarl.types import Spaces, Trajectories

NAN = float("nan")


def test_advantages_by_hand_terminated_stops_the_bootstrap_and_truncated_does_not() -> None:
    """Three episodes: terminated after 2 steps, cut after 3, cut after 2 with a step of padding."""
    mask = np.array([[[1, 1, 0], [1, 1, 1], [1, 1, 0]]], dtype=np.bool_)
    terminated = np.array([[[0, 1, 0], [0, 0, 0], [0, 0, 0]]], dtype=np.bool_)
    rewards = np.array([[[1.0, 2.0, 0.0], [1.0, 2.0, 3.0], [1.0, 2.0, 0.0]]])
    values = np.array([[[5.0, 6.0, 0.0], [5.0, 6.0, 7.0], [5.0, 6.0, 0.0]]])
    final = np.array([[100.0, 8.0, 10.0]])
    got = bootstrapped_advantages(rewards, values, final, terminated, mask, 0.5, 0.8)
    d0, d1 = 1 + 0.5 * 6 - 5, 2 - 6
    assert got[0, 0].tolist() == pytest.approx([d0 + 0.4 * d1, d1, 0])
    d1, d2 = 2 + 0.5 * 7 - 6, 3 + 0.5 * 8 - 7
    assert got[0, 1].tolist() == pytest.approx([d0 + 0.4 * (d1 + 0.4 * d2), d1 + 0.4 * d2, d2])
    d1 = 2 + 0.5 * 10 - 6
    assert got[0, 2].tolist() == pytest.approx([d0 + 0.4 * d1, d1, 0])


def make(spaces: Spaces, **changes) -> FeedForwardAgent:
    settings = FeedForwardSettings(**{"hidden": (5,), **changes})
    return FeedForwardAgent("test", settings, spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))


def recording(
    agent: FeedForwardAgent, spaces: Spaces, junk: float = 0.0
) -> tuple[np.ndarray, np.ndarray, Trajectories]:
    """Inputs, final inputs, and episodes of 2 tasks and 3 environments, some of which end early."""
    rng = np.random.default_rng(1)
    lengths = np.array([[5, 2, 1], [3, 5, 4]])
    mask = np.arange(5) < lengths[..., None]
    inputs = rng.standard_normal((2, 3, 6, 3)).astype(np.float32)
    actions = [agent._sample(inputs[:, :, t], rng) for t in range(5)]

    def padded(arrays: list[np.ndarray]) -> np.ndarray:
        long = np.stack(arrays, axis=2)
        return np.where(mask.reshape(*mask.shape, *[1] * (long.ndim - 3)), long, junk).astype(np.float32)

    last = mask & (np.arange(5) == lengths[..., None] - 1)
    trajectories = Trajectories(
        all_observations=inputs,
        actions=padded([a.environment for a in actions]),
        rewards=padded(list(rng.standard_normal((5, 2, 3)))),
        terminated=last & (lengths < 5)[..., None],
        truncated=last & (lengths == 5)[..., None],
        mask=mask,
        success=None,
        diverged=np.zeros((2, 3), dtype=np.bool_),
        extras={name: padded([a.extras[name] for a in actions]) for name in actions[0].extras},
    )
    inputs = np.where(np.pad(mask, ((0, 0), (0, 0), (0, 1)))[..., None], inputs, junk).astype(np.float32)
    return inputs[:, :, :-1], np.ones((2, 3, 3), dtype=np.float32), trajectories


def test_the_ratio_is_one_before_the_first_step_and_only_real_steps_are_learnt_from(
    spaces: Spaces, monkeypatch
) -> None:
    agent = make(spaces, normalise_observations=True)
    agent._learn(*recording(agent, spaces))
    seen: list[tuple[torch.Tensor, PpoSamples]] = []

    def look(self, samples, inputs, progress):
        distribution, values = self._forward(*inputs)
        seen.append((distribution.log_prob(samples.actions), samples))
        torch.testing.assert_close(values, samples.values)
        return {"update/entropy": 0.0}

    monkeypatch.setattr(ppo.PpoLearner, "update", look)
    agent._learn(*recording(agent, spaces))
    log_probs, samples = seen[0]
    assert len(samples.mask) == 20
    assert samples.mask.all()
    torch.testing.assert_close(log_probs, samples.log_probs)


def test_padded_steps_teach_nothing(spaces: Spaces) -> None:
    ends = []
    for junk in (0.0, 9.0, NAN):
        agent = make(spaces, normalise_observations=True)
        inputs, final, trajectories = recording(agent, spaces, junk)
        rewards = np.nan_to_num(trajectories.rewards, nan=4.0)  # a NaN would pass through sums over time
        values = np.nan_to_num(trajectories.extras["value"], nan=4.0)
        trajectories = replace(trajectories, rewards=rewards, extras={**trajectories.extras, "value": values})
        agent._learn(inputs, final, trajectories)
        ends.append(agent.tensors())
    assert ends[0]["input_moments.count"].item() == ends[0]["return_moments.count"].item() == 20
    for other in ends[1:]:
        assert all(torch.equal(tensor, other[name]) for name, tensor in ends[0].items())


def test_the_statistics_are_those_of_inputs_and_returns(spaces: Spaces) -> None:
    agent = make(spaces, normalise_observations=True, gamma=0.5)
    inputs, final, trajectories = recording(agent, spaces)
    agent._learn(inputs, final, trajectories)
    seen, returns = inputs[trajectories.mask], []
    for row in np.ndindex(2, 3):
        rewards = trajectories.rewards[row][trajectories.mask[row]].astype(float)
        returns += [sum(0.5**i * r for i, r in enumerate(rewards[t:])) for t in range(len(rewards))]
    assert agent.tensors()["input_moments.mean"].numpy() == pytest.approx(seen.mean(axis=0), abs=1e-6)
    assert agent.tensors()["return_moments.variance"].item() == pytest.approx(np.var(returns))
    bare = make(spaces, normalise_rewards=False)
    bare._learn(*recording(bare, spaces))
    assert bare.tensors()["return_moments.count"].item() == bare.tensors()["input_moments.count"].item() == 0


@pytest.mark.parametrize("reward", [3.0, -3.0, 0.0])
def test_constant_returns_are_scaled_to_a_hundred_and_zero_stays_zero(spaces: Spaces, reward: float) -> None:
    agent, seen = make(spaces, gamma=0.0, gae_lambda=0.0), []
    inputs, final, trajectories = recording(agent, spaces)
    rewards = np.where(trajectories.mask, reward, 0.0).astype(np.float32)
    agent._learner.update = lambda samples, *_: seen.append(samples) or {"update/entropy": 0.0}  # type: ignore[method-assign]
    agent._learn(inputs, final, replace(trajectories, rewards=rewards))
    assert seen[0].targets.numpy() == pytest.approx(np.full(20, 100.0 * np.sign(reward)), rel=1e-6)
