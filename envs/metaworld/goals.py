"""The goals of Meta-World's benchmarks as arrays: computed once with Meta-World itself, then read from a cache.

A reset of Meta-World's environments simulates 500 physics steps, and ends in the same state every time for the same
goal. So a goal is that state, the model's fields that differ from its XML file, and the numbers that the reward needs.
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
"""What of an `MjData` decides all that follows: positions, velocities, warm start, mocap, controls and the like."""
PACKAGES = ("metaworld", "mujoco", "gymnasium", "numpy")
FORMAT = 1
"""Of the cache; counted up when what is stored changes."""

TESTED = {"metaworld": "3.1.1", "mujoco": "3.3.0", "gymnasium": "1.4.0"}
"""The versions that ours was compared with."""

logger = logging.getLogger(__name__)


@functools.cache
def warn_of_other_versions() -> None:
    """One warning where what is installed was not tested."""
    found = {name: importlib.metadata.version(name) for name in TESTED}
    if found != TESTED:
        listed = (", ".join(f"{name} {version}" for name, version in one.items()) for one in (found, TESTED))
        logger.warning(
            "got %s, tested are %s; whether they play alike: python -m metarl.scripts.reference.metaworld_parity",
            *listed,
        )


@dataclass(frozen=True)
class ClassGoals:
    """`G` goals of one class of tasks.

    Attributes:
        model_path: The class's XML file.
        vectors: Meta-World's random vector of each goal: where objects start, and the target, `[G, V]`.
        targets: The place that each asks for, `[G, 3]` in m.
        states: The physics after a reset, `[G, S]` as `mj_getState(STATE)` gives it.
        observations: The first observation, `[G, 39]`.
        fields: By name the model's fields that are not as in the XML file, `[G, ...]`.
        constants: By name what the class's reward needs of a goal, `[G, size]`.
        mocap_bounds: Lowest and highest place of the hand's target, `[2, 3]` in m.
        action_scale: How far an action of 1 moves it, m.
        training: How many of them are for training; they come first, the held-out ones after them.
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
    """Lets Meta-World's own environment play every task up to its first observation.

    Args:
        kind: The class of tasks.
        make_env: Meta-World's class.
        train: Meta-World's training tasks of that class.
        held_out: Its held-out ones.
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
    """What the reward needs of the goal that an environment was just reset to; takes a step where one sets some."""

    def read(names: Sequence[str]) -> dict[str, Floats]:
        return {name: np.array(getattr(env, name), dtype=np.float64).reshape(-1) for name in names}

    result = read(kind.constants)
    if kind.settled_constants:
        env.step(np.zeros(4, dtype=np.float32))
        result |= read(kind.settled_constants)
    return result


# The cache -------------------------------------------------------------------------------------------------


def cache_folder() -> Path:
    """Where derived arrays are kept: `METARL_CACHE`, or `metarl` in the user's cache folder."""
    named = os.environ.get("METARL_CACHE")
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "metarl"


def cached_goals(
    benchmark: str,
    classes: str,
    seed: int,
    kinds: Sequence[type[Manipulation]],
    compute: Callable[[], dict[str, ClassGoals]],
) -> dict[str, ClassGoals]:
    """What `compute` gives, from the cache where it is there and whole.

    The file's name holds the versions of all packages that the arrays depend on, and what is asked for. A file that
    is damaged is computed again; a folder that cannot be written to only costs the time of the next start.

    Args:
        benchmark: Such as `ml10`.
        classes: Which of its classes are for training and held out.
        seed: Of its goals.
        kinds: The classes that are needed.
        compute: Makes the goals by class.
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
            logger.warning("%s: damaged (%s), computed again", path, error)
    goals = compute()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, _packed(goals))
    except OSError as error:
        logger.warning("%s: not written (%s); the next start computes it again", path, error)
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
    import metaworld  # late: it takes a second, and a command that only lists families should not wait

    return Path(metaworld.__file__).parent


def _below_package(path: str) -> str:
    return str(Path(path).resolve().relative_to(_package().resolve()))
