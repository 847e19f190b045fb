from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.utils import seeding

from metarl import Family, Task, gymnasium_family, uniform
from metarl.gymnasium_envs.from_gym import gym_family
from metarl.own_code.errors import EnvError
from metarl.vector import random_actions

GOAL = uniform("goal", -1.0, 1.0, meaning="m")


@pytest.fixture(autouse=True)
def robots(monkeypatch: pytest.MonkeyPatch) -> None:
    """Modules that worker processes find by name."""
    root = Path(__file__).resolve().parents[3]
    monkeypatch.syspath_prepend(root / "tests" / "robots")
    monkeypatch.syspath_prepend(root / "docs" / "examples")


@pytest.fixture
def stepped() -> Any:
    """A batch of the family; every batch that a test makes through it is closed at the end."""
    made = []

    def batch(family: Family, m: int, e: int, horizon: int, **settings: Any) -> Any:
        made.append(family.with_stepping(replace(family.stepping, **settings)).make_envs(m, e, horizon))
        return made[-1]

    yield batch
    for envs in made:
        envs.close()


def episode(envs: Any, tasks: list[Task], seed: int = 0) -> list[Any]:
    """Everything that comes out of one episode in each row under random actions."""
    rng = np.random.default_rng(7)
    envs.set_tasks(tasks)
    out = [envs.reset(seed=seed)[0]]
    for _ in range(envs.horizon):
        *arrays, infos = envs.step(random_actions(envs.single_action_space, envs.num_envs, rng))
        out += [*arrays, infos["diverged"], infos.get("success", 0)]
    return out


def assert_equal(one: list[Any], two: list[Any]) -> None:
    for a, b in zip(one, two, strict=True):
        assert np.array_equal(a, b)


