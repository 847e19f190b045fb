"""Return values, spaces and images of users' environments: read as numbers, or refused in one clear line."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from metarl import gymnasium_family, uniform
from metarl.gymnasium_envs.check.contract import check_family
from metarl.own_code.errors import EnvError


def test_arrays_of_one_number_are_numbers(habits: Any, batch: Any) -> None:
    plain, arrays = batch(habits.family(habits.Point)), batch(habits.family(habits.ArraysOfOne))
    assert np.array_equal(plain.reset(seed=0)[0], arrays.reset(seed=0)[0])
    for one, two in zip(habits.steps(plain), habits.steps(arrays), strict=True):
        assert all(np.array_equal(a, b) for a, b in zip(one[:4], two[:4], strict=True))
        assert two[4]["success"][0] == (two[0][0, 0] > 0.0)


def test_a_success_that_is_none_is_unknown(habits: Any, batch: Any) -> None:
    envs = batch(habits.family(habits.SuccessIsNone))
    envs.reset(seed=0)
    assert all("success" not in infos for *_, infos in habits.steps(envs))


@pytest.mark.parametrize("told_by", ["succeed", lambda info: info["succeed"]])
def test_success_may_have_another_name(habits: Any, batch: Any, told_by: Any) -> None:
    envs = batch(habits.family(habits.Says, success=told_by))
    assert envs.reports_success
    envs.reset(seed=0)
    assert all(infos["success"].all() for *_, infos in habits.steps(envs))


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ("old reset", r"reset returned an array of shape \(2,\), expected \(observation, info\)"),
        ("old step", "step returned 4 values, expected 5: observation, reward, terminated, truncated, info"),
        ("nothing", "reset: got the observation None, expected one of Box"),
        ("whole", "reset: got the observation .*0.5 is no uint8"),
        ("choice", "reset: got the observation .*is not in MultiDiscrete"),
        ("no reward", "step: the reward is None, expected a single number"),
        ("rewards", r"step: the reward is an array of shape \(2,\), expected a single number"),
        ("successes", r"info\['success'\] is an array of shape \(2,\).*gymnasium_family\(\.\.\., success="),
    ],
)
def test_a_wrong_answer_is_one_line_with_its_task(habits: Any, batch: Any, what: str, line: str) -> None:
    envs = batch(habits.family(habits.Says, what))
    with pytest.raises(EnvError, match=line + r".*row 0, task: goal = \(0\.5, 0\.0\)") as caught:
        habits.played(envs)
    assert not caught.value.trace, "the environment raised nothing"


def test_check_says_the_old_api_and_takes_numpys_truth_values(habits: Any) -> None:
    for what, words in (("old reset", "(observation, info)"), ("old step", "step returned 4 values, expected 5")):
        (problem,) = check_family(habits.family(habits.Says, what))
        assert problem.kind == "space"
        assert words in problem.message

    class NumpyFlags(habits.Point):  # type: ignore[misc]
        def flags(self) -> Any:
            return np.bool_(False), np.bool_(False)

    env = NumpyFlags()
    assert not [p for p in check_family(habits.family(lambda: env)) if p.kind == "gymnasium"]
    assert "step" not in vars(env)


def test_an_episode_whose_first_observation_is_no_number_diverges(habits: Any, batch: Any, said: set[str]) -> None:
    envs = batch(habits.family(habits.LateSensor), e=2)
    first, _ = envs.reset(seed=0)
    assert np.isfinite(first).all()
    assert not envs.step(np.zeros((2, 1)))[4]["diverged"].any()
    again, _ = envs.reset(seed=1, options={"reset_mask": np.array([True, False])})
    assert np.array_equal(again[0], np.zeros(2))
    _, reward, terminated, _, infos = envs.step(np.zeros((2, 1)))
    assert infos["diverged"].tolist() == terminated.tolist() == [True, False]
    assert reward[0] == 0.0
    assert [line for line in said if "not finite" in line]
    assert np.isfinite(envs.reset(seed=2, options={"reset_mask": np.array([True, False])})[0]).all()
    assert not envs.step(np.zeros((2, 1)))[4]["diverged"].any()


def test_what_is_infinite_in_float32_diverges(habits: Any, batch: Any) -> None:
    envs = batch(habits.family(habits.Huge))
    observation, _ = envs.reset(seed=0)
    assert np.isfinite(observation.astype(np.float32)).all()
    assert envs.step(np.zeros((1, 1)))[4]["diverged"].all()


@pytest.mark.parametrize(
    ("low", "high", "dtype", "expected"),
    [
        ([-np.inf, 0.0, -1.0, -np.inf], [1.0, np.inf, 1.0, np.inf], np.float32, None),
        ([np.finfo(np.float32).min], [np.finfo(np.float32).max], np.float32, (-np.inf, np.inf)),
        ([-1e308, 0.0], [1e308, 1e308], np.float64, None),
        ([-0.1], [0.1], np.float64, (-0.1, 0.1)),
    ],
)
def test_an_environment_gets_actions_of_its_space_whatever_its_bounds(
    habits: Any, batch: Any, low: Any, high: Any, dtype: Any, expected: Any
) -> None:
    from metarl.learning.experience.actions import ActionMap

    envs = batch(habits.family(habits.Bounded, low, high, dtype))
    if expected:
        assert (envs.spaces.action_low[0], envs.spaces.action_high[0]) == expected
    envs.reset(seed=0)
    for output in (-1e3, -1.0, 0.3, 1.0, 1e3):
        action = ActionMap(envs.spaces, 1.0).to_environment(np.full((1, len(low)), output, np.float32))
        assert np.isfinite(action).all()
        assert np.abs(action).max() <= 1e3
        envs.step(action)  # the environment asserts that it is in its space


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (np.full((2, 3, 3), 0.9, np.float32), 230),
        (np.full((2, 3, 3), 200.4), 200),
        (np.full((2, 3, 3), 7, np.int64), 7),
        (np.full((2, 3, 3), np.nan), "no colours"),
        (np.full((2, 3, 3), 300), "no colours"),
        (np.zeros((2, 3)), "shape"),
        (None, "returned None"),
    ],
)
def test_pictures_of_other_numbers_become_bytes_or_are_refused(
    habits: Any, batch: Any, frame: Any, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(habits.Draws, "picture", frame)
    envs = batch(habits.family(habits.Draws))
    envs.reset(seed=0)
    if isinstance(expected, str):
        with pytest.raises(EnvError, match=expected):
            envs.render_row(0, 10, 10)
    else:
        picture = envs.render_row(0, 10, 10)
        assert picture.dtype == np.uint8
        assert (picture == expected).all()


class Graph(gymnasium.Env):
    """An environment with given spaces that does nothing."""

    def __init__(self, observation: Any = None, action: Any = None) -> None:
        self.observation_space, self.action_space = observation, action

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}

    def set_task(self, task: Any) -> None:
        pass


class NoSeed(Graph):
    def reset(self) -> Any:  # type: ignore[override]
        return self.observation_space.sample()


class Plain:
    set_task = Graph.set_task


class Custom(spaces.Space[Any]):
    """A space of the user's own, which nothing flattens."""


