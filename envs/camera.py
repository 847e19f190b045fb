"""A camera for simulations: pictures without a screen."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import mujoco
import numpy as np

from metarl.types import Floats

TRACKING = "track"
"""Name of the camera that follows the robot, in the models that have one."""
MARK_RADIUS = 0.12  # m
MARK_COLOUR = (0.9, 0.1, 0.1, 0.8)


class View(NamedTuple):
    """A camera that follows a body from the side where x runs to the right.

    Attributes:
        body: The body's number; 0 for the whole model.
        distance: m.
        elevation: Of its line of sight, degrees; negative where it looks down.
    """

    body: int
    distance: float
    elevation: float


class Camera:
    """Looks at simulations of one model.

    The view is the one given, or else the model's camera of the given name, or else all of the model.

    MuJoCo draws with the OpenGL that the environment variable `MUJOCO_GL` names when `mujoco` is first imported:
    `egl` or `osmesa` where there is no screen.

    Args:
        model: The `MjModel`.
        width: Of a picture, pixels.
        height: Of a picture, pixels.
        view: Where from.
        name: Of a camera of the model's own.

    Raises:
        ValueError: OpenGL cannot be used, or the model has no camera of the given name.
    """

    def __init__(self, model: Any, width: int, height: int, view: View | None = None, name: str = TRACKING) -> None:
        self.model, self.size = model, (width, height)
        own = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
        if own < 0 and name != TRACKING:
            names = ", ".join(repr(model.camera(i).name) for i in range(model.ncam) if model.camera(i).name)
            raise ValueError(f"camera: got {name!r}, expected one of the model's: {names or 'it has none'}")
        screen = model.vis.global_
        screen.offwidth, screen.offheight = max(screen.offwidth, width), max(screen.offheight, height)
        try:
            self._renderer = mujoco.Renderer(model, height, width)
        except Exception as error:  # whatever the graphics library raises
            raise ValueError(
                f"pictures: MuJoCo got no OpenGL with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')!r}; "
                "set it to egl or osmesa before mujoco is imported"
            ) from error
        self._view = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, self._view)
        if view is not None:
            self._view.type, self._view.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, view.body
            self._view.distance, self._view.elevation, self._view.azimuth = view.distance, view.elevation, 90.0
        elif own >= 0:
            self._view.type, self._view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, own

    def picture(self, data: Any, mark: Floats | None = None) -> np.ndarray:
        """What the camera sees, `[height, width, 3]` bytes.

        Args:
            data: The `MjData`.
            mark: Where a red ball is drawn, `[3]` in m.
        """
        self._renderer.update_scene(data, self._view)
        scene = self._renderer.scene
        if mark is not None and scene.ngeom < scene.maxgeom:
            mujoco.mjv_initGeom(
                scene.geoms[scene.ngeom],
                mujoco.mjtGeom.mjGEOM_SPHERE,
                np.array([MARK_RADIUS, 0.0, 0.0]),
                np.asarray(mark, dtype=np.float64),
                np.eye(3).ravel(),
                np.array(MARK_COLOUR, dtype=np.float32),
            )
            scene.ngeom += 1
        return self._renderer.render()

    def close(self) -> None:
        """Gives the graphics memory back."""
        self._renderer.close()
