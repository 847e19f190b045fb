"""An agent with a memory of its own is one file outside the package."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import metarl
from metarl.checkpoint import load_newest, save_checkpoint
from metarl.learning.experience.trials import pack_trials
from metarl.learning.networks.sequence import unroll
from metarl.registry import make_family
from metarl.storage import read_tensors

AGENT = '''"""Acts on exponential averages of all that it has seen in a trial, fast and slow ones."""
from dataclasses import dataclass

import torch
from torch import nn

from metarl.learning.networks.modules import PolicyHead, hidden_layers, linear
from metarl.learning.networks.sequence import SequenceNetwork
from metarl.learning.ppo.trial_agent import TrialAgent
from metarl.learning.ppo.trials import TrialSettings
from metarl.learning.trials.actor import input_size


@dataclass(frozen=True, kw_only=True)
class AveragesConfig(TrialSettings):
    """Settings of the agent."""

    units: int = 16
    """Features, each averaged fast and slow."""
    slow: float = 0.05
    """Weight of the present in the slow average."""


class AveragesNetwork(SequenceNetwork):
    """Layers on the present features and two averages of them; the memory is a pair of `[rows, units]`."""

    def __init__(self, config, spaces, rng):
        super().__init__()
        self.units, self.rates = config.units, (0.5, config.slow)
        self.features = hidden_layers((input_size(spaces), config.units), "tanh", rng)
        self.layers = hidden_layers((3 * config.units, 32), "tanh", rng)
        self.policy = PolicyHead(32, spaces, config, rng=rng)
        self.value = linear(32, 1, 1.0, rng)

    def fresh_memory(self, rows):
        return tuple(torch.zeros(rows, self.units, device=self.value.weight.device) for _ in self.rates)

    def forward(self, x, memory):
        features, steps = self.features(x), []
        for present in features.unbind(dim=1):
            memory = tuple(m + rate * (present - m) for m, rate in zip(memory, self.rates))
            steps.append(torch.cat([present, *memory], dim=-1))
        h = self.layers(torch.stack(steps, dim=1))
        return self.policy(h), self.value(h).squeeze(-1), memory


class Averages(TrialAgent):
    """The agent."""

    Config = AveragesConfig
    summary = "acts on exponential averages"

    def __init__(self, config, spaces, *, device, rng):
        super().__init__("averages", config, spaces, AveragesNetwork(config, spaces, rng), device=device, rng=rng)
'''


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The agent's module, imported from a folder of its own."""
    assert len(AGENT.splitlines()) <= 60
    (tmp_path / "my_averages.py").write_text(AGENT, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield importlib.import_module("my_averages")
    del sys.modules["my_averages"]


def test_an_agent_in_one_file_trains_adapts_and_resumes(module: Any, tmp_path: Path) -> None:
    family = make_family("point-robot")
    spaces = family.spaces(10)

    def build(seed: int) -> Any:
        config = module.Averages.Config(episodes_per_trial=2, normalise_observations=True)
        return module.Averages.build(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(seed))

    def train(agent: Any, streams: metarl.Streams, start: Any = None, iterations: int = 2) -> list[Any]:
        sampler = metarl.LocalSampler(family.make_envs(3, 2, 10))
        kept = {"iterations": iterations, "start": start}
        return list(metarl.meta_train(agent, sampler, family.distribution, streams, **kept))

    agent, streams = build(0), metarl.Streams(0)
    fresh = agent.tensors()
    reports = train(agent, streams)
    assert [r.progress.iteration for r in reports] == [1, 2]
    assert {"return/0", "return/1", "update/kl", "policy/std"} <= reports[-1].metrics.keys()
    for name, tensor in agent.tensors().items():
        if name.startswith("parameters."):
            assert not torch.equal(tensor, fresh[name]), name

    save_checkpoint(tmp_path, agent, streams, reports[-1].progress, keep=1)
    twin = build(5)
    kept_streams = metarl.Streams(9)
    progress, _ = load_newest(tmp_path, twin, kept_streams)
    uninterrupted, resumed = train(agent, streams, progress, 3), train(twin, kept_streams, progress, 3)
    assert uninterrupted[0].metrics["return/1"] == resumed[0].metrics["return/1"]
    assert all(torch.equal(tensor, twin.tensors()[name]) for name, tensor in agent.tensors().items())

    held_out = family.distribution.held_out(2)
    result = metarl.evaluate(agent, family, held_out, metarl.Streams(1), episodes=2, horizon=10, adapt_steps=2)
    assert result.returns.shape == (2, 3, 2)
    agent.save_policy(agent.begin(held_out, 2), tmp_path / "policy.safetensors", task=1)
    tensors, description = read_tensors(tmp_path / "policy.safetensors")
    assert tensors["memory.1"].shape == (2, 16)
    assert (description["format"], description["agent"]) == (1, "averages")


def test_learning_passes_through_the_memories_of_acting(module: Any, spaces: metarl.Spaces, play: Any) -> None:
    """Episodes of different lengths; the agent itself defines `fresh_memory` and `forward` alone."""
    agent = module.Averages(module.AveragesConfig(), spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    episodes = play(agent, [[[5, 2], [1, 5], [3, 4]], [[4, 5], [5, 1], [5, 5]]])
    trials = pack_trials(episodes)
    with torch.no_grad():
        distribution, values = unroll(agent.network, agent._trial_inputs(trials))
        log_probs = distribution.log_prob(torch.tensor(trials.extras["policy_output"]))
    assert values.numpy()[trials.mask] == pytest.approx(trials.extras["value"][trials.mask], abs=1e-5)
    assert log_probs.numpy()[trials.mask] == pytest.approx(trials.extras["log_prob"][trials.mask], abs=1e-5)
    assert values.numpy()[trials.mask].std() > 0.05

    def after(*parts: metarl.Trajectories) -> torch.Tensor:
        state = agent.begin([metarl.Task.of("noise", number=i) for i in range(3)], 2)
        return agent.adapt(state, metarl.Trajectories.join_episodes(parts)).content[1]

    longer, shorter = after(*episodes), after(episodes[0], episodes[0])
    assert (longer - shorter).abs().amax(dim=-1).min() > 1e-4, "joined episodes pass through the memory"
