"""Code of the user's own: found in the working folder, and answered in words when it fails. No test sets a path."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium
import pytest

from metarl.own_code.errors import EnvError
from metarl.own_code.modules import import_paths, own_error
from metarl.registry import make_family

REACH = """
import gymnasium
import numpy as np
from gymnasium import spaces
from metarl import gymnasium_family, uniform


class Reach(gymnasium.Env):
    def __init__(self, wind=0.0, label="plain", gust=False):
        self.observation_space = spaces.Box(-10.0, 10.0, (2,), np.float64)
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
        self.wind, self.label, self.gust, self._goal, self.x = wind, label, gust, 0.0, 0.0

    @property
    def goal(self):
        return self._goal

    @goal.setter
    def goal(self, value):
        self._goal = value

    @property
    def fixed(self):
        return 1.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.x = float(self.np_random.uniform(-0.1, 0.1))
        return np.array([self.x, 0.0]), {}

    def step(self, action):
        self.x = float(np.clip(self.x + 0.1 * float(action[0]) + 0.1 * self.wind, -9.0, 9.0))
        return np.array([self.x, 0.0]), -abs(self.x - self._goal), False, False, {}


def reach():
    return gymnasium_family(Reach, name="reach", parameters=[uniform("goal", -1.0, 1.0, meaning="m")], horizon=20)


def make(**keywords):
    return Reach(**keywords)


def env():
    return Reach()


def nothing():
    pass


def needs(size):
    return reach()


def raises():
    raise KeyError("gripper")


def exits():
    raise SystemExit(3)


def upside_down():
    return gymnasium_family(Reach, name="reach", parameters=[uniform("goal", 1.0, -1.0, meaning="m")])


FAMILY = reach()
NUMBER = 3
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with a module of the user's own in it and one in a package; nothing else is set."""
    known = set(sys.modules)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", os.getcwd())])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_arm.py").write_text(REACH)
    (tmp_path / "my_package").mkdir()
    (tmp_path / "my_package" / "arm.py").write_text(REACH)
    yield tmp_path
    for name in set(sys.modules) - known:
        if name.partition(".")[0].startswith("my_"):
            del sys.modules[name]


def refusal(spec: str) -> str:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  # each caller looks at the words
        make_family(spec)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def failure(spec: str) -> EnvError:
    with pytest.raises(EnvError) as caught:
        make_family(spec)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_module_beside_you_is_found(folder: Path) -> None:
    for spec in ("my_arm:reach", "my_package.arm:reach", "my_arm:FAMILY"):
        assert make_family(spec).name == "reach"
    for spec in ("gym:my_arm:Reach", "gym:my_package.arm:Reach", "gym:my_arm:make", "gym:my_arm:env"):
        assert make_family(f"{spec}?goal=uniform(-1,1)").horizon == 200
    assert sys.path[-1] == str(folder)
    assert sys.path.count(str(folder)) == 1


def test_the_folder_comes_last_and_once() -> None:
    assert import_paths(["/lib"], "/here") == ["/lib", "/here"]
    assert import_paths(["/here", "/lib"], "/here") == ["/here", "/lib"]
    assert import_paths(["", "/lib"], "/here") == ["", "/lib"], "that is the working folder"


