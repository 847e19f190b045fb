"""The digest of a robot's files, by which a run recognises the robot that it was trained on."""

from __future__ import annotations

import hashlib
import platform
from pathlib import Path
from typing import Any

import mujoco
import numpy as np

PHYSICS = (
    "actuator_",
    "body_",
    "dof_",
    "eq_",
    "exclude_",
    "flex",
    "geom_",
    "hfield_",
    "jnt_",
    "key_",
    "mesh_",
    "pair_",
    "plugin",
    "qpos",
    "site_",
    "tendon_",
    "wrap_",
)
"""First parts of the names of a model's arrays that the simulation reads."""
PICTURES = ("_rgba", "_matid", "_user", "pathadr", "_width", "_bvhadr", "_bvhnum")
"""Last parts of the names of those among them that only pictures and the user read, or that are derived from others."""
DRAWN = ("texcoord", "mesh_normal", "mesh_facenormal", "flex_flatskin", "site_size", "site_type")
"""The same, by parts that they contain."""
GROUPS = ("geom_group", "site_group", "jnt_group", "tendon_group", "flex_group")
"""Groups choose what is drawn; that of an actuator can switch it off, so it counts."""
NAMED = ("body", "jnt", "geom", "site", "actuator", "key")
"""Elements that the parts of a family's name may name, and that defaults such as the keyframe `home` go by."""


def robot_digest(path: Path, what: str) -> str:
    """The digest of a robot: SHA-256 over the numbers that the physics reads of the compiled file.

    The compiled model has everything that the file includes: other XML files, the vertices of meshes and the heights of
    height fields. Geoms that neither collide nor have mass are left out, with their meshes, as in the simulation, and
    so are materials, textures, lights and cameras. A digest of the files themselves would change with a comment, a
    colour or the end of a line, and would need a second reader of MuJoCo's rules on paths. This one depends neither on
    the path nor on the options of a family's name, which a run records beside it. With the same options, robots of
    equal digests move alike, bit for bit.

    The compiled numbers may differ between versions of MuJoCo and, in the last bit, between systems and processors.
    These are therefore named in front of the digest; two digests with different names are not compared
    (`metarl.digests`).

    Args:
        path: The MJCF file.
        what: First words of messages.

    Returns:
        `mujoco-VERSION-SYSTEM-PROCESSOR:SHA-256`.

    Raises:
        ValueError: MuJoCo cannot compile the file.
    """
    try:
        spec = mujoco.MjSpec.from_file(str(path))
        spec.compiler.discardvisual = True
        model = spec.compile()
    except ValueError as error:
        raise ValueError(f"{what}: {path.name}: {' '.join(str(error).split())}") from error
    return f"mujoco-{mujoco.__version__}-{platform.system()}-{platform.machine()}:{_hash(model)}"


def _hash(model: Any) -> str:
    found = hashlib.sha256()
    for owner in (model, model.opt):
        for name in sorted(dir(owner)):
            if owner is model and not _is_physics(name):
                continue
            value = getattr(owner, name)
            if not name.startswith("_") and isinstance(value, np.ndarray | int | float):
                array = np.ascontiguousarray(value)
                found.update(f"{name} {array.dtype.str} {array.shape}\n".encode())
                found.update(array.tobytes())
    for kind in NAMED:
        count = {"body": model.nbody, "jnt": model.njnt, "actuator": model.nu}.get(kind)
        count = getattr(model, f"n{kind}") if count is None else count
        names = [getattr(model, kind)(i).name for i in range(count)]
        found.update(f"{kind} {names}\n".encode())
    return found.hexdigest()


def _is_physics(name: str) -> bool:
    return (
        name.startswith(PHYSICS)
        and not name.endswith(PICTURES)
        and name not in GROUPS
        and not any(part in name for part in DRAWN)
    )
