from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from metarl.agent import Actor
from metarl.curves import (
    adaptation_curve,
    adaptation_differences,
    by_class,
    difference_between,
    success_intervals,
    success_rates,
)
from metarl.evaluation import evaluate, with_worst_of_task
from metarl.intervals import mean_intervals
from metarl.protocols import meta_world_protocol
from metarl.registry import make_family
from metarl.results import EvalResult
from metarl.seeding import Streams
from metarl.tasks import ContinuousTasks, Family, uniform
from metarl.types import Action, Spaces, Step, Task, Trajectories
from metarl.vector import TaskVecEnv


@dataclass
class Walker(Actor[np.ndarray]):
    """Walks along x with `0.01 * state`; each adaptation adds one. Pools no episodes."""

    spaces: Spaces
    adaptation_steps: int = 2

    def episodes_per_adaptation(self, episodes: int) -> int:
        return 1

    def begin(self, tasks: list[Task], episodes: int) -> np.ndarray:
        return np.zeros(len(tasks))

    def act(self, state: np.ndarray, step: Step, rng: np.random.Generator) -> tuple[Action, np.ndarray]:
        m, e, _ = step.observation.shape
        speed = np.broadcast_to(0.01 * state[:, None, None], (m, e, 1))
        return Action(np.concatenate([speed, np.zeros((m, e, 1))], axis=2).astype(np.float32)), state

    def adapt(self, state: np.ndarray, trajectories: Trajectories) -> np.ndarray:
        return state + 1


@pytest.fixture
def family():
    return make_family("point-robot")


def run(family, tasks, **changes):
    agent = Walker(family.make_envs(1, 1, 4).spaces)
    settings = {"episodes": 3, "horizon": 4, **changes}
    return evaluate(agent, family, tasks, Streams.for_evaluation(0), **settings)


def test_every_task_gets_the_same_number_of_episodes_and_the_raw_returns_are_kept(family) -> None:
    tasks = [Task.of("point-robot", goal=(0.3, 0.0)), Task.of("point-robot", goal=(0.0, 0.4))]
    result = run(family, tasks)
    assert result.returns.shape == (2, 3, 3)
    assert result.episodes == (0, 1, 2)
    by_hand = [-sum(0.3 - 0.01 * k * t for t in range(1, 5)) for k in range(3)]
    assert np.allclose(result.returns[0], np.array(by_hand)[:, None], atol=1e-5)
    assert np.allclose(result.returns[1, 0], -1.6)


def test_more_tasks_than_fit_at_once_are_all_evaluated_in_order(family) -> None:
    tasks = family.distribution.held_out(100)
    result = run(family, tasks, adapt_steps=0)
    by_hand = [-4 * math.hypot(*task["goal"]) for task in tasks]
    assert np.allclose(result.returns[:, 0, 0], by_hand, atol=1e-5)
    assert result.episodes == (0,)


def test_quick_successes_are_not_counted_twice(family) -> None:
    """One of ten tasks succeeds, at the first step: the rate is 0.1, however early its episodes end."""
    tasks = [Task.of("point-robot", goal=(0.0, 0.0))] + [Task.of("point-robot", goal=(0.4, 0.4))] * 9
    assert success_rates(run(family, tasks, adapt_steps=1)) == [pytest.approx(0.1)] * 2


def test_success_at_any_step_and_at_the_last_are_two_numbers() -> None:
    """In twenty steps it walks 0.2 m times k: short of the goal at first, to it at k = 5, beyond it at k = 10."""
    family = make_family("sparse-point-robot")
    agent, tasks = Walker(family.make_envs(1, 1, 20).spaces), [Task.of("sparse-point-robot", goal=(1.0, 0.0))] * 2
    one = evaluate(agent, family, tasks, Streams.for_evaluation(0), episodes=3, horizon=20, adapt_steps=10)
    assert [success_rates(one)[k] for k in (0, 5, 10)] == [0.0, 1.0, 1.0]
    assert [success_rates(one, "last")[k] for k in (0, 5, 10)] == [0.0, 1.0, 0.0]
    assert success_intervals(one)[10].mean == 1.0
    assert success_intervals(one, "last")[10].mean == 0.0
    assert success_intervals(result(np.ones((2, 1, 3)))) == []


