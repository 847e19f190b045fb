"""Swimmer of three links that swims at a hidden velocity.

Physics, observation and initial state equal those of Gymnasium's `Swimmer-v5`.

| observation | index | unit |
|---|---|---|
| angle of the front link, angles of two joints | 0 to 2 | rad |
| velocity of the front link along x and y, angular velocities | 3 to 7 | m/s, rad/s |

| action | index | range |
|---|---|---|
| torques at the two joints | 0, 1 | [-1, 1] |

In the reward, v is the velocity along x over one step (0.04 s) in m/s and a the action before clipping.
"""

from __future__ import annotations

from metarl.envs.locomotion import Locomotion, locomotion_family, speed
from metarl.envs.mujoco_batch import gymnasium_asset
from metarl.tasks import Family


class Swimmer(Locomotion):
    """A batch of swimmers."""

    model_path = gymnasium_asset("swimmer.xml")
    frame_skip = 4
    observation_size = 8
    position_noise = velocity_noise = 0.1
    skipped_positions = 2
    control_cost = 1e-4


def swimmer_vel() -> Family:
    """Swimmer that swims at a target velocity.

    - Observation: 8 numbers in rad, m/s and rad/s, see the module.
    - Action: 2 torques in [-1, 1].
    - Reward: `-|v - v*| - 0.0001 |a|^2`.
    - End: truncated after 200 steps.
    - Varies: target velocity v* in U(0.1, 0.2) m/s; hidden.
    - Source: ProMP, whose code has `+|v - v*|` and so rewards missing the velocity; the sign here is that of its other
      families.
    """
    return locomotion_family("swimmer-vel", Swimmer, "swim at a velocity from U(0.1, 0.2) m/s", goal=speed(0.1, 0.2))
