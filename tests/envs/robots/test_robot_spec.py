"""The notation of robots' families, and refusals of what does not fit."""

from __future__ import annotations

import builtins
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_models import MODELS, edited, text_of

from metarl.envs.robots.family import MENAGERIE_SCHEME, MJCF_SCHEME, robot_family
from metarl.envs.robots.rewards import WEIGHTS
from metarl.envs.robots.spec import read_spec
from metarl.envs.robots.variations import KINDS
from metarl.registry import find_family, full_name, is_own_code, preset_family
from metarl.scripts.reference.robots import robot_setup

WALKER = f"mjcf:{MODELS}/servo_quadruped.xml"
ARM = f"mjcf:{MODELS}/gravity_compensated_arm.xml"


def test_a_name_is_read() -> None:
    text = (
        "mjcf:/a/b.xml?payload=uniform(0,5)&payload.body=trunk&command=[0.5,0,0.2]&scale=0.3&reward.energy=0.01"
        "&task=walk&goal=uniform([0,0,0],[1,1,1])"
    )
    spec = read_spec(text, tuple(KINDS))
    assert (spec.scheme, spec.place, spec.text) == ("mjcf", "/a/b.xml", text)
    assert [one.name for one in spec.variations] == ["payload", "goal"]
    assert spec.words == {"payload": {"body": "trunk"}}
    assert spec.options == {"scale": 0.3, "task": "walk"}
    assert spec.command == (0.5, 0.0, 0.2)
    assert spec.weights == {"energy": 0.01}


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("mjcf:", "got no path"),
        ("menagerie:?payload=uniform(0,1)", "got no name of a robot"),
        ("mjcf:/no/robot.xml?payload=uniform(0,1)", "got no file /no/robot.xml"),
        (f"mjcf:{MODELS}?payload=uniform(0,1)", "got the folder"),
        (f"mjcf:{MODELS}/servo_quadrupped.xml?payload=uniform(0,1)", "Did you mean 'servo_quadruped.xml'"),
        (WALKER, "got nothing that varies between tasks"),
        (f"{WALKER}?weight=uniform(0,1)", "got 'weight', which is neither a variation nor an option"),
        (f"{WALKER}?paylod=uniform(0,1)", "Did you mean 'payload'"),
        (f"{WALKER}?payload=uniform(1,0)", "expected uniform(LOW,HIGH) with LOW below HIGH"),
        (f"{WALKER}?payload=choice(0,1)", "expected payload=uniform(LOW,HIGH)"),
        (f"{WALKER}?payload=uniform(0,1)&payload=uniform(0,2)", "got 'payload' twice"),
        (f"{WALKER}?payload=uniform(0,1)&payload.bodi=trunk", "got the option 'bodi'"),
        (f"{WALKER}?payload=uniform(0,1)&payload.body=nose", "got body 'nose'"),
        (f"{WALKER}?payload=uniform(-1,1)", "payload"),
        (f"{WALKER}?latency.steps=2", "got latency.steps without latency"),
        (f"{WALKER}?payload=uniform(0,1)&keyframe=sit", "keyframe: got 'sit', expected 'home'"),
        (f"{WALKER}?payload=uniform(0,1)&scale=-1", "got scale=-1, expected a number"),
        (f"{WALKER}?payload=uniform(0,1)&scale=uniform(0,1)", "'scale' is the same in all tasks"),
        (f"{WALKER}?payload=uniform(0,1)&scale=uniform(0,1)", "expected scale=VALUE, a number"),
        (f"{WALKER}?payload=uniform(0,1)&scale.body=trunk", "'scale' has no further words"),
        (f"{WALKER}?command=uniform(0,1)&command.body=trunk", "'command' has no further words"),
        (f"{WALKER}?payload=uniform(0,1)&paylod.body=trunk", "Did you mean 'payload'"),
        (f"{ARM}?goal=[0.2,0,0.3]", "expected goal=uniform([X,Y,Z],[X,Y,Z]); for a fixed place, make the range narrow"),
        (f"{WALKER}?payload=uniform(0,1)&action=position", "got action=position, expected servo or torque or pd"),
        (f"{WALKER}?payload=uniform(0,1)&action=pd", "got action=pd for a robot without torque motors"),
        (f"{WALKER}?payload=uniform(0,1)&kp=3", "got kp or kd without action=pd"),
        (f"{WALKER}?payload=uniform(0,1)&task=run", "got task=run, expected walk, reach, hold"),
        (f"{WALKER}?payload=uniform(0,1)&task=reach&site=nose", "site=nose, expected a site, body or geom"),
        (f"{WALKER}?payload=uniform(0,1)&goal=uniform([0,0,0],[1,1,1])", "got a goal for task=walk"),
        (f"{WALKER}?payload=uniform(0,1)&horizon=10.5", "got horizon=10.5, expected a whole number"),
        (f"{WALKER}?payload=uniform(0,1)&rate=60", "got rate=60, expected a whole number of physics steps"),
        (f"{WALKER}?payload=uniform(0,1)&base=nose", "got base=nose, expected a body: trunk"),
        (f"{WALKER}?payload=uniform(0,1)&reward.speed=1", "reward.speed, expected a term that this robot has"),
        (f"{WALKER}?payload=uniform(0,1)&reward.energy=much", "got reward.energy=much, expected a number"),
        (f"{WALKER}?payload=uniform(0,1)&command=fast", "expected command=FORWARD"),
        (f"{WALKER}?payload=uniform(0,1)&task=no_such_module:reward", "no_such_module"),
        (f"{WALKER}?payload=uniform(0,1)&walk", "expected NAME=uniform(LOW,HIGH) or OPTION=VALUE"),
        (f"{ARM}?payload=uniform(0,1)&task=walk", "got task=walk for a robot that is fixed to the world"),
        (f"{ARM}?payload=uniform(0,1)&command=0.5", "got a command for task=reach"),
        (f"{ARM}?goal=uniform(0,1)", "expected goal=uniform([X,Y,Z],[X,Y,Z])"),
        (f"{ARM}?payload=uniform(0,1)&site=stand", "got a site that no actuated hinge or slide moves"),
    ],
)
def test_bad_names_are_refused_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        robot_family(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", KINDS)
@pytest.mark.parametrize("value", ["3", "0,5", "[0,5]", "much"])
def test_a_variation_without_a_distribution_is_refused_with_the_right_form(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        read_spec(f"{WALKER}?{name}={value}", tuple(KINDS))
    said = str(caught.value)
    assert f"got {name}={value}, expected {name}=uniform(LOW,HIGH); for a fixed number, make the range narrow" in said
    assert "Did you mean" not in said
    assert "neither" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("no robot", "expected a MuJoCo XML file"),
        ("<mujoco><worldbody/></mujoco>", "got a model without actuators"),
        ("<mujoco><worldbody><body/></worldbody><actuator><motor joint='x'/></actuator></mujoco>", "target 'x'"),
        ("<mujoco><include file='missing.xml'/></mujoco>", "missing.xml"),
        (text_of("servo_quadruped").replace("</actuator>", "<motor/></actuator>"), "expected a MuJoCo XML file"),
    ],
)
def test_files_that_are_no_robot_are_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "robot.xml").write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=r"\S") as caught:
        robot_family(f"mjcf:{tmp_path}/robot.xml?payload=uniform(0,1)")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