def test_classes_are_reported_apart_and_repeats_cut(family) -> None:
    tasks = [Task.of("point-robot", goal=(0.1 * i, 0.0)) for i in range(4)]
    whole = run(family, tasks)
    classes = by_class(whole, lambda task: "even" if round(10 * task["goal"][0]) % 2 == 0 else "odd")
    assert list(classes) == ["even", "odd"]
    assert classes["odd"].tasks == (tasks[1], tasks[3])
    assert np.array_equal(classes["odd"].returns, whole.returns[[1, 3]])
    assert classes["odd"].success is not None
    assert np.array_equal(classes["odd"].success, whole.success[[1, 3]])
    cut = whole.first_repeats(2)
    assert np.array_equal(cut.returns, whole.returns[:, :, :2])
    assert cut.last_step_success.shape == (4, 3, 2)


@dataclass
class Shaky(Walker):
    """A walker whose actions are drawn around its speed, unless the mode is asked for."""

    def act(
        self, state: np.ndarray, step: Step, rng: np.random.Generator, mode: bool = False
    ) -> tuple[Action, np.ndarray]:
        action, state = super().act(state, step, rng)
        noise = 0.0 if mode else 0.05 * rng.standard_normal(action.environment.shape)
        return Action((action.environment + noise).astype(np.float32)), state

    def adapt(self, state: np.ndarray, trajectories: Trajectories) -> np.ndarray:
        self.seen.append(trajectories.actions)
        return state + 1

    def __post_init__(self) -> None:
        self.seen: list[np.ndarray] = []


def test_the_mode_is_judged_and_samples_are_adapted_from(family) -> None:
    tasks = [Task.of("point-robot", goal=(0.3, 0.0))]
    agent = Shaky(family.make_envs(1, 1, 4).spaces)
    one = evaluate(agent, family, tasks, Streams.for_evaluation(0), episodes=3, horizon=4, actions="mode")
    by_hand = [-sum(0.3 - 0.01 * k * t for t in range(1, 5)) for k in range(3)]
    assert np.allclose(one.returns[0], np.array(by_hand)[:, None], atol=1e-5), "as without noise"
    assert one.actions == "mode"
    assert len(agent.seen) == 2
    assert all(np.std(actions, axis=1).min() > 0 for actions in agent.seen), "adapted from noisy episodes"
    sampled = evaluate(agent, family, tasks, Streams.for_evaluation(0), episodes=3, horizon=4)
    assert (sampled.actions, np.ptp(sampled.returns[0, 0]) > 0) == ("sample", True)
    for actions in ("mode", "mode-only"):
        with pytest.raises(ValueError, match=f"'{actions}', but act.* takes no `mode`; expected 'sample'"):
            run(family, tasks, actions=actions)
    with pytest.raises(ValueError, match="got actions = 'modes', expected 'sample', 'mode', 'mode-only'"):
        run(family, tasks, actions="modes")


def test_by_the_mode_only_nothing_is_sampled_in_any_episode(family) -> None:
    tasks, agent = [Task.of("point-robot", goal=(0.3, 0.0))], Shaky(family.make_envs(1, 1, 4).spaces)
    settings = {"episodes": 3, "horizon": 4, "adapt_steps": 2}
    one = evaluate(agent, family, tasks, Streams.for_evaluation(0), actions="mode-only", **settings)
    assert one.actions == "mode-only"
    assert len(agent.seen) == 2
    assert all(np.ptp(actions, axis=1).max() == 0 for actions in agent.seen), "adapted from episodes by its mode"
    judged = evaluate(agent, family, tasks, Streams.for_evaluation(0), actions="mode", **settings)
    assert np.allclose(one.returns, judged.returns, atol=1e-5), "this agent does not learn from what it plays"


