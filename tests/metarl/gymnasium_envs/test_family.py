from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from metarl import Family, gymnasium_family, uniform
from metarl.gymnasium_envs.from_gym import gym_spec
from metarl.own_code.errors import EnvError
from metarl.registry import is_own_code, make_family

GOAL = uniform("goal", -1.0, 1.0, meaning="m")


class Blank(gymnasium.Env):
    """An environment of given spaces that does nothing."""

    level = 2.0

    def __init__(self, goal: Any = 0.0, observation: Any = None, action: Any = None) -> None:
        self.observation_space = observation or spaces.Box(-1.0, 1.0, (2, 3))
        self.action_space = action or spaces.Box(-1.0, 1.0, (2, 2))
        self.goal = goal

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert action in self.action_space
        return self.observation_space.sample(), 0.0, False, False, {}


class Told(Blank):
    def set_task(self, task: Any) -> None:
        self.goal = task["goal"]


def maker(family: Family) -> Any:
    return family.make_envs.maker  # type: ignore[attr-defined]


def test_a_task_takes_the_way_that_the_environment_offers() -> None:
    def family(make_env: Any, **settings: Any) -> Family:
        return gymnasium_family(make_env, name="f", **({"parameters": [GOAL]} | settings))

    assert maker(family(Told)).delivery == "set_task"
    assert maker(family(Blank)).arguments == ("goal",)
    level = uniform("level", 1.0, 2.0, meaning="")
    both = maker(family(Blank, parameters=[GOAL, level]))
    assert (both.arguments, both.delivery) == (("goal",), "attributes")
    task = family(Blank, parameters=[GOAL, level]).distribution.held_out(1)[0]
    env = both.play(None, task)
    assert (env.goal, env.level) == (task["goal"][0], task["level"][0])
    assert maker(family(Blank, task_by="attributes")).arguments == ()
    assert maker(family(Blank, task_by="options")).delivery == "options"
    assert maker(family(Blank, task_by="arguments")).arguments == ("goal",)
    with pytest.raises(ValueError, match=r"'goals', which the environment does not have. Did you mean 'goal'"):
        family(Blank, parameters=[uniform("goals", 0, 1, meaning="")])
    with pytest.raises(ValueError, match=r"'level'.*keywords of make_env: goal, observation, action"):
        family(Blank, parameters=[level], task_by="arguments")
    assert maker(family(lambda goal: Told(goal))).arguments == ("goal",), "it cannot be made without"
    with pytest.raises(ValueError, match="both or neither"):
        family(Blank, parameters=[])


def test_values_arrive_as_numbers_arrays_and_integers() -> None:
    place = uniform("place", 0.0, 1.0, size=2, meaning="")
    family = gymnasium_family(Told, name="f", parameters=[GOAL, place], integers=["goal"])
    task = family.distribution.held_out(1)[0]
    values = maker(family).values(task)
    assert type(values["goal"]) is int
    assert values["place"].tolist() == list(task["place"])


@pytest.mark.parametrize(
    ("observation", "size"),
    [
        (spaces.Box(-1.0, 1.0, (2, 3)), 6),
        (spaces.Discrete(4), 4),
        (spaces.Dict({"a": spaces.Box(0, 255, (2,), np.uint8), "b": spaces.MultiBinary(3)}), 5),
        (spaces.Tuple((spaces.MultiDiscrete([2, 3]), spaces.Box(0.0, 1.0, ()))), 6),
    ],
)
def test_observations_of_every_kind_become_rows_of_numbers(observation: Any, size: int) -> None:
    family = gymnasium_family(lambda goal=0.0: Blank(goal, observation), name="f", parameters=[GOAL])
    envs = family.make_envs(1, 2, 3)
    assert envs.spaces.observation_size == size
    assert envs.spaces.action_low == (-1.0,) * 4
    envs.set_tasks(family.distribution.held_out(1))
    assert envs.reset(seed=0)[0] in envs.observation_space
    assert envs.step(np.zeros((2, 4)))[0].shape == (2, size)
    envs.close()


