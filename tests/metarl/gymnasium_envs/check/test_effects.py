"""Effects of tasks: seen, not seen or undecided, by `metarl check` and by the short test before a training."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from metarl import make_family
from metarl.gymnasium_envs.check.contract import check_family, examine
from metarl.gymnasium_envs.check.findings import Clock, Findings
from metarl.gymnasium_envs.check.playing import Recording, difference, reward_kind, same_length_terminations
from metarl.gymnasium_envs.check.short_test import SECONDS, effect_warnings, effect_warnings_apart
from metarl.gymnasium_envs.check.tasks_apart import told_apart
from metarl.gymnasium_envs.from_gym import gym_spec
from metarl.stepping import Stepping


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[3] / "robots")
    import odd_tasks

    return odd_tasks


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starting a worker process takes a second, and other tests look at that part of a check."""
    monkeypatch.setattr("metarl.gymnasium_envs.check.contract._in_a_worker", lambda *_: [])


def gym_env(name: str, *vary: str) -> Any:
    return make_family(gym_spec(name, vary))


def words(findings: Findings) -> str:
    return " | ".join([p.message for p in findings.problems] + [n.message for n in findings.notes])


# A check --------------------------------------------------------------------------------------------------


def test_no_effect_is_a_problem_where_rewards_follow_the_state_and_a_note_where_they_may_be_sparse(odd: Any) -> None:
    (problem,) = check_family(odd.family_of(odd.Deaf))
    assert problem.kind == "effect"
    assert "in 20 random episodes of at most 40 steps; the environment most likely does not use" in problem.message
    for kind, why in ((odd.DeafAndConstant, "constant in all episodes"), (odd.Sparse, "the action alone")):
        found = examine(odd.family_of(kind))
        assert found.problems == []
        (note,) = found.notes
        assert "may not use its task" in note.message
        assert "too sparse to show it" in note.message
        assert why in note.message


def test_a_sparse_reward_that_tells_is_seen_in_longer_episodes() -> None:
    found = examine(gym_env("gym:MountainCarContinuous-v0", "goal_velocity=uniform(0,0.03)"))
    assert found.problems == []
    assert "does not use its task" not in words(found)
    assert any("999 steps" in s.message for s in found.seen)


def test_a_difference_in_the_last_digit_is_not_another_episode(odd: Any) -> None:
    (problem,) = check_family(odd.family_of(odd.Rounding))
    assert problem.kind == "effect"


def test_random_numbers_in_another_order_are_no_leak(odd: Any) -> None:
    found = examine(odd.family_of(odd.DrawsMore))
    assert found.problems == []
    (note,) = found.notes
    assert note.kind == "leak"
    assert "100 resets of each do not distinguish the tasks" in note.message
    assert "random numbers in another order" in note.message
    for leaking in (odd.LeaksAndDrawsMore, odd.LeaksInTheNoise):
        assert [p.kind for p in check_family(odd.family_of(leaking))] == ["leak"]


def test_random_numbers_in_another_order_alone_are_no_effect(odd: Any) -> None:
    found = examine(odd.family_of(odd.DrawsMoreOnly))
    assert "perhaps only because random numbers are drawn in another order" in words(found)


def test_each_component_is_tested_on_its_own(odd: Any) -> None:
    found = examine(odd.family_of(odd.ThirdIsUnused, size=3))
    assert found.problems == []
    (note,) = found.notes
    assert note.message.startswith("goal[2]: 1 of 3 components of 'goal' have, on their own, no effect that")
    found = examine(odd.family_of(odd.ThirdIsUnused, size=2))
    assert found.notes == []
    assert found.seen[-1].message == "each of the 2 components of 'goal' has an effect on its own"


def test_what_a_parameter_changes_is_said_and_how_large_an_observation_is(odd: Any) -> None:
    found = examine(odd.family_of(odd.Line))
    size, effect = (s.message for s in found.seen)
    assert size.startswith("an observation is 2 numbers (16 bytes")
    assert "'goal': no change of observations was seen, changes rewards (from step 1" in effect


def test_choices_are_tested_one_by_one() -> None:
    found = examine(gym_env("gym:CartPole-v1", "gravity=choice(5,10,15)", "tau=choice(0.01,0.02)"))
    assert found.problems == []
    assert {s.message.split("'")[1] for s in found.seen[2:]} == {"gravity", "tau"}


def test_a_time_limit_reported_as_termination_is_noted(odd: Any) -> None:
    (note,) = examine(odd.family_of(odd.TimeLimitTerminates)).notes
    assert note.kind == "time limit"
    assert "after 30 steps" in note.message
    (note,) = examine(odd.family_of(odd.LaterTimeLimitTerminates, horizon=300)).notes
    assert "4 random episodes ended by termination after 150 steps" in note.message


