"""Two-link arm in the plane that reaches a hidden goal with its fingertip.

Physics and initial state equal those of Gymnasium's `Reacher-v5`, except that the task sets the goal. `Reacher-v5`
draws a new one at every reset.

| observation | index | unit |
|---|---|---|
| cosines of the two joint angles, their sines | 0 to 3 | 1 |
| velocities of the joints | 4, 5 | rad/s |
| position of the fingertip x, y | 6, 7 | m |

These are the numbers of `Reacher-v5` without the goal, and with the fingertip's position instead of its offset from
the goal.

| action | index | range |
|---|---|---|
| torques at shoulder and elbow | 0, 1 | [-1, 1] |

In the reward, p is the fingertip's position in m after the step (0.02 s) and a the action before clipping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from metarl.envs.camera import View
from metarl.envs.mujoco_batch import MujocoTaskEnv, Output, gymnasium_asset
from metarl.envs.task_sets import on_disc
from metarl.tasks import ContinuousTasks, Family
from metarl.types import Bools, Floats, Task

ARM = 2  # joints of the arm; the next two slide the target to its place


class Reacher(MujocoTaskEnv):
    """A batch of arms."""

    model_path = gymnasium_asset("reacher.xml")
    frame_skip = 2
    observation_size = 8
    observation_units = ("1",) * 4 + ("rad/s",) * 2 + ("m",) * 2
    position_noise = 0.1
    velocity_noise = 0.005
    view = View(body=0, distance=0.8, elevation=-75.0)
    # Values of the last physics step, as in Reacher-v5.
    outputs: ClassVar[Mapping[str, Output]] = {
        "fingertip": lambda data: data.body("fingertip").xpos,
        "target": lambda data: data.body("target").xpos,
    }

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        super()._apply_tasks(tasks)
        self._goal = self.task_values(tasks, "goal")  # [N, 2]

    def _initial_states(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[Floats, Floats]:
        qpos, qvel = super()._initial_states(rows, rng)
        qpos[:, ARM:], qvel[:, ARM:] = self._goal[rows], 0.0
        return qpos, qvel

    def _observe(self, rows: np.ndarray) -> Floats:
        angles, velocities = self.batch.qpos[rows, :ARM], self.batch.qvel[rows, :ARM]
        return np.concatenate(
            [np.cos(angles), np.sin(angles), velocities, self.batch.outputs["fingertip"][rows, :2]], axis=1
        )

    def _judge(self, rows: np.ndarray, before: Floats, actions: Floats) -> tuple[Floats, Bools, dict[str, np.ndarray]]:
        outputs = self.batch.outputs
        distance = np.linalg.norm(outputs["fingertip"][rows] - outputs["target"][rows], axis=1)
        reward = -distance - np.square(actions, dtype=np.float64).sum(axis=1)
        return reward, np.zeros(len(rows), dtype=np.bool_), {}


def reacher_goal() -> Family:
    """Arm that reaches a goal.

    - Observation: 8 numbers in 1, rad/s and m, see the module.
    - Action: 2 torques in [-1, 1].
    - Reward: `-|p - g| - |a|^2`.
    - End: truncated after 50 steps.
    - Varies: goal g, uniform on the disc of radius 0.2 m around the shoulder; hidden.
    - Source: the range of `Reacher-v5`.
    """
    name = "reacher-goal"
    goal = on_disc("goal", 0.2, meaning="goal of the fingertip, m", center="the shoulder")
    return Family(
        name=name,
        summary="reach a goal within 0.2 m of the shoulder",
        distribution=ContinuousTasks(name, (goal,)),
        horizon=50,
        make_envs=Reacher,
    )
