from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents.multitask import Multitask, MultitaskConfig
from metarl.checkpoint import load_newest, save_checkpoint
from metarl.evaluation import evaluate
from metarl.registry import make_family
from metarl.rollout import TrajectoryBuilder
from metarl.seeding import Streams
from metarl.storage import read_tensors
from metarl.types import MetaBatch, Progress, Spaces, Step, Task

LENGTHS = [[[5, 2], [1, 5], [3, 4]]]


def make(spaces: Spaces, seed: int = 0, **settings: Any) -> Multitask:
    config = MultitaskConfig(**{"hidden": (5,), **settings})
    return Multitask(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(seed))


def tasks(n: int) -> tuple[Task, ...]:
    return tuple(Task.of("noise", number=i) for i in range(n))


@pytest.fixture(params=["continuous", "discrete"])
def some_spaces(request, spaces: Spaces, discrete_spaces: Spaces) -> Spaces:
    return spaces if request.param == "continuous" else discrete_spaces


def test_it_acts_alike_whatever_the_task_and_whatever_happened_before(spaces: Spaces, play) -> None:
    agent = make(spaces)
    (trajectories,) = play(agent, LENGTHS)
    step = Step(
        np.ones((1, 1, 3), np.float32), np.ones((1, 1, 2), np.float32), np.ones((1, 1), np.float32),
        np.zeros((1, 1), np.bool_), np.ones((1, 1), np.bool_),
    )  # fmt: skip
    one = agent.begin([Task.of("noise", number=1)], 1)
    actions = [
        agent.act(state, step, np.random.default_rng(0))[0].environment
        for state in (one, agent.begin([Task.of("noise", number=2)], 1), agent.adapt(one, trajectories))
    ]
    assert np.array_equal(actions[0], actions[1])
    assert np.array_equal(actions[0], actions[2])


def test_a_state_is_the_join_of_its_parts_and_parts_act_as_the_whole(spaces: Spaces) -> None:
    agent, rng = make(spaces), np.random.default_rng(0)
    step = TrajectoryBuilder(3, 2, spaces, rng.standard_normal((3, 2, 3))).step
    state, parts = agent.begin(tasks(3), 2), [slice(0, 1), slice(1, 3)]
    assert type(state).join([state.tasks(part) for part in parts]) == state
    whole, _ = agent.act(state, step, rng, mode=True)
    for part in parts:
        action, _ = agent.act(state.tasks(part), Step(*(a[part] for a in vars(step).values())), rng, mode=True)
        assert action.environment == pytest.approx(whole.environment[part], abs=1e-6)
        for name, extra in action.extras.items():
            assert extra == pytest.approx(whole.extras[name][part], abs=1e-5), name


def test_a_restored_agent_goes_on_bit_for_bit(tmp_path: Path, some_spaces: Spaces, play) -> None:
    settings = {"normalise_observations": True}
    agent, twin = make(some_spaces, **settings), make(some_spaces, 5, **settings)
    agent.meta_update(MetaBatch(tasks(3), tuple(play(agent, LENGTHS))))
    save_checkpoint(tmp_path, agent, Streams(0), Progress(1, 1), keep=2)
    load_newest(tmp_path, twin)
    for one in (agent, twin):
        report = one.meta_update(MetaBatch(tasks(3), tuple(play(one, LENGTHS, seed=3))))
        assert all(np.isfinite(value) for value in report.values())
    assert agent.counters() == twin.counters()
    assert all(torch.equal(tensor, twin.tensors()[name]) for name, tensor in agent.tensors().items())


def test_evaluation_with_adaptation_steps_shows_a_flat_curve_of_fresh_episodes() -> None:
    family = make_family("point-robot")
    agent = make(family.make_envs(1, 1, 100).spaces)
    result = evaluate(agent, family, family.distribution.held_out(3), Streams(0), adapt_steps=2, episodes=2)
    assert result.returns.shape == (3, 3, 2)
    assert result.episodes == (0, 1, 2)
    assert agent.adaptation_steps == 0


def test_it_learns_what_can_be_had_without_knowing_the_task(spaces: Spaces) -> None:
    """Reward is the observation times the action, the same in all tasks: the sign is to be learnt."""
    one = Spaces(observation_size=1, action_low=(-1.0,), action_high=(1.0,), horizon=4)
    agent = make(one, learning_rate=0.01)
    rng, rewards = np.random.default_rng(0), []
    for _ in range(25):
        observation = rng.choice([-1.0, 1.0], size=(8, 8, 1))
        builder, state = TrajectoryBuilder(8, 8, one, observation), agent.begin(tasks(8), 8)
        for t in range(4):
            action, state = agent.act(state, builder.step, rng)
            reward = action.environment[..., 0] * builder.step.observation[..., 0]
            builder.add(action, rng.choice([-1.0, 1.0], size=(8, 8, 1)), reward, False, t == 3)
        trajectories = builder.build()
        agent.meta_update(MetaBatch(tasks(8), (trajectories,)))
        rewards.append(float(trajectories.rewards.mean()))
    assert rewards[0] < 0.2
    assert np.mean(rewards[-3:]) > 0.6


def test_an_exported_policy_is_described(tmp_path: Path, spaces: Spaces) -> None:
    agent = make(spaces)
    agent.save_policy(agent.begin(tasks(1), 1), tmp_path / "policy.safetensors")
    tensors, description = read_tensors(tmp_path / "policy.safetensors")
    assert torch.equal(tensors["network.policy.output.weight"], agent.tensors()["parameters.policy.output.weight"])
    assert [description[key] for key in ("format", "agent", "distribution")] == [1, "multitask", "gaussian"]
