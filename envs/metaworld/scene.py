"""What Meta-World's rewards are made from: a scene, as arrays over the rows of one task class, and a verdict on it.

Every class of Meta-World tasks (`reach-v3`, `door-open-v3`, ...) is a `Manipulation`: what it senses of a simulation,
which numbers of a goal it needs, where its objects are, and how it judges a scene. All of it works on `R` rows at
once; letters as in `metarl.types`.
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
    """A part of an `MjData`: what one of its arrays says of an element of the model.

    Args:
        element: Which kind of element, as `MjData` names it.
        name: Of the element.
        attribute: What of it, as the element's view names it.
        field: The array of `MjData` that holds it.
    """

    element: Literal["body", "geom", "site", "joint"]
    name: str
    attribute: str
    field: str

    def __call__(self, data: Any) -> np.ndarray:
        """A *view* of the numbers, which changes with the data."""
        view: np.ndarray = getattr(getattr(data, self.element)(self.name), self.attribute).reshape(-1)
        return view

    def place(self, data: Any) -> slice:
        """Where the numbers are in the flattened array."""
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
"""What is sensed of every robot."""


def quaternions(matrices: Floats) -> Floats:
    """Orientations as quaternions, w last as in SciPy, `[R, 4]`, from matrices `[R, 9]`."""
    rotations = Rotation.from_matrix(matrices.reshape(-1, 3, 3), assume_valid=True)  # MuJoCo keeps them orthonormal
    return rotations.as_quat()


def add_quaternions(scenes: Sequence[dict[str, Floats]]) -> None:
    """Adds `quaternion` to what is sensed where there is a `matrix`; one conversion for all, for each call is slow."""
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
        sensed: By name what the class and `COMMON_SENSORS` sense, `[R, size]`.
        goal: By name the constants of the rows' goals, `[R, size]`.
        observation: What the agent sees, `[R, 39]`, clipped as Meta-World does: hand (0 to 2, m), opening of the
            gripper (3), objects (4 to 17), the same 18 numbers of the step before, and three zeros.
        actions: `[R, 4]`, as the agent gave them.
        touching: Whether both fingers press on the class's `main_object`, `[R]`; all False where it has none.
    """

    sensed: Mapping[str, Floats]
    goal: Mapping[str, Floats]
    observation: Floats
    actions: Floats
    touching: Bools

    @functools.cached_property
    def tcp(self) -> Floats:
        """The middle between the finger tips, `[R, 3]` in m."""
        return (self.sensed["right_finger"] + self.sensed["left_finger"]) / 2.0

    @property
    def opening(self) -> Floats:
        """How far the gripper is open, 0 to 1, `[R]`."""
        return self.observation[:, 3]

    @property
    def objects(self) -> Floats:
        """Positions and quaternions of the objects, as observed, `[R, 14]`."""
        return self.observation[:, 4:18]


@dataclass(frozen=True)
class Verdict:
    """What a step was worth, `[R]` each; the names are those of Meta-World's infos.

    Attributes:
        reward: 0 to 10; `unscaled_reward` in Meta-World's infos.
        success: Whether the task is done.
        near_object: As Meta-World has it for the class; so are the next four.
        grasp_success: Likewise.
        grasp_reward: Likewise.
        in_place_reward: Likewise.
        obj_to_target: Likewise.
    """

    reward: Floats
    success: Bools
    near_object: Floats
    grasp_success: Floats
    grasp_reward: Floats
    in_place_reward: Floats
    obj_to_target: Floats


class Manipulation(ABC):
    """A class of Meta-World tasks. Its methods are pure functions of arrays."""

    name: ClassVar[str]
    """Meta-World's name, such as `reach-v3`."""
    sensors: ClassVar[Mapping[str, Sensor]] = {}
    """What is sensed besides `COMMON_SENSORS`; with an orientation named `matrix` comes its `quaternion`, w last."""
    constants: ClassVar[tuple[str, ...]] = ()
    """Attributes of Meta-World's own environment, numbers that a reset sets and a step does not change."""
    settled_constants: ClassVar[tuple[str, ...]] = ()
    """Likewise, but set by the first step after a reset: the same up to rounding, whatever that step's action is."""
    main_object: ClassVar[str | None] = None
    """Name of the geom whose touch by both fingers `Scene.touching` tells."""

    @staticmethod
    @abstractmethod
    def objects(sensed: Mapping[str, Floats]) -> Floats:
        """Position and quaternion of each object as the observation holds them, `[R, 7]` or `[R, 14]`."""

    @staticmethod
    @abstractmethod
    def judge(scene: Scene) -> Verdict:
        """Reward (v2), success and infos."""
