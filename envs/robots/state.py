"""The state of a batch of robots as arrays over its rows, and the observation made of it.

| feature | count | unit | frame |
|---|---|---|---|
| positions of the hinges and slides, minus those of home | `J` | rad or m | joint |
| their velocities | `J` | rad/s or m/s | joint |
| direction of the world's vertical, downwards | 3 | 1 | base |
| angular velocity of the base | 3 | rad/s | base |
| linear velocity of the base (without it: `base_velocity=no`) | 3 | m/s | base |
| position of the site that reaches, for arms | 3 | m | world |
| last action, before any delay | `A` | 1 | - |
| command: velocity forwards and to the left, rate of turning to the left | 3 | m/s, m/s, rad/s | base |

A robot that is fixed to the world has no features of the base, and no command. The base's frame is that of the body
with the free joint. A hidden goal is no feature.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, NamedTuple

import mujoco
import numpy as np

from metarl.envs.mujoco_batch import POSITION_UNITS, MujocoBatch, Output
from metarl.types import Floats

AXES = ("x", "y", "z")


class Feature(NamedTuple):
    """A number of the observation.

    Attributes:
        name: Its name, such as `velocity of FR_hip_joint`.
        unit: Its unit.
        measured: Whether a sensor measures it, so that `sensor_noise` disturbs it.
    """

    name: str
    unit: str
    measured: bool = True


@dataclass(frozen=True)
class RobotState:
    """Arrays over `R` rows after a step, which reward functions take. `J` joints, `A` actions.

    Args:
        positions: Joint positions minus those of home, `[R, J]`, rad or m.
        velocities: Joint velocities, `[R, J]`, rad/s or m/s.
        gravity: The world's downward direction in the base's frame, `[R, 3]`; `[R, 0]` without a free base.
        angular_velocity: Angular velocity of the base in its frame, `[R, 3]`, rad/s; `[R, 0]` without a free base.
        linear_velocity: Linear velocity of the base in its frame, `[R, 3]`, m/s; `[R, 0]` without a free base.
        height: Height of the base over z = 0, `[R]`, m; 0 without a free base.
        beyond: Largest distance of a joint beyond its range, `[R]`, rad or m.
        power: Mechanical power of the actuators in absolute value, summed, `[R]`, W.
        action: Actions of this step, clipped to [-1, 1], before any delay, `[R, A]`.
        last_action: Those of the step before, `[R, A]`.
        command: Velocity forwards and to the left in m/s, rate of turning in rad/s, `[R, 3]`; `[R, 0]` if none.
        site: Position of the site that reaches, `[R, 3]`, m, in the world's frame; `[R, 0]` if none.
        goal: The hidden goal, `[R, 3]`, m, in the world's frame; `[R, 0]` if none.
        dt: Duration of a step, s.
    """

    positions: Floats
    velocities: Floats
    gravity: Floats
    angular_velocity: Floats
    linear_velocity: Floats
    height: Floats
    beyond: Floats
    power: Floats
    action: Floats
    last_action: Floats
    command: Floats
    site: Floats
    goal: Floats
    dt: float


@dataclass(frozen=True)
class Sensors:
    """Reads the state of a batch.

    Args:
        model: The `MjModel`.
        home: Joint positions of the home pose, `[nq]`.
        joints: Indices of the hinges and slides that are observed.
        base_joint: Index of the free joint; -1 for none.
        site: The part that reaches: `site_xpos`, `geom_xpos` or `xpos`, and its index; None for none.
        commanded: Whether the robot has a command.
        base_velocity: Whether the linear velocity of the base is observed.
    """

    model: Any
    home: Floats
    joints: tuple[int, ...]
    base_joint: int
    site: tuple[str, int] | None
    commanded: bool
    base_velocity: bool

    @property
    def outputs(self) -> Mapping[str, Output]:
        """The outputs that a `MujocoBatch` has to have."""
        found: dict[str, Output] = {"force": lambda d: d.actuator_force, "speed": lambda d: d.actuator_velocity}
        if self.site is not None:
            field, index = self.site
            found["site"] = lambda d: getattr(d, field)[index]
        return found

    @property
    def part(self) -> str:
        """The part that reaches, such as `site tip`; empty for none."""
        if self.site is None:
            return ""
        field, index = self.site
        kind = {"site_xpos": "site", "geom_xpos": "geom", "xpos": "body"}[field]
        return f"{kind} {getattr(self.model, kind)(index).name or index}"

    @property
    def features(self) -> tuple[Feature, ...]:
        """The features of the observation, in order."""
        model, found = self.model, list[Feature]()
        names = [model.joint(j).name or f"joint {j}" for j in self.joints]
        for what, index in (("position", 0), ("velocity", 1)):
            for j, name in zip(self.joints, names, strict=True):
                unit = POSITION_UNITS[int(model.jnt_type[j])][index][0]
                found.append(Feature(f"{what} of {name}{'' if index else ' relative to home'}", unit))
        if self.base_joint >= 0:
            found += [Feature(f"downward direction, {axis} of the base", "1") for axis in AXES]
            found += [Feature(f"angular velocity, {axis} of the base", "rad/s") for axis in AXES]
            if self.base_velocity:
                found += [Feature(f"linear velocity, {axis} of the base", "m/s") for axis in AXES]
        if self.site is not None:
            found += [Feature(f"position of the {self.part}, {axis} of the world", "m") for axis in AXES]
        found += [Feature(f"last action of {_actuator(model, i)}", "1", False) for i in range(model.nu)]
        if self.commanded:
            found += [Feature(f"commanded velocity {way}", "m/s", False) for way in ("forwards", "to the left")]
            found.append(Feature("commanded rate of turning to the left", "rad/s", False))
        return tuple(found)

    def observation(self, state: RobotState) -> Floats:
        """The observation of a state, `[R, O]`, without noise."""
        parts = [state.positions, state.velocities, state.gravity, state.angular_velocity]
        if self.base_velocity:
            parts.append(state.linear_velocity)
        return np.concatenate([*parts, state.site, state.action, state.command], axis=1)

    def read(self, batch: MujocoBatch, rows: np.ndarray, **given: Any) -> RobotState:
        """The state of rows of a batch.

        Args:
            batch: The simulations, with `outputs`.
            rows: Indices of the rows, `[R]`.
            **given: The fields of `RobotState` that no simulation has: actions, command, goal, dt.
        """
        qpos, qvel = _taken(batch.qpos, rows), _taken(batch.qvel, rows)
        places, speeds = self._addresses
        absolute = qpos[:, places]
        low, high = self._ranges
        none = np.zeros((len(rows), 0))
        outputs = batch.outputs
        return RobotState(
            positions=absolute - self.home[places],
            velocities=qvel[:, speeds],
            **self._base(qpos, qvel),
            beyond=np.maximum(np.maximum(absolute - high, low - absolute).max(axis=1, initial=0.0), 0.0),
            power=np.abs(_taken(outputs["force"], rows) * _taken(outputs["speed"], rows)).sum(axis=1),
            site=none if self.site is None else _taken(outputs["site"], rows).copy(),
            **given,
        )

    @cached_property
    def _addresses(self) -> tuple[np.ndarray, np.ndarray]:
        index = list(self.joints)
        return self.model.jnt_qposadr[index], self.model.jnt_dofadr[index]

    @cached_property
    def _ranges(self) -> tuple[Floats, Floats]:
        """Lowest and highest positions of the joints, `[J]` each; infinite for joints without limits."""
        index = list(self.joints)
        limited = self.model.jnt_limited[index].astype(np.bool_)
        low, high = self.model.jnt_range[index].T
        return np.where(limited, low, -np.inf), np.where(limited, high, np.inf)

    def _base(self, qpos: Floats, qvel: Floats) -> dict[str, Any]:
        rows = len(qpos)
        if self.base_joint < 0:
            none = np.zeros((rows, 0))
            return {
                "gravity": none,
                "angular_velocity": none,
                "linear_velocity": none,
                "height": np.zeros(rows),
            }
        place, speed = int(self.model.jnt_qposadr[self.base_joint]), int(self.model.jnt_dofadr[self.base_joint])
        rotation = rotations(qpos[:, place + 3 : place + 7])
        return {
            "gravity": -rotation[:, 2],
            "angular_velocity": qvel[:, speed + 3 : speed + 6],
            "linear_velocity": np.einsum("rij,ri->rj", rotation, qvel[:, speed : speed + 3]),
            "height": qpos[:, place + 2],
        }


def _actuator(model: Any, i: int) -> str:
    return str(model.actuator(i).name) or f"actuator {i}"


def _taken(array: Floats, rows: np.ndarray) -> Floats:
    """The rows of an array, without a copy if they are all of them."""
    return array if len(rows) == len(array) else array[rows]


def rotations(quaternions: Floats) -> Floats:
    """Rotation matrices `[R, 3, 3]` from the body's to the world's frame, of quaternions `[R, 4]` with w first.

    Quaternions are normalised, as MuJoCo does before it uses them.
    """
    w, x, y, z = (quaternions / np.linalg.norm(quaternions, axis=1, keepdims=True)).T
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], axis=1),
            np.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], axis=1),
            np.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], axis=1),
        ],
        axis=1,
    )


def find_site(model: Any, name: str | None) -> tuple[str, int]:
    """The part of a robot that reaches, as the field of `MjData` with its position and its index there.

    Args:
        model: The `MjModel`.
        name: Name of a site, a geom or a body (the origin of its frame); None for the model's last site on a moving
            body, else its last body.

    Raises:
        ValueError: There is no part of that name.
    """
    if name is None:
        moving = [i for i in range(model.nsite) if model.body_weldid[model.site_bodyid[i]]]
        return ("site_xpos", moving[-1]) if moving else ("xpos", model.nbody - 1)
    kinds = mujoco.mjtObj
    for field, kind in (("site_xpos", kinds.mjOBJ_SITE), ("geom_xpos", kinds.mjOBJ_GEOM), ("xpos", kinds.mjOBJ_BODY)):
        index = int(mujoco.mj_name2id(model, kind, name))
        if index >= 0 and not (field == "xpos" and index == 0):
            return field, index
    known = [model.site(i).name for i in range(model.nsite)] + [model.body(i).name for i in range(1, model.nbody)]
    known += [model.geom(i).name for i in range(model.ngeom)]
    raise ValueError(f"site={name}, expected a site, body or geom of the model: {', '.join(filter(None, known))}")