def test_spaces_that_no_agent_can_use_are_refused() -> None:
    for action in (spaces.MultiBinary(2), spaces.Box(0, 5, (1,), np.int64), spaces.Tuple([spaces.Discrete(2)])):
        with pytest.raises(ValueError, match="expected a Discrete, or a Box of floating-point"):
            gymnasium_family(lambda goal=0.0, a=action: Blank(goal, action=a), name="f", parameters=[GOAL])
    sequence = spaces.Sequence(spaces.Discrete(2))
    with pytest.raises(ValueError, match="expected one that flattens"):
        gymnasium_family(lambda goal=0.0: Blank(goal, sequence), name="f", parameters=[GOAL])


def test_units_of_an_observation_reach_the_agent_and_have_to_be_as_many_as_its_numbers() -> None:
    units = ["m", "m", "m/s", "m/s", "rad", ""]
    family = gymnasium_family(Blank, name="f", parameters=[GOAL], observation_units=units)
    assert family.make_envs(1, 1, 3).spaces.observation_units == tuple(units)
    with pytest.raises(ValueError, match="family 'f': got 2 observation_units, expected 6, one for each number"):
        gymnasium_family(Blank, name="f", parameters=[GOAL], observation_units=["m", "m"])


def test_an_environment_that_cannot_be_made_is_said_with_its_traceback() -> None:
    def make_env(goal: float = 0.0) -> Blank:
        raise OSError("no such simulator")

    with pytest.raises(EnvError, match="raised OSError when it was made") as caught:
        gymnasium_family(make_env, name="f", parameters=[GOAL])
    assert "in make_env" in caught.value.trace


# gym:ID ---------------------------------------------------------------------------------------------------


def test_a_registered_environment_and_what_varies_make_a_family() -> None:
    spec = gym_spec("gym:Pendulum-v1", ["g = uniform(5, 15)", "max_torque=choice(1,2)"])
    assert spec == "gym:Pendulum-v1?g=uniform(5,15)&max_torque=choice(1,2)"
    family = make_family(spec)
    assert (family.name, family.horizon) == (spec, 200)
    assert (maker(family).arguments, maker(family).integers) == (("g",), ("max_torque",))
    assert not is_own_code(spec)
    env = maker(family).play(None, family.distribution.held_out(1)[0])
    assert (env.unwrapped.g, env.unwrapped.max_torque) == (10.0, 1)
    assert gym_spec("point-robot", []) == "point-robot"


def test_a_class_of_ones_own_is_named_by_its_module(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[3] / "docs" / "examples")
    spec = "gym:windy_point:WindyPoint?wind=uniform(-1,1,size=2)"
    assert is_own_code(spec)
    assert maker(make_family(spec)).arguments == ("wind",)
    by_id = make_family("gym:metarl.types:Pendulum-v1?g=uniform(5,6)")  # imports the module, then finds the id
    assert (by_id.horizon, maker(by_id).arguments) == (200, ("g",))
    sys.modules.pop("windy_point")


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("gym:Pendulm-v1?g=uniform(5,15)", r"no environment 'Pendulm-v1'. Did you mean 'Pendulum-v1'"),
        ("gym:?g=uniform(5,15)", "no environment ''"),
        ("gym:no_such_module:X?g=uniform(5,15)", "expected an importable module:ID"),
        ("gym:Pendulum-v1", r"got no variation, expected --vary .*its arguments: g; its attributes: .*max_torque"),
        ("gym:Pendulum-v1?gg=uniform(5,15)", r"'gg'.* Did you mean 'g'"),
        ("gym:Pendulum-v1?g=uniform(15,5)", "LOW below HIGH"),
    ],
)
def test_bad_names_are_refused_in_words(spec: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make_family(spec)


def test_vary_belongs_to_gym_alone() -> None:
    for name in ("point-robot", "gym:Pendulum-v1?g=uniform(5,15)"):
        with pytest.raises(ValueError, match="expected a family gym:ID"):
            gym_spec(name, ["g=uniform(5,15)"])
