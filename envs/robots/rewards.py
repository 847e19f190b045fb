"""Reward terms of robots: pure functions of a batch's `RobotState`, and the weights of each task.

A reward is the sum of the terms times their weights. `v` is the base's velocity in its frame, `c` the command, `w` its
angular velocity, `g` the downward direction in its frame, `q` the joint positions relative to home, `a` the action.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from metarl.envs.robots.spec import HOLD, REACH, WALK
from metarl.envs.robots.state import RobotState
from metarl.types import Floats

Term = Callable[[RobotState], Floats]
"""Maps the state of `R` rows to numbers `[R]`."""

SPEED_WIDTH = 0.25
"""Error of the velocity at which `velocity` falls to 1/e, m/s."""
TURN_WIDTH = 0.5
"""Error of the rate of turning at which `turn` falls to 1/e, rad/s."""
NEAR = 0.05
"""Distance to the goal at which `near` falls to 1/e, m."""


def velocity(state: RobotState) -> Floats:
    """`exp(-|v - c|^2 / 0.25^2)` over the velocities forwards and to the left: tracks the command; in (0, 1]."""
    error = state.linear_velocity[:, :2] - state.command[:, :2]
    return np.exp(-np.square(error / SPEED_WIDTH).sum(axis=1))


def progress(state: RobotState) -> Floats:
    """`-|v - c|` over the velocities forwards and to the left, m/s: a slope far from the command too."""
    return -np.linalg.norm(state.linear_velocity[:, :2] - state.command[:, :2], axis=1)


def turn(state: RobotState) -> Floats:
    """`exp(-(w_z - c_3)^2 / 0.5^2)`: tracks the commanded rate of turning; in (0, 1]."""
    return np.exp(-np.square((state.angular_velocity[:, 2] - state.command[:, 2]) / TURN_WIDTH))


def alive(state: RobotState) -> Floats:
    """1 in each step."""
    return np.ones(len(state.power))


def upright(state: RobotState) -> Floats:
    """`-(g_x^2 + g_y^2)`: minus the squared sine of the base's tilt."""
    return -np.square(state.gravity[:, :2]).sum(axis=1)


def bounce(state: RobotState) -> Floats:
    """`-v_z^2`, (m/s)^2."""
    return -np.square(state.linear_velocity[:, 2])


def roll(state: RobotState) -> Floats:
    """`-(w_x^2 + w_y^2)`, (rad/s)^2."""
    return -np.square(state.angular_velocity[:, :2]).sum(axis=1)


def energy(state: RobotState) -> Floats:
    """Minus the mechanical power of the actuators, each in absolute value, W."""
    return -state.power


def smoothness(state: RobotState) -> Floats:
    """`-|a - a'|^2` with the last action a'."""
    return -np.square(state.action - state.last_action).sum(axis=1)


def effort(state: RobotState) -> Floats:
    """`-|a|^2`."""
    return -np.square(state.action).sum(axis=1)


def posture(state: RobotState) -> Floats:
    """`-|q|^2`, rad^2: holds the home pose."""
    return -np.square(state.positions).sum(axis=1)


def stillness(state: RobotState) -> Floats:
    """Minus the sum of the squared joint velocities, (rad/s)^2."""
    return -np.square(state.velocities).sum(axis=1)


def distance(state: RobotState) -> Floats:
    """Minus the distance from the site to the goal, m."""
    return -goal_distance(state)


def near(state: RobotState) -> Floats:
    """`exp(-d / 0.05)` with the distance d from the site to the goal in m: a slope close to the goal."""
    return np.exp(-goal_distance(state) / NEAR)


def goal_distance(state: RobotState) -> Floats:
    """Distance from the site to the goal, `[R]`, m."""
    return np.linalg.norm(state.site - state.goal, axis=1)


OF_BASE: Mapping[str, Term] = {one.__name__: one for one in (upright, bounce, roll)}
OF_COMMAND: Mapping[str, Term] = {one.__name__: one for one in (velocity, progress, turn)}
OF_GOAL: Mapping[str, Term] = {one.__name__: one for one in (distance, near)}
OF_ALL: Mapping[str, Term] = {one.__name__: one for one in (alive, energy, smoothness, effort, posture, stillness)}

WEIGHTS: Mapping[str, Mapping[str, float]] = {
    WALK: {
        "velocity": 1.0,
        "progress": 0.5,
        "turn": 0.2,
        "alive": 0.5,
        "upright": 1.0,
        "bounce": 0.5,
        "roll": 0.01,
        "energy": 3e-4,
        "smoothness": 0.01,
        "posture": 0.05,
    },
    REACH: {"distance": 2.0, "near": 1.0, "energy": 1e-3, "smoothness": 0.005, "stillness": 2e-4},
    HOLD: {"posture": 1.0, "upright": 1.0, "energy": 1e-3, "smoothness": 0.01, "stillness": 1e-3},
}
"""The weights of each task's terms."""


def terms_of(*, base: bool, commanded: bool, goal: bool) -> dict[str, Term]:
    """The terms that a robot has: those of a base only if it has one, and so on."""
    return {**(OF_COMMAND if commanded else {}), **(OF_BASE if base else {}), **(OF_GOAL if goal else {}), **OF_ALL}


def weights_of(task: str, given: Mapping[str, float], there: Mapping[str, Term]) -> dict[str, float]:
    """The weights of a task's terms, those that are 0 left out.

    Args:
        task: `walk`, `reach`, `hold`, or another name for one's own reward, without terms.
        given: Weights that replace or add to the task's.
        there: The terms that the robot has.

    Raises:
        ValueError: A term is unknown, or the robot does not have it.
    """
    for name in given:
        if name not in there:
            raise ValueError(f"reward.{name}, expected a term that this robot has: {', '.join(sorted(there))}")
    standard = {name: weight for name, weight in WEIGHTS.get(task, {}).items() if name in there}
    return {name: weight for name, weight in {**standard, **given}.items() if weight}
