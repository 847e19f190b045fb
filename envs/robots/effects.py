"""The contract between a robot's environment and its named variations.

A declaration names a variation and the distribution of its values. Bound to a model it becomes an effect: a hidden
parameter of the task, and a function that writes the task's values into the task's own copy of the model. Variations
that act while an episode is played (a delay, a push) write nothing: the environment reads their values itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from metarl.envs.draws import Power, Uniform
from metarl.envs.task_sets import Factor
from metarl.types import Floats


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

    factor: Factor
    derived: bool

    def write(self, model: Any, values: Floats) -> None:
        """Writes a task's values `[size]` into a copy of the robot's model, starting from the robot's own numbers."""
        ...
