"""Variations of a body's mass and centre of mass: `payload`, `com_shift`.

MuJoCo stores a body's mass distribution as mass, centre (`body_ipos`), axes (`body_iquat`) and moments
(`body_inertia`). Other numbers rely on centre and axes: flags by which a frame is not computed because it equals
another one (`*_sameframe`), and the bounding boxes by which collisions of a body's geoms are sought (`bvh_aabb`, in the
frame of its inertia). All of them are written here, so that a copy equals a model compiled with these numbers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import mujoco
import numpy as np

from metarl.envs.robots.effects import Declared, Robot
from metarl.envs.robots.options import find_id, read_numbers
from metarl.envs.task_sets import Factor
from metarl.types import Floats

WATER = 1000.0
"""Density of a payload unless it is declared, kg/m^3."""
SHAPES = ("cube", "sphere")
INERTIAL_FRAMES = (int(mujoco.mjtSameFrame.mjSAMEFRAME_INERTIA), int(mujoco.mjtSameFrame.mjSAMEFRAME_INERTIAROT))


def solid_moment(mass: float, shape: str, density: float) -> float:
    """Moment of inertia about the centre of a homogeneous cube or sphere, kg m^2; the same about every axis.

    Cube of edge a: `m a^2 / 6`. Sphere of radius r: `2 m r^2 / 5`.

    Args:
        mass: Mass, kg.
        shape: `cube` or `sphere`.
        density: Density, kg/m^3.
    """
    volume = mass / density
    if shape == "cube":
        return mass * math.cbrt(volume) ** 2 / 6
    return 2 * mass * math.cbrt(3 * volume / (4 * math.pi)) ** 2 / 5


@dataclass(frozen=True)
class _Inertial:
    """A body's mass distribution in a model.

    Args:
        mass: Mass, kg.
        center: Centre of mass in the body's frame, `[3]` in m.
        axes: Quaternion of the principal axes in the body's frame, `[4]`.
        moments: Principal moments of inertia about the centre, `[3]` in kg m^2.
    """

    mass: float
    center: Floats
    axes: Floats
    moments: Floats

    def joined(self, mass: float, place: Floats, moment: float) -> _Inertial:
        """Together with a body of equal moments about all axes: parallel axis theorem, then principal axes.

        Args:
            mass: Mass of the other body, kg.
            place: Its centre in this body's frame, `[3]` in m.
            moment: Its moment of inertia about every axis through its centre, kg m^2.
        """
        if mass == 0.0:
            return self
        if np.array_equal(place, self.center):  # the axes stay, to the last bit
            return _Inertial(self.mass + mass, self.center, self.axes, self.moments + moment)
        whole = self.mass + mass
        center = (self.mass * self.center + mass * place) / whole
        turn = rotation(self.axes)
        tensor = (turn * self.moments) @ turn.T + moment * np.eye(3)
        for part, at in ((self.mass, self.center), (mass, place)):
            arm = at - center
            tensor += part * (arm @ arm * np.eye(3) - np.outer(arm, arm))
        # NumPy's values are exact to rounding. MuJoCo's compiler stops at axes that are off by up to 1e-6 rad.
        moments, vectors = np.linalg.eigh(tensor)
        moments, vectors, axes = moments[::-1].copy(), vectors[:, ::-1].copy(), np.zeros(4)
        vectors[:, 2] *= np.linalg.det(vectors)  # right-handed
        mujoco.mju_mat2Quat(axes, vectors.reshape(9))
        return _Inertial(whole, center, axes, moments)


def rotation(quaternion: Floats) -> Floats:
    """The rotation matrix `[3, 3]` of a unit quaternion `[4]`."""
    matrix = np.zeros(9)
    mujoco.mju_quat2Mat(matrix, quaternion)
    return matrix.reshape(3, 3)


class _Frames:
    """The numbers of a model that rely on the inertial frame of one body, as they are in the robot's own model."""

    def __init__(self, model: Any, body: int) -> None:
        self.body = body
        self._center, self._turn = model.body_ipos[body].copy(), rotation(model.body_iquat[body])
        self._axes, self._same = model.body_iquat[body].copy(), int(model.body_sameframe[body])
        first = int(model.body_bvhadr[body])
        self._boxes = slice(first, first + int(model.body_bvhnum[body])) if first >= 0 else slice(0, 0)
        self._aabb = model.bvh_aabb[self._boxes].copy()
        self._flags: list[tuple[str, np.ndarray, np.ndarray]] = []
        for kind in ("geom", "site"):
            flags = getattr(model, f"{kind}_sameframe")
            rows = np.flatnonzero((getattr(model, f"{kind}_bodyid") == body) & np.isin(flags, INERTIAL_FRAMES))
            self._flags.append((f"{kind}_sameframe", rows, flags[rows].copy()))

    def write(self, model: Any, center: Floats, axes: Floats) -> None:
        """Writes a frame and what relies on it into a copy of the model."""
        moved = not (np.array_equal(center, self._center) and np.array_equal(axes, self._axes))
        model.body_ipos[self.body], model.body_iquat[self.body] = center, axes
        none = int(mujoco.mjtSameFrame.mjSAMEFRAME_NONE)
        model.body_sameframe[self.body] = none if moved else self._same
        for name, rows, flags in self._flags:
            getattr(model, name)[rows] = none if moved else flags
        model.bvh_aabb[self._boxes] = self._aabb
        if moved:
            turn = rotation(axes).T
            middle = self._center + self._aabb[:, :3] @ self._turn.T
            model.bvh_aabb[self._boxes, :3] = (middle - center) @ turn.T
            model.bvh_aabb[self._boxes, 3:] = self._aabb[:, 3:] @ np.abs(turn @ self._turn).T


