"""`gym:ID` with what varies and what does not: how the words become arguments and attributes, and a family's name."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

from metarl import Family, gymnasium_family, uniform
from metarl.gymnasium_envs.from_gym import gym_spec, named_again
from metarl.own_code.errors import EnvError
from metarl.registry import make_family
from metarl.scripts.families import family_of_run

WIND = uniform("wind", -1.0, 1.0, meaning="m/s")


class Windy(gymnasium.Env):
    """Arguments, attributes, and properties with and without a setter."""

    __slots__ = ("slot",)

    def __init__(self, wind: float = 0.0, label: str = "plain", gust: bool = False, strength: float = 1.0) -> None:
        self.observation_space = spaces.Box(-9.0, 9.0, (1,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float64)
        self.wind, self.label, self.gust, self._strength = wind, label, gust, strength
        self._goal, self.slot = 0.0, 1.0

    @property
    def goal(self) -> float:
        return self._goal

    @goal.setter
    def goal(self, value: float) -> None:
        self._goal = value

    @property
    def unready(self) -> float:
        raise RuntimeError("reset first")

    @unready.setter
    def unready(self, value: float) -> None:
        self._goal = value

    @property
    def fixed(self) -> float:
        return 1.0

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return np.zeros(1), {}

    def step(self, action: Any) -> Any:
        return np.zeros(1), 0.0, False, False, {}


class Calm(Windy):
    """Hands on any keyword, of which its base takes some."""

    def __init__(self, calm: float = 1.0, **keywords: Any) -> None:
        super().__init__(**keywords)


def make(**keywords: Any) -> Windy:
    return Windy(**keywords)


def required(*, wind: float, **keywords: Any) -> Windy:
    return Windy(wind, **keywords)


@pytest.fixture(autouse=True)
def my_module(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("my_winds")
    vars(module).update(Windy=Windy, Calm=Calm, make=make, required=required)
    monkeypatch.setitem(sys.modules, "my_winds", module)
    monkeypatch.setattr(sys, "path", list(sys.path))


def maker(family: Family) -> Any:
    return family.make_envs.maker  # type: ignore[attr-defined]


def played(family: Family) -> tuple[Any, Any]:
    """The bare environment in the first held-out task, and that task."""
    task = family.distribution.held_out(1)[0]
    return maker(family).play(None, task).unwrapped, task


# What varies ----------------------------------------------------------------------------------------------


def test_what_takes_any_keyword_takes_every_parameter() -> None:
    family = gymnasium_family(make, name="f", parameters=[WIND], task_by="arguments")
    env, task = played(family)
    assert (maker(family).arguments, env.wind) == (("wind",), task["wind"][0])
    strength = uniform("strength", 0.0, 1.0, meaning="")
    family = gymnasium_family(Calm, name="f", parameters=[strength, uniform("calm", 0.0, 1.0, meaning="")])
    env, task = played(family)
    assert (maker(family).arguments, env._strength) == (("calm", "strength"), task["strength"][0])
    assert maker(make_family("gym:my_winds:required?wind=uniform(0,1)")).arguments == ("wind",)


def test_an_attribute_comes_before_an_argument_that_only_any_keyword_could_take() -> None:
    goal = uniform("goal", -1.0, 1.0, meaning="")
    env, task = played(gymnasium_family(make, name="f", parameters=[WIND, goal]))
    assert (env.wind, env.goal) == (task["wind"][0], task["goal"][0])


def test_a_name_that_nothing_behind_any_keyword_takes_is_refused() -> None:
    for spec in ("gym:my_winds:Calm?wnd=uniform(0,1)", "gym:my_winds:make?wnd=uniform(0,1)"):
        with pytest.raises(ValueError, match=r"'wnd', which the environment does not have. Did you mean 'wind'"):
            make_family(spec)
    with pytest.raises(ValueError, match="'stranger', which the environment does not have"):
        gymnasium_family(make, name="f", parameters=[uniform("stranger", 0, 1, meaning="")], task_by="arguments")
    with pytest.raises(ValueError, match="'gravty', which the environment does not have"):
        make_family("gym:HalfCheetah-v5?gravty=uniform(0,1)")


def test_a_property_with_a_setter_is_an_attribute() -> None:
    for name in ("goal", "unready"):
        env, task = played(make_family(f"gym:my_winds:Windy?{name}=uniform(-1,1)"))
        assert env.goal == task[name][0]
    with pytest.raises(ValueError, match=r"got no variation.*its attributes: goal, slot, wind"):
        make_family("gym:my_winds:Windy")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("fixed", "'fixed', which is a property without a setter of it"), ("step", "'step', which is a method of it")],
)
def test_what_cannot_be_set_is_said_to_be_that(name: str, expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make_family(f"gym:my_winds:Windy?{name}=uniform(0,1)")
    with pytest.raises(ValueError, match=expected):
        gymnasium_family(Windy, name="f", parameters=[uniform(name, 0, 1, meaning="")], task_by="attributes")


def test_a_constructor_that_needs_more_says_what() -> None:
    def needs(robot: str, wind: float = 0.0) -> Windy:
        return Windy(wind)

    with pytest.raises(ValueError, match=r"""also needs robot; .* --set "robot=VALUE\""""):
        gymnasium_family(needs, name="f", parameters=[WIND])


