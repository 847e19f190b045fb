"""The project's own small robots, loaded and edited."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

from metarl.envs.derived_constants import DerivedConstants
from metarl.envs.draws import Uniform
from metarl.envs.robots.effects import Declared, Effect, Robot, write_task
from metarl.envs.robots.variations import bind
from metarl.types import Task

MODELS = Path(__file__).resolve().parent / "models"
NAMES = ("torque_quadruped", "servo_quadruped", "gravity_compensated_arm", "contact_pairs")
BASES = {"gravity_compensated_arm": "hand"}


def text_of(name: str) -> str:
    """The XML of a small robot."""
    return (MODELS / f"{name}.xml").read_text(encoding="utf-8")


def edited(name: str, *edits: tuple[str, str]) -> str:
    """The XML of a small robot with each text replaced, which has to occur."""
    text = text_of(name)
    for old, new in edits:
        assert old in text, old
        text = text.replace(old, new)
    return text


def robot_of(xml: str, base: str = "trunk") -> Robot:
    """A robot at its keyframe `home`, from XML."""
    model = mujoco.MjModel.from_xml_string(xml)
    key = model.key("home")
    floor = tuple(i for i in range(model.ngeom) if model.geom(i).name == "floor")
    return Robot(model, key.qpos.copy(), key.ctrl.copy(), model.body(base).id, floor)


def small_robot(name: str) -> Robot:
    """A small robot by its name."""
    return robot_of(text_of(name), BASES.get(name, "trunk"))


def declare(name: str, low: float = 0.0, high: float = 1.0, **options: str) -> Declared:
    """A declared variation."""
    return Declared(name, Uniform(low, high), options)


def written(robot: Robot, effects: list[Effect], **values: Any) -> Any:
    """A copy of the robot's model with a task's values."""
    model = copy.copy(robot.model)
    write_task(effects, DerivedConstants(robot.model), model, Task.of("f", **values))
    return model


def varied(robot: Robot, one: Declared, value: Any) -> Any:
    """A copy of the robot's model with one variation."""
    return written(robot, bind(robot, [one]), **{one.name: value})


def moving_controls(robot: Robot, steps: int) -> np.ndarray:
    """Controls `[steps, nu]` that swing around those at home, each at another rate."""
    model, time = robot.model, np.arange(steps)[:, None] * robot.model.opt.timestep
    rate = 2.0 + np.arange(model.nu) % 5
    return robot.ctrl + 0.25 * np.sin(2 * np.pi * rate * time + np.arange(model.nu))


def rolled(model: Any, robot: Robot, steps: int = 400) -> np.ndarray:
    """Positions and velocities `[steps, nq + nv]` from the robot's start under moving controls."""
    data = mujoco.MjData(model)
    data.qpos[:] = robot.qpos
    states = []
    for control in moving_controls(robot, steps):
        data.ctrl[:] = control
        mujoco.mj_step(model, data)
        states.append(np.concatenate([data.qpos, data.qvel]))
    assert np.isfinite(states).all()
    return np.array(states)
