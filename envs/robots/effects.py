"""The contract between a robot's environment and its named variations.

A declaration names a variation and the distribution of its values. Bound to a model it becomes an effect: a hidden
parameter of the task, and a function that writes the task's values into the task's own copy of the model. Variations
that act while an episode is played (a delay, a push) write nothing: the environment reads their values itself.

An environment writes a task by `write_task`. It plays the variations of `PLAYED` by the task's values:

| name | values | meaning |
|---|---|---|
| `latency` | [steps] | Step t has the controls of the action of step t - floor(steps); before, those of action 0. |
| `push` | [moment, N s along x, N s along y] | In the env step floor(moment T) a constant force, whose integral over \
the step is the impulse, acts on the centre of mass of the base, in world axes. |
| `breaking` | [moment, actuator] | From the env step floor(moment T) on, counted from 0, the actuator with index \
floor(actuator) has force 0. |
| `sensor_noise` | [factor] | Each observed number has a normal error, drawn in each step, with the deviation factor * \
`SENSOR_DEVIATIONS[unit]`. Commands and the robot's own last action have none. |

T is the horizon. A moment is a fraction of it in [0, 1), the same in all episodes of a task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from metarl.envs.derived_constants import DerivedConstants
from metarl.envs.draws import Power, Uniform
from metarl.envs.task_sets import Factor
from metarl.types import Floats, Task

PLAYED = ("latency", "push", "breaking", "sensor_noise")
"""Names of the variations that the environment plays, since they change no number of the model."""

SENSOR_DEVIATIONS: Mapping[str, float] = {"rad": 0.01, "rad/s": 0.2, "m": 0.01, "m/s": 0.1, "1": 0.05}
"""Standard deviations of sensor errors at factor 1, by the unit of the observed number; `1` is a direction."""


@dataclass(frozen=True)
class Declared:
    """A named variation as it is declared: `payload=uniform(0,5)`.

    Args:
        name: Name of the variation, such as `payload`; also the name of the task parameter.
        distribution: Distribution of the values, in the variation's unit.
        options: Further words of the declaration, such as the body that carries a payload.
    """

    name: str
    distribution: Uniform | Power
    options: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Robot:
    """A model with the pose that its episodes start from.

    Args:
        model: The compiled `MjModel`; not modified.
        qpos: Joint positions at the start, `[nq]`.
        ctrl: Controls that hold this pose, `[nu]`.
        base: Index of the body that carries a payload and is pushed: the one with the free joint, or an arm's last.
        floor: Indices of the geoms of the ground.
    """

    model: Any
    qpos: np.ndarray
    ctrl: np.ndarray
    base: int
    floor: tuple[int, ...]


class Effect(Protocol):
    """A variation bound to a robot.

    Attributes:
        factor: The task parameter, hidden, named after the variation.
        derived: Whether MuJoCo derives other constants from the numbers that `write` changes.
    """

    @property
    def factor(self) -> Factor:
        """See the class."""
        ...

    @property
    def derived(self) -> bool:
        """See the class."""
        ...

    def write(self, model: Any, values: Floats) -> None:
        """Writes a task's values `[size]` into a copy of the robot's model, starting from the robot's own numbers.

        Effects of one `bind` are written all and in its order: a payload adds to a body whose centre a `com_shift` has
        moved.
        """
        ...


def write_task(effects: Sequence[Effect], constants: DerivedConstants, model: Any, task: Task) -> None:
    """Writes a task into a copy of the robot's model, with its derived constants; earlier tasks leave no trace.

    Args:
        effects: The effects, in the order of `metarl.envs.robots.variations.bind`.
        constants: The derived constants of the robot's model.
        model: The copy.
        task: The task; a `KeyError` if it lacks a parameter.
    """
    for effect in effects:
        effect.write(model, np.array(task[effect.factor.name], dtype=np.float64))
    if any(effect.derived for effect in effects):
        constants.recompute(model)