@dataclass(frozen=True)
class Payload:
    """A payload on a body, bound by `bind_payload`."""

    factor: Factor
    inertial: _Inertial
    frames: _Frames
    place: Floats
    shape: str
    density: float
    gravcomp: float
    """The body's own gravity compensation, as a share of its weight."""
    own_weight: bool
    """Whether the compensation stays that of the body's own weight."""
    after_shift: bool
    """Whether a `com_shift` of the same body has been written before."""
    derived: bool = True

    def write(self, model: Any, values: Floats) -> None:
        """Writes a payload of `values[0]` kg."""
        own, body, mass = self.inertial, self.frames.body, float(values[0])
        if self.after_shift:
            own = replace(own, center=model.body_ipos[body].copy())
        joined = own.joined(mass, self.place, solid_moment(mass, self.shape, self.density))
        model.body_mass[body], model.body_inertia[body] = joined.mass, joined.moments
        self.frames.write(model, joined.center, joined.axes)
        if self.own_weight:
            model.body_gravcomp[body] = self.gravcomp * self.inertial.mass / joined.mass


@dataclass(frozen=True)
class ComShift:
    """A shift of a body's centre of mass, bound by `bind_com_shift`."""

    factor: Factor
    inertial: _Inertial
    frames: _Frames
    derived: bool = True

    def write(self, model: Any, values: Floats) -> None:
        """Writes a shift by `values` `[3]` in m."""
        self.frames.write(model, self.inertial.center + values, self.inertial.axes)


def bind_payload(robot: Robot, factor: Factor, options: Mapping[str, str], declared: Sequence[Declared]) -> Payload:
    """`payload` (kg): a solid body of this mass is fixed to a body of the robot.

    Changes `body_mass`, `body_ipos`, `body_iquat` and `body_inertia` of that body: the payload is a solid cube or
    sphere, joined by the parallel axis theorem. MuJoCo derives subtree masses, inverse weights and the mean inertia.

    Options: `body` (the robot's base: the body with the free joint, or an arm's last), `at` (centre of the payload in
    the body's frame, m; the body's own centre of mass), `shape` (`cube` or `sphere`), `density` (kg/m^3; 1000),
    `compensated` (`yes`: a gravity compensated body compensates the payload too; `no`: its own weight alone).
    """
    body = _body(robot, "payload", options)
    inertial, frames = _read(robot.model, body), _Frames(robot.model, body)
    place = read_numbers("payload", "at", options["at"], 3) if "at" in options else inertial.center
    shape, density = options.get("shape", SHAPES[0]), WATER
    if shape not in SHAPES:
        raise ValueError(f"payload: got shape {shape!r}, expected {' or '.join(SHAPES)}")
    if "density" in options:
        (density,) = read_numbers("payload", "density", options["density"], 1).tolist()
        if density <= 0:
            raise ValueError(f"payload: got density {density:g} kg/m^3, expected a number above 0")
    compensated = options.get("compensated", "yes")
    if compensated not in ("yes", "no"):
        raise ValueError(f"payload: got compensated {compensated!r}, expected yes or no")
    gravcomp = float(robot.model.body_gravcomp[body])
    if not np.array_equal(place, inertial.center):
        _refuse_simple(robot.model, body, "payload", "leave out `at`, or give the body an <inertial> off its origin")
    own = compensated == "no" and gravcomp != 0.0
    shifted = any(d.name == "com_shift" and body_of(robot, d.options, d.name) == body for d in declared)
    return Payload(factor, inertial, frames, place, shape, density, gravcomp, own, shifted)


def bind_com_shift(robot: Robot, factor: Factor, options: Mapping[str, str], declared: Sequence[Declared]) -> ComShift:
    """`com_shift` (m, along x, y and z of the body): the centre of mass of a body moves; mass and inertia stay.

    Changes `body_ipos` of that body. MuJoCo derives inverse weights and the mean inertia.

    Options: `body` (the robot's base).
    """
    body = _body(robot, "com_shift", options)
    _refuse_simple(robot.model, body, "com_shift", "give the body an <inertial> off its origin")
    return ComShift(factor, _read(robot.model, body), _Frames(robot.model, body))


def body_of(robot: Robot, options: Mapping[str, str], who: str) -> int:
    """Index of the body that the options name, or the robot's base."""
    return find_id(robot.model, "body", options["body"], who) if "body" in options else robot.base


def _body(robot: Robot, who: str, options: Mapping[str, str]) -> int:
    body = body_of(robot, options, who)
    if body == 0 or robot.model.body_mass[body] <= 0.0:
        name = robot.model.body(body).name or f"body {body}"
        raise ValueError(f"{who}: got the body {name!r} without mass, expected one of the robot's bodies with mass")
    return body


def _refuse_simple(model: Any, body: int, who: str, remedy: str) -> None:
    """Raises ValueError if MuJoCo stores the body's inertia as a diagonal matrix, whose size cannot change."""
    if model.body_simple[body] and model.body_dofnum[body]:
        name = model.body(body).name or f"body {body}"
        raise ValueError(
            f"{who}: got the body {name!r}, whose mass matrix was compiled as diagonal, expected another body; {remedy}"
        )


def _read(model: Any, body: int) -> _Inertial:
    return _Inertial(
        float(model.body_mass[body]),
        model.body_ipos[body].copy(),
        model.body_iquat[body].copy(),
        model.body_inertia[body].copy(),
    )
