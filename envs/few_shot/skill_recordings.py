"""Recordings of Meta-World's scripted policies, made once and then read from a cache."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import logging
import sys
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from metarl.envs.metaworld.classes import MANIPULATIONS
from metarl.envs.metaworld.goals import PACKAGES, cache_folder, warn_of_other_versions
from metarl.files import write_bytes
from metarl.types import Floats

FORMAT = 1
"""Version of the cache; increased when the recordings change."""
STRIDE = 5
"""Steps from one recorded frame to the next (16 per second)."""
CHANNELS = (*range(7),)
"""Recorded components of the observation: hand (m), opening of the gripper, first object (m)."""
ACTIONS = 4
FRAME = len(CHANNELS) + ACTIONS
"""Numbers of a frame."""
MOST_NOISE = 0.5
"""Largest standard deviation of the noise on the actions of an episode."""
NAME = "frames"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Size:
    """Extent of the recordings.

    Args:
        classes: Names of the task classes.
        episodes: Episodes of each class, each with a goal and initial positions of its own.
        frames: Recorded frames of each episode, every `STRIDE` steps.
    """

    classes: tuple[str, ...]
    episodes: int
    frames: int


FULL = Size(tuple(sorted(MANIPULATIONS)), episodes=30, frames=30)
"""All classes, and the first 150 steps of each episode; most policies succeed within them."""


def recordings(size: Size) -> Floats:
    """Frames of all classes, `[classes, episodes, frames, 11]` float32, from the cache if possible.

    A hash of the size and of package versions is part of the file's name. A damaged file is made again. If the folder
    is not writable, the recordings are made again at the next start.

    Args:
        size: Extent of the recordings.
    """
    warn_of_other_versions()
    asked = [FORMAT, asdict(size), *map(importlib.metadata.version, PACKAGES)]
    digest = hashlib.sha256(json.dumps(asked).encode()).hexdigest()[:16]
    path = cache_folder() / "few_shot" / f"skills-{digest}.safetensors"
    if path.exists():
        try:
            return _read(path, size)
        except (ValueError, KeyError, OSError, safetensors.SafetensorError) as error:
            logger.warning("%s: damaged (%s); recording it again", path, error)
    frames = np.stack([_noted(size, number) for number in range(len(size.classes))])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, safetensors.numpy.save({NAME: frames}, metadata={"sha256": _checksum(frames)}))
    except OSError as error:
        logger.warning("%s: cannot be written (%s); the next start records it again", path, error)
    return frames


def _read(path: Path, size: Size) -> Floats:
    with safetensors.safe_open(path, framework="np") as file:
        checksum, frames = (file.metadata() or {}).get("sha256"), file.get_tensor(NAME)
    expected = (len(size.classes), size.episodes, size.frames, FRAME)
    if frames.shape != expected or frames.dtype != np.float32 or _checksum(frames) != checksum:
        raise ValueError("its checksum differs")
    return frames


def _checksum(frames: Floats) -> str:
    return hashlib.sha256(np.ascontiguousarray(frames).data).hexdigest()


def _noted(size: Size, number: int) -> Floats:
    """The recording of one class, with a line of progress."""
    name = size.classes[number]
    print(
        f"skills: recording {name}, class {number + 1} of {len(size.classes)}; cached in {cache_folder()}",
        file=sys.stderr,
        flush=True,
    )
    return recorded(name, size.episodes, size.frames)


def recorded(name: str, episodes: int, frames: int) -> Floats:
    """Records Meta-World's scripted policy of a class, `[episodes, frames, 11]` float32.

    Each episode has a new random goal, and normal noise on its actions with a deviation from U(0, 0.5). Random numbers
    come from a generator that is seeded with the name of the class. The policy sees the goal; the recording has none.

    Args:
        name: Name of the class.
        episodes: Number of episodes.
        frames: Frames of each episode.
    """
    from metaworld.policies import ENV_POLICY_MAP  # imported late: it takes a second

    make_policy: Any = ENV_POLICY_MAP[name]
    rng = np.random.default_rng(int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little"))
    env, policy = _environment(name, int(rng.integers(2**31))), make_policy()
    result = np.empty((episodes, frames, FRAME), dtype=np.float32)
    for episode in result:
        noise = rng.uniform(0.0, MOST_NOISE)
        observation, _ = env.reset()
        for step in range(frames * STRIDE):
            action = _action(policy, observation, env._target_pos, rng.normal(scale=noise, size=ACTIONS))
            if step % STRIDE == 0:
                episode[step // STRIDE] = [*observation[list(CHANNELS)], *action]
            observation, *_ = env.step(action)
    env.close()
    return result


def _environment(name: str, seed: int) -> Any:
    """Meta-World's environment of a class with random goals, without the reward, which takes a third of the time."""
    from metaworld.env_dict import ALL_V3_ENVIRONMENTS

    make: Any = ALL_V3_ENVIRONMENTS[name]
    env = make()
    env._partially_observable, env._freeze_rand_vec = True, False
    env._set_task_called = env.seeded_rand_vec = True
    env.evaluate_state = lambda observation, action: (0.0, {})
    env.seed(seed)  # a seed for reset is ignored
    return env


def _action(policy: Any, observation: Floats, target: Floats, noise: Floats) -> Floats:
    """The scripted action with noise, `[4]` in [-1, 1]. The policy gets a copy, since some policies write to it."""
    shown = np.concatenate([observation[:36], np.resize(target, 3)])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Constant.s. may be too high", UserWarning)  # actions are clipped
        action = np.asarray(policy.get_action(shown), dtype=np.float64)
    return np.clip(action + noise, -1.0, 1.0)