def test_settings_of_a_family_that_mean_nothing_are_refused() -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"task_by": "argument"}, "got task_by='argument', expected one of auto, arguments"),
        ({"integers": ["winds"]}, "got 'winds' among integers"),
        ({"parameters": [WIND, WIND]}, "'wind' 2 times"),
    ]
    for settings, expected in wrong:
        with pytest.raises(ValueError, match=expected):
            gymnasium_family(Windy, name="f", **{"parameters": [WIND]} | settings)


def test_a_visible_parameter_is_told_to_no_oracle() -> None:
    family = make_family("gym:my_winds:Windy?wind=uniform(0,1,hidden=false)&goal=uniform([0,1],[1,2])")
    assert [(p.name, p.size) for p in family.spaces().task_parameters] == [("goal", 2)]


# What does not vary ---------------------------------------------------------------------------------------


def test_constants_stand_in_the_familys_name_and_reach_the_constructor() -> None:
    words = ["gust=true", "label=a & b? [/x] :ant:"]
    spec = gym_spec("gym:my_winds:Windy", ["wind = uniform(-1, 1)"], words)
    assert spec == 'gym:my_winds:Windy?wind=uniform(-1,1)&gust=true&label="a & b? [/x] :ant:"'
    family = make_family(spec)
    assert family.name == spec
    env, task = played(family)
    assert (env.gust, env.label, env.wind) == (True, "a & b? [/x] :ant:", task["wind"][0])
    behind = make_family(gym_spec("gym:my_winds:make", ["wind=uniform(-1,1)"], ["gust=true"]))
    assert played(behind)[0].gust is True
    cheetah = make_family('gym:HalfCheetah-v5?frame_skip=choice(2,3)&xml_file="half_cheetah.xml"&reset_noise_scale=0')
    assert played(cheetah)[0]._reset_noise_scale == 0


@pytest.mark.parametrize(
    ("vary", "constants", "expected"),
    [
        (["wind=uniform(0,1)"], ["gist=true"], "'gist', which the constructor .* does not take. Did you mean 'gust'"),
        (["wind=uniform(0,1)"], ["wind=3"], "--vary also names"),
        (["wind=uniform(0,1)"], ["gust=true", "gust=false"], "'gust' 2 times"),
        (["wind=uniform(0,1)"], ["render_mode=human"], "metarl sets itself"),
        ([], ["gust=true"], r"got no variation.*gym:my_winds:Windy\?NAME=uniform"),
    ],
)
def test_constants_that_cannot_be_are_refused(vary: list[str], constants: list[str], expected: str) -> None:
    with pytest.raises(ValueError, match=expected):
        make_family(gym_spec("gym:my_winds:Windy", vary, constants))


