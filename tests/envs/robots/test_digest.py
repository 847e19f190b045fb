"""The digest of a robot: what changes it, and what does not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from metarl.envs.robots.digest import robot_digest
from metarl.envs.robots.family import robot_family

ROBOT = """<mujoco model="robot">
  <include file="parts.xml"/>
  <visual><global azimuth="120"/></visual>
  <asset>
    <mesh name="hull" file="hull.obj"/>
    <mesh name="shell" file="shell.obj"/>
    <hfield name="hills" nrow="2" ncol="2" size="1 1 1 1" elevation="0 0 0 1"/>
    <material name="paint" rgba="1 0 0 1"/>
  </asset>
  <worldbody>
    <light pos="0 0 3"/>
    <geom name="ground" type="hfield" hfield="hills"/>
    <body name="arm" pos="0 0 1">
      <joint name="turn" axis="0 1 0" damping="0.1"/>
      <geom name="link" type="capsule" fromto="0 0 0 0 0 -0.3" size="0.03"/>
      <geom name="foot" type="mesh" mesh="hull" pos="0 0 -0.3"/>
      <geom name="cover" type="mesh" mesh="shell" contype="0" conaffinity="0" mass="0" material="paint"/>
      <site name="tip" pos="0 0 -0.3"/>
    </body>
  </worldbody>
  <actuator><motor name="drive" joint="turn" ctrlrange="-1 1"/></actuator>
  <keyframe><key name="home" qpos="0.1"/></keyframe>
</mujoco>
"""
PARTS = '<mujoco>\n  <option timestep="0.002"/>\n</mujoco>\n'
MESH = "v 0 0 0\nv 0.1 0 0\nv 0 0.1 0\nv 0 0 0.1\nf 1 3 2\nf 1 2 4\nf 2 3 4\nf 1 4 3\n"


def files_in(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name, text in (("robot.xml", ROBOT), ("parts.xml", PARTS), ("hull.obj", MESH), ("shell.obj", MESH)):
        (folder / name).write_text(text, encoding="utf-8")
    return folder / "robot.xml"


def edited(folder: Path, file: str, before: str, after: str) -> Path:
    """The robot in a new folder, with an edit in one of its files."""
    path = files_in(folder)
    text = (folder / file).read_text(encoding="utf-8")
    assert before in text
    (folder / file).write_text(text.replace(before, after), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("robot.xml", 'size="0.03"', 'size="0.031"'),
        ("robot.xml", 'damping="0.1"', 'damping="0.11"'),
        ("robot.xml", 'qpos="0.1"', 'qpos="0.2"'),
        ("robot.xml", 'name="home"', 'name="rest"'),
        ("robot.xml", 'mass="0" material', 'mass="0.1" material'),
        ("robot.xml", "0 0 0 1", "0 0 1 1"),
        ("robot.xml", 'ctrlrange="-1 1"', 'ctrlrange="-2 2"'),
        ("parts.xml", "0.002", "0.003"),
        ("hull.obj", "v 0 0 0.1", "v 0 0 0.12"),
    ],
)
def test_an_edit_that_the_physics_sees_changes_it(tmp_path: Path, file: str, before: str, after: str) -> None:
    original = robot_digest(files_in(tmp_path / "one"), "robot")
    assert re.fullmatch(r"mujoco-[\w.]+-\w+-\w+:[0-9a-f]{64}", original)
    assert robot_digest(edited(tmp_path / "other", file, before, after), "robot") != original


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("robot.xml", "<worldbody>", "<!-- a comment -->\r\n  <worldbody>"),
        ("robot.xml", 'rgba="1 0 0 1"', 'rgba="0 1 0 1"'),
        ("robot.xml", 'azimuth="120"', 'azimuth="90"'),
        ("robot.xml", '<light pos="0 0 3"/>', '<camera name="near" pos="0 -1 1"/>'),
        ("robot.xml", 'model="robot"', 'model="other"'),
        ("robot.xml", 'name="cover" ', 'name="cover" pos="0 0 0.1" '),
        ("shell.obj", "v 0 0 0.1", "v 0 0 0.3"),
    ],
)
def test_an_edit_of_the_picture_or_of_the_text_does_not(tmp_path: Path, file: str, before: str, after: str) -> None:
    original = robot_digest(files_in(tmp_path / "one"), "robot")
    assert robot_digest(edited(tmp_path / "far" / "away", file, before, after), "robot") == original


def test_options_of_the_name_do_not_change_it(tmp_path: Path) -> None:
    path = files_in(tmp_path / "one")
    families = [
        robot_family(f"mjcf:{path}?task=hold&{query}")
        for query in ("joint_damping=uniform(1,2)", "motor_strength=uniform(0.5,1)&timestep=0.001&action=pd")
    ]
    assert {family.digest() for family in families} == {robot_digest(path, "robot")}
