"""Finds an OpenGL that draws without a screen, before MuJoCo is imported."""

from __future__ import annotations

import os
import subprocess
import sys

BACKENDS = {"egl": "libegl1 and libgl1-mesa-dri (or a GPU's driver)", "osmesa": "libosmesa6"}
"""What MuJoCo can draw with where there is no screen, and the Debian and Ubuntu packages that bring it."""
PROBE = """
import mujoco
model = mujoco.MjModel.from_xml_string('<mujoco><worldbody><geom size="1"/></worldbody></mujoco>')
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 8, 8)
renderer.update_scene(data)
renderer.render()
renderer.close()
"""
PROBE_SECONDS = 60


def use_off_screen_rendering() -> str | None:
    """Sets `MUJOCO_GL` to what works here: what it already names, or else the first of egl and osmesa.

    Each is tried in a process of its own, since a broken driver may end the process that loads it. Where none works,
    `MUJOCO_GL` is unset, so that families that need none of them still can draw.

    Returns:
        None, or one line on what was tried and what to install.
    """
    if not sys.platform.startswith("linux"):
        return None  # MuJoCo's own choice needs no screen there
    named = os.environ.get("MUJOCO_GL")
    tried = [named] if named else list(BACKENDS)
    for backend in tried:
        if _works(backend):
            os.environ["MUJOCO_GL"] = backend
            return None
    os.environ.pop("MUJOCO_GL", None)  # a name that MuJoCo does not know would make its import fail
    packages = "; ".join(f"{backend}: {packages}" for backend, packages in BACKENDS.items())
    source = "as the environment variable says" if named else "in turn"
    return (
        f"MUJOCO_GL: tried {' and '.join(tried)} ({source}), and MuJoCo cannot draw with it; "
        f"install one of these packages ({packages}), or set MUJOCO_GL to another backend"
    )


def _works(backend: str) -> bool:
    try:
        run = subprocess.run(
            [sys.executable, "-P", "-c", PROBE],  # no module of the working folder
            env={**os.environ, "MUJOCO_GL": backend},
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return run.returncode == 0