def test_a_family_that_comes_with_metarl_looks_into_no_folder(folder: Path) -> None:
    make_family("point-robot")
    make_family("gym:Pendulum-v1?g=uniform(5,15)")
    assert str(folder) not in sys.path


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("my_arn:reach", r"No module named 'my_arn' in this folder, nor installed, .*Did you mean 'my_arm'\?$"),
        ("nowhere:reach", r"nor installed, expected an importable module:function$"),
        ("my_package.arn:reach", r"No module named 'my_package.arn' \(my_package: .*Did you mean 'arm'\?"),
        ("my_arm.py:reach", "with dots for folders: my_arm$"),
        ("./my_arm:reach", "with dots for folders: my_arm$"),
        ("my_package/arm.py:reach", "with dots for folders: my_package.arm$"),
        ("my_arm:reech", r"my_arm \(.*my_arm.py\) has no 'reech'.*Did you mean 'reach'\?"),
        ("my_arm:zzz", r"has no 'zzz', .*It has: reach, make, env"),
        ("my_arm:NUMBER", "got a int, expected a function that returns"),
        ("my_arm:nothing", r"got None, expected a metarl\.Family"),
        ("my_arm:needs", "needs cannot be called without arguments"),
        ("my_arm:Reach", r'got an environment, .*gym:my_arm:Reach --vary "NAME=uniform'),
        ("my_arm:env", r'got an environment, .*gym:my_arm:env --vary "NAME=uniform'),
        ("my_arm:upside_down", "'goal': got the range 1 to -1"),
        ("gym:my_arm:Reech?goal=uniform(0,1)", r"my_arm.py\) has no 'Reech'.*a gymnasium.Env class.*mean 'Reach'\?"),
        ("gym:my_arm:NUMBER?goal=uniform(0,1)", "got int, expected a gymnasium.Env class"),
        ("gym:my_arn:Reach?goal=uniform(0,1)", r"importable module:ID. Did you mean 'my_arm'"),
        ("gym:gymnasium_robotics_x:A?g=uniform(0,1)", "nor installed, expected an importable module:ID$"),
        ("gym:panda_gym:PandaReach-v3?g=uniform(0,1)", r"\(pip install panda-gym\)"),
        ("my_arm", r"unknown family 'my_arm'. Did you mean 'my_arm:FUNCTION'\?"),
        ("my_arm.reach", r"Did you mean 'my_arm:reach'\?"),
        ("Pendulum-v1", r"""Did you mean 'gym:Pendulum-v1 --vary "NAME=uniform"""),
        ("nosuch", r"unknown family 'nosuch'. Known families: .*gym:MODULE:ID"),
        (
            "gym:FetchReach-v4?g=uniform(0,1)",
            r"no environment 'FetchReach-v4'. Name one of a package.*gym:MODULE:FetchReach-v4",
        ),
    ],
)
def test_what_is_not_there_is_one_line_with_what_is_near(folder: Path, spec: str, expected: str) -> None:
    said = refusal(spec)
    assert re.search(expected, said), said


@pytest.mark.parametrize(
    ("code", "expected", "trace"),
    [
        ("x = 1\nx.nothing", "raised AttributeError while it was imported", 'my_wrong.py", line 2, in <module>'),
        ("import my_other", "raised ModuleNotFoundError .*'nowhere' is neither in this folder", 'my_other.py", line 1'),
        ("def f(:", "raised SyntaxError while it was imported", "def f(:"),
        ("import sys; sys.exit()", "called sys.exit while it was imported", "in <module>"),
        ("class Skip(BaseException): pass\nraise Skip('no robot')", r"raised Skip while .*\(no robot\)", "in <module>"),
        ("import my_wrong.part", "raised ModuleNotFoundError", "in <module>"),
        ("import pybullet", r"needs .*'pybullet' \(.*my_wrong.py, line 1\); pip install pybullet", ""),
        ("import gym", r"needs .*'gym' .*write `import gymnasium as gym`", ""),
    ],
)
def test_an_error_inside_a_module_is_shown_with_its_own_traceback(
    folder: Path, code: str, expected: str, trace: str
) -> None:
    (folder / "my_other.py").write_text("import nowhere")
    (folder / "my_wrong.py").write_text(code)
    for spec in ("my_wrong:reach", "gym:my_wrong:Reach?goal=uniform(0,1)"):
        sys.modules.pop("my_other", None)
        error = failure(spec)
        assert re.search(f"the module 'my_wrong' {expected}", str(error)), str(error)
        assert trace in error.trace
        assert bool(error.trace) == bool(trace)
        assert "importlib" not in error.trace
        assert "modules.py" not in error.trace


def test_an_error_inside_the_function_is_shown_with_its_own_traceback(folder: Path) -> None:
    raised = failure("my_arm:raises")
    assert "the function 'raises' raised KeyError when it was called ('gripper')" in str(raised)
    assert raised.trace.startswith("Traceback")
    assert raised.trace.count("  File ") == 1
    assert "'exits' called sys.exit when it was called (3)" in str(failure("my_arm:exits"))


