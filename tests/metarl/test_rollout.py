from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import metarl
from metarl.agent import Actor
from metarl.registry import make_family
from metarl.rollout import TrajectoryBuilder, collect
from metarl.sampling import LocalSampler
from metarl.scripts.reference.environments import SINGLE_ENVS
from metarl.seeding import Streams
from metarl.types import Action, Spaces, Step, Task


@dataclass
class Scripted(Actor[int]):
    """Acts by a fixed table `[T, N, A]` and keeps what it was shown."""

    table: np.ndarray
    shown: list[Step]
    recorded: Any = field(default_factory=lambda: {"noise": ()})

    def act(self, state: int, step: Step, rng: np.random.Generator) -> tuple[Action, int]:
        self.shown.append(step)
        m, e, _ = step.observation.shape
        action = self.table[state].reshape(m, e, -1)
        return Action(action, {"noise": rng.standard_normal((m, e)).astype(np.float32)}), state + 1


@pytest.mark.parametrize("name", ["point-robot", "sparse-point-robot", "half-cheetah-vel", "half-cheetah-dir"])
def test_a_batch_equals_a_plain_loop_over_single_environments(name: str) -> None:
    family = make_family(name)
    m, e, t = 2, 3, 25
    envs = family.make_envs(m, e, t)
    tasks = family.distribution.held_out(m)
    envs.set_tasks(tasks)
    low, high = np.array(envs.spaces.action_low), np.array(envs.spaces.action_high)
    table = np.random.default_rng(0).uniform(1.5 * low, 1.5 * high, (t, m * e, len(low))).astype(np.float32)
    if name == "point-robot":  # walk to the goals of some rows, which ends their episodes early
        for row in (1, 4):
            table[:, row] = np.array(tasks[row // e]["goal"]) / 8
    trajectories, state = collect(envs, Scripted(table, []), 0, Streams(5))
    assert state == t, "the state that acting returns goes on to the next step and comes out at the end"

    assert (trajectories.success is not None) == (name in ("point-robot", "sparse-point-robot"))

    for row in range(m * e):
        single, r = SINGLE_ENVS[name](tasks[row // e]), divmod(row, e)
        observation, _ = single.reset(seed=0)
        if name.startswith("half-cheetah"):
            single.unwrapped.set_state(*envs_start_state(name, m, e, t, tasks, row))
            observation = single.unwrapped._get_obs()
        for step in range(t):
            assert np.array_equal(trajectories.observations[r][step], np.float32(observation)), step
            observation, reward, terminated, _, info = single.step(table[step, row])
            assert trajectories.mask[r][step]
            assert trajectories.rewards[r][step] == pytest.approx(reward, rel=1e-6, abs=1e-7)
            assert trajectories.terminated[r][step] == terminated
            if trajectories.success is not None:
                assert trajectories.success[r][step] == info["success"]
            if terminated:
                break
        assert (step + 1 < t) == (name == "point-robot" and row in (1, 4)), "those that walk to their goals"
        assert (trajectories.next_observations[r][step:] == np.float32(observation)).all(), "the last one, repeated"
        assert trajectories.mask[r].sum() == step + 1
        assert not trajectories.rewards[r][step + 1 :].any()
        assert trajectories.truncated[r].any() == (step + 1 == t and not terminated)
        single.close()
    envs.close()


def envs_start_state(name: str, m: int, e: int, t: int, tasks: list[Task], row: int) -> tuple[np.ndarray, np.ndarray]:
    """The state that the same stream of resets gives a row."""
    twin = make_family(name).make_envs(m, e, t)
    twin.set_tasks(tasks)
    twin.reset(seed=int(Streams(5).envs.integers(2**31)))
    state = twin.batch.qpos[row].copy(), twin.batch.qvel[row].copy()
    twin.close()
    return state


def test_an_agent_sees_its_last_action_and_reward() -> None:
    family = make_family("point-robot")
    envs = family.make_envs(1, 1, 3)
    envs.set_tasks([Task.of("point-robot", goal=(0.5, 0.0))])
    agent = Scripted(np.full((3, 1, 2), 0.05, dtype=np.float32), [])
    trajectories, _ = collect(envs, agent, 0, Streams(0))
    first, second, _ = agent.shown
    assert first.first.all()
    assert not first.previous_action.any()
    assert not first.previous_reward.any()
    assert not second.first.any()
    assert second.previous_action.tolist() == [[[pytest.approx(0.05)] * 2]]
    assert second.previous_reward == trajectories.rewards[..., 0]


def test_the_same_streams_give_the_same_trajectories_and_others_do_not() -> None:
    family = make_family("half-cheetah-vel")
    envs = family.make_envs(2, 2, 5)
    envs.set_tasks(family.distribution.held_out(2))
    table = np.random.default_rng(0).uniform(-1, 1, (5, 4, 6)).astype(np.float32)
    one, two, other = (collect(envs, Scripted(table, []), 0, Streams(seed))[0] for seed in (3, 3, 4))
    envs.close()
    for name in ("all_observations", "rewards"):
        assert np.array_equal(getattr(one, name), getattr(two, name))
        assert not np.array_equal(getattr(one, name), getattr(other, name))
    assert np.array_equal(one.extras["noise"], two.extras["noise"])


def test_a_blown_up_simulation_is_recorded_and_ends_its_row_only() -> None:
    family = make_family("half-cheetah-vel")
    envs = family.make_envs(1, 3, 6)
    envs.set_tasks(family.distribution.held_out(1))

    class Poisons(Scripted):
        def act(self, state: int, step: Step, rng: np.random.Generator) -> tuple[Action, int]:
            if state == 2:
                envs.batch.data[1].qvel[0] = np.nan
            return super().act(state, step, rng)

    trajectories, _ = collect(envs, Poisons(np.zeros((6, 3, 6), dtype=np.float32), []), 0, Streams(0))
    envs.close()
    assert trajectories.diverged.tolist() == [[False, True, False]]
    assert trajectories.mask.sum(axis=2).tolist() == [[6, 3, 6]]
    assert trajectories.terminated[0, 1].tolist() == [False, False, True, False, False, False]
    assert np.isfinite(trajectories.all_observations).all()
    assert np.isfinite(trajectories.rewards).all()


def test_nothing_is_recorded_of_a_row_that_is_over() -> None:
    spaces = Spaces(observation_size=1, action_low=(-1,), action_high=(1,), horizon=3)
    builder = TrajectoryBuilder(1, 2, spaces, np.zeros((1, 2, 1)))
    ones = np.ones((1, 2, 1), dtype=np.float32)
    everything: dict[str, Any] = {"success": np.array([True, True]), "diverged": np.array([False, False])}
    builder.add(Action(ones, {"x": ones}), ones, np.array([1.0, 1.0]), np.array([True, False]), False)
    assert builder.live.tolist() == [[False, True]]
    builder.add(Action(ones, {"x": ones}), 2 * ones, np.array([5.0, 5.0]), False, np.array([True, True]), **everything)
    assert not builder.unfinished
    t = builder.build()
    assert t.mask.tolist() == [[[True, False, False], [True, True, False]]]
    assert t.rewards.tolist() == [[[1, 0, 0], [1, 5, 0]]]
    assert t.actions[..., 0].tolist() == [[[1, 0, 0], [1, 1, 0]]]
    assert t.extras["x"][..., 0].tolist() == [[[1, 0, 0], [1, 1, 0]]]
    assert t.truncated.tolist() == [[[False] * 3, [False, True, False]]]
    assert t.success.tolist() == [[[False] * 3, [False, True, False]]]
    assert t.all_observations[0, 1, :, 0].tolist() == [0, 1, 2, 2]


def test_a_sampler_of_ones_own_that_loses_tasks_is_named() -> None:
    class Half(LocalSampler):
        def collect(self, actor: Any, state: Any, streams: Streams) -> Any:
            whole, state = super().collect(actor, state, streams)
            return SimpleNamespace(num_tasks=whole.num_tasks // 2), state

    family = make_family("point-robot")
    agent, sampler = metarl.make_agent("reptile", family.spaces(3)), Half(family.make_envs(4, 2, 3))
    with pytest.raises(ValueError, match=r"collect: got experience of 2 tasks, expected 4, the `num_tasks`"):
        next(metarl.meta_train(agent, sampler, family.distribution, Streams(0), iterations=1))
