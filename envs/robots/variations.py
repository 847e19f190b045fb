"""Named variations of a robot: the registry, and `bind`, which checks declarations against a model.

```python
effects = bind(robot, [Declared("payload", Uniform(0, 5)), Declared("motor_strength", Uniform(0.7, 1.1))])
```

Each variation has a unit, bounds, options, and a function that binds it; the function's docstring says which numbers of
the model change and which follow (`explain`). Every write starts from the robot's own numbers, so tasks can follow each
other in any order, bit for bit.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from metarl.envs.robots.body_effects import bind_com_shift, bind_payload
from metarl.envs.robots.drive_effects import bind_joint_damping, bind_joint_friction, bind_motor_strength
from metarl.envs.robots.effects import Declared, Effect, Robot
from metarl.envs.robots.played_effects import bind_breaking, bind_latency, bind_push, bind_sensor_noise
from metarl.envs.robots.world_effects import LEAST_FRICTION, bind_floor_friction, bind_gravity_tilt
from metarl.envs.task_sets import Factor
from metarl.tasks import Parameter

MOST_LATENCY = 100.0
"""Largest delay, env steps."""
STEEPEST = math.pi / 2
"""Largest tilt, rad."""

Binder = Callable[[Robot, Factor, Mapping[str, str], Sequence[Declared]], Effect]


@dataclass(frozen=True)
class Kind:
    """A named variation.

    Args:
        meaning: Meaning of its values, with unit.
        bind: Binds it to a robot; its docstring says what it changes.
        low: Lower bound of valid values.
        high: Upper bound.
        options: Names of its options.
        variates: Number of values, each drawn from the distribution.
    """

    meaning: str
    bind: Binder
    low: float = 0.0
    high: float = math.inf
    options: tuple[str, ...] = ()
    variates: int = 1


KINDS: Mapping[str, Kind] = {
    # com_shift comes before payload, which adds to the shifted body.
    "com_shift": Kind(
        "shift of the base's centre of mass along x, y and z, m", bind_com_shift, -1.0, 1.0, ("body",), variates=3
    ),
    "payload": Kind("mass of a payload, kg", bind_payload, options=("body", "at", "shape", "density", "compensated")),
    "motor_strength": Kind("factor on the force of the actuators", bind_motor_strength, options=("actuators",)),
    "floor_friction": Kind("sliding friction of contacts with the ground", bind_floor_friction, LEAST_FRICTION),
    "joint_damping": Kind("viscous friction of the joints", bind_joint_damping, options=("operation", "joints")),
    "joint_friction": Kind("dry friction of the joints", bind_joint_friction, options=("operation", "joints")),
    "gravity_tilt": Kind("tilt of gravity, rad", bind_gravity_tilt, -STEEPEST, STEEPEST, ("heading",)),
    "latency": Kind("delay of actions, env steps, rounded down", bind_latency, high=MOST_LATENCY),
    "push": Kind(
        "moment of a push, fraction of the horizon, and its impulse along x and y, N s", bind_push, low=-math.inf
    ),
    "breaking": Kind(
        "moment from which an actuator is dead, fraction of the horizon, and its index",
        bind_breaking,
        high=1.0,
        options=("actuators",),
    ),
    "sensor_noise": Kind("factor on the deviations of sensor errors", bind_sensor_noise),
}
"""The named variations, in the order in which they are written."""


def bind(robot: Robot, declared: Sequence[Declared]) -> list[Effect]:
    """The effects of declared variations on a robot, in the order in which they have to be written.

    Args:
        robot: The robot; its model is not modified.
        declared: The declarations, each of another name.

    Raises:
        ValueError: A name is unknown or declared twice, an option is unknown, a value is out of bounds, the model
            lacks an element, or the robot has nothing that could vary.
    """
    names = [one.name for one in declared]
    for one in declared:
        if one.name not in KINDS:
            raise ValueError(f"variation: got the name {one.name!r}, expected one of {', '.join(sorted(KINDS))}")
        if names.count(one.name) > 1:
            raise ValueError(f"variation: got {one.name!r} {names.count(one.name)} times, expected each name once")
        _check(one)
    return [_bind(robot, one, declared) for one in sorted(declared, key=lambda one: list(KINDS).index(one.name))]


def explain(name: str) -> str:
    """The numbers of the model that a variation changes, and those that are derived from them, in words.

    Raises:
        KeyError: The name is unknown.
    """
    return inspect.getdoc(KINDS[name].bind) or ""


def _check(declared: Declared) -> None:
    """Raises ValueError if an option is unknown or a value is out of bounds."""
    kind, who = KINDS[declared.name], declared.name
    for option in declared.options:
        if option not in kind.options:
            known = f"one of {', '.join(kind.options)}" if kind.options else "none"
            raise ValueError(f"{who}: got the option {option!r}, expected {known}")
    with np.errstate(over="ignore"):
        ends = declared.distribution.values(np.array([0.0, 1.0]))
    lowest, highest = float(ends.min()), float(ends.max())
    if not (kind.low <= lowest and highest <= kind.high and np.isfinite(ends).all()):
        bounds = (f"at least {kind.low:g}" if kind.low > -math.inf else "", f"at most {kind.high:g}")
        expected = " and ".join(b for b in bounds if b) if kind.high < math.inf else bounds[0] or "finite numbers"
        raise ValueError(f"{who}: got values from {lowest:g} to {highest:g} ({kind.meaning}), expected {expected}")


def _bind(robot: Robot, one: Declared, declared: Sequence[Declared]) -> Effect:
    kind = KINDS[one.name]
    extra = "".join(f", {name}={value}" for name, value in one.options.items())
    factor = Parameter(
        name=one.name,
        meaning=f"{kind.meaning}{extra}; {one.distribution}",
        hidden=True,
        variates=kind.variates,
        transform=one.distribution.values,
    )
    return kind.bind(robot, factor, one.options, declared)