URDF = """<?xml version="1.0"?>
<!-- <mujoco/> -->
<robot name="arm">
  <link name="base"/>
  <link name="upper"><inertial><mass value="1"/><origin xyz="0 0 0.1"/>
    <inertia ixx="0.1" iyy="0.1" izz="0.1" ixy="0" ixz="0" iyz="0"/></inertial></link>
  <joint name="swing" type="revolute"><parent link="base"/><child link="upper"/><axis xyz="0 1 0"/>
    <limit lower="-1" upper="1" effort="5" velocity="2"/></joint>
</robot>
"""


def test_a_urdf_is_refused_with_the_way_to_an_mjcf_that_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "arm.urdf").write_text(URDF, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"arm\.urdf is a URDF, .*no actuators.*mj_saveLastXML.*\Z") as caught:
        robot_family("mjcf:arm.urdf?payload=uniform(0,1)")
    (code,) = re.findall(r'python -c "(.*?)"', str(caught.value))
    exec(code, {})
    made = (tmp_path / "arm.xml").read_text(encoding="utf-8")
    with pytest.raises(ValueError, match="got a model without actuators"):
        robot_family("mjcf:arm.xml?payload=uniform(0,1)")
    motor = '<actuator><motor joint="swing" ctrlrange="-5 5"/></actuator></mujoco>'
    (tmp_path / "arm.xml").write_text(made.replace("</mujoco>", motor), encoding="utf-8")
    assert robot_family("mjcf:arm.xml?payload=uniform(0,1)").notes


