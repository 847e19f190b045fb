from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents.oracle import Oracle, OracleConfig, ToldTasks
from metarl.checkpoint import Progress, load_newest, save_checkpoint
from metarl.rollout import TrajectoryBuilder
from metarl.seeding import Streams
from metarl.storage import read_tensors
from metarl.types import MetaBatch, Spaces, Step, Task

LENGTHS = [[[5, 2], [1, 5], [3, 4]]]
TASKS = [Task.of("noise", goal=(0.5 * i, 1.0 - i), mass=2.0 + i) for i in range(3)]


def make(spaces: Spaces, seed: int = 0, **settings: Any) -> Oracle:
    config = OracleConfig(**{"hidden": (5,), "task_parameters": 3, **settings})
    return Oracle(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(seed))


def test_the_state_holds_all_parameters_of_each_rows_task(spaces: Spaces) -> None:
    state = make(spaces).begin(TASKS, 2)
    assert state.parameters.tolist() == [
        [[0.0, 1.0, 2.0]] * 2,
        [[0.5, 0.0, 3.0]] * 2,
        [[1.0, -1.0, 4.0]] * 2,
    ]


def test_what_it_is_told_comes_through_begin_and_decides_how_it_acts(spaces: Spaces) -> None:
    agent = make(spaces)
    step = Step(
        np.ones((1, 1, 3), np.float32), np.zeros((1, 1, 2), np.float32), np.zeros((1, 1), np.float32),
        np.ones((1, 1), np.bool_), np.ones((1, 1), np.bool_),
    )  # fmt: skip
    shown = [
        agent.act(state, step, np.random.default_rng(0))[0]
        for state in (agent.begin([TASKS[0]], 1), agent.begin([TASKS[1]], 1), agent.begin([TASKS[0]], 1))
    ]
    assert not np.array_equal(shown[0].extras["policy_output"], shown[1].extras["policy_output"])
    assert np.array_equal(shown[0].extras["policy_output"], shown[2].extras["policy_output"])
    assert shown[1].extras["task_parameters"].tolist() == [[[0.5, 0.0, 3.0]]]


def test_learning_uses_what_begin_was_told_and_not_the_batch(spaces: Spaces, play) -> None:
    ends = []
    for listed in (TASKS, TASKS[::-1]):
        agent = make(spaces)
        agent.meta_update(MetaBatch(tuple(listed), tuple(play(agent, LENGTHS, tasks=TASKS))))
        ends.append(agent.tensors())
    assert all(torch.equal(tensor, ends[1][name]) for name, tensor in ends[0].items())
    fresh = make(spaces).tensors()["parameters.actor.0.weight"]
    assert (ends[0]["parameters.actor.0.weight"] - fresh)[:, 3:].any(), "the weights of the parameters learn"


def test_the_value_after_a_time_limit_is_that_of_the_task_it_was_told(spaces: Spaces, play, monkeypatch) -> None:
    agent, seen = make(spaces), []
    monkeypatch.setattr(agent, "_learn", lambda *arguments: seen.append(arguments) or {})
    (trajectories,) = play(agent, LENGTHS, tasks=TASKS)
    agent.meta_update(MetaBatch(tuple(TASKS), (trajectories,)))
    inputs, final, *_ = seen[0]
    told = agent.begin(TASKS, 2).parameters
    assert np.array_equal(final, np.concatenate([trajectories.all_observations[:, :, -1], told], axis=-1))
    assert np.array_equal(inputs[:, :, 0], np.concatenate([trajectories.observations[:, :, 0], told], axis=-1))


@pytest.mark.parametrize(
    "task", [Task.of("noise", goal=(1.0, 2.0)), Task.of("noise"), Task.of("noise", a=[1, 2, 3, 4])]
)
def test_a_task_with_another_number_of_parameters_is_refused(spaces: Spaces, task: Task) -> None:
    with pytest.raises(
        ValueError, match=r"oracle: got a task of 'noise' with \d numbers, expected task_parameters = 3"
    ):
        make(spaces).begin([TASKS[0], task], 2)


def test_adapting_changes_nothing(spaces: Spaces, play) -> None:
    agent = make(spaces)
    (trajectories,) = play(agent, LENGTHS, tasks=TASKS)
    state = agent.begin(TASKS, 2)
    assert agent.adapt(state, trajectories) is state
    assert agent.adaptation_steps == 0
    assert agent.episodes_per_adaptation(7) == 1


@pytest.mark.parametrize("normalise", [False, True])
def test_a_restored_agent_goes_on_bit_for_bit(tmp_path: Path, discrete_spaces: Spaces, play, normalise: bool) -> None:
    agent, twin = (make(discrete_spaces, seed, normalise_observations=normalise) for seed in (0, 5))
    agent.meta_update(MetaBatch(tuple(TASKS), tuple(play(agent, LENGTHS, tasks=TASKS))))
    save_checkpoint(tmp_path, agent, Streams(0), Progress(1, 1), keep=2)
    load_newest(tmp_path, twin)
    for one in (agent, twin):
        one.meta_update(MetaBatch(tuple(TASKS), tuple(play(one, LENGTHS, seed=3, tasks=TASKS))))
    assert agent.counters() == twin.counters()
    assert all(torch.equal(tensor, twin.tensors()[name]) for name, tensor in agent.tensors().items())


def test_it_learns_what_only_the_parameters_tell() -> None:
    """Reward is the task's sign times the action: nothing in the observation tells which."""
    one = Spaces(observation_size=1, action_low=(-1.0,), action_high=(1.0,), horizon=4)
    agent, rng, rewards = make(one, learning_rate=0.01, task_parameters=1), np.random.default_rng(0), []
    for _ in range(25):
        signs = rng.choice([-1.0, 1.0], size=8)
        tasks = [Task.of("sign", sign=s) for s in signs]
        builder, state = TrajectoryBuilder(8, 8, one, np.zeros((8, 8, 1))), agent.begin(tasks, 8)
        for t in range(4):
            action, state = agent.act(state, builder.step, rng)
            builder.add(action, np.zeros((8, 8, 1)), action.environment[..., 0] * signs[:, None], False, t == 3)
        trajectories = builder.build()
        agent.meta_update(MetaBatch(tuple(tasks), (trajectories,)))
        rewards.append(float(trajectories.rewards.mean()))
    assert rewards[0] < 0.2
    assert np.mean(rewards[-3:]) > 0.6


def test_an_exported_policy_holds_what_it_was_told(tmp_path: Path, spaces: Spaces) -> None:
    agent = make(spaces)
    agent.save_policy(ToldTasks(agent.begin(TASKS, 2).parameters), tmp_path / "policy.safetensors", task=2)
    tensors, description = read_tensors(tmp_path / "policy.safetensors")
    assert tensors["task_parameters"].tolist() == [1.0, -1.0, 4.0]
    assert description["inputs"] == "observation, task parameters"
