from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from metarl.agents import reptile
from metarl.agents.reptile import Reptile, ReptileConfig, reptile_step
from metarl.learning.gradient.losses import inner_loss
from metarl.registry import make_family
from metarl.rollout import collect
from metarl.seeding import Streams
from metarl.types import MetaBatch


def make_batch(steps: int, **settings) -> tuple[Reptile, MetaBatch]:
    """An agent with its meta-batch of point-robot."""
    family = make_family("point-robot")
    envs = family.make_envs(4, 3, 15)
    config = ReptileConfig(hidden=(8,), inner_steps=steps, **settings)
    agent = Reptile(config, envs.spaces, device=torch.device("cpu"), rng=np.random.default_rng(0))
    streams = Streams(0)
    tasks = family.distribution.sample(4, streams.tasks)
    envs.set_tasks(tasks)
    state, trajectories = agent.begin(tasks, 3), []
    for k in range(steps + 1):
        if k:
            state = agent.adapt(state, trajectories[-1])
        one, state = collect(envs, agent, state, streams)
        trajectories.append(one)
    return agent, MetaBatch(tuple(tasks), tuple(trajectories))


def test_a_step_goes_a_fraction_of_the_way_to_the_mean() -> None:
    moved = reptile_step(torch.tensor([1.0, -2.0]), torch.tensor([3.0, 2.0]), 0.25)
    assert moved.tolist() == [1.5, -1.0]


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("outer_lr", [1.0, 0.3])
@pytest.mark.parametrize("min_std", [1e-6, 0.99])
def test_an_update_equals_its_definition_task_by_task(steps: int, outer_lr: float, min_std: float) -> None:
    """theta + epsilon * mean over tasks of (U^k_i(theta) - theta), one gradient step per collect."""
    agent, batch = make_batch(steps, outer_lr=outer_lr, min_std=min_std)
    theta = agent.tensors()["parameters"].clone()
    differences = []
    for task in range(4):
        at = theta[None]
        for t in batch.collects:
            one = agent.samples(t).tasks(slice(task, task + 1))
            leaf = at.clone().requires_grad_()
            inner_loss(agent.policy(leaf, one.observations), one).sum().backward()
            at = agent.policy.bound.project_(at - 0.1 * leaf.grad)
        differences.append(at[0] - theta)
    metrics = agent.meta_update(batch)
    expected = theta + outer_lr * torch.stack(differences).mean(dim=0)
    torch.testing.assert_close(agent.tensors()["parameters"], expected, rtol=1e-5, atol=1e-6)
    distance = torch.stack(differences).norm(dim=1).mean().item()
    assert metrics["update/inner_distance"] == pytest.approx(distance, rel=1e-4)
    assert metrics["update/step_norm"] == pytest.approx((expected - theta).norm().item(), rel=1e-4)
    assert metrics["update/step_norm"] > 1e-3


def test_a_step_beyond_the_adapted_parameters_ends_at_the_floor() -> None:
    """A step with epsilon above 1 violates the bound before the projection."""
    agent, batch = make_batch(2, outer_lr=3.0, min_std=0.98)
    agent.meta_update(batch)
    log_std = agent.tensors()["parameters"][-2:]
    assert log_std.min().item() == pytest.approx(math.log(0.98))


@pytest.mark.parametrize("size", [1, 3])
def test_the_size_of_the_chunks_changes_nothing_but_rounding(monkeypatch, size: int) -> None:
    (whole, batch), (parts, _) = make_batch(2), make_batch(2)
    monkeypatch.setattr(reptile, "task_chunks", lambda *_: [slice(0, 4)])
    whole.meta_update(batch)
    monkeypatch.setattr(reptile, "task_chunks", lambda *_: [slice(i, min(i + size, 4)) for i in range(0, 4, size)])
    parts.meta_update(batch)
    torch.testing.assert_close(parts.tensors()["parameters"], whole.tensors()["parameters"], rtol=1e-5, atol=1e-6)