def test_an_episode_ends_at_its_success_only_if_asked_to() -> None:
    """At k = 10 the walker reaches the goal within 20 steps and walks beyond it."""
    family = make_family("sparse-point-robot")
    agent, tasks = Walker(family.make_envs(1, 1, 20).spaces), [Task.of("sparse-point-robot", goal=(1.0, 0.0))]
    settings = {"episodes": 2, "horizon": 20, "adapt_steps": 10}
    on = evaluate(agent, family, tasks, Streams.for_evaluation(0), **settings)
    cut = evaluate(agent, family, tasks, Streams.for_evaluation(0), end_at_success=True, **settings)
    assert success_rates(on, "last")[10] == 0.0
    assert success_rates(cut, "last")[10] == 1.0
    assert 0 < cut.returns[0, 10, 0] < on.returns[0, 10, 0], "one rewarded step in place of several"


class Silent(TaskVecEnv):
    """Tells of a success only when it happens: in the second step, in tasks above 0.5."""

    def __init__(self, num_tasks: int, episodes: int, horizon: int) -> None:
        box = spaces.Box(-1.0, 1.0, (2,), np.float32)
        super().__init__(num_tasks, episodes, horizon, box, box)

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        self.level = self.task_values(tasks, "level")[:, 0]

    def _reset_rows(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        self.clock = 0

    def _step_rows(self, rows: np.ndarray, actions: np.ndarray) -> tuple:
        self.clock += 1
        never, won = np.zeros(len(rows), dtype=bool), (self.level[rows] > 0.5) & (self.clock == 2)
        blown = (self.level[rows] < -0.5) & (self.clock == 2)
        return -np.ones(len(rows)), never, blown, {"success": won} if won.any() else {}

    def _observe(self, rows: np.ndarray) -> np.ndarray:
        return np.zeros((len(rows), 2), dtype=np.float32)


def silent_family(**changes) -> Family:
    level = uniform("level", -1.0, 1.0, meaning="where successes and faults are")
    return Family(name="silent", summary="", distribution=ContinuousTasks("silent", (level,)), horizon=4,
                  make_envs=Silent, **changes)  # fmt: skip


def levels(*values: float) -> list[Task]:
    return [Task.of("silent", level=value) for value in values]


def test_a_success_that_is_told_only_when_it_happens_is_a_rate_of_all_episodes() -> None:
    """One of 60 tasks, in the second group of 50, has a success: the rest are failures, not unknown."""
    family = silent_family()
    tasks = levels(*[0.0] * 55, 0.8, *[0.0] * 4)
    assert success_rates(run(family, tasks, adapt_steps=1)) == [pytest.approx(1 / 60)] * 2
    assert success_rates(run(family, tasks[:55], adapt_steps=0)) == [None], "never seen, not declared"


def test_an_episode_that_blows_up_is_the_worst_of_its_task_and_too_many_fail_the_evaluation() -> None:
    family = silent_family()
    tasks = levels(*[0.0] * 199, -0.8)
    one = run(family, tasks, adapt_steps=0, episodes=1)
    assert one.diverged_episodes == 1
    assert one.returns[:, 0, 0].tolist() == [-4.0] * 200, "not -1, what it had lost when it blew up"
    with pytest.raises(
        ValueError,
        match=r"3 of 6 episodes of 'silent' \(50.0%\) .* at most 1%. Worst task: .*-0.8",
    ):
        run(family, levels(0.0, -0.8), adapt_steps=0)
    assert run(family, levels(0.0, -0.8), adapt_steps=0, diverged_limit=1.0).diverged_episodes == 3


def test_the_worst_of_a_task_is_among_its_sound_episodes() -> None:
    returns = np.array([[[-1.0, -5.0, -9.0]], [[-2.0, -3.0, -4.0]], [[-1.0, -1.0, -1.0]]])
    blown = np.array([[[True, False, False]], [[False, True, True]], [[True, True, True]]])
    expected = [[[-9.0, -5.0, -9.0]], [[-2.0, -3.0, -4.0]], [[-9.0, -9.0, -9.0]]]
    assert with_worst_of_task(returns, blown).tolist() == expected


@dataclass
class Pooling(Actor[Any]):
    adaptation_steps: int = 1

    def episodes_per_adaptation(self, episodes: int) -> int:
        return episodes


def test_meta_worlds_protocol_adapts_from_ten_episodes(family) -> None:
    spaces = family.make_envs(1, 1, 4).spaces
    assert meta_world_protocol(Walker(spaces)) == (10, 3), "three trials of ten episodes and one"
    assert meta_world_protocol(Pooling(1)) == (1, 10)
    assert meta_world_protocol(Pooling(0)) == meta_world_protocol(Walker(spaces, adaptation_steps=0)) == (0, 3)
    assert meta_world_protocol(Pooling(2)) == (2, 5)
    with pytest.raises(ValueError, match="got an agent with 3 steps of adaptation, expected a number that divides 10"):
        meta_world_protocol(Pooling(3))
    with pytest.raises(ValueError, match="expected at most 3 steps"):
        meta_world_protocol(Pooling(5))


def test_an_agent_of_other_spaces_and_an_empty_set_are_refused(family) -> None:
    with pytest.raises(ValueError, match="the agent was built for"):
        run(family, family.distribution.held_out(1), horizon=5)
    with pytest.raises(ValueError, match="expected at least one"):
        run(family, [])


def result(returns: np.ndarray, success: np.ndarray | None = None) -> EvalResult:
    tasks = tuple(Task.of("f", i=i) for i in range(len(returns)))
    return EvalResult("f", "test", tasks, returns, success, tuple(range(returns.shape[1])))


def test_the_interval_agrees_with_the_normal_one_for_many_tasks() -> None:
    values = np.random.default_rng(0).standard_normal((400, 1))
    (interval,) = mean_intervals(values)
    assert interval.mean == values.mean()
    half = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(values.mean() - half, abs=0.01)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.01)


