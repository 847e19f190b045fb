"""The goals of Meta-World's benchmarks as arrays: computed once with Meta-World itself, then read from a cache.

A reset of Meta-World's environments simulates 500 physics steps and ends, for a given goal, always in the same state.
A goal is therefore stored as that state, the model fields that differ from the XML file, and the reward's constants.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import safetensors
import safetensors.numpy

from metarl.envs.metaworld.scene import Manipulation
from metarl.files import write_bytes
from metarl.types import Floats

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
"""The part of an `MjData` that determines future steps: positions, velocities, warm start, mocap, controls and more."""
PACKAGES = ("metaworld", "mujoco", "gymnasium", "numpy")
"""Packages whose versions are part of a cache file's name."""
FORMAT = 1
"""Version of the cache format; increased when the stored arrays change."""

TESTED = {"metaworld": "3.1.1", "mujoco": "3.3.0", "gymnasium": "1.4.0"}
"""Versions with which our environments were compared with Meta-World's."""

logger = logging.getLogger(__name__)


@functools.cache
def warn_of_other_versions() -> None:
    """Logs once if installed versions differ from the tested ones."""
    found = {name: importlib.metadata.version(name) for name in TESTED}
    if found != TESTED:
        listed = (", ".join(f"{name} {version}" for name, version in one.items()) for one in (found, TESTED))
        logger.warning(
            "Meta-World: got %s, but tested are %s; compare rewards and observations with: "
            "python -m metarl.scripts.reference.metaworld_parity",
            *listed,
        )


@dataclass(frozen=True)
class ClassGoals:
    """`G` goals of one task class.

    Attributes:
        model_path: Path of the class's XML file.
        vectors: Meta-World's random vector of each goal (initial object positions and target), `[G, V]`.
        targets: Target position of each goal, `[G, 3]` in m.
        states: Physics state after a reset, `[G, S]`, from `mj_getState` with `STATE`.
        observations: First observation, `[G, 39]`.
        fields: Model fields that differ from the XML file, by name, `[G, ...]`.
        constants: Constants that the class's reward reads, by name, `[G, size]`.
        mocap_bounds: Lowest and highest position of the hand's target, `[2, 3]` in m.
        action_scale: Displacement of the hand's target per unit of action, m.
        training: Number of goals for training, which come first; the others are held out.
    """

    model_path: str
    vectors: Floats
    targets: Floats
    states: Floats
    observations: Floats
    fields: Mapping[str, Floats]
    constants: Mapping[str, Floats]
    mocap_bounds: Floats
    action_scale: float
    training: int


def class_goals(
    kind: type[Manipulation], make_env: Callable[[], Any], train: Sequence[Any], held_out: Sequence[Any]
) -> ClassGoals:
    """Computes goals by resetting Meta-World's own environment to each task.

    Args:
        kind: The task class.
        make_env: Meta-World's environment class.
        train: Meta-World's training tasks of the class.
        held_out: Meta-World's held-out tasks of the class.
    """
    env = make_env()
    plain = mujoco.MjModel.from_xml_path(env.model_name)
    names = [name for name in dir(plain) if isinstance(getattr(plain, name), np.ndarray)]
    state = np.zeros(mujoco.mj_stateSize(plain, STATE))
    states, observations, vectors, targets, constants = [], [], [], [], []
    models: list[dict[str, Floats]] = []
    for task in (*train, *held_out):
        env.set_task(task)
        observation, _ = env.reset()
        mujoco.mj_getState(env.model, env.data, state, STATE)
        states.append(state.copy())
        observations.append(observation)
        vectors.append(np.array(env._last_rand_vec, dtype=np.float64))
        targets.append(np.array(env._target_pos, dtype=np.float64).reshape(3))
        changed = (name for name in names if not np.array_equal(getattr(env.model, name), getattr(plain, name)))
        models.append({name: np.array(getattr(env.model, name)) for name in changed})
        constants.append(_constants(env, kind))
    changing = sorted({name for fields in models for name in fields})
    goals = ClassGoals(
        model_path=env.model_name,
        vectors=np.stack(vectors),
        targets=np.stack(targets),
        states=np.stack(states),
        observations=np.stack(observations).astype(np.float64),
        fields={n: np.stack([fields.get(n, getattr(plain, n)) for fields in models]) for n in changing},
        constants={name: np.stack([row[name] for row in constants]) for name in constants[0]},
        mocap_bounds=np.stack([env.mocap_low, env.mocap_high]).astype(np.float64),
        action_scale=float(env.action_scale),
        training=len(train),
    )
    env.close()
    return goals


