"""Variations that act while an episode is played: `latency`, `push`, `breaking`, `sensor_noise`.

They write nothing into the model. `metarl.envs.robots.effects` defines the values; the environment plays them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from metarl.envs.breaking import EARLIEST, LATEST
from metarl.envs.draws import Power, Uniform
from metarl.envs.robots.effects import Declared, Robot
from metarl.envs.robots.options import find_ids, names_of
from metarl.envs.task_sets import Factor
from metarl.tasks import Parameter
from metarl.types import Floats


@dataclass(frozen=True)
class Played:
    """A variation that the environment plays."""

    factor: Factor
    derived: bool = False

    def write(self, model: Any, values: Floats) -> None:
        """Writes nothing."""


@dataclass(frozen=True)
class PushValues:
    """Values of a push: a moment uniform on [`EARLIEST`, `LATEST`), and two components of the impulse, N s."""

    impulse: Uniform | Power

    def __call__(self, u: Floats) -> Floats:
        """Values `[n, 3]` at uniform variates `[n, 3]`."""
        moment = EARLIEST + (LATEST - EARLIEST) * u[:, :1]
        return np.concatenate([moment, self.impulse.values(u[:, 1:])], axis=1)


@dataclass(frozen=True)
class BreakingValues:
    """Values of a break: a moment, and one of the actuators, each as likely as the others."""

    moment: Uniform | Power
    actuators: tuple[int, ...]

    def __call__(self, u: Floats) -> Floats:
        """Values `[n, 2]` at uniform variates `[n, 2]`."""
        chosen = np.minimum((u[:, 1:] * len(self.actuators)).astype(np.int64), len(self.actuators) - 1)
        return np.concatenate(
            [self.moment.values(u[:, :1]), np.array(self.actuators, dtype=np.float64)[chosen]], axis=1
        )


def bind_latency(robot: Robot, factor: Factor, options: Mapping[str, str], declared: Sequence[Declared]) -> Played:
    """`latency` (env steps): an action acts the whole number of steps later that does not exceed the value.

    Changes nothing in the model. Until the first action arrives, action 0 acts.
    """
    return Played(factor)


def bind_push(robot: Robot, factor: Factor, options: Mapping[str, str], declared: Sequence[Declared]) -> Played:
    """`push` (N s): an impulse on the robot's base within one env step, along x and y of the world.

    Changes nothing in the model. Both components are drawn from the distribution; the moment is drawn between 0.2 and
    0.8 of the episode and is part of the task.
    """
    model = robot.model
    if not model.body_mass[robot.base] or not model.body_weldid[robot.base]:
        name = model.body(robot.base).name or f"body {robot.base}"
        raise ValueError(f"push: got the base {name!r}, which is fixed to the world, expected a body that can move")
    distribution = next(d.distribution for d in declared if d.name == "push")
    assert isinstance(factor, Parameter)
    return Played(replace(factor, variates=3, transform=PushValues(distribution)))


def bind_breaking(robot: Robot, factor: Factor, options: Mapping[str, str], declared: Sequence[Declared]) -> Played:
    """`breaking` (fraction of the horizon): one actuator has no force from this moment on.

    Changes nothing in the model. The actuator is drawn, too: each is as likely as the others.

    Options: `actuators` (those that may die: names or indices, joined by `+`; all).
    """
    if not robot.model.nu:
        raise ValueError("breaking: got a robot without actuators, expected at least one")
    chosen = (
        find_ids(robot.model, "actuator", options["actuators"], "breaking")
        if "actuators" in options
        else list(range(robot.model.nu))
    )
    distribution = next(d.distribution for d in declared if d.name == "breaking")
    names = names_of(robot.model, "actuator")
    listed = ", ".join(f"{i} {names[i]}".strip() for i in chosen)
    assert isinstance(factor, Parameter)
    values = BreakingValues(distribution, tuple(chosen))
    return Played(replace(factor, meaning=f"{factor.meaning}; actuators {listed}", variates=2, transform=values))


def bind_sensor_noise(robot: Robot, factor: Factor, options: Mapping[str, str], declared: Sequence[Declared]) -> Played:
    """`sensor_noise` (factor): the deviation of the sensors' errors, in units of `SENSOR_DEVIATIONS`.

    Changes nothing in the model. The factor is the task's; the errors themselves are drawn in each step.
    """
    assert isinstance(factor, Parameter)
    return Played(replace(factor, sensed=True))
