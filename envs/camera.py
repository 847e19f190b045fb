"""Off-screen rendering of simulations."""

from __future__ import annotations

import os
from typing import Any, NamedTuple

import mujoco
import numpy as np

from metarl.types import Floats

TRACKING = "track"
"""Name of the model's camera that follows the robot; not every model has one."""
MARK_RADIUS = 0.12  # m
MARK_COLOUR = (0.9, 0.1, 0.1, 0.8)


class View(NamedTuple):
    """A camera that follows a body, seen from the side such that x points to the right.

    Attributes:
        body: Index of the body; 0 for the world.
        distance: Distance from the body, m.
        elevation: Angle of the line of sight, degrees; negative if the camera looks down.
    """

    body: int
    distance: float
    elevation: float


class Camera:
    """Renders simulations of one model.

    The camera is `view` if given, else the model's camera `name`, else a free camera that shows the whole model.

    MuJoCo uses the OpenGL backend that the environment variable `MUJOCO_GL` names when `mujoco` is first imported.
    Without a screen, `egl` and `osmesa` work.

    Args:
        model: The `MjModel`.
        width: Width of a picture, pixels.
        height: Height of a picture, pixels.
        view: Camera to use instead of the model's.
        name: Name of a camera of the model.

    Raises:
        ValueError: OpenGL is not available, or the model has no camera of that name.
    """

    def __init__(self, model: Any, width: int, height: int, view: View | None = None, name: str = TRACKING) -> None:
        self.model, self.size = model, (width, height)
        own = mujoco.mj_name2id(model, mujoco.mjtObj.mjOBJ_CAMERA, name)
        if own < 0 and name != TRACKING:
            names = ", ".join(repr(model.camera(i).name) for i in range(model.ncam) if model.camera(i).name)
            raise ValueError(f"camera: got {name!r}, expected one of the model's: {names or 'none exist'}")
        screen = model.vis.global_
        screen.offwidth, screen.offheight = max(screen.offwidth, width), max(screen.offheight, height)
        try:
            self._renderer = mujoco.Renderer(model, height, width)
        except Exception as error:  # the exception's type depends on the graphics library
            raise ValueError(
                f"rendering: MuJoCo cannot use OpenGL with MUJOCO_GL={os.environ.get('MUJOCO_GL', '')!r}; "
                "set it to egl or osmesa before mujoco is imported"
            ) from error
        self._view = mujoco.MjvCamera()
        mujoco.mjv_defaultFreeCamera(model, self._view)
        if view is not None:
            self._view.type, self._view.trackbodyid = mujoco.mjtCamera.mjCAMERA_TRACKING, view.body
            self._view.distance, self._view.elevation, self._view.azimuth = view.distance, view.elevation, 90.0
        elif own >= 0:
            self._view.type, self._view.fixedcamid = mujoco.mjtCamera.mjCAMERA_FIXED, own

    def picture(self, data: Any, mark: Floats | None = None, radius: float = MARK_RADIUS) -> np.ndarray:
        """Renders a simulation, `[height, width, 3]` bytes.

        Args:
            data: The `MjData`.
            mark: Position of a red ball to add, `[3]` in m; None for none.
            radius: Radius of the ball, m.
        """
        self._renderer.update_scene(data, self._view)
        scene = self._renderer.scene
        if mark is not None and scene.ngeom < scene.maxgeom:
            mujoco.mjv_initGeom(
                scene.geoms[scene.ngeom],
                mujoco.mjtGeom.mjGEOM_SPHERE,
                np.array([radius, 0.0, 0.0]),
                np.asarray(mark, dtype=np.float64),
                np.eye(3).ravel(),
                np.array(MARK_COLOUR, dtype=np.float32),
            )
            scene.ngeom += 1
        return self._renderer.render()

    def close(self) -> None:
        """Frees the graphics memory."""
        self._renderer.close()