def test_a_paired_difference_is_sharp_where_tasks_differ_more_than_adaptation_brings() -> None:
    rng = np.random.default_rng(1)
    difficulty = 100 * rng.standard_normal((30, 1, 1))
    gain = np.array([0.0, 5.0])[None, :, None] + rng.standard_normal((30, 2, 4))
    one = result(difficulty + gain)
    before, after = adaptation_curve(one)
    (difference,) = adaptation_differences(one)
    assert before.high > after.low, "the curves' own intervals overlap"
    assert 4 < difference.low < 5 < difference.high < 6
    other = result(difficulty + rng.standard_normal((30, 2, 4)))
    between = difference_between(one, other)
    differences = (one.returns[:, -1] - other.returns[:, -1]).mean(axis=1)  # one for each task
    assert between.mean == pytest.approx(differences.mean())
    expected = mean_intervals(differences[:, None])[0]
    assert (between.low, between.high) == pytest.approx((expected.low, expected.high))
    assert 4 < between.low < between.high < 6, "sharp: difficulties of tasks cancel"


def test_a_single_task_and_a_single_point_have_no_interval_and_no_difference() -> None:
    one = result(np.ones((1, 1, 3)))
    assert math.isnan(adaptation_curve(one)[0].low)
    assert adaptation_differences(one) == []
    assert success_rates(one) == [None]


def test_equal_tasks_have_an_interval_of_width_zero() -> None:
    (interval,) = mean_intervals(np.full((5, 1), 2.0))
    assert (interval.mean, interval.low, interval.high) == (2.0, 2.0, 2.0)
