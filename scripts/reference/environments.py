"""Reference implementation of each family: a plain Gymnasium environment, constructed for one task."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium
import mujoco
import numpy as np
from gymnasium import spaces

from metarl.types import Task


class PointRobotEnv(gymnasium.Env[np.ndarray, np.ndarray]):
    """A point in the plane.

    Args:
        task: The task.
        sparse: Use the reward of `sparse-point-robot`.
    """

    def __init__(self, task: Task, sparse: bool = False) -> None:
        self.observation_space = spaces.Box(-np.inf, np.inf, (2,), np.float64)
        self.action_space = spaces.Box(-0.1, 0.1, (2,), np.float32)
        self._goal, self._sparse, self._position = task["goal"], sparse, [0.0, 0.0]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets to the origin."""
        super().reset(seed=seed)
        self._position = [0.0, 0.0]
        return np.array(self._position), {}

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Moves by the action, each component clipped."""
        for i in range(2):
            self._position[i] += min(max(float(action[i]), -float(np.float32(0.1))), float(np.float32(0.1)))
        offset = [self._position[i] - self._goal[i] for i in range(2)]
        distance = (offset[0] ** 2 + offset[1] ** 2) ** 0.5
        if self._sparse:
            near = distance <= 0.2
            return np.array(self._position), 1.0 - distance if near else 0.0, False, False, {"success": near}
        arrived = abs(offset[0]) < 0.01 and abs(offset[1]) < 0.01
        return np.array(self._position), -distance, arrived, False, {"success": arrived}


Reward = Callable[[Any, Task, dict[str, Any]], float]
"""Function of the environment after a step, the task, and Gymnasium's info; returns the reward without control cost."""


class GymnasiumTaskEnv(gymnasium.Wrapper[Any, Any, Any, Any]):
    """A MuJoCo environment of Gymnasium with the reward, dynamics and observation of a task.

    Args:
        task: The task.
        env_id: Gymnasium's name of the environment.
        reward: The reward without control cost.
        control_cost: Factor on the squared norm of the action, subtracted from the reward.
        change_model: Writes the task's dynamics into the `MjModel`.
        observe: Function of the environment and its observation; returns our observation.
        **options: Further arguments of Gymnasium's constructor.
    """

    def __init__(
        self,
        task: Task,
        env_id: str,
        reward: Reward,
        control_cost: float,
        change_model: Callable[[Any, Task], None] = lambda model, task: None,
        observe: Callable[[Any, np.ndarray], np.ndarray] = lambda env, observation: observation,
        **options: Any,
    ) -> None:
        super().__init__(gymnasium.make(env_id, **{**GYMNASIUM_OPTIONS.get(env_id, {}), **options}))
        self._task, self._reward, self._control_cost, self._observe = task, reward, control_cost, observe
        change_model(self.env.unwrapped.model, task)  # type: ignore[attr-defined]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets Gymnasium's environment."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self._observe(self.env.unwrapped, observation), info

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Steps Gymnasium's environment; replaces reward and observation."""
        observation, _, terminated, truncated, info = self.env.step(action)
        env = self.env.unwrapped
        reward = self._reward(env, self._task, info) - self._control_cost * sum(float(a) ** 2 for a in action)
        return self._observe(env, observation), reward, terminated, truncated, info


def _forward(info: dict[str, Any]) -> float:
    return float(info["x_velocity"])


def _along(direction: float, info: dict[str, Any]) -> float:
    return direction * float(info["x_velocity"])


def _along_angle(angle: float, info: dict[str, Any]) -> float:
    return math.cos(angle) * float(info["x_velocity"]) + math.sin(angle) * float(info["y_velocity"])


def _at_speed(target: float, info: dict[str, Any]) -> float:
    return -abs(float(info["x_velocity"]) - target)


def _ant_place(env: Any, task: Task, info: dict[str, Any]) -> float:
    x, y, _ = env.data.body("torso").xpos
    return -abs(x - task["place"][0]) - abs(y - task["place"][1]) - env.contact_cost


def _reach(env: Any, task: Task, info: dict[str, Any]) -> float:
    x, y, _ = env.get_body_com("fingertip")
    return -math.hypot(x - task["goal"][0], y - task["goal"][1])