def test_an_attribute_that_reset_overwrites_or_that_others_were_computed_from_is_explained(odd: Any) -> None:
    found = examine(odd.family_of(odd.Told, "mass", "load", "push", "goal"))
    effects = {p.message.split("'")[1]: p.message for p in found.problems}
    assert effects.keys() == {"mass", "goal"}
    assert "the constructor computes 'total' from 'mass'" in effects["mass"]
    assert "reset overwrites the attribute 'goal'" in effects["goal"]
    (note,) = found.notes
    assert note.kind == "derived"
    assert "computes 'total' from 'load'" in note.message
    assert "only a part of its effect (sure" in note.message
    assert "total" not in vars(odd.Told)
    assert "mass" not in vars(odd.Told), "the class is as before"


@pytest.mark.parametrize(
    ("name", "vary", "derived", "problems"),
    [
        ("gym:CartPole-v1", "masscart=uniform(0.5,2)", "'total_mass'", 1),
        ("gym:CartPole-v1", "length=uniform(0.3,1)", "'polemass_length'", 0),
        ("gym:CartPole-v1", "masspole=uniform(0.05,0.3)", "'total_mass', 'polemass_length'", 0),
        ("gym:Acrobot-v1", "LINK_LENGTH_1=uniform(0.5,2)", "'LINK_COM_POS_1'", 0),
    ],
)
def test_derived_attributes_of_known_robots_are_named(name: str, vary: str, derived: str, problems: int) -> None:
    found = examine(gym_env(name, vary))
    assert derived in words(found)
    assert len(found.problems) == problems


def test_a_task_that_is_told_is_compared_with_one_that_is_constructed(odd: Any) -> None:
    found = examine(odd.family_of(odd.Constructed, "mass"))
    assert "another effect than as the constructor's argument" in words(found)


@pytest.mark.parametrize(
    ("name", "vary"),
    [
        ("gym:Pendulum-v1", ["g=uniform(5,15)", "m=uniform(0.5,2)", "l=uniform(0.5,2)"]),
        ("gym:CartPole-v1", ["gravity=uniform(2,20)", "force_mag=uniform(5,15)"]),
        ("gym:MountainCarContinuous-v0", ["power=uniform(0.0005,0.003)"]),
    ],
)
def test_no_false_alarm_about_parameters_with_a_whole_effect(name: str, vary: list[str]) -> None:
    family = gym_env(name, *vary)
    assert not [line for line in effect_warnings(family) if "NO EFFECT" in line]
    found = examine(family)
    assert (found.problems, found.notes) == ([], [])


# Time -----------------------------------------------------------------------------------------------------


def counted(monkeypatch: pytest.MonkeyPatch, kind: type, name: str) -> list[None]:
    """Gets an item whenever a method is called, before it does its work."""
    method, calls = getattr(kind, name), list[None]()

    def call(*arguments: Any, **more: Any) -> Any:
        calls.append(None)
        return method(*arguments, **more)

    monkeypatch.setattr(kind, name, call)
    return calls


