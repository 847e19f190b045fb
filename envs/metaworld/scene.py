"""Interface of Meta-World's task classes: sensors, a `Scene` of sensor readings, and a `Verdict` with the reward.

Each task class (`reach-v3`, `door-open-v3`, ...) is a `Manipulation`. It declares its sensors and goal constants, and
computes the observation of its objects and the reward. All functions work on `R` rows at once; letters as in
`metarl.types`.
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from scipy.spatial.transform import Rotation

from metarl.types import Bools, Floats


@dataclass(frozen=True)
class Sensor:
    """A quantity of one model element, stored in an array of `MjData`.

    Args:
        element: Kind of the element, as `MjData` calls it.
        name: Name of the element.
        attribute: Name of the quantity in the element's view.
        field: Name of the `MjData` array that holds it.
    """

    element: Literal["body", "geom", "site", "joint"]
    name: str
    attribute: str
    field: str

    def __call__(self, data: Any) -> np.ndarray:
        """A view of the numbers, which changes with the data."""
        view: np.ndarray = getattr(getattr(data, self.element)(self.name), self.attribute).reshape(-1)
        return view

    def place(self, data: Any) -> slice:
        """Slice of the numbers in the flattened array."""
        view, array = self(data), getattr(data, self.field)
        start = (view.__array_interface__["data"][0] - array.__array_interface__["data"][0]) // view.itemsize
        return slice(start, start + view.size)


def body(name: str) -> Sensor:
    """The position of a body, `[3]` in m."""
    return Sensor("body", name, "xpos", "xpos")


def geom(name: str) -> Sensor:
    """The position of a geom, `[3]` in m."""
    return Sensor("geom", name, "xpos", "geom_xpos")


def site(name: str) -> Sensor:
    """The position of a site, `[3]` in m."""
    return Sensor("site", name, "xpos", "site_xpos")


def body_quaternion(name: str) -> Sensor:
    """The orientation of a body, `[4]`, w first."""
    return Sensor("body", name, "xquat", "xquat")


def body_matrix(name: str) -> Sensor:
    """The orientation of a body as a matrix, `[9]`."""
    return Sensor("body", name, "xmat", "xmat")


def geom_matrix(name: str) -> Sensor:
    """The orientation of a geom as a matrix, `[9]`."""
    return Sensor("geom", name, "xmat", "geom_xmat")


def site_matrix(name: str) -> Sensor:
    """The orientation of a site as a matrix, `[9]`."""
    return Sensor("site", name, "xmat", "site_xmat")


def joint(name: str) -> Sensor:
    """The position of a joint, `[its size]` in m or rad."""
    return Sensor("joint", name, "qpos", "qpos")


COMMON_SENSORS: Mapping[str, Sensor] = {
    "hand": body("hand"),
    "right_claw": body("rightclaw"),
    "left_claw": body("leftclaw"),
    "right_pad": body("rightpad"),
    "left_pad": body("leftpad"),
    "right_finger": site("rightEndEffector"),
    "left_finger": site("leftEndEffector"),
}
"""Sensors of every task class."""


def quaternions(matrices: Floats) -> Floats:
    """Quaternions `[R, 4]`, w last as in SciPy, from rotation matrices `[R, 9]`."""
    rotations = Rotation.from_matrix(matrices.reshape(-1, 3, 3), assume_valid=True)  # MuJoCo keeps them orthonormal
    return rotations.as_quat()


def add_quaternions(scenes: Sequence[dict[str, Floats]]) -> None:
    """Adds `quaternion` to readings that have a `matrix`; converts all of them in one call, because calls are slow."""
    turned = [sensed for sensed in scenes if "matrix" in sensed]
    if turned:
        converted = quaternions(np.concatenate([sensed["matrix"] for sensed in turned]))
        ends = np.cumsum([len(sensed["matrix"]) for sensed in turned])
        for sensed, part in zip(turned, np.split(converted, ends[:-1]), strict=True):
            sensed["quaternion"] = part


@dataclass(frozen=True)
class Scene:
    """`R` rows of one task class after a step.

    Attributes:
        sensed: Readings of the class's sensors and `COMMON_SENSORS` by name, `[R, size]`.
        goal: Constants of the rows' goals by name, `[R, size]`.
        observation: The agent's observation, `[R, 39]`, clipped as in Meta-World: hand (0 to 2, m), gripper opening
            (3), objects (4 to 17), the same 18 numbers of the previous step, and three zeros.
        actions: The agent's actions, not clipped, `[R, 4]`.
        touching: Whether both fingers press on the class's `main_object`, `[R]`; all False if it has none.
    """

    sensed: Mapping[str, Floats]
    goal: Mapping[str, Floats]
    observation: Floats
    actions: Floats
    touching: Bools

    @functools.cached_property
    def tcp(self) -> Floats:
        """Tool centre point: the midpoint of the fingertips, `[R, 3]` in m."""
        return (self.sensed["right_finger"] + self.sensed["left_finger"]) / 2.0

    @property
    def opening(self) -> Floats:
        """Opening of the gripper, 0 (closed) to 1, `[R]`."""
        return self.observation[:, 3]

    @property
    def objects(self) -> Floats:
        """Observed positions (m) and quaternions of the objects, `[R, 14]`."""
        return self.observation[:, 4:18]


@dataclass(frozen=True)
class Verdict:
    """Reward, success and infos of a step, `[R]` each, with the names of Meta-World's infos.

    The meaning of the last five differs between task classes.

    Attributes:
        reward: Reward, 0 to 10 (`unscaled_reward` in Meta-World's infos).
        success: Whether the task is solved.
        near_object: In most classes, whether the gripper is near the object.
        grasp_success: In most classes, whether the object is grasped.
        grasp_reward: In most classes, quality of the grasp or of reaching, 0 to 1.
        in_place_reward: In most classes, nearness of the object to its target, 0 to 1.
        obj_to_target: In most classes, distance of the object from its target, m.
    """

    reward: Floats
    success: Bools
    near_object: Floats
    grasp_success: Floats
    grasp_reward: Floats
    in_place_reward: Floats
    obj_to_target: Floats


class Manipulation(ABC):
    """A task class of Meta-World. Its methods are pure functions of arrays."""

    name: ClassVar[str]
    """Meta-World's name, such as `reach-v3`."""
    sensors: ClassVar[Mapping[str, Sensor]] = {}
    """Sensors besides `COMMON_SENSORS`. For one named `matrix`, the readings also have its `quaternion`, w last."""
    constants: ClassVar[tuple[str, ...]] = ()
    """Attributes of Meta-World's environment that are set by a reset and constant during an episode."""
    settled_constants: ClassVar[tuple[str, ...]] = ()
    """Attributes that are set by the first step after a reset: equal up to rounding for any action of that step."""
    main_object: ClassVar[str | None] = None
    """Name of the geom for `Scene.touching`."""

    @staticmethod
    @abstractmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """Position (m) and quaternion of each object, as in the observation, `[R, 7]` or `[R, 14]`."""

    @staticmethod
    @abstractmethod
    def judge(scene: Scene) -> Verdict:
        """Reward (version 2), success and infos."""