def _push(env: Any, task: Task, info: dict[str, Any]) -> float:
    tip, cylinder, goal = (env.get_body_com(name).tolist() for name in ("tips_arm", "object", "goal"))
    return -math.dist(cylinder, goal) - 0.5 * math.dist(cylinder, tip)


def _random_parameters(model: Any, task: Task) -> None:
    for i, factor in enumerate(task["body_mass"]):
        model.body_mass[1 + i] *= factor  # body 0 is the world
    published = "body_inertia" in dict(task.parameters)
    for i, factor in enumerate(task["body_inertia"] if published else ()):
        model.body_inertia[1 + i // 3, i % 3] *= factor
    for body in range(0 if published else model.nbody - 1):
        half = sum(model.body_inertia[1 + body]) / 2
        factors = task["body_second_moment"][3 * body : 3 * body + 3]
        x, y, z = (f * (half - moment) for f, moment in zip(factors, model.body_inertia[1 + body], strict=True))
        model.body_inertia[1 + body] = y + z, x + z, x + y
    for i, factor in enumerate(task["geom_friction"]):
        model.geom_friction[i // 3, i % 3] *= factor
    for i, factor in enumerate(task["dof_damping"]):
        model.dof_damping[3 + i] *= factor  # the first three degrees of freedom, of the torso, have no damping
    mujoco.mj_setConst(model, mujoco.MjData(model))


def _gears(model: Any, task: Task) -> None:
    for i, factor in enumerate(task["actuator_gear"]):
        model.actuator_gear[i, 0] *= factor
    mujoco.mj_setConst(model, mujoco.MjData(model))


class BreakingTaskEnv(GymnasiumTaskEnv):
    """An environment whose actuators lose their gear within the episode.

    Args:
        task: The task.
        horizon: Steps of an episode; the moment of the break is a fraction of them.
        **settings: Those of `GymnasiumTaskEnv`.
    """

    def __init__(self, task: Task, horizon: int = 200, **settings: Any) -> None:
        super().__init__(task, **settings)
        self._model: Any = self.env.unwrapped.model  # type: ignore[attr-defined]
        self._whole, self._steps = self._model.actuator_gear.copy(), 0
        self._last = math.floor(task["break_at"][0] * horizon)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets with all actuators."""
        self._steps, self._model.actuator_gear[:] = 0, self._whole
        return super().reset(seed=seed, options=options)

    def step(self, action: np.ndarray) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Breaks the robot if it is time, then steps."""
        if self._steps == self._last:
            _gears(self._model, self._task)
        self._steps += 1
        return super().step(action)


def _wind(model: Any, task: Task) -> None:
    model.opt.density = 1.2
    model.opt.wind[0] = task["wind"][0]


def _gravity(model: Any, task: Task) -> None:
    model.opt.gravity[2] *= task["gravity"][0]


def _cheetah(reward: Reward, kind: Any = GymnasiumTaskEnv, **settings: Any) -> Callable[..., gymnasium.Env[Any, Any]]:
    return partial(kind, env_id="HalfCheetah-v5", reward=reward, control_cost=0.05, **settings)


def _ant(
    reward: Reward, control_cost: float = 0.5, kind: Any = GymnasiumTaskEnv, **settings: Any
) -> Callable[..., gymnasium.Env[Any, Any]]:
    return partial(kind, env_id="Ant-v5", reward=reward, control_cost=control_cost, **settings)


def _walker(reward: Reward, **settings: Any) -> Callable[[Task], gymnasium.Env[Any, Any]]:
    return partial(GymnasiumTaskEnv, env_id="Walker2d-v5", reward=reward, control_cost=1e-3, **settings)


def _hopper(reward: Reward, **settings: Any) -> Callable[[Task], gymnasium.Env[Any, Any]]:
    return partial(GymnasiumTaskEnv, env_id="Hopper-v5", reward=reward, control_cost=1e-3, **settings)


class BanditEnv(gymnasium.Env[np.ndarray, int]):
    """A Bernoulli bandit."""

    def __init__(self, task: Task) -> None:
        self._probabilities = task["probabilities"]
        self.observation_space = spaces.Box(0.0, 0.0, (1,), np.float64)
        self.action_space = spaces.Discrete(len(self._probabilities))  # type: ignore[assignment]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Only seeds: a bandit has no state."""
        super().reset(seed=seed)
        return np.zeros(1), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Pulls an arm; the reward is 1 with its probability, else 0."""
        return np.zeros(1), float(self.np_random.random() < self._probabilities[action]), False, False, {}


class TabularMdpEnv(gymnasium.Env[np.ndarray, int]):
    """A tabular Markov decision process."""

    def __init__(self, task: Task) -> None:
        states = len(task["transitions"]) // len(task["rewards"])
        self._rewards = np.reshape(task["rewards"], (states, -1))
        self._transitions = np.reshape(task["transitions"], (*self._rewards.shape, states))
        self._state = 0
        self.observation_space = spaces.Box(0.0, 1.0, (states,), np.float64)
        self.action_space = spaces.Discrete(self._rewards.shape[1])  # type: ignore[assignment]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Resets to state 0."""
        super().reset(seed=seed)
        self._state = 0
        return np.eye(len(self._rewards))[0], {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Draws the reward and the next state."""
        reward = self.np_random.normal(self._rewards[self._state, action], 1.0)
        self._state = int(self.np_random.choice(len(self._rewards), p=self._transitions[self._state, action]))
        return np.eye(len(self._rewards))[self._state], reward, False, False, {}


class DelayedRecallEnv(gymnasium.Env[np.ndarray, int]):
    """A cue that is asked for later.

    Args:
        task: The task.
        cues: Number of cues.
        delay: Steps from the cue to the question.
    """

    def __init__(self, task: Task, cues: int = 4, delay: int = 50) -> None:
        self._cue, self._cues, self._delay, self._steps = int(task["cue"][0]), cues, delay, 0
        self.observation_space = spaces.Box(0.0, 1.0, (2 * cues + 1,), np.float64)
        self.action_space = spaces.Discrete(cues)  # type: ignore[assignment]

    def _seen(self) -> np.ndarray:
        seen = np.zeros(2 * self._cues + 1)
        if self._steps == 0:
            seen[self._cue] = 1.0
        elif self._steps < self._delay:
            seen[self._cues + self.np_random.integers(self._cues)] = 1.0
        if self._steps == self._delay:
            seen[-1] = 1.0
        return seen

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Shows the cue."""
        super().reset(seed=seed)
        self._steps = 0
        return self._seen(), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Shows a distractor, or asks; the reward is 1 for the right answer to the question, else 0."""
        right = self._steps == self._delay and int(action) == self._cue
        self._steps += 1
        return self._seen(), float(right), False, False, {"success": right}


GYMNASIUM_IDS = {
    "half-cheetah-dir": "HalfCheetah-v5",
    "half-cheetah-vel": "HalfCheetah-v5",
    "half-cheetah-vel-3": "HalfCheetah-v5",
    "half-cheetah-rand-params": "HalfCheetah-v5",
    "half-cheetah-rand-params-published": "HalfCheetah-v5",
    "half-cheetah-crippled": "HalfCheetah-v5",
    "half-cheetah-breaking": "HalfCheetah-v5",
    "half-cheetah-wind": "HalfCheetah-v5",
    "ant-dir": "Ant-v5",
    "ant-dir-2d": "Ant-v5",
    "ant-goal": "Ant-v5",
    "ant-vel": "Ant-v5",
    "ant-crippled": "Ant-v5",
    "ant-breaking": "Ant-v5",
    "humanoid-dir-2d": "Humanoid-v5",
    "walker2d-dir": "Walker2d-v5",
    "walker2d-vel": "Walker2d-v5",
    "walker2d-rand-params": "Walker2d-v5",
    "walker2d-rand-params-published": "Walker2d-v5",
    "hopper-vel": "Hopper-v5",
    "hopper-rand-params": "Hopper-v5",
    "hopper-rand-params-published": "Hopper-v5",
    "hopper-gravity": "Hopper-v5",
    "swimmer-vel": "Swimmer-v5",
    "reacher-goal": "Reacher-v5",
    "pusher-goal": "Pusher-v5",
}
"""Gymnasium environment whose physics a family uses, by family."""

GYMNASIUM_OPTIONS: dict[str, dict[str, Any]] = {
    "Ant-v5": {"include_cfrc_ext_in_observation": False},
    "Humanoid-v5": {
        "include_cinert_in_observation": False,
        "include_cvel_in_observation": False,
        "include_qfrc_actuator_in_observation": False,
        "include_cfrc_ext_in_observation": False,
    },
}
"""Constructor options by Gymnasium environment, so that its observation is that of our families."""

SINGLE_ENVS: dict[str, Callable[..., gymnasium.Env[Any, Any]]] = {
    "point-robot": PointRobotEnv,
    "sparse-point-robot": lambda task: PointRobotEnv(task, sparse=True),
    "half-cheetah-dir": _cheetah(lambda env, task, info: _along(task["direction"][0], info)),
    "half-cheetah-vel": _cheetah(lambda env, task, info: _at_speed(task["velocity"][0], info)),
    "half-cheetah-vel-3": _cheetah(lambda env, task, info: _at_speed(task["velocity"][0], info)),
    "half-cheetah-rand-params": _cheetah(lambda env, task, info: _forward(info), change_model=_random_parameters),
    "half-cheetah-crippled": _cheetah(lambda env, task, info: _forward(info), change_model=_gears),
    "half-cheetah-breaking": _cheetah(lambda env, task, info: _forward(info), kind=BreakingTaskEnv),
    "half-cheetah-wind": _cheetah(lambda env, task, info: _forward(info), change_model=_wind),
    "ant-dir": _ant(
        lambda env, task, info: _along(task["direction"][0], info) + env.is_healthy - env.contact_cost,
    ),
    "ant-dir-2d": _ant(
        lambda env, task, info: _along_angle(task["angle"][0], info) + env.is_healthy - env.contact_cost,
    ),
    "ant-goal": _ant(
        _ant_place,
        control_cost=0.1,
        terminate_when_unhealthy=False,
        exclude_current_positions_from_observation=False,
    ),
    "ant-vel": _ant(
        lambda env, task, info: _at_speed(task["velocity"][0], info) + 1.05 * env.is_healthy - env.contact_cost,
        control_cost=0.005,
    ),
    "ant-crippled": _ant(
        lambda env, task, info: _forward(info) + env.is_healthy - env.contact_cost, change_model=_gears
    ),
    "ant-breaking": _ant(
        lambda env, task, info: _forward(info) + env.is_healthy - env.contact_cost, kind=BreakingTaskEnv
    ),
    "humanoid-dir-2d": partial(
        GymnasiumTaskEnv,
        env_id="Humanoid-v5",
        reward=lambda env, task, info: (
            1.25 * _along_angle(task["angle"][0], info) + 5.0 * env.is_healthy - env.contact_cost
        ),
        control_cost=0.1,
    ),
    "walker2d-dir": _walker(lambda env, task, info: _along(task["direction"][0], info) + env.is_healthy),
    "walker2d-vel": _walker(lambda env, task, info: _at_speed(task["velocity"][0], info) + 15.0 * env.is_healthy),
    "walker2d-rand-params": _walker(
        lambda env, task, info: _forward(info) + env.is_healthy, change_model=_random_parameters
    ),
    "hopper-vel": _hopper(lambda env, task, info: _at_speed(task["velocity"][0], info) + 3.0 * env.is_healthy),
    "hopper-rand-params": _hopper(
        lambda env, task, info: _forward(info) + env.is_healthy, change_model=_random_parameters
    ),
    "hopper-gravity": _hopper(lambda env, task, info: _forward(info) + env.is_healthy, change_model=_gravity),
    "swimmer-vel": partial(
        GymnasiumTaskEnv,
        env_id="Swimmer-v5",
        reward=lambda env, task, info: _at_speed(task["velocity"][0], info),
        control_cost=1e-4,
    ),
    "reacher-goal": partial(
        GymnasiumTaskEnv,
        env_id="Reacher-v5",
        reward=_reach,
        control_cost=1.0,
        observe=lambda env, seen: np.concatenate([seen[[0, 1, 2, 3, 6, 7]], env.get_body_com("fingertip")[:2]]),
    ),
    "pusher-goal": partial(
        GymnasiumTaskEnv, env_id="Pusher-v5", reward=_push, control_cost=0.1, observe=lambda env, seen: seen[:20]
    ),
    "bandit": BanditEnv,
    "tabular-mdp": TabularMdpEnv,
    "delayed-recall": DelayedRecallEnv,
}
"""Constructor of a task's environment, by family."""

for _name in ("half-cheetah", "walker2d", "hopper"):  # the task's parameters tell the two recipes apart
    SINGLE_ENVS[f"{_name}-rand-params-published"] = SINGLE_ENVS[f"{_name}-rand-params"]
