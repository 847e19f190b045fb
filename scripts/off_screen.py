"""Selection of an OpenGL backend that renders without a screen; called before MuJoCo is imported."""

from __future__ import annotations

import os
import subprocess
import sys

BACKENDS = {"egl": "libegl1 and libgl1-mesa-dri (or a GPU's driver)", "osmesa": "libosmesa6"}
"""MuJoCo's backends that need no screen, with the Debian and Ubuntu packages that provide them."""
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
    """Sets `MUJOCO_GL` to a working backend: the one it names, else egl or osmesa.

    Each backend is tried in a separate process, because a broken driver may crash the process that loads it. If none
    works, `MUJOCO_GL` is unset, so that families that render without OpenGL still work.

    Returns:
        None on success, else one line with the backends that were tried and the packages to install.
    """
    if not sys.platform.startswith("linux"):
        return None  # MuJoCo's default backend needs no screen there
    named = os.environ.get("MUJOCO_GL")
    tried = [named] if named else list(BACKENDS)
    for backend in tried:
        if _works(backend):
            os.environ["MUJOCO_GL"] = backend
            return None
    os.environ.pop("MUJOCO_GL", None)  # MuJoCo cannot be imported with an unknown name
    packages = "; ".join(f"{backend}: {packages}" for backend, packages in BACKENDS.items())
    source = "set by the environment variable" if named else "the backends without a screen"
    return (
        f"MUJOCO_GL: tried {' and '.join(tried)} ({source}), but MuJoCo cannot render with it; "
        f"install one of these packages ({packages}), or set MUJOCO_GL to another backend"
    )


def _works(backend: str) -> bool:
    try:
        run = subprocess.run(
            [sys.executable, "-P", "-c", PROBE],  # -P: import no module from the working folder
            env={**os.environ, "MUJOCO_GL": backend},
            capture_output=True,
            timeout=PROBE_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return False
    return run.returncode == 0
