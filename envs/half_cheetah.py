"""Half-cheetah families: a hidden direction or velocity to run at, or hidden dynamics.

Physics, observation and initial state equal those of Gymnasium's `HalfCheetah-v5`.

| observation | index | unit |
|---|---|---|
| height of the torso, angles of torso and six joints | 0 to 7 | m, rad |
| velocity of the torso along x and z, angular velocities | 8 to 16 | m/s, rad/s |

| action | index | range |
|---|---|---|
| torques: back thigh, shin, foot; front thigh, shin, foot | 0 to 5 | [-1, 1] |

In the rewards, v is the velocity along x over one step (0.05 s) in m/s and a the action before clipping. An episode
never terminates; it is truncated at the horizon.

Horizon 100 is that of garage, pytorch-maml-rl and ProMP. Finn et al. 2017 (arXiv:1703.03400), oyster and varibad use
200.
"""

from __future__ import annotations

from metarl.envs.breaking import Breaking, breaking_family
from metarl.envs.locomotion import (
    DIRECTION,
    DIRECTION_SUMMARY,
    Locomotion,
    locomotion_family,
    rand_params_family,
    speed,
)
from metarl.envs.mujoco_batch import gymnasium_asset
from metarl.envs.observed_reward import Observed
from metarl.envs.variation import Change, Dead, Uniform, Variation
from metarl.tasks import Family

HORIZON = 100
AIR_DENSITY = 1.2  # kg/m^3
DEAD = Dead(train=(("bshin",), ("bfoot",), ("fthigh",), ("fshin",)), withheld=(("bthigh",), ("ffoot",)))


class HalfCheetah(Locomotion):
    """A batch of half-cheetahs."""

    model_path = gymnasium_asset("half_cheetah.xml")
    frame_skip = 5
    observation_size = 17
    position_noise = velocity_noise = 0.1
    normal_velocities = True
    control_cost = 0.05
    observed = Observed(velocity=8, axes=1, after=0.68)


class BreakingHalfCheetah(Breaking, HalfCheetah):
    """A batch of half-cheetahs that lose an actuator within the episode."""


def half_cheetah_dir() -> Family:
    """Half-cheetah that runs forward or backward.

    - Observation: 17 numbers in m, rad, m/s and rad/s, see the module.
    - Action: 6 torques in [-1, 1].
    - Reward: `d v - 0.05 |a|^2`.
    - End: truncated after 100 steps.
    - Varies: direction d, -1 or +1; hidden. Two tasks are too few to hold one out.
    - Source: pytorch-maml-rl.
    """
    return locomotion_family("half-cheetah-dir", HalfCheetah, DIRECTION_SUMMARY, goal=DIRECTION, horizon=HORIZON)


def _velocity_family(name: str, high: float) -> Family:
    summary = f"run at a velocity from U(0, {high:g}) m/s"
    return locomotion_family(name, HalfCheetah, summary, goal=speed(0.0, high), horizon=HORIZON)


def half_cheetah_vel() -> Family:
    """Half-cheetah that runs at a target velocity of up to 2 m/s.

    - Observation: 17 numbers in m, rad, m/s and rad/s, see the module.
    - Action: 6 torques in [-1, 1].
    - Reward: `-|v - v*| - 0.05 |a|^2`.
    - End: truncated after 100 steps.
    - Varies: target velocity v* in U(0, 2) m/s; hidden.
    - Source: garage, pytorch-maml-rl.
    """
    return _velocity_family("half-cheetah-vel", 2.0)


def half_cheetah_vel_3() -> Family:
    """Half-cheetah that runs at a target velocity of up to 3 m/s.

    The target velocity is in U(0, 3) m/s, as in ProMP, oyster and varibad. The rest is as in `half_cheetah_vel`.
    """
    return _velocity_family("half-cheetah-vel-3", 3.0)


def half_cheetah_rand_params() -> Family:
    """Half-cheetah that runs forward with random dynamics; see `rand_params_family`.

    The reward is `v - 0.05 |a|^2`, the horizon 200. The rest is as in `half_cheetah_vel`. The sources have only
    the walker and the hopper; their ranges are applied to this robot.
    """
    return rand_params_family("half-cheetah", HalfCheetah, "run")


def half_cheetah_crippled() -> Family:
    """Half-cheetah that runs forward with one dead actuator.

    - Observation: 17 numbers in m, rad, m/s and rad/s, see the module.
    - Action: 6 torques in [-1, 1].
    - Reward: `v - 0.05 |a|^2`.
    - End: truncated after 200 steps.
    - Varies: the actuator with gear 0, one of six; hidden. Back thigh and front foot are held out.
    - Source: GrBAL (Nagabandi et al. 2019, arXiv:1803.11347), whose code never trains with a dead back thigh; holding
      out the front foot too is our choice.
    """
    variation = Variation(Change("actuator_gear", DEAD))
    summary = "run forward with one of six actuators dead (two of them held out)"
    return locomotion_family("half-cheetah-crippled", HalfCheetah, summary, variation=variation)


def half_cheetah_breaking() -> Family:
    """Half-cheetah that runs forward and loses an actuator on the way.

    - Observation: 17 numbers in m, rad, m/s and rad/s, see the module.
    - Action: 6 torques in [-1, 1].
    - Reward: `v - 0.05 |a|^2`.
    - End: truncated after 200 steps.
    - Varies: the actuator that dies, one of six (back thigh and front foot are held out), and the moment of the break
      in U(0.2, 0.8) of the horizon; both hidden.
    - Source: after the test of GrBAL (Nagabandi et al. 2019, arXiv:1803.11347) in which a limb dies during an episode;
      the range of the moment is our choice. In training, too, the actuator dies within the episode.
    """
    summary = "run forward and lose one of six actuators on the way (two of them held out)"
    return breaking_family("half-cheetah-breaking", BreakingHalfCheetah, summary, DEAD)


def half_cheetah_wind() -> Family:
    """Half-cheetah that runs forward in wind from ahead or behind.

    - Observation: 17 numbers in m, rad, m/s and rad/s, see the module.
    - Action: 6 torques in [-1, 1].
    - Reward: `v - 0.05 |a|^2`.
    - End: truncated after 200 steps.
    - Varies: wind along x in U(-20, 20) m/s, in air of 1.2 kg/m^3; hidden. 20 m/s push the standing robot with 22 N, a
      sixth of its weight.
    - Source: our own.
    """
    wind = Change("wind", Uniform(-20.0, 20.0), operation="set", elements=("x",))
    variation = Variation(wind, constants={"density": AIR_DENSITY})
    summary = "run forward in a wind along x from U(-20, 20) m/s"
    return locomotion_family("half-cheetah-wind", HalfCheetah, summary, variation=variation)


def half_cheetah_rand_params_published() -> Family:
    """`half_cheetah_rand_params` with the published recipe for inertia."""
    return rand_params_family("half-cheetah", HalfCheetah, "run", published=True)