def test_menagerie_by_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "small_robot"
    folder.mkdir()
    monkeypatch.setenv("MENAGERIE_ROOT", str(tmp_path))
    with pytest.raises(ValueError, match=r"expected a scene\.xml"):
        robot_family("menagerie:small_robot?payload=uniform(0,1)")
    (folder / "robot.xml").write_text(text_of("servo_quadruped"), encoding="utf-8")
    family = robot_family("menagerie:small_robot?payload=uniform(0,1)")
    setup = robot_setup(family)
    assert setup is not None
    assert setup.loaded.path.name == "robot.xml"
    (folder / "scene.xml").write_text(edited("servo_quadruped", ("servo quadruped", "scene")), encoding="utf-8")
    scene = robot_setup(robot_family("menagerie:small_robot?payload=uniform(0,2)"))
    assert scene is not None
    assert scene.loaded.path.name == "scene.xml"
    with pytest.raises(ValueError, match=r"got no robot 'smal_robot' in MENAGERIE_ROOT=.*small_robot"):
        robot_family("menagerie:smal_robot?payload=uniform(0,1)")
    with pytest.raises(ValueError, match=r"got no robot '\.\./x'"):
        robot_family("menagerie:../x?payload=uniform(0,1)")


def test_menagerie_without_package_or_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("MENAGERIE_ROOT", raising=False)
    real = builtins.__import__

    def without(name: str, *args: Any, **keywords: Any) -> Any:
        if name == "mujoco_menagerie":
            raise ImportError(name)
        return real(name, *args, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(builtins, "__import__", without)
        with pytest.raises(ValueError, match=r"pip install \"metarl-robots\[menagerie\]\"; or set MENAGERIE_ROOT"):
            robot_family("menagerie:unitree_go2?payload=uniform(0,1)")
    menagerie = pytest.importorskip("mujoco_menagerie")
    with pytest.raises(ValueError, match=r"got the robot 'unitree_go9'.*Did you mean 'unitree_go"):
        robot_family("menagerie:unitree_go9?payload=uniform(0,1)")

    def unreachable(*_: Any, **__: Any) -> None:
        raise menagerie.DownloadError("no route to host")

    monkeypatch.setattr(menagerie.Robot, "path", unreachable)
    with pytest.raises(ValueError, match=r"no files of 'unitree_go2' \(no route to host\).*set MENAGERIE_ROOT"):
        robot_family("menagerie:unitree_go2?payload=uniform(0,1)")


class Stand:
    """The functions of the package mujoco-menagerie that metarl calls; a robot has files after its first use.

    Args:
        folder: The folder.
    """

    class MenagerieError(Exception):
        pass

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def names(self) -> list[str]:
        return ["unitree_go2", "small_robot"]

    def get(self, name: str) -> Stand:
        assert name == "unitree_go2"
        return self

    def xml(self) -> Path:
        return downloaded(self.folder) / "scene.xml"


def downloaded(folder: Path) -> Path:
    """A folder with the files of a robot, made at the first use."""
    if not folder.exists():
        folder.mkdir()
        (folder / "scene.xml").write_text('<mujoco><include file="robot.xml"/></mujoco>', encoding="utf-8")
        (folder / "robot.xml").write_text(text_of("servo_quadruped"), encoding="utf-8")
    return folder


@pytest.mark.parametrize("package", ["stand-in", "installed"])
def test_menagerie_by_a_download(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, package: str) -> None:
    monkeypatch.delenv("MENAGERIE_ROOT", raising=False)
    folder = tmp_path / "unitree_go2"
    if package == "installed":
        menagerie = pytest.importorskip("mujoco_menagerie")
        monkeypatch.setattr(menagerie.Robot, "path", lambda *_, **__: downloaded(folder))
    else:
        monkeypatch.setitem(sys.modules, "mujoco_menagerie", Stand(folder))
    family = robot_family("menagerie:unitree_go2?payload=uniform(0,1)")
    setup = robot_setup(family)
    assert setup is not None
    assert setup.loaded.path == folder / "scene.xml"
    assert family.name == "menagerie:unitree_go2?payload=uniform(0,1)"
    envs = family.make_envs(1, 2, 5)
    envs.set_tasks(family.distribution.train_tasks(1))
    assert np.isfinite(envs.reset(seed=0)[0]).all()
    envs.close()


def test_a_floor_within_a_body_that_does_not_move_is_a_floor(tmp_path: Path) -> None:
    plane = '    <geom name="floor" type="plane" size="0 0 0.05"/>'
    for floor, added in ((f"<body>{plane}</body>", 0), ("", 1)):
        (tmp_path / "robot.xml").write_text(edited("servo_quadruped", (plane, floor)), encoding="utf-8")
        setup = robot_setup(robot_family(f"mjcf:{tmp_path}/robot.xml?floor_friction=uniform(0.3,1)"))
        assert setup is not None
        assert sum("so a plane at z = 0 is added" in note for note in setup.loaded.notes) == added
        assert (setup.loaded.model.geom_type == 0).sum() == 1


def test_own_reward_is_own_code_and_gets_whole_arrays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_reward.py").write_text(
        "def still(state):\n    return {'still': -(state.velocities**2).sum(axis=1)}\n\n"
        "def one(state):\n    return 1.0\n\ndef fails(state):\n    raise RuntimeError('no')\n",
        encoding="utf-8",
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    spec = f"{WALKER}?payload=uniform(0,1)&task=my_reward:still&reward.alive=2"
    assert is_own_code(spec)
    assert not is_own_code(f"{WALKER}?payload=uniform(0,1)")
    assert preset_family(spec) == "robot-own"
    family = robot_family(spec)
    envs = family.make_envs(1, 2, 5)
    envs.set_tasks(family.distribution.train_tasks(1))
    envs.reset(seed=0)
    infos = envs.step(np_zeros(2))[4]
    assert infos["reward/alive"].tolist() == [2.0, 2.0]
    assert (infos["reward/still"] < 0).all()
    for name, words in (("one", "expected an array of shape"), ("fails", "raised RuntimeError")):
        family = robot_family(f"{WALKER}?payload=uniform(0,1)&task=my_reward:{name}")
        envs = family.make_envs(1, 2, 5)
        envs.set_tasks(family.distribution.train_tasks(1))
        envs.reset(seed=0)
        with pytest.raises(RuntimeError, match=words):
            envs.step(np_zeros(2))


def np_zeros(rows: int) -> Any:
    import numpy as np

    return np.zeros((rows, 8), dtype=np.float32)


def test_weights_replace_those_of_the_task_and_zero_omits_a_term() -> None:
    setup = robot_setup(robot_family(f"{WALKER}?payload=uniform(0,1)&reward.turn=0&reward.effort=0.5"))
    assert setup is not None
    weights = setup.reward.weights  # type: ignore[attr-defined]
    assert weights == {**{k: v for k, v in WEIGHTS["walk"].items() if k != "turn"}, "effort": 0.5}


def test_schemes_are_registered_and_unreadable_names_count_as_own_code(monkeypatch: pytest.MonkeyPatch) -> None:
    assert full_name("menagerie:unitree_go2") == "menagerie:unitree_go2"
    monkeypatch.chdir(MODELS)
    monkeypatch.setenv("MENAGERIE_ROOT", str(MODELS.parent))
    for name, meant in (("servo_quadruped.xml", "mjcf:servo_quadruped.xml"), ("models", "menagerie:models")):
        with pytest.raises(ValueError, match=re.escape(f"Did you mean '{meant}?payload=uniform(0,5)'?")):
            find_family(name)
    for scheme in (MJCF_SCHEME, MENAGERIE_SCHEME):
        assert scheme.is_own_code("mjcf:x?task=os:system")
        assert scheme.is_own_code("mjcf:x?nonsense")
        assert not scheme.is_own_code("mjcf:x?task=walk")
