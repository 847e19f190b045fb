"""Seven-joint arm that pushes a cylinder to a hidden goal.

Physics and initial state equal those of Gymnasium's `Pusher-v5`, except that the task sets the goal. `Pusher-v5` has
a constant goal.

| observation | index | unit |
|---|---|---|
| angles of the arm's joints | 0 to 6 | rad |
| velocities of the arm's joints | 7 to 13 | rad/s |
| position of the fingertip | 14 to 16 | m |
| position of the cylinder | 17 to 19 | m |

These are the numbers of `Pusher-v5` without the goal. The cylinder's first position is drawn at every reset and is
visible.

| action | index | range |
|---|---|---|
| torques: shoulder pan, shoulder lift, upper arm roll, elbow, forearm roll, wrist flex, wrist roll | 0 to 6 | [-2, 2] |

In the reward, f and c are the positions of fingertip and cylinder in m after the step (0.05 s) and a the action before
clipping.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from metarl.envs.mujoco_batch import MujocoTaskEnv, Output, gymnasium_asset
from metarl.tasks import ContinuousTasks, Family, uniform
from metarl.types import Bools, Floats, Task

ARM = 7  # joints of the arm; the next two slide the cylinder along y and x, the last two the goal
CYLINDER_LOW, CYLINDER_HIGH = (-0.3, -0.2), (0.0, 0.2)
CLEARANCE = 0.17
"""Lower bound, in m, of the cylinder's first distance from the goal of `Pusher-v5`."""


class Pusher(MujocoTaskEnv):
    """A batch of arms with their cylinders."""

    observation_size = 20
    observation_units = ("rad",) * 7 + ("rad/s",) * 7 + ("m",) * 6
    model_path = gymnasium_asset("pusher_v5.xml")
    frame_skip = 5
    position_noise = 0.0
    velocity_noise = 0.005
    # Values of the last physics step, as in Pusher-v5.
    outputs: ClassVar[Mapping[str, Output]] = {
        "tip": lambda data: data.body("tips_arm").xpos,
        "cylinder": lambda data: data.body("object").xpos,
        "goal": lambda data: data.body("goal").xpos,
    }

    def _apply_tasks(self, tasks: Sequence[Task]) -> None:
        super()._apply_tasks(tasks)
        self._goal = self.task_values(tasks, "goal")  # [N, 2]

    def _initial_states(self, rows: np.ndarray, rng: np.random.Generator) -> tuple[Floats, Floats]:
        qpos, qvel = super()._initial_states(rows, rng)
        cylinder = rng.uniform(CYLINDER_LOW, CYLINDER_HIGH, (len(rows), 2))
        while (near := np.linalg.norm(cylinder, axis=1) <= CLEARANCE).any():
            cylinder[near] = rng.uniform(CYLINDER_LOW, CYLINDER_HIGH, (near.sum(), 2))
        qpos[:, ARM:] = np.concatenate([cylinder, self._goal[rows]], axis=1)
        qvel[:, ARM:] = 0.0
        return qpos, qvel

    def _observe(self, rows: np.ndarray) -> Floats:
        tip, cylinder = self.batch.outputs["tip"], self.batch.outputs["cylinder"]
        arm = [self.batch.qpos[rows, :ARM], self.batch.qvel[rows, :ARM]]
        return np.concatenate([*arm, tip[rows], cylinder[rows]], axis=1)

    def _judge(self, rows: np.ndarray, before: Floats, actions: Floats) -> tuple[Floats, Bools, dict[str, np.ndarray]]:
        tip, cylinder, goal = (self.batch.outputs[name][rows] for name in ("tip", "cylinder", "goal"))
        reward = -np.linalg.norm(cylinder - goal, axis=1) - 0.5 * np.linalg.norm(cylinder - tip, axis=1)
        reward -= 0.1 * np.square(actions, dtype=np.float64).sum(axis=1)
        return reward, np.zeros(len(rows), dtype=np.bool_), {}


def pusher_goal() -> Family:
    """Arm that pushes a cylinder to a goal.

    - Observation: 20 numbers in rad, rad/s and m, see the module.
    - Action: 7 torques in [-2, 2].
    - Reward: `-|c - g| - 0.5 |c - f| - 0.1 |a|^2`.
    - End: truncated after 100 steps.
    - Varies: goal g, uniform in U(-0.1, 0.1)^2 m (along y and x) around the goal of `Pusher-v5`; hidden.
    - Source: our own range, all within reach of the arm.
    """
    name = "pusher-goal"
    goal = uniform("goal", -0.1, 0.1, size=2, meaning="goal of the cylinder, along y and x from that of Pusher-v5, m")
    return Family(
        name=name,
        summary="push a cylinder to a goal",
        distribution=ContinuousTasks(name, (goal,)),
        horizon=100,
        make_envs=Pusher,
    )
