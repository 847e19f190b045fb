"""The mode of every agent's policy: no noise, and the most likely action."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from metarl.learning.networks.distributions import Categorical, Gaussian, sample
from metarl.registry import AGENTS, make_family, names
from metarl.rollout import collect
from metarl.runs import RunConfig
from metarl.scripts.presets import default_settings
from metarl.seeding import Streams


@pytest.mark.parametrize("agent_name", names(AGENTS))
def test_the_mode_has_no_noise_of_its_own(agent_name: str, suited: Callable[[str], Any]) -> None:
    """Two rows that see the same take the same action by the mode, and different ones when sampled."""
    name, settings = suited(agent_name)
    family = make_family(name)
    envs, tasks = family.make_envs(1, 2, 5), family.distribution.held_out(1)
    training, config = default_settings(agent_name, name)
    config, spaces = replace(config, **settings), family.spaces(5)
    run = RunConfig(agent=agent_name, family=name, training=training, agent_config=config, spaces=spaces)
    agent = run.build_agent(torch.device("cpu"), np.random.default_rng(0))
    envs.set_tasks(tasks)
    state = agent.begin(tasks, 2)
    by_mode, _ = collect(envs, agent, state, Streams(0), actions="mode")
    sampled, _ = collect(envs, agent, state, Streams(0))
    alike = np.allclose(by_mode.actions[0, 0], by_mode.actions[0, 1], atol=1e-6)
    draws = agent_name == "pearl" or bool(settings)
    assert alike or draws, "pearl draws the latent of each row, a planner its candidates; then they act without noise"
    if draws:
        again = collect(envs, agent, state, Streams(0), actions="mode")[0]
        assert np.array_equal(again.actions, by_mode.actions)
    assert not np.allclose(sampled.actions[0, 0], sampled.actions[0, 1], atol=1e-3)


def test_the_mode_of_a_distribution() -> None:
    rng = np.random.default_rng(0)
    mean, log_std = torch.tensor([[0.3, -2.0]]), torch.tensor([0.0, 1.0])
    assert sample(Gaussian(mean, log_std), rng, mode=True).tolist() == mean.tolist()
    logits = torch.tensor([[0.1, 3.0, 0.2], [5.0, 4.9, 0.0]])
    assert sample(Categorical(logits), rng, mode=True).tolist() == [[1.0], [0.0]]