def _constants(env: Any, kind: type[Manipulation]) -> dict[str, Floats]:
    """The reward's constants after a reset, by name; makes a step first if some of them are only set by a step."""

    def read(names: Sequence[str]) -> dict[str, Floats]:
        return {name: np.array(getattr(env, name), dtype=np.float64).reshape(-1) for name in names}

    result = read(kind.constants)
    if kind.settled_constants:
        env.step(np.zeros(4, dtype=np.float32))
        result |= read(kind.settled_constants)
    return result


# Cache -----------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Folder of cached arrays: the environment variable `METARL_CACHE`, else `metarl` in the user's cache folder."""
    named = os.environ.get("METARL_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metarl"


def cached_goals(
    benchmark: str,
    classes: str,
    seed: int,
    kinds: Sequence[type[Manipulation]],
    compute: Callable[[], dict[str, ClassGoals]],
) -> dict[str, ClassGoals]:
    """The goals of each class, from the cache if possible, else from `compute`.

    A hash of the request and of package versions is part of the file's name. A damaged file is computed again. If the
    folder is not writable, the goals are computed again at the next start.

    Args:
        benchmark: Name of the benchmark, such as `ml10`.
        classes: Text that identifies its training and held-out classes.
        seed: Seed of its goals.
        kinds: The task classes.
        compute: Function that computes the goals by class name.
    """
    warn_of_other_versions()
    asked = [
        FORMAT,
        *((kind.name, kind.constants, kind.settled_constants) for kind in kinds),
        *map(importlib.metadata.version, PACKAGES),
    ]
    digest = hashlib.sha256(json.dumps([classes, seed, *asked]).encode()).hexdigest()[:16]
    path = (
        cache_folder()
        / "metaworld"
        / f"{benchmark.replace(':', '-').replace('/', '-')[:60]}-{seed}-{digest}.safetensors"
    )
    if path.exists():
        try:
            return _read(path)
        except (ValueError, KeyError, OSError, safetensors.SafetensorError) as error:
            logger.warning("%s: damaged (%s); computing it again", path, error)
    goals = compute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, _packed(goals))
    except OSError as error:
        logger.warning("%s: cannot be written (%s); the next start computes it again", path, error)
    return goals


ARRAYS = ("vectors", "targets", "states", "observations", "mocap_bounds")


def _packed(goals: Mapping[str, ClassGoals]) -> bytes:
    arrays: dict[str, Floats] = {}
    about: dict[str, Any] = {}
    for key, one in goals.items():
        arrays |= {f"{key}|{name}": getattr(one, name) for name in ARRAYS}
        arrays |= {f"{key}|fields|{name}": value for name, value in one.fields.items()}
        arrays |= {f"{key}|constants|{name}": value for name, value in one.constants.items()}
        about[key] = {
            "model": _below_package(one.model_path),
            "action_scale": one.action_scale,
            "training": one.training,
        }
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    return safetensors.numpy.save(arrays, metadata={"goals": json.dumps(about), "sha256": _checksum(arrays)})


def _checksum(arrays: Mapping[str, Floats]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()


def _read(path: Path) -> dict[str, ClassGoals]:
    with safetensors.safe_open(path, framework="np") as file:
        metadata = file.metadata() or {}
        arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a mapping
    if _checksum(arrays) != metadata.get("sha256"):
        raise ValueError("its checksum differs")
    about = json.loads(metadata["goals"])
    parts: dict[str, dict[str, Any]] = {key: {"fields": {}, "constants": {}} for key in about}
    for name, array in arrays.items():
        key, part, *rest = name.split("|")
        if rest:
            parts[key][part][rest[0]] = array
        else:
            parts[key][part] = array
    return {
        key: ClassGoals(
            model_path=str(_package() / about[key]["model"]),
            action_scale=float(about[key]["action_scale"]),
            training=int(about[key]["training"]),
            **parts[key],
        )
        for key in about
    }


def _package() -> Path:
    import metaworld  # imported late: it takes a second

    return Path(metaworld.__file__).parent


def _below_package(path: str) -> str:
    return str(Path(path).resolve().relative_to(_package().resolve()))
