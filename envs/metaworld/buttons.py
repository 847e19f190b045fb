"""Pressing a button: `button-press-v3` and its variants from above and behind a wall, `coffee-button-v3`.

In the formulas, `&` is the Hamacher product and `opening` that of the gripper, 0 to 1.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from metarl.envs.metaworld.scene import Manipulation, Scene, Sensor, Verdict, body, body_quaternion, site
from metarl.envs.metaworld.shaping import distance, hamacher, near
from metarl.types import Floats

NEAR = 0.05  # m, for the info near_object


class Button(Manipulation):
    """A button to press along one axis. The rewards combine two long-tailed tolerances.

    `close` is that of the tcp's distance from the button (1 within `reached`, margin: the distance of the button from
    the tcp's initial position). `pressed` is that of the remaining travel along the axis (1 within 0.005 m, margin: the
    whole travel). Success: the remaining travel is at most `done`.
    """

    sensors: ClassVar[Mapping[str, Sensor]] = {"button": body("button"), "turn": body_quaternion("button")}
    constants = ("_target_pos", "init_tcp", "_obj_to_target_init")
    axis: ClassVar[int] = 1
    """Axis along which the button is pressed."""
    top: ClassVar[tuple[float, float, float]] = (0.0, -0.193, 0.0)
    """Offset of the pressing point from the body's position, m."""
    travel: ClassVar[str] = "_obj_to_target_init"
    """Name of the goal constant with the button's whole travel, m."""
    reached: ClassVar[float]
    """Distance from the tcp up to which `close` is 1, m."""
    done: ClassVar[float]
    """Remaining travel up to which the task is solved, m."""

    @classmethod
    def objects(cls, sensed: Mapping[str, Floats]) -> Floats:
        """Pressing point and orientation of the button."""
        return np.concatenate([sensed["button"] + np.array(cls.top), sensed["turn"]], axis=1)

    @classmethod
    def judge(cls, scene: Scene) -> Verdict:
        """Nearness of the tcp to the button, and the button's travel."""
        button, target = scene.objects[:, :3], scene.goal["_target_pos"]
        reach = distance(button, scene.tcp)
        close = near(reach, cls.reached, distance(button, scene.goal["init_tcp"]))
        left = np.abs(target[:, cls.axis] - button[:, cls.axis])
        pressed = near(left, 0.005, scene.goal[cls.travel][:, 0])
        return Verdict(
            reward=cls.worth(scene.opening, reach, close, pressed),
            success=left <= cls.done,
            near_object=reach <= NEAR,
            grasp_success=scene.opening > 0.0,
            grasp_reward=close,
            in_place_reward=pressed,
            obj_to_target=left,
        )

    @staticmethod
    @abstractmethod
    def worth(opening: Floats, reach: Floats, close: Floats, pressed: Floats) -> Floats:
        """The reward, `[R]`.

        Args:
            opening: Opening of the gripper, 0 to 1, `[R]`.
            reach: Distance of the tcp from the button, `[R]` in m.
            close: Tolerance of that distance, 0 to 1, `[R]`.
            pressed: Tolerance of the remaining travel, 0 to 1, `[R]`.
        """


class ButtonPress(Button):
    """Press a button from the front.

    The reward is `2 (opening & close)`, plus `8 pressed` within 0.05 m of the button.
    """

    name = "button-press-v3"
    reached = 0.05
    done = 0.02

    @staticmethod
    def worth(opening: Floats, reach: Floats, close: Floats, pressed: Floats) -> Floats:
        """The class's reward."""
        return 2.0 * hamacher(opening, close) + np.where(reach <= 0.05, 8.0 * pressed, 0.0)


class CoffeeButton(ButtonPress):
    """Press the button of a coffee machine, whose travel is 0.03 m; reward as in `ButtonPress`."""

    name = "coffee-button-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"button": site("buttonStart")}
    constants = ("_target_pos", "init_tcp", "max_dist")
    travel = "max_dist"

    @classmethod
    def objects(cls, sensed: Mapping[str, Floats]) -> Floats:
        """Pressing point; a constant orientation."""
        button = sensed["button"]
        return np.concatenate([button, np.tile([1.0, 0.0, 0.0, 0.0], (len(button), 1))], axis=1)


class ButtonPressWall(Button):
    """Press a button from the front, over a wall.

    The reward is `2 (((1 - opening) / 2) & close)` farther than 0.07 m from the button, else
    `2 + 2 (1 + opening) + 4 pressed^2`.
    """

    name = "button-press-wall-v3"
    reached = 0.01
    done = 0.03

    @staticmethod
    def worth(opening: Floats, reach: Floats, close: Floats, pressed: Floats) -> Floats:
        """The class's reward."""
        far = 2.0 * hamacher((1.0 - opening) / 2.0, close)
        return np.where(reach > 0.07, far, 2.0 + 2.0 * (1.0 + opening) + 4.0 * pressed**2)


class ButtonPressTopdown(Button):
    """Press a button from above.

    The reward is `5 ((1 - opening) & close)`, plus `5 pressed` within 0.03 m of the button.
    """

    name = "button-press-topdown-v3"
    axis = 2
    top = (0.0, 0.0, 0.193)
    reached = 0.01
    done = 0.024

    @staticmethod
    def worth(opening: Floats, reach: Floats, close: Floats, pressed: Floats) -> Floats:
        """The class's reward."""
        return 5.0 * hamacher(1.0 - opening, close) + np.where(reach <= 0.03, 5.0 * pressed, 0.0)


class ButtonPressTopdownWall(ButtonPressTopdown):
    """Press a button from above, behind a wall; as `ButtonPressTopdown`, with `opening` instead of `1 - opening`."""

    name = "button-press-topdown-wall-v3"

    @staticmethod
    def worth(opening: Floats, reach: Floats, close: Floats, pressed: Floats) -> Floats:
        """The class's reward."""
        return ButtonPressTopdown.worth(1.0 - opening, reach, close, pressed)


CLASSES: tuple[type[Manipulation], ...] = (
    ButtonPress,
    ButtonPressTopdown,
    ButtonPressTopdownWall,
    ButtonPressWall,
    CoffeeButton,
)
