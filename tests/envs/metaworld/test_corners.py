"""Rewards against Meta-World's own on made-up observations, for branches that no whole episode reaches."""

from __future__ import annotations

import numpy as np
import pytest

from metarl.envs.metaworld.classes import MANIPULATIONS
from metarl.envs.metaworld.scene import COMMON_SENSORS, Scene
from metarl.scripts.reference.metaworld import started

ROWS = 400
OBSERVING = (
    "faucet-close-v3",
    "faucet-open-v3",
    "hammer-v3",
    "hand-insert-v3",
    "handle-pull-v3",
    "handle-pull-side-v3",
    "lever-pull-v3",
    "plate-slide-v3",
    "plate-slide-back-v3",
    "plate-slide-side-v3",
    "plate-slide-back-side-v3",
)
"""Classes whose reward in Meta-World depends on the observed object only, not on the simulation."""


@pytest.mark.parametrize("name", OBSERVING)
def test_a_judge_equals_meta_world_on_made_up_observations(name: str) -> None:
    kind, env, rng = MANIPULATIONS[name], started(name, goal=0), np.random.default_rng(0)
    for _ in range(25):  # the hand down, where the rewards ask for it
        env.step(np.array([0.0, 0.0, -1.0, -1.0]))
    observation = np.tile(env._get_obs(), (ROWS, 1))
    start = env.obj_init_pos
    centres = np.array([env.tcp_center, env._target_pos, start, observation[0, :3]])[rng.integers(4, size=ROWS)]
    observation[:, 3] = rng.choice([0.0, 0.5], ROWS)
    scale = rng.choice([0.01, 0.05, 0.2], size=(ROWS, 1))
    observation[:, 4:7] = centres + scale * rng.normal(size=(ROWS, 3))
    observation[:, 7:11] = np.array([1.0, 0.0, 0.0, 0.0]) + scale * rng.normal(size=(ROWS, 4))
    actions = rng.uniform(-1.5, 1.5, size=(ROWS, 4))
    sensors = {**COMMON_SENSORS, **kind.sensors}
    sensed = {key: np.array(sensor(env.data)).reshape(1, -1).repeat(ROWS, axis=0) for key, sensor in sensors.items()}
    goal = {key: np.array(getattr(env, key)).reshape(1, -1).repeat(ROWS, axis=0) for key in kind.constants}
    verdict = kind.judge(Scene(sensed, goal, observation, actions, touching=np.zeros(ROWS, dtype=bool)))
    theirs = [env.evaluate_state(row, action)[1] for row, action in zip(observation, actions, strict=True)]
    for term, values in vars(verdict).items():
        expected = np.array([float(info["unscaled_reward" if term == "reward" else term]) for info in theirs])
        ours = np.asarray(values, dtype=np.float64)
        np.testing.assert_allclose(ours, expected, rtol=1e-9, atol=1e-9, err_msg=term)
