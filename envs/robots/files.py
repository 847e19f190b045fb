"""The MJCF file of a robot: a path, or a robot of MuJoCo Menagerie."""

from __future__ import annotations

import os
from pathlib import Path

from metarl.envs.robots.spec import MENAGERIE, RobotSpec
from metarl.names import did_you_mean
from metarl.schemes import MissingFileError

ROOT = "MENAGERIE_ROOT"
"""Environment variable with the folder of a checkout of MuJoCo Menagerie."""
LISTED = 8


def robot_file(spec: RobotSpec) -> Path:
    """Path of a robot's XML file; downloads a robot of Menagerie at its first use.

    Raises:
        MissingFileError: There is no file at the path.
        ValueError: There is no such robot, or it cannot be downloaded.
    """
    return _of_menagerie(spec) if spec.scheme == MENAGERIE else _of_path(spec)


def _of_path(spec: RobotSpec) -> Path:
    path = Path(spec.place).expanduser()
    if path.is_dir():
        found = sorted(one.name for one in path.glob("*.xml"))
        inside = f", such as {path / found[0]}" if found else ""
        raise ValueError(f"{spec.what}: got the folder {spec.place}, expected an XML file{inside}")
    if not path.is_file():
        folder = path.parent
        near = did_you_mean(path.name, [one.name for one in folder.glob("*.xml")]) if folder.is_dir() else ""
        said = f"{spec.what}: got no file {spec.place}, expected a MuJoCo XML file (MJCF).{near}"
        raise MissingFileError(said.rstrip("."))
    return path.resolve()


def _of_menagerie(spec: RobotSpec) -> Path:
    if root := os.environ.get(ROOT):
        return _of_root(spec, Path(root))
    try:
        import mujoco_menagerie as menagerie
    except ImportError:
        raise ValueError(
            f"{spec.what}: got no package mujoco-menagerie, expected it: "
            f'pip install "metarl-robots[menagerie]"; or set {ROOT} to a folder with {spec.place}'
        ) from None
    if spec.place not in menagerie.names():
        known = menagerie.names()
        near = did_you_mean(spec.place, known)
        raise ValueError(
            f"{spec.what}: got the robot {spec.place!r}, expected one of MuJoCo Menagerie's {len(known)}.{near} "
            f"They include {', '.join(known[:LISTED])}; all: python -m mujoco_menagerie names"
        )
    try:
        return Path(menagerie.get(spec.place).xml())
    except (menagerie.MenagerieError, OSError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(
            f"{spec.what}: got no files of {spec.place!r} ({reason}), expected its download at the first use; connect "
            f"to the network, or set {ROOT} to a checkout of MuJoCo Menagerie"
        ) from error


def _of_root(spec: RobotSpec, root: Path) -> Path:
    """The scene of a robot in a checkout, else its only model."""
    folder = root / spec.place
    if {"/", os.sep} & set(spec.place) or not folder.is_dir():
        known = _robots_in(root)
        listed = f"{', '.join(known[:LISTED])}{', ...' if len(known) > LISTED else ''}"
        raise ValueError(
            f"{spec.what}: got no robot {spec.place!r} in {ROOT}={root}, expected one of its folders with XML files: "
            f"{listed or 'it has none'}.{did_you_mean(spec.place, known)}".rstrip(".")
        )
    scene = folder / "scene.xml"
    found = sorted(folder.glob("*.xml"))
    if not scene.is_file() and len(found) != 1:
        names = ", ".join(one.name for one in found) or "none"
        raise ValueError(
            f"{spec.what}: got {names} in {folder}, expected a scene.xml; name a file as mjcf:{folder}/FILE.xml"
        )
    return scene if scene.is_file() else found[0]


def menagerie_names() -> list[str]:
    """The robots of Menagerie that can be named: those of the checkout, else the package's; empty without either."""
    if root := os.environ.get(ROOT):
        return _robots_in(Path(root))
    try:
        import mujoco_menagerie as menagerie
    except ImportError:
        return []
    return list(menagerie.names())


def _robots_in(root: Path) -> list[str]:
    """The folders with XML files in a checkout."""
    return sorted(one.name for one in root.iterdir() if any(one.glob("*.xml"))) if root.is_dir() else []
