"""PEARL's checkpoints, exported policies, and what it refuses."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from metarl.checkpoint import load_newest, save_checkpoint
from metarl.learning.networks.context_encoder import posterior
from metarl.seeding import Streams
from metarl.storage import read_tensors
from metarl.types import Progress, Spaces, Task


def test_saved_and_restored_it_goes_on_bit_for_bit(point, tmp_path: Path) -> None:
    tasks = point.tasks
    settings = {"tune_temperature": True, "replay_size": 90}
    agent, twin = point.agent(**settings), point.agent(seed=5, **settings)
    streams = Streams(0)
    for _ in range(2):
        agent.meta_update(point.iteration(agent, tasks, streams))
    assert agent.buffers.replay.sizes.max() == 90, "the ring has gone round"
    save_checkpoint(tmp_path, agent, streams, Progress(2, 1), keep=2)
    other = Streams(9)
    twin.meta_update(point.iteration(twin, tasks[:2], other))  # what it held before is forgotten
    assert load_newest(tmp_path, twin, other) == (Progress(2, 1), [])
    assert json.loads(json.dumps(agent.counters())) == agent.counters() == twin.counters()
    new = [*tasks[2:], Task.of("point-robot", goal=(0.4, 0.4))]
    results = [one.meta_update(point.iteration(one, new, s)) for one, s in ((agent, streams), (twin, other))]
    assert results[0] == results[1]
    mine, theirs = agent.tensors(), twin.tensors()
    assert mine.keys() == theirs.keys()
    assert all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert agent.counters() == twin.counters()
    assert len(agent.buffers.slots) == 5


def test_a_checkpoint_from_before_episodes_were_kept_apart_is_gone_on_with(point) -> None:
    """It holds a ring buffer per trial and says how many trials of each task there are."""
    tasks = point.tasks
    agent, twin = point.agent(), point.agent(seed=5)
    agent.meta_update(point.iteration(agent, tasks, Streams(0)))
    tensors, counters = agent.tensors(), {**agent.counters(), "trials": 3}
    contexts = {name: tensors.pop(f"context.{name}") for name in ("rows", "trials", "ends")}
    tensors |= {"context.rows": contexts["rows"].flatten(0, 1), "context.sizes": contexts["ends"][..., -1].flatten()}
    tensors["context.next"] = tensors["context.sizes"]
    twin.restore(tensors, counters)
    assert torch.equal(twin.tensors()["context.rows"], contexts["rows"])
    assert twin.tensors()["context.ends"].tolist() == contexts["ends"][..., -1:].expand(-1, -1, 3).tolist()
    assert all(torch.equal(t, getattr(agent.parameters, name)) for name, t in vars(twin.parameters).items())
    metrics = twin.meta_update(point.iteration(twin, tasks[:2], Streams(1)))
    assert all(np.isfinite(v) for v in metrics.values())


def test_a_checkpoint_of_another_configuration_is_refused_and_nothing_changes(point) -> None:
    tasks = point.tasks
    agent = point.agent()
    agent.meta_update(point.iteration(agent, tasks, Streams(0)))
    for settings in ({"hidden": (4,)}, {"replay_size": 50}, {"replay_tasks": 3}):
        other = point.agent(seed=1, **settings)
        before = other.tensors()
        with pytest.raises(ValueError, match=r"checkpoint of pearl|replay 'replay'"):
            other.restore(agent.tensors(), agent.counters())
        assert all(torch.equal(before[name], t) for name, t in other.tensors().items())


def test_the_seed_decides_the_parameters_and_the_learners_draws(make_pearl, spaces: Spaces) -> None:
    one, same, other = (make_pearl(spaces, seed=s) for s in (0, 0, 1))
    assert torch.equal(one.parameters.critics, same.parameters.critics)
    assert not torch.equal(one.parameters.critics, other.parameters.critics)
    assert not torch.equal(one.parameters.critics[0], one.parameters.critics[1]), "two critics, not one twice"
    assert torch.equal(one.parameters.critics, one.parameters.targets)
    assert one.counters() == same.counters() != other.counters()


def test_discrete_and_unbounded_actions_are_refused(make_pearl, spaces: Spaces, discrete_spaces: Spaces) -> None:
    with pytest.raises(ValueError, match=r"pearl: got 4 discrete actions, expected continuous actions"):
        make_pearl(discrete_spaces)
    with pytest.raises(ValueError, match=r"pearl: got action bounds .*inf.*expected finite"):
        make_pearl(replace(spaces, action_high=(1.0, float("inf"))))


def test_a_saved_policy_can_be_used_without_metarl(point, tmp_path: Path) -> None:
    tasks = point.tasks
    agent = point.agent()
    batch = point.iteration(agent, tasks, Streams(0))
    state = agent.adapt(agent.begin(tasks, 3), batch.collects[0])
    agent.save_policy(state, tmp_path / "policy.safetensors", task=2)
    tensors, description = read_tensors(tmp_path / "policy.safetensors")
    mean, variance = posterior(state.precision, state.weighted_mean)
    assert torch.equal(tensors["latent"], mean[2, 0])
    assert torch.equal(tensors["latent_variance"], variance[2, 0])
    observation = torch.tensor([0.3, -0.2])
    x = torch.cat([observation, tensors["latent"]])
    for i in range(3):
        x = x @ tensors[f"weight_{i}"] + tensors[f"bias_{i}"]
        x = torch.relu(x) if i < 2 else x
    with torch.no_grad():
        got, _ = agent.actor_critic.policy(agent.parameters.policy, observation.expand(4, 3, 2), mean)
    torch.testing.assert_close(got[2, 0], x[:2])
    assert description == {
        "format": 1,
        "agent": "pearl",
        "distribution": "tanh-gaussian",
        "activation": "relu",
        "layers": 3,
        "mean": "tanh",
        "choices": 0,
        "action_scale": 1.0,
        "normalise_observations": False,
        "inputs": ["observation", "latent"],
        "outputs": ["mean", "log_std"],
        "log_std_range": [-20.0, 2.0],
    }
    assert tensors["action_high"].tolist() == pytest.approx([0.1, 0.1])


def test_a_checkpoint_with_another_generator_is_refused_and_nothing_changes(point) -> None:
    agent, other = point.agent(), point.agent(seed=1)
    agent.meta_update(point.iteration(agent, point.tasks, Streams(0)))
    before, counters = other.tensors(), other.counters()
    with pytest.raises(ValueError, match=r"checkpoint of pearl: got generator .*'MT19937'.*expected a PCG64 state"):
        other.restore(agent.tensors(), {**agent.counters(), "rng": {"bit_generator": "MT19937"}})
    assert all(torch.equal(before[name], t) for name, t in other.tensors().items())
    assert other.counters() == counters
