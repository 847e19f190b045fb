from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from metarl.agents.oracle import Oracle, OracleConfig, ToldTasks
from metarl.checkpoint import load_newest, save_checkpoint
from metarl.learning.experience.told import told_tasks
from metarl.registry import make_family
from metarl.rollout import TrajectoryBuilder
from metarl.seeding import Streams
from metarl.storage import read_tensors
from metarl.tasks import DiscreteTasks, Parameter, told_parameters
from metarl.types import MetaBatch, Progress, Spaces, Step, Task, TaskParameter

LENGTHS = [[[5, 2], [1, 5], [3, 4]]]
TASKS = [Task.of("noise", goal=(0.5 * i, 1.0 - i), mass=2.0 + i, seen=70.0 + i) for i in range(3)]
TOLD = (TaskParameter("goal", 2), TaskParameter("mass", 1))


def make(spaces: Spaces, seed: int = 0, told: tuple[TaskParameter, ...] = TOLD, **settings: Any) -> Oracle:
    config, spaces = OracleConfig(**{"hidden": (5,), **settings}), replace(spaces, task_parameters=told)
    return Oracle(config, spaces, device=torch.device("cpu"), rng=np.random.default_rng(seed))


def test_the_state_holds_the_declared_parameters_of_each_rows_task_and_no_other(spaces: Spaces) -> None:
    state = make(spaces).begin(TASKS, 2)
    assert state.parameters.tolist() == [
        [[0.0, 1.0, 2.0]] * 2,
        [[0.5, 0.0, 3.0]] * 2,
        [[1.0, -1.0, 4.0]] * 2,
    ]


def test_categories_are_told_one_hot_after_the_numbers_and_unknown_ones_as_zeros(spaces: Spaces) -> None:
    legs = TaskParameter("legs", 2, categories=((0.0, 1.0), (1.0, 0.0)))
    kind = TaskParameter("kind", 1, categories=((3.0,), (7.0,), (49.0,)))
    agent = make(spaces, told=(kind, legs, TaskParameter("mass", 1)))
    tasks = [
        Task.of("f", kind=7, legs=(1, 0), mass=2.5),
        Task.of("f", kind=49, legs=(0, 1), mass=2.0),
        Task.of("f", kind=8, legs=(0, 0), mass=0.0),
    ]
    assert agent.begin(tasks, 1).parameters[:, 0].tolist() == [
        [2.5, 0.0, 1.0, 0.0, 0.0, 1.0],
        [2.0, 0.0, 0.0, 1.0, 1.0, 0.0],
        [0.0] * 6,
    ]


def test_codes_are_shown_as_they_are_and_numbers_normalised_each_parameter_by_itself(spaces: Spaces) -> None:
    """The mass trembles beside a goal a million times as large: another parameter, so another size."""
    kind = TaskParameter("kind", 1, categories=((1.0,), (2.0,)))
    agent = make(spaces, told=(TaskParameter("goal", 1), kind, TaskParameter("mass", 1)), normalise_observations=True)
    rows = np.array([[0, 0, 0, 1e3, 1e-3, 1, 0], [0, 0, 0, -1e3, -1e-3, 0, 1]], dtype=np.float64)
    agent._input_moments.update(rows[:, :5], np.ones(2, dtype=np.bool_))
    assert agent._seen(rows)[:, 3:].tolist() == pytest.approx(np.array([[1, 1, 1, 0], [-1, -1, 0, 1]]), rel=1e-6)
    assert agent.tensors()["input_moments.mean"].shape == (5,)


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


def test_a_state_is_the_join_of_its_parts_and_parts_act_as_the_whole(spaces: Spaces) -> None:
    agent, rng = make(spaces), np.random.default_rng(0)
    step = TrajectoryBuilder(3, 2, spaces, rng.standard_normal((3, 2, 3))).step
    state, parts = agent.begin(TASKS, 2), [slice(0, 1), slice(1, 3)]
    assert np.array_equal(ToldTasks.join([state.tasks(part) for part in parts]).parameters, state.parameters)
    whole, _ = agent.act(state, step, rng, mode=True)
    for part in parts:
        action, _ = agent.act(state.tasks(part), Step(*(a[part] for a in vars(step).values())), rng, mode=True)
        assert action.environment == pytest.approx(whole.environment[part], abs=1e-6)
        for name, extra in action.extras.items():
            assert extra == pytest.approx(whole.extras[name][part], abs=1e-5), name


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
    ("task", "expected"),
    [
        (Task.of("noise", goal=(1.0, 2.0)), "0 numbers of 'mass', expected 1"),
        (Task.of("noise"), "0 numbers of 'goal', expected 2"),
        (Task.of("noise", goal=(1.0, 2.0, 3.0), mass=1.0), "3 numbers of 'goal', expected 2"),
    ],
)
def test_a_task_with_other_parameters_is_refused(spaces: Spaces, task: Task, expected: str) -> None:
    with pytest.raises(ValueError, match=f"oracle: got a task of 'noise' with {expected}"):
        make(spaces).begin([TASKS[0], task], 2)


