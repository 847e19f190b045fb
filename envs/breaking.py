"""Robots whose actuators die within an episode.

Both the actuators and the moment are parameters of the task, so every episode of a task breaks at the same step, and
every agent meets the same breaks. A dead actuator has control 0. For a motor that is the same, bit for bit, as gear 0,
and rows of one task can share a model while they are at different steps. The reward still charges the action as given,
as in the families that are crippled from the start.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import mujoco
import numpy as np

from metarl.envs.locomotion import FORWARD, HORIZON, Locomotion
from metarl.envs.models import load_model
from metarl.envs.observed_reward import observed_reward
from metarl.envs.task_sets import Choices, combined_tasks
from metarl.envs.variation import Change, Dead, Variation
from metarl.tasks import Family, uniform
from metarl.types import Bools, Floats, Task

EARLIEST, LATEST = 0.2, 0.8
"""Range of the moment, as a fraction of the horizon: steps 40 to 159 of 200."""


class Breaking(Locomotion):
    """Actuators that die after a part of the episode. List this class before the robot's among the bases.

    Tasks have the parameters `actuator_gear`, a factor per actuator (0 for one that dies), and `break_at`, a fraction
    of the horizon. Step `floor(break_at T)`, counted from 0, is the first one without the dead actuators.

    Args:
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
        threads: Number of physics threads; all available cores by default.

    Raises:
        ValueError: An actuator of the robot is no motor with a single gear.
    """

    def __init__(self, num_tasks: int, episodes: int, horizon: int, *, threads: int | None = None) -> None:
        super().__init__(num_tasks, episodes, horizon, goal=FORWARD, threads=threads)
        model = self.models[0]
        plain = (model.actuator_dyntype == mujoco.mjtDyn.mjDYN_NONE) & (
            model.actuator_biastype == mujoco.mjtBias.mjBIAS_NONE
        )
        if not plain.all() or ((model.actuator_gear != 0.0).sum(axis=1) != 1).any():
            raise ValueError(
                f"{type(self).__name__}: got a model with other actuators than motors, expected motors with one gear "
                "each, whose force is 0 at control 0"
            )
        self._dying = np.zeros((self.num_envs, model.nu), dtype=np.bool_)  # [N, A]
        self._last = np.zeros(self.num_envs, dtype=np.int64)  # [N], steps with all actuators

    @property
    def varies_dynamics(self) -> bool:
        """True: observations after the break depend on the task."""
        return True

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        super()._apply_tasks(tasks)
        self._dying = self.task_values(tasks, "actuator_gear") == 0.0
        self._last = np.floor(self.task_values(tasks, "break_at")[:, 0] * self.horizon).astype(np.int64)

    def _dead(self, rows: np.ndarray) -> Bools:
        """True for actuators that are dead in the next step, `[rows, A]`."""
        return self._dying[rows] & (self._elapsed[rows] >= self._last[rows])[:, None]

    def _controls(self, rows: np.ndarray, actions: Floats) -> Floats:
        return np.where(self._dead(rows), 0.0, actions)


def breaking_family(name: str, robot: type[Breaking], summary: str, dead: Dead) -> Family:
    """The family of a robot that runs forward and loses actuators on the way.

    Args:
        name: Name of the family.
        robot: Class of its environments.
        summary: One line for `metarl list`.
        dead: The groups of actuators that die, by names or indices; held-out tasks have held-out groups and moments.

    Raises:
        ValueError: The robot's model lacks an actuator.
    """
    (gear,) = Variation(Change("actuator_gear", dead)).bind(load_model(robot.model_path)).factors
    assert isinstance(gear, Choices)
    gear = replace(gear, meaning=f"{gear.meaning}, from the break on")
    moment = uniform("break_at", EARLIEST, LATEST, meaning="moment of the break, fraction of the horizon")
    return Family(
        name=name,
        summary=summary,
        distribution=combined_tasks(name, [moment, gear]),
        horizon=HORIZON,
        make_envs=robot,
        reward=observed_reward(robot, FORWARD),
    )