def test_a_file_named_like_an_installed_module_replaces_it_for_nobody(folder: Path) -> None:
    (folder / "random.py").write_text("def reach(): pass")
    assert "it hides random.py of this folder, rename that) has no 'reach'" in refusal("random:reach")


def test_an_id_that_a_module_registers_is_found_and_near_ones_are_offered(folder: Path) -> None:
    (folder / "my_registered.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('MyArm-v3', entry_point='my_arm:Reach', max_episode_steps=30)\n"
        "gymnasium.register('MyRegistered-v0', entry_point='my_registered:absent')\n"
    )
    try:
        assert make_family("gym:my_registered:MyArm-v3?goal=uniform(0,1)").horizon == 30
        assert "Did you mean 'MyRegistered-v0'?" in refusal("gym:my_registered:MyRegisterd-v0?goal=uniform(0,1)")
    finally:
        for name in ("MyArm-v3", "MyRegistered-v0"):
            gymnasium.registry.pop(name, None)


def test_a_file_named_like_a_family_is_said_to_be_hidden(folder: Path) -> None:
    (folder / "bandit.py").write_text(REACH)
    assert "the family 'bandit' hides bandit.py of this folder" in refusal("bandit:reach")


@pytest.mark.filterwarnings("ignore::DeprecationWarning:gymnasium.*")
def test_a_missing_simulator_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "Box2D", None)
    for name in [name for name in sys.modules if name.startswith("gymnasium.envs.box2d")]:
        monkeypatch.delitem(sys.modules, name)
    for vary in ("gravity=uniform(-11,-2)", "nothing=uniform(0,1)"):
        error = failure(f"gym:LunarLander-v3?{vary}")
        assert "pip install" in str(error)
        assert not error.trace
    assert "have been moved to the gymnasium-robotics project" in str(failure("gym:Ant-v3?g=uniform(0,1)"))


def test_advice_stands_behind_what_an_environment_lacks_when_it_is_made() -> None:
    def lacks() -> Any:
        raise gymnasium.error.DependencyNotInstalled("mujoco is not installed, run `pip install x`")

    def imports() -> Any:
        import ale_py  # type: ignore[import-not-found,import-untyped]

        return ale_py

    for make, words in ((lacks, "run `pip install x`"), (imports, "pip install ale-py")):
        try:
            make()
        except ImportError as error:
            said = own_error("family 'f': the environment", "when it was made", error)
        except gymnasium.error.DependencyNotInstalled as error:
            said = own_error("family 'f': the environment", "when it was made", error)
        assert words in str(said)
        assert not said.trace


def test_asking_a_module_for_a_name_may_raise_too(folder: Path) -> None:
    (folder / "my_lazy.py").write_text("def __getattr__(name):\n    raise OSError('no simulator')")
    error = failure("my_lazy:reach")
    assert "the module 'my_lazy' raised OSError when asked for 'reach' (no simulator)" in str(error)
    assert "__getattr__" in error.trace


def test_the_installed_command_finds_it_also_in_worker_processes(folder: Path) -> None:
    """With files beside it that are named like modules which those processes import first."""
    for name in ("random", "torch", "numpy", "tempfile"):
        (folder / f"{name}.py").write_text("raise SystemExit('the file of the folder was taken')")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        [str(Path(sys.executable).parent / "metarl"), "check", "my_package.arm:reach"],
        cwd=folder,
        env={**environment, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("reach (a Gymnasium environment): no problems found\n")


def test_the_path_is_safe_in_its_context_alone_unless_the_user_chose_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from metarl.own_code.safe_path import VARIABLE, safe_path

    monkeypatch.delenv(VARIABLE, raising=False)
    with safe_path():
        assert os.environ[VARIABLE]
    assert VARIABLE not in os.environ
    monkeypatch.setenv(VARIABLE, "yes")
    with safe_path():
        pass
    assert os.environ[VARIABLE] == "yes", "the user's own"


def test_a_function_that_gives_a_family_is_named_without_gym(folder: Path) -> None:
    (folder / "my_arms.py").write_text(REACH)
    with pytest.raises(ValueError, match="it is a family already: name it without gym:"):
        make_family("gym:my_arms:reach?goal=uniform(0,1)")