def test_a_check_of_a_slow_environment_ends_in_time_and_shows_progress(
    odd: Any, within: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, steps = [], counted(monkeypatch, odd.Slow, "step")
    with within(6.0):
        found = examine(odd.family_of(odd.Slow), Clock(3.0, lambda what, left: shown.append((what, left))))
    assert 0 < len(steps) <= 3.0 / odd.Slow.seconds + 1
    assert "the environment is slow" in found.seen[0].message
    assert len({what for what, _ in shown}) > 3
    assert shown[0][1] > shown[-1][1]


def test_a_check_names_what_it_had_no_time_for(odd: Any, within: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    resets = counted(monkeypatch, odd.SlowToReset, "reset")
    with within(4.0):
        found = examine(odd.family_of(odd.SlowToReset), Clock(1.0))
    assert len(resets) == 1
    assert "no answer within 1 s" in found.problems[0].message
    found = examine(odd.family_of(odd.Line), Clock(1e-9))
    assert found.problems == []
    assert found.skipped


# The short test before a training -------------------------------------------------------------------------


def test_the_short_test_names_each_parameter_without_an_effect(odd: Any) -> None:
    lines = effect_warnings(odd.family_of(odd.Told, "mass", "load", "push", "goal"))
    assert {line.split("'")[1] for line in lines} == {"mass", "goal"}
    assert all(line.startswith("NO EFFECT SEEN of the parameter") for line in lines)
    assert "the constructor computes 'total' from 'mass'" in " ".join(lines)
    assert "reset overwrites the attribute" in " ".join(lines)
    (line,) = effect_warnings(odd.family_of(odd.ThirdIsUnused, size=3))
    assert line.startswith("NO EFFECT SEEN of component 2 of the parameter 'goal'")
    assert effect_warnings(odd.family_of(odd.Line)) == []


@pytest.mark.parametrize("kind", ["Slow", "SlowToReset"])
def test_the_short_test_ends_in_time_on_slow_environments(
    odd: Any, within: Any, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    steps, resets = (counted(monkeypatch, getattr(odd, kind), name) for name in ("step", "reset"))
    family = odd.family_of(getattr(odd, kind))
    with within(2.5):
        (line,) = effect_warnings(family)
    assert len(steps) * odd.Slow.seconds < SECONDS + odd.Slow.seconds
    assert kind == "Slow" or len(resets) == 1
    assert line.startswith("NO EFFECT SEEN") or "too slow" in line


def test_the_short_test_ends_in_time_on_a_slow_batch_of_ones_own(within: Any) -> None:
    family, slept = make_family("point-robot"), []

    class Slow(type(family.make_envs(1, 1, 5))):  # type: ignore[misc]
        def _observe(self, rows: Any) -> Any:
            slept.append(time.monotonic())
            time.sleep(5.0)
            return super()._observe(rows)

    with within(2.0):
        (line,) = effect_warnings(replace(family, make_envs=lambda m, e, t: Slow(m, e, t)), seconds=0.5)
    assert len(slept) == 1
    assert "too slow" in line


def test_the_short_test_leaves_faults_and_the_global_generators_alone(odd: Any) -> None:
    np.random.seed(3)  # noqa: NPY002
    assert effect_warnings(odd.family_of(odd.Breaks)) == []
    one = np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    assert one == np.random.random()  # noqa: NPY002


def test_the_short_test_can_play_in_a_process_that_may_die(odd: Any) -> None:
    (line,) = effect_warnings_apart("odd_tasks:deaf", Stepping(), 12)
    assert line.startswith("NO EFFECT SEEN of the parameter 'goal'")
    assert "at most 12 steps" in line
    assert effect_warnings_apart("odd_tasks:exiting", Stepping(), 12) == [], "left to the training to report"
    assert not multiprocessing.active_children()


# Its parts ------------------------------------------------------------------------------------------------


def recording(observations: Any, rewards: Any, ends: Any = None) -> Recording:
    rewards = np.asarray(rewards, dtype=np.float64)
    ended = np.zeros(rewards.shape, dtype=np.bool_) if ends is None else np.asarray(ends)
    return Recording(np.asarray(observations, dtype=np.float64), rewards, ended, np.zeros_like(ended), False)


def test_differences_begin_beyond_rounding() -> None:
    one = recording(np.ones((3, 1, 1)), np.zeros((2, 1)))
    assert not difference(one, recording(1.0 + 1e-15 * np.ones((3, 1, 1)), np.full((2, 1), 1e-16)))
    found = difference(one, recording([[[1.0]], [[1.0]], [[1.1]]], [[0.0], [1.0]]))
    assert found.observations is not None
    assert (found.observations.step, found.rewards and found.rewards.step, found.ends) == (2, 2, None)


def test_rewards_after_an_end_do_not_count() -> None:
    one = recording(np.ones((4, 1, 1)), [[1.0], [1.0], [0.0]], [[False], [True], [False]])
    two = recording(np.ones((4, 1, 1)), [[1.0], [1.0], [1.0]], [[False], [False], [False]])
    found = difference(one, two)
    assert (found.rewards, found.ends) == (None, 2)
    assert reward_kind([one, two]) == "constant"


def test_a_time_limit_is_told_from_failures() -> None:
    ends = np.zeros((5, 3), dtype=np.bool_)
    ends[4] = True
    assert same_length_terminations([recording(np.zeros((6, 3, 1)), np.zeros((5, 3)), ends)]) == 5
    ends[4, 1], ends[2, 1] = False, True
    assert same_length_terminations([recording(np.zeros((6, 3, 1)), np.zeros((5, 3)), ends)]) == 0


def test_equal_distributions_are_not_told_apart_and_others_are() -> None:
    rng = np.random.default_rng(0)
    draws = [(rng.uniform(size=100), rng.uniform(size=100)) for _ in range(300)]
    assert sum(told_apart(x, y) for x, y in draws) <= 1
    partly = [(np.where(rng.random(100) < 0.3, y, x), x) for x, y in draws]
    assert sum(told_apart(x, y) for x, y in partly) <= 1
    assert all(told_apart(x, x + 1e-3) for x, _ in draws)
    assert all(told_apart(x, 1.05 * x) for x, _ in draws)
    assert all(told_apart(x, y + 0.5) for x, y in draws)
    assert told_apart(np.zeros(20), np.ones(20))
