from __future__ import annotations

import numpy as np
import torch

from metarl.learning.experience import returns
from metarl.learning.experience.advantages import policy_advantages


def test_on_a_cpu_advantages_are_numpys_bit_for_bit(make_agent, play) -> None:
    (trajectories,) = play(make_agent(), [[[5, 2], [1, 5], [3, 4]]])
    observations, rewards = trajectories.observations, 0.5 * trajectories.rewards
    settings = {"gamma": 0.9, "lam": 0.8, "ridge": 1e-3}
    found = policy_advantages(torch.tensor(observations), rewards, trajectories, **settings)
    expected = returns.policy_advantages(observations, rewards, trajectories, **settings)
    assert found.dtype == torch.float32
    assert np.array_equal(found.numpy(), expected)
    assert np.abs(expected).max() > 0.1
