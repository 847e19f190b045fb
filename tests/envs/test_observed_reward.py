"""Declared rewards against the environments' own, over random episodes."""

from __future__ import annotations

import pickle
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from metarl.envs.half_cheetah import HalfCheetah
from metarl.envs.locomotion import locomotion_family, speed
from metarl.envs.variation import Change, Uniform, Variation
from metarl.registry import FAMILIES, make_family, names
from metarl.rewards import DeclaredReward, reward_for_planning
from metarl.types import Floats

DECLARED = [name for name in names(FAMILIES) if name.startswith(("half-cheetah", "ant", "point", "sparse"))]
STEPS = 60


class Played(NamedTuple):
    observations: Floats  # [R, O]
    actions: Floats  # [R, A]
    following: Floats  # [R, O]
    rewards: Floats  # [R]
    fallen: Floats  # [R]
    task: dict[str, Floats]  # [R, size]
    contacts: Floats  # [R], the cost of contact forces
    velocity: Floats  # [R], along x


def played(name: str) -> Played:
    """Every step of random episodes in three tasks, held-out ones among them."""
    family = make_family(name)
    tasks = [*family.distribution.held_out(1), *family.distribution.sample(2, np.random.default_rng(1))]
    envs: Any = family.make_envs(len(tasks), 4, STEPS)
    envs.set_tasks(tasks)
    seen, _ = envs.reset(seed=1)
    rng, rows = np.random.default_rng(0), []
    values = {key: envs.task_values(tasks, key) for key, _ in tasks[0].parameters}
    live = np.ones(envs.num_envs, dtype=bool)
    high = 1.2 * envs.single_action_space.high
    for _ in range(STEPS):
        actions = rng.uniform(-high, high, (envs.num_envs, len(high))).astype(np.float32)
        following, rewards, terminated, truncated, infos = envs.step(actions)
        contacts = np.zeros(envs.num_envs)
        if name.startswith("ant"):
            contacts = envs._contact_cost(np.arange(envs.num_envs))
        velocity = infos.get("x_velocity", np.zeros(envs.num_envs))
        step = (seen, actions, following, rewards, terminated, *values.values(), contacts, velocity)
        rows.append([column[live] for column in step])
        live &= ~(terminated | truncated)
        seen = following
    envs.close()
    joined = [np.concatenate(column) for column in zip(*rows, strict=True)]
    return Played(*joined[:5], dict(zip(values, joined[5:-2], strict=True)), *joined[-2:])


def declared(name: str) -> DeclaredReward:
    reward = make_family(name).reward
    assert reward is not None
    return reward


def test_these_families_declare_their_reward_and_no_other_of_ours_does() -> None:
    others = [n for n in names(FAMILIES) if n not in DECLARED and not n.startswith("ml")]
    assert [n for n in others if make_family(n).reward is not None] == []
    assert all(make_family(n).reward is not None for n in DECLARED)


@pytest.mark.parametrize("name", ["point-robot", "sparse-point-robot"])
def test_the_reward_of_points_is_exact(name: str) -> None:
    steps, reward = played(name), declared(name)
    assert reward.estimated == ""
    assert reward.parameters == ("goal",)
    mine = reward(steps.observations, steps.actions, steps.following, steps.task)
    assert np.allclose(mine, steps.rewards, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", [n for n in DECLARED if not n.endswith("robot")])
def test_the_reward_of_locomotion_is_close_and_follows_the_own_one(name: str) -> None:
    steps, reward = played(name), declared(name)
    assert "estimated" in reward.estimated
    assert ("omitted" in reward.estimated) == name.startswith("ant")
    mine = reward(steps.observations, steps.actions, steps.following, steps.task)
    own = steps.rewards + steps.contacts
    assert np.sqrt(np.mean((mine - own) ** 2)) < 0.17, "m/s; random play has a deviation of 0.6"
    assert abs(np.mean(mine - own)) < 0.02
    assert np.corrcoef(mine, own)[0, 1] > 0.97


@pytest.mark.parametrize("name", ["half-cheetah-crippled", "half-cheetah-breaking", "ant-crippled", "ant-breaking"])
def test_all_but_the_velocity_is_exact(name: str) -> None:
    steps, reward = played(name), declared(name)
    at, after = (8, 0.68) if name.startswith("half") else (13, 0.5)
    estimate = (1 - after) * steps.observations[:, at] + after * steps.following[:, at]
    mine = reward(steps.observations, steps.actions, steps.following) - estimate
    own = steps.rewards + steps.contacts - steps.velocity
    assert np.allclose(mine, own, rtol=0, atol=1e-6)
    if name.startswith("ant"):
        assert steps.fallen.any(), "the comparison saw a step without the reward of a robot that has not fallen"


@pytest.mark.parametrize("name", DECLARED)
def test_tensors_with_further_axes_have_the_same_reward_and_it_can_be_sent(name: str) -> None:
    steps, reward = played(name), declared(name)

    def tensors(array: Floats) -> torch.Tensor:
        return torch.tensor(array[:24]).reshape(2, 3, 4, -1)

    first = steps.observations, steps.actions.astype(np.float64), steps.following
    sent: DeclaredReward = pickle.loads(pickle.dumps(reward))
    values = {key: tensors(value) for key, value in steps.task.items()}
    theirs = sent(*map(tensors, first), values)
    mine = reward(*first, steps.task)[:24].reshape(2, 3, 4)
    assert isinstance(theirs, torch.Tensor)
    assert np.allclose(theirs.numpy(), mine, rtol=0, atol=1e-12)


class Backwards(HalfCheetah):
    """A half-cheetah with a reward of its own."""

    def _judge(self, rows: Any, before: Any, actions: Any) -> Any:
        reward, fallen, terms = super()._judge(rows, before, actions)
        return -reward, fallen, terms


def test_a_robot_with_a_reward_of_its_own_inherits_no_declaration() -> None:
    wind = Variation(Change("gravity", Uniform(0.5, 1.5), elements=("z",)))
    assert locomotion_family("own", Backwards, "run backwards", variation=wind).reward is None
    assert locomotion_family("ours", HalfCheetah, "run", variation=wind).reward is not None


def test_a_planner_takes_a_reward_that_is_the_same_in_all_tasks_only() -> None:
    reward = declared("half-cheetah-breaking")
    assert reward_for_planning("agent", reward) is reward
    with pytest.raises(ValueError, match="agent: got a family that declares no reward function, expected one"):
        reward_for_planning("agent", make_family("hopper-gravity").reward)
    with pytest.raises(ValueError, match="agent: got a family whose reward depends on the task's velocity, expected"):
        reward_for_planning("agent", locomotion_family("v", HalfCheetah, "run", goal=speed(0.0, 1.0)).reward)
    with pytest.raises(ValueError, match="reward: got no values of goal, expected them"):
        declared("point-robot")(np.zeros(2), np.zeros(2), np.zeros(2))