def test_an_oracle_that_would_be_told_nothing_is_refused(spaces: Spaces) -> None:
    with pytest.raises(ValueError, match=r"oracle: got spaces without task_parameters, expected .*train it again"):
        make(spaces, told=())


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
    agent = make(one, learning_rate=0.01, told=(TaskParameter("sign", 1),))
    rng, rewards = np.random.default_rng(0), []
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
    assert (description["format"], description["inputs"]) == (1, "observation, task parameters")


# What families declare ------------------------------------------------------------------------------------------


def told_of(name: str, split: str, n: int = 500) -> np.ndarray:
    """An oracle's inputs about a family's tasks, `[n, Z]`."""
    family = make_family(name)
    parameters = family.spaces().task_parameters
    tasks = family.distribution.held_out(n) if split == "test" else family.distribution.train_tasks(n)
    return told_tasks("oracle", tasks, parameters).astype(np.float64)


@pytest.mark.parametrize("name", ["ml1:reach-v3", "point-robot", "half-cheetah-vel-3", "hopper-rand-params"])
def test_no_held_out_task_is_beyond_a_few_deviations_of_the_training_tasks(name: str) -> None:
    """A uniform number ends at 1.7 deviations, 1.5^U(-3, 3) at 2.5; the number of a held-out goal was at 3.5."""
    train, held_out = told_of(name, "train"), told_of(name, "test")
    assert np.abs((held_out - train.mean(axis=0)) / train.std(axis=0)).max() < 3.0


def test_every_family_tells_held_out_tasks_within_the_range_of_training(family_name: str) -> None:
    train, held_out = told_of(family_name, "train", 2000), told_of(family_name, "test")
    assert train.shape[1] == held_out.shape[1] > 0
    low, high = train.min(axis=0), train.max(axis=0)
    room = 0.6 * (high - low)  # for the targets of Meta-World's held-out classes; none where training never varies
    assert np.all((held_out >= low - room) & (held_out <= high + room))
    assert np.all(high > low), "every number tells something"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("ml1:reach-v3", [("target", 3, 0)]),
        ("ml", [("class", 1, 2), ("target", 3, 0)]),
        pytest.param("ml10", [("class", 1, 10), ("target", 3, 0)], marks=pytest.mark.slow),
        ("half-cheetah-dir", [("direction", 1, 0)]),
        ("half-cheetah-crippled", [("actuator_gear", 6, 4)]),
        ("ant-crippled", [("actuator_gear", 8, 3)]),
        ("ant-breaking", [("actuator_gear", 8, 3), ("break_at", 1, 0)]),
        ("point-robot", [("goal", 2, 0)]),
        ("tabular-mdp:states=4,actions=2", [("rewards", 8, 0), ("transitions", 32, 0)]),
        ("gym:CartPole-v1?gravity=uniform(2,20)&length=choice(1,2)", [("gravity", 1, 0), ("length", 1, 0)]),
    ],
)
def test_what_is_hidden_is_told_and_labels_one_hot(name: str, told: list[tuple[str, int, int]]) -> None:
    found = make_family(name).spaces().task_parameters
    assert [(p.name, p.size, len(p.categories)) for p in found] == told


def test_a_held_out_class_of_meta_world_is_none_of_those_of_training() -> None:
    train, held_out = told_of("ml", "train"), told_of("ml", "test")
    assert {tuple(row) for row in train[:, 3:]} == {(0.0, 1.0), (1.0, 0.0)}
    assert {tuple(row) for row in held_out[:, 3:]} == {(0.0, 0.0)}


def test_visible_numbers_are_not_told_and_undeclared_ones_are() -> None:
    def parameter(name: str, **more: Any) -> Parameter:
        return Parameter(name=name, meaning="", variates=0, transform=lambda u: u, **more)

    declared = (
        parameter("seen", hidden=False),
        parameter("mass", hidden=True),
        parameter("kind", hidden=False, categorical=True),
        parameter("only", hidden=True, categorical=True),
    )
    tasks = tuple(Task.of("f", seen=i, mass=i, kind=5 - i % 2, only=3, more=(i, i)) for i in range(6))
    found = told_parameters(DiscreteTasks("f", declared, train=tasks, withheld=None))
    assert found == (
        TaskParameter("kind", 1, ((4.0,), (5.0,))),
        TaskParameter("mass", 1),
        TaskParameter("more", 2),
    )