def test_the_batch_equals_a_plain_loop_over_single_environments(stepped) -> None:
    family = gym_family("gym:Pendulum-v1?g=uniform(5,15)&m=uniform(0.5,2)")
    tasks = family.distribution.held_out(2)
    batch = episode(stepped(family, 2, 2, 20), tasks)
    generator, _ = seeding.np_random(0)
    seeds, rng = generator.integers(2**31, size=4), np.random.default_rng(7)
    actions = [rng.uniform(-2.0, 2.0, (4, 1)).astype(np.float32) for _ in range(20)]
    for row, seed in enumerate(seeds):
        env: Any = gymnasium.make("Pendulum-v1", g=tasks[row // 2]["g"][0])
        env.unwrapped.m = tasks[row // 2]["m"][0]
        assert np.array_equal(env.reset(seed=int(seed))[0], batch[0][row])
        for t, action in enumerate(actions):
            observation, reward, *_ = env.step(action[row])
            assert np.array_equal(observation, batch[1 + 6 * t][row])
            assert reward == batch[2 + 6 * t][row]
        env.close()


class Counter(gymnasium.Env):
    """Counts what is done to it; `ends` says how an episode is over, at its third step."""

    made = 0

    def __init__(self, goal: float = 0.0, ends: str = "terminated") -> None:
        Counter.made += 1
        self.observation_space = spaces.Dict({"steps": spaces.Box(0.0, 99.0, (1,)), "kind": spaces.Discrete(3)})
        self.action_space = spaces.Discrete(2, start=5)
        self.goal, self.ends, self.steps, self.seen = goal, ends, 0, []

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.steps = 0
        return self.observe(), {}

    def observe(self) -> Any:
        steps = np.nan if self.ends == "nan" and self.steps == 3 else float(self.steps)
        return {"steps": np.array([steps], dtype=np.float32), "kind": 2}

    def step(self, action: Any) -> Any:
        self.steps += 1
        assert self.steps <= 3, "an episode that is over is not stepped"
        self.seen.append(action)
        over = self.steps == 3
        info = {"is_success": True} if over else {}
        return self.observe(), self.goal, over and self.ends == "terminated", over and self.ends == "truncated", info


def counter(**settings: Any) -> Family:
    return gymnasium_family(partial(Counter, **settings), name="counter", parameters=[GOAL], horizon=5)


@pytest.mark.parametrize("ends", ["terminated", "truncated", "nan"])
def test_rows_that_are_over_stand_still(stepped, ends: str) -> None:
    envs = stepped(counter(ends=ends), 1, 2, 5)
    envs.set_tasks([Task.of("counter", goal=0.5)])
    assert envs.reset(seed=0)[0].tolist() == [[0.0, 0.0, 1.0, 0.0]] * 2, "kind one-hot, then steps"
    seen = [envs.step(np.array([5, 6])) for _ in range(4)]
    assert [list(reward) for _, reward, *_ in seen] == [[0.5, 0.5]] * 2 + [[0.0 if ends == "nan" else 0.5] * 2, [0, 0]]
    assert [terminated.all() for _, _, terminated, *_ in seen] == [False, False, ends != "truncated", False]
    assert [truncated.all() for _, _, _, truncated, _ in seen] == [False, False, ends == "truncated", False]
    assert seen[2][4]["diverged"].all() == (ends == "nan")
    assert "success" not in seen[0][4]
    assert seen[2][4]["success"].all()
    envs.reset(seed=0)
    assert not envs.step(np.array([5, 6]))[4]["success"].any(), "once told, silence means no success"
    assert seen[3][0][:, 3].tolist() == ([2.0, 2.0] if ends == "nan" else [3.0, 3.0])


def test_a_declared_success_is_known_from_the_first_step_on(stepped) -> None:
    family = gymnasium_family(Counter, name="counter", parameters=[GOAL], horizon=5, reports_success=True)
    envs = stepped(family, 1, 2, 5)
    envs.set_tasks([Task.of("counter", goal=0.5)])
    envs.reset(seed=0)
    assert envs.step(np.array([5, 6]))[4]["success"].tolist() == [False, False]


def test_an_environment_is_made_anew_only_when_an_argument_changes(stepped) -> None:
    envs = stepped(counter(), 2, 2, 5)
    tasks = [Task.of("counter", goal=0.1), Task.of("counter", goal=0.2)]
    Counter.made = 0
    for expected, pair in ((4, tasks), (4, tasks), (6, [tasks[0], Task.of("counter", goal=0.3)])):
        envs.set_tasks(pair)
        envs.reset(seed=0)
        assert Counter.made == expected
    assert envs.step(np.full(4, 5))[1].tolist() == [0.1, 0.1, 0.3, 0.3]


def steps(envs: Any) -> None:
    for _ in range(envs.horizon):
        envs.step(np.zeros(envs.action_space.shape))


@pytest.mark.parametrize("fault", ["raise", "hang"])
def test_what_breaks_in_this_process_arrives_too(stepped, fault: str) -> None:
    from faulty_robot import family

    envs = stepped(family(fault), 1, 1, 10, timeout=1.0)
    envs.set_tasks([Task.of("faulty", goal=0.25)])
    envs.reset(seed=0)
    with pytest.raises(EnvError, match=r"in step.*row 0, task: goal = 0\.25") as caught:
        steps(envs)
    assert "in break_down" in caught.value.trace


def test_calls_are_reported_with_their_row_and_time_limit(stepped) -> None:
    envs, numbers, seen = stepped(counter(), 1, 2, 5, timeout=7.0), np.zeros(3, dtype=np.int64), []
    envs.report_calls(numbers)
    envs.set_tasks([Task.of("counter", goal=0.5)])
    envs.reset(seed=0)
    assert numbers.tolist() == [1, 2, 0], "the last row, two calls, no call now"
    for row in envs._rows._rows.envs:
        row._env.step = lambda action, step=row._env.step: seen.append(numbers.tolist()) or step(action)
    envs.step(np.array([5, 6]))
    assert seen == [[0, 3, 7000], [1, 4, 7000]]
    with pytest.raises(RuntimeError, match="report_calls: got a batch that was reset before"):
        envs.report_calls(numbers)


def test_a_batch_that_was_not_reset_has_no_picture(stepped) -> None:
    with pytest.raises(ValueError, match="render_row: got row 0 of a batch that was not reset"):
        stepped(counter(), 1, 1, 5).render_row(0, 8, 8)