class OldGym(Plain):
    __module__ = "gym.core"


BOX = spaces.Box(-1.0, 1.0, (2,))


@pytest.mark.parametrize(
    ("env", "line"),
    [
        (Plain(), "got a Plain, expected a gymnasium.Env; inherit from gymnasium.Env"),
        (OldGym(), "old package gym: write `import gymnasium as gym`"),
        (None, "make_env returned None, expected a gymnasium.Env"),
        (Graph(None, BOX), "got none as observation_space of Graph"),
        (Graph(BOX, SimpleNamespace(shape=(2,))), "got a types.SimpleNamespace as action_space"),
        (NoSeed(BOX, BOX), "reset of NoSeed takes no seed"),
        (Graph(spaces.Graph(BOX, None), BOX), "expected one that flattens to numbers"),
        (Graph(spaces.Sequence(BOX), BOX), "expected one that flattens to numbers"),
        (Graph(spaces.Dict(a=BOX, b=spaces.Sequence(BOX)), BOX), "expected one that flattens to numbers"),
        (Graph(Custom(), BOX), "expected one that flattens to numbers"),
        (Graph(spaces.Box(-1.0, 1.0, (0,)), BOX), "got the empty observation space"),
        (Graph(BOX, spaces.Box(-1.0, 1.0, (0,))), "got the empty action space"),
        (Graph(BOX, spaces.Tuple([BOX, spaces.Discrete(2)])), "expected a Discrete, or a Box"),
    ],
)
def test_what_is_no_environment_of_ours_is_refused_in_one_line(env: Any, line: str) -> None:
    with pytest.raises(ValueError, match=line) as caught:
        gymnasium_family(lambda: env, name="x", parameters=[uniform("goal", -1.0, 1.0, meaning="")], task_by="set_task")
    assert "\n" not in str(caught.value)
