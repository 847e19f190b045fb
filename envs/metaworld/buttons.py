"""Pressing a button: `button-press-v3` and its variants from above and behind a wall, `coffee-button-v3`."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from metarl.envs.metaworld.scene import Manipulation, Scene, Sensor, Verdict, body, body_quaternion, site
from metarl.envs.metaworld.shaping import distance, hamacher, near
from metarl.types import Floats

NEAR = 0.05  # m, of the infos


class Button(Manipulation):
    """A button to press along one axis; what each kind is worth is made from two long-tailed tolerances.

    `close` is that of the tcp's distance from the button, with the hand's start at the margin; `pressed` is that of the
    way left along the axis, within 0.005 m, with the whole way of the button at the margin.
    """

    sensors: ClassVar[Mapping[str, Sensor]] = {"button": body("button"), "turn": body_quaternion("button")}
    constants = ("_target_pos", "init_tcp", "_obj_to_target_init")
    axis: ClassVar[int] = 1
    """The one along which it is pressed."""
    top: ClassVar[tuple[float, float, float]] = (0.0, -0.193, 0.0)
    """Where a finger presses, from the middle of the body, m."""
    travel: ClassVar[str] = "_obj_to_target_init"
    """Name of the goal's constant that tells the button's whole way, m."""
    reached: ClassVar[float]
    """Distance from the tcp up to which `close` is 1, m."""
    done: ClassVar[float]
    """Way left up to which the task is done, m."""

    @classmethod
    def objects(cls, sensed: Mapping[str, Floats]) -> Floats:
        """Where to press, and the orientation of the button."""
        return np.concatenate([sensed["button"] + np.array(cls.top), sensed["turn"]], axis=1)

    @classmethod
    def judge(cls, scene: Scene) -> Verdict:
        """Nearness of the tcp to the button, and how far that is pressed."""
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
        """The reward, `[R]` from `[R]` each.

        Args:
            opening: Of the gripper, 0 to 1.
            reach: Distance of the tcp from the button, m.
            close: 0 to 1.
            pressed: 0 to 1.
        """


class ButtonPress(Button):
    """From the front. The reward is 2 opening # close, and within 0.05 m of the button 8 pressed more.

    `#` is the Hamacher product; `close` is 1 within 0.05 m.
    """

    name = "button-press-v3"
    reached = 0.05
    done = 0.02

    @staticmethod
    def worth(opening: Floats, reach: Floats, close: Floats, pressed: Floats) -> Floats:
        """As the class says."""
        return 2.0 * hamacher(opening, close) + np.where(reach <= 0.05, 8.0 * pressed, 0.0)


class CoffeeButton(ButtonPress):
    """The button of a coffee machine, which has 0.03 m to go; worth what that of `button-press-v3` is."""

    name = "coffee-button-v3"
    sensors: ClassVar[Mapping[str, Sensor]] = {"button": site("buttonStart")}
    constants = ("_target_pos", "init_tcp", "max_dist")
    travel = "max_dist"

    @classmethod
    def objects(cls, sensed: Mapping[str, Floats]) -> Floats:
        """Where to press; its orientation is constant."""
        button = sensed["button"]
        return np.concatenate([button, np.tile([1.0, 0.0, 0.0, 0.0], (len(button), 1))], axis=1)


class ButtonPressWall(Button):
    """From the front, over a wall; `close` is 1 within 0.01 m.

    The reward farther than 0.07 m from the button is (1 - opening) / 2 # close, twice; nearer it is
    2 + 2 (1 + opening) + 4 pressed^2. `#` is the Hamacher product.
    """

    name = "button-press-wall-v3"
    reached = 0.01
    done = 0.03

    @staticmethod
    def worth(opening: Floats, reach: Floats, close: Floats, pressed: Floats) -> Floats:
        """As the class says."""
        far = 2.0 * hamacher((1.0 - opening) / 2.0, close)
        return np.where(reach > 0.07, far, 2.0 + 2.0 * (1.0 + opening) + 4.0 * pressed**2)


class ButtonPressTopdown(Button):
    """From above. The reward is 5 (1 - opening) # close, and within 0.03 m of the button 5 pressed more.

    `#` is the Hamacher product; `close` is 1 within 0.01 m.
    """

    name = "button-press-topdown-v3"
    axis = 2
    top = (0.0, 0.0, 0.193)
    reached = 0.01
    done = 0.024

    @staticmethod
    def worth(opening: Floats, reach: Floats, close: Floats, pressed: Floats) -> Floats:
        """As the class says."""
        return 5.0 * hamacher(1.0 - opening, close) + np.where(reach <= 0.03, 5.0 * pressed, 0.0)


class ButtonPressTopdownWall(ButtonPressTopdown):
    """From above, behind a wall. As `button-press-topdown-v3`, but with `opening` in place of `1 - opening`."""

    name = "button-press-topdown-wall-v3"

    @staticmethod
    def worth(opening: Floats, reach: Floats, close: Floats, pressed: Floats) -> Floats:
        """As the class says."""
        return ButtonPressTopdown.worth(1.0 - opening, reach, close, pressed)


CLASSES: tuple[type[Manipulation], ...] = (
    ButtonPress,
    ButtonPressTopdown,
    ButtonPressTopdownWall,
    ButtonPressWall,
    CoffeeButton,
)