def test_a_constant_that_the_constructor_does_not_like_is_its_own_error() -> None:
    with pytest.raises(EnvError, match="raised TypeError when it was made") as caught:
        make_family('gym:HalfCheetah-v5?ctrl_cost_weight=uniform(0,1)&frame_skip="two"')
    assert "Traceback" in caught.value.trace


def test_constants_belong_to_gym_alone_and_a_bad_name_is_refused() -> None:
    with pytest.raises(ValueError, match="--set: got it with the family 'point-robot'"):
        gym_spec("point-robot", [], ["wind=1"])
    for query in ("wind=uniform(0,1)&gust=True", "wind=uniform(0,1)&label=robot", 'wind=uniform(0,1)&label="open'):
        with pytest.raises(ValueError, match="in the name of a family, expected"):
            make_family(f"gym:my_winds:Windy?{query}")
    for query in ("wind=uniform(0,1)&g", "wind=normal(0,1)"):
        with pytest.raises(ValueError, match=r"--vary: got .*, expected NAME=uniform"):
            make_family(f"gym:my_winds:Windy?{query}")


# From a run's folder --------------------------------------------------------------------------------------


def test_a_text_from_a_file_reaches_gymnasiums_own_environments_only() -> None:
    harmless = 'gym:HalfCheetah-v5?ctrl_cost_weight=uniform(0,1)&xml_file="half_cheetah.xml"'
    assert named_again(harmless, None) == harmless
    numbers = "gym:my_winds:Windy?wind=uniform(0,1)&gust=true"
    assert named_again(numbers, "gym:my_winds:Windy") == numbers
    text = 'gym:my_winds:Windy?wind=uniform(0,1)&label="os:system"'
    for named in (None, "gym:my_winds:Windy"):
        with pytest.raises(ValueError, match=r"passes a string \(label\).*name it again in full: 'gym:my_winds"):
            named_again(text, named)
    assert named_again(text, text) == text, "the command line says it"
    with pytest.raises(ValueError, match="passes a string"):
        named_again('gym:GymV21Environment-v0?x=uniform(0,1)&env_id="evil:Env"', None)
    assert named_again("bandit:arms=3", None) == "bandit:arms=3"


def test_a_run_is_looked_at_with_what_it_was_trained_with(run_metarl, tmp_path: Path, tiny) -> None:
    (tmp_path / "robot.xml").write_text(
        (Path(gymnasium.__file__).parent / "envs" / "mujoco" / "assets" / "half_cheetah.xml").read_text()
    )
    words = ("gym:HalfCheetah-v5", "--vary", "ctrl_cost_weight=uniform(0.1,1)", "--set", "xml_file=robot.xml")
    out = tmp_path / "[lr=0.1]$x$"
    more = ("--out", out, *tiny, "--iterations", "1", "--eval-every", "0", "--workers", "0", "--set", "frame_skip=2")
    code, _, err = run_metarl("train", "maml-trpo", *words, *more)
    assert code == 0, err
    assert f": {out}" in err.replace("\n", ""), "the folder as it is called"
    family = json.loads((out / "config.json").read_text())["family"]
    assert family == (
        f'gym:HalfCheetah-v5?ctrl_cost_weight=uniform(0.1,1)&xml_file="{tmp_path / "robot.xml"}"&frame_skip=2'
    )
    code, shown, err = run_metarl("evaluate", out, "--tasks", "2", "--adapt-steps", "1")
    assert code == 0, err
    assert "2 held-out tasks" in shown


def test_the_name_of_the_environment_stands_for_what_the_run_says(trained_run: Path) -> None:
    from metarl.runs import RunConfig

    run = dataclasses.replace(RunConfig.read(trained_run), family="gym:my_winds:Windy?wind=uniform(0,1)")
    assert family_of_run(run, "gym:my_winds:Windy").name == run.family
    with pytest.raises(ValueError, match="name it again with --family"):
        family_of_run(run, None)
