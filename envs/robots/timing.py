"""Variations that act while an episode is played: delays, pushes, dead actuators and sensor errors.

The meaning of a task's values is in `metarl.envs.robots.effects`. Nothing here depends on another row, nor on which
rows are still live.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import mujoco
import numpy as np

from metarl.envs.mujoco_batch import MujocoBatch
from metarl.envs.robots.effects import SENSOR_DEVIATIONS
from metarl.envs.robots.state import Feature
from metarl.envs.scattered import Scattered
from metarl.types import Bools, Floats


class Delay:
    """Actions that act some steps later.

    Args:
        rows: `N`.
        size: `A`.
        most: Largest delay, steps.
    """

    def __init__(self, rows: int, size: int, most: int) -> None:
        self._kept = np.zeros((rows, most + 1, size))  # a ring of the last actions
        self._steps = np.zeros(rows, dtype=np.int64)

    def set(self, steps: Floats) -> None:
        """Sets the delay of each row, `[N]`, rounded down to whole steps."""
        self._steps = np.minimum(np.floor(steps).astype(np.int64), self._kept.shape[1] - 1)

    def reset(self, rows: np.ndarray) -> None:
        """Starts episodes: until the first action arrives, action 0 acts."""
        self._kept[rows] = 0.0

    def __call__(self, rows: np.ndarray, elapsed: np.ndarray, actions: Floats) -> Floats:
        """The actions that act now, `[R, A]`.

        Args:
            rows: Indices of the rows, `[R]`.
            elapsed: Steps since the start of their episodes, `[R]`.
            actions: The actions that are given now, `[R, A]`.
        """
        size = self._kept.shape[1]
        self._kept[rows, elapsed % size] = actions
        return self._kept[rows, (elapsed - self._steps[rows]) % size]


def first_step(moments: Floats, horizon: int) -> np.ndarray:
    """The env steps of moments that are fractions of the horizon, counted from 0."""
    return np.floor(moments * horizon).astype(np.int64)


class Push:
    """A constant force on the base during one env step.

    Args:
        batch: The simulations.
        base: Index of the body that is pushed.
        dt: Duration of a step, s.
    """

    def __init__(self, batch: MujocoBatch, base: int, dt: float) -> None:
        rows = len(batch.data)
        self._forces = Scattered([[d.xfrc_applied[base, :2]] for d in batch.data])
        self._step, self._force = np.zeros(rows, dtype=np.int64), np.zeros((rows, 2))
        self._dt, self._pushed = dt, np.zeros(rows, dtype=np.bool_)

    def set(self, values: Floats, horizon: int) -> None:
        """Sets the push of each row: moment, impulse along x and y in N s, `[N, 3]`."""
        self._step, self._force = first_step(values[:, 0], horizon), values[:, 1:] / self._dt

    def reset(self, rows: np.ndarray) -> None:
        """Starts episodes: a reset of a simulation clears its forces."""
        self._pushed[rows] = False

    def __call__(self, rows: np.ndarray, elapsed: np.ndarray) -> None:
        """Sets the forces of the next step."""
        now = elapsed == self._step[rows]
        if now.any() or self._pushed[rows].any():
            self._forces.write(rows, np.where(now[:, None], self._force[rows], 0.0))
            self._pushed[rows] = now


class Breaking:
    """Actuators without force from a moment on: the rows of a task then step another copy of its model.

    Args:
        models: The models of the `M` tasks.
        episodes: `E`.
    """

    def __init__(self, models: Sequence[Any], episodes: int) -> None:
        self._whole = list(models)
        self._broken = [copy.copy(model) for model in models]
        self._task = np.repeat(np.arange(len(models)), episodes)
        self._step = np.zeros(len(self._task), dtype=np.int64)

    def set(self, values: Floats, horizon: int) -> None:
        """Sets moment and actuator of each task, `[M, 2]`; call it when the models have the tasks' values."""
        for i, (whole, number) in enumerate(zip(self._whole, values[:, 1], strict=True)):
            self._broken[i] = without_force(whole, int(number))
        self._step = first_step(values[self._task, 0], horizon)

    def reset(self, batch: MujocoBatch, rows: np.ndarray) -> None:
        """Starts episodes with all actuators."""
        for row in rows.tolist():
            batch.models[row] = self._whole[self._task[row]]

    def __call__(self, batch: MujocoBatch, rows: np.ndarray, elapsed: np.ndarray) -> None:
        """Gives each row the model of its next step."""
        for row, dead in zip(rows.tolist(), self.dead(rows, elapsed).tolist(), strict=True):
            batch.models[row] = (self._broken if dead else self._whole)[self._task[row]]

    def dead(self, rows: np.ndarray, elapsed: np.ndarray) -> Bools:
        """True for rows whose actuator has no force in the next step, `[R]`."""
        dead: Bools = elapsed >= self._step[rows]
        return dead


def without_force(model: Any, actuator: int) -> Any:
    """A copy of a model in which an actuator has no force."""
    broken = copy.copy(model)
    broken.actuator_gaintype[actuator] = mujoco.mjtGain.mjGAIN_FIXED
    broken.actuator_biastype[actuator] = mujoco.mjtBias.mjBIAS_NONE
    broken.actuator_gainprm[actuator] = 0.0
    broken.actuator_biasprm[actuator] = 0.0
    return broken


class SensorNoise:
    """Normal errors of what is observed.

    Args:
        rows: `N`.
        features: The features of the observation.
    """

    def __init__(self, rows: int, features: Sequence[Feature]) -> None:
        self._deviation = np.array([SENSOR_DEVIATIONS[f.unit] if f.measured else 0.0 for f in features])
        self._factor, self._errors = np.zeros((rows, 1)), np.zeros((rows, len(features)))

    def set(self, factor: Floats) -> None:
        """Sets the factor on the deviations of each row, `[N, 1]`."""
        self._factor = factor

    def draw(self, rng: np.random.Generator) -> None:
        """Draws the errors of all rows, live or not: those of a row do not depend on when others end."""
        self._errors = self._factor * self._deviation * rng.standard_normal(self._errors.shape)

    def errors(self, rows: np.ndarray) -> Floats:
        """The errors of rows, `[R, O]`."""
        return self._errors[rows]
