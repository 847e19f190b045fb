"""Recordings of Meta-World's own environments, the reference for ours."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from metarl.envs.metaworld.scene import COMMON_SENSORS, Manipulation, Scene, add_quaternions

Playing = Literal["scripted", "noisy", "random"]
"""Source of actions: Meta-World's scripted policy, that policy with noise, or random actions."""
NOISE = 0.5
"""Standard deviation of the noise on scripted actions."""
HOLD = 8
"""Steps for which a random action is repeated, so that the hand moves far enough."""


@functools.cache
def _benchmark(name: str) -> Any:
    """Meta-World's `ML1` with our families' default seed."""
    import metaworld  # imported late: it takes a second

    make: Any = metaworld.ML1
    return make(name, seed=42)


def started(name: str, goal: int) -> Any:
    """Meta-World's environment of class `name` with training goal number `goal`, after a reset."""
    env = gymnasium_env(name, goal)
    env.reset()
    return env


class Player:
    """A source of float64 actions. Meta-World computes parts of the reward in the dtype of the action.

    Args:
        name: Name of the task class.
        playing: Source of the actions.
        seed: Seed of noise and random actions.
    """

    def __init__(self, name: str, playing: Playing, seed: int) -> None:
        from metaworld.policies import ENV_POLICY_MAP

        make_policy: Any = ENV_POLICY_MAP[name]
        self._policy, self._playing = make_policy(), playing
        self._rng = np.random.default_rng(seed)
        self._held, self._steps = np.zeros(4), 0

    def action(self, env: Any, observation: np.ndarray) -> np.ndarray:
        """The next action, `[4]`. The scripted policy sees the goal, unlike an agent.

        Args:
            env: Meta-World's environment.
            observation: Its last observation, `[39]`.
        """
        self._steps += 1
        if self._playing == "random":
            if self._steps % HOLD == 1:
                self._held = self._rng.uniform(-1.0, 1.0, 4)
            return self._held
        shown = np.concatenate([observation[:36], np.resize(env._target_pos, 3)])
        action = np.asarray(self._policy.get_action(shown), dtype=np.float64)
        noise = self._rng.normal(scale=NOISE, size=4) if self._playing == "noisy" else 0.0
        return np.clip(action + noise, -1.0, 1.0)


@dataclass
class Recording:
    """An episode of Meta-World's own environment.

    Attributes:
        scene: Input of `Manipulation.judge`, one row per step.
        objects: Observed positions (m) and quaternions of the objects, `[T, 14]`.
        rewards: Rewards of Meta-World, `[T]`.
        infos: Infos of Meta-World by name, `[T]` each.
    """

    scene: Scene
    objects: np.ndarray
    rewards: np.ndarray
    infos: dict[str, np.ndarray]


def _constants(env: Any, names: tuple[str, ...]) -> dict[str, np.ndarray]:
    return {name: np.array(getattr(env, name), dtype=np.float64).reshape(-1) for name in names}


def record(kind: type[Manipulation], goal: int, playing: Playing, steps: int = 500, seed: int = 0) -> Recording:
    """Records an episode of Meta-World's own environment.

    Args:
        kind: The task class.
        goal: Number of the training goal.
        playing: Source of the actions.
        steps: `T`, steps of the episode.
        seed: Seed of noise and random actions.

    Raises:
        AssertionError: A goal constant of the class changes during the episode.
    """
    env = started(kind.name, goal)
    sensors = {**COMMON_SENSORS, **kind.sensors}
    constants = _constants(env, kind.constants)
    player = Player(kind.name, playing, seed)
    observation = env._get_obs()
    rows: dict[str, list[Any]] = {name: [] for name in (*sensors, "observation", "action", "touching", "reward")}
    infos: dict[str, list[float]] = {}
    for step in range(steps):
        action = player.action(env, observation)
        observation, reward, _, _, info = env.step(action)
        if step == 0:
            constants |= _constants(env, kind.settled_constants)
        for name, sensor in sensors.items():
            rows[name].append(np.array(sensor(env.data), dtype=np.float64).reshape(-1))
        touching = env.touching_object(env.data.geom(kind.main_object).id) if kind.main_object else False
        for name, value in (
            ("observation", observation),
            ("action", action),
            ("touching", touching),
            ("reward", reward),
        ):
            rows[name].append(value)
        for name, value in info.items():
            infos.setdefault(name, []).append(float(value))
    for name, value in _constants(env, tuple(constants)).items():
        assert np.array_equal(value, constants[name]), f"{kind.name}: {name} changes in an episode; use a sensor"
    arrays = {name: np.array(values) for name, values in rows.items()}
    sensed = {name: arrays[name] for name in sensors}
    add_quaternions([sensed])
    return Recording(
        scene=Scene(
            sensed=sensed,
            goal={name: np.repeat(value[None], steps, axis=0) for name, value in constants.items()},
            observation=arrays["observation"],
            actions=arrays["action"],
            touching=arrays["touching"].astype(bool),
        ),
        objects=arrays["observation"][:, 4:18],
        rewards=arrays["reward"],
        infos={name: np.array(values) for name, values in infos.items()},
    )


def gymnasium_env(name: str, goal: int) -> Any:
    """Meta-World's environment of class `name` with training goal number `goal`; it truncates after 500 steps."""
    made = _benchmark(name)
    env = made.train_classes[name]()
    env.set_task(made.train_tasks[goal])
    return env
