"""Half-cheetah that has to run in a direction or at a velocity that it is not told, or whose body differs.

Physics, observation and initial state are those of Gymnasium's `HalfCheetah-v5`.

| observation | index | unit |
|---|---|---|
| height of the torso, angles of torso and six joints | 0 to 7 | m, rad |
| velocity of the torso along x and z, angular velocities | 8 to 16 | m/s, rad/s |

| action | index | range |
|---|---|---|
| torques: back thigh, shin, foot; front thigh, shin, foot | 0 to 5 | [-1, 1] |

With v the velocity along x over one step (0.05 s) and a the action:

| family | hidden parameter | reward | horizon |
|---|---|---|---|
| half-cheetah-dir | direction d in {-1, +1} | d v - 0.05 |a|^2 | 100 |
| half-cheetah-vel | velocity v* in U(0, 2) m/s (garage, pytorch-maml-rl) | -|v - v*| - 0.05 |a|^2 | 100 |
| half-cheetah-vel-3 | velocity v* in U(0, 3) m/s (ProMP, oyster, varibad) | -|v - v*| - 0.05 |a|^2 | 100 |
| half-cheetah-rand-params | random masses, inertias, friction, damping | v - 0.05 |a|^2 | 200 |
| half-cheetah-rand-params-published | the same, with inertias that no body has | v - 0.05 |a|^2 | 200 |
| half-cheetah-crippled | which of the six actuators is dead | v - 0.05 |a|^2 | 200 |
| half-cheetah-wind | wind along x in U(-20, 20) m/s, in air (1.2 kg/m^3) | v - 0.05 |a|^2 | 200 |

The ranges of the random parameters stand in `metarl.envs.variation.rand_params`. An episode is never terminated.
Horizon 100 as in garage, pytorch-maml-rl and ProMP; it is 200 in Finn et al. 2017 (arXiv:1703.03400), in oyster and
in varibad. The dead actuator is that of GrBAL (Nagabandi et al. 2019, arXiv:1803.11347), whose code never draws the
back thigh's in training; here the front foot's is held out too. Wind is our own: at 20 m/s it pushes the standing
robot with 22 N, a sixth of its weight.
"""

from __future__ import annotations

from metarl.envs.locomotion import DIRECTION, Locomotion, locomotion_family, speed
from metarl.envs.mujoco_batch import gymnasium_asset
from metarl.envs.variation import Change, Dead, Uniform, Variation, rand_params
from metarl.tasks import Family

HORIZON = 100
AIR_DENSITY = 1.2  # kg/m^3


class HalfCheetah(Locomotion):
    """Half-cheetahs."""

    model_path = gymnasium_asset("half_cheetah.xml")
    frame_skip = 5
    observation_size = 17
    position_noise = velocity_noise = 0.1
    normal_velocities = True
    control_cost = 0.05


def half_cheetah_dir() -> Family:
    """Forward or backward: two tasks, too few to withhold one."""
    summary = "run forward or backward (two tasks: evaluated on its training tasks)"
    return locomotion_family("half-cheetah-dir", HalfCheetah, summary, goal=DIRECTION, horizon=HORIZON)


def _velocity_family(name: str, high: float) -> Family:
    summary = f"run at a velocity from U(0, {high:g}) m/s"
    return locomotion_family(name, HalfCheetah, summary, goal=speed(0.0, high), horizon=HORIZON)


def half_cheetah_vel() -> Family:
    """Velocities from U(0, 2), as in garage and pytorch-maml-rl."""
    return _velocity_family("half-cheetah-vel", 2.0)


def half_cheetah_vel_3() -> Family:
    """Velocities from U(0, 3), as in ProMP, oyster and varibad."""
    return _velocity_family("half-cheetah-vel-3", 3.0)


def half_cheetah_rand_params() -> Family:
    """Masses, shapes, friction and damping by random factors."""
    summary = "run forward with random masses, inertias, friction and damping"
    return locomotion_family("half-cheetah-rand-params", HalfCheetah, summary, variation=rand_params())


def half_cheetah_rand_params_published() -> Family:
    """The same with the recipe of the published benchmark."""
    summary = "run forward with random masses, friction, damping, and inertias that no body has, as published"
    return locomotion_family(
        "half-cheetah-rand-params-published",
        HalfCheetah,
        summary,
        variation=rand_params(published=True),
        tasks="half-cheetah-rand-params",  # as they are named in the checkpoints of earlier runs
    )


def half_cheetah_crippled() -> Family:
    """One dead actuator of six, two of them held out."""
    dead = Dead(train=(("bshin",), ("bfoot",), ("fthigh",), ("fshin",)), withheld=(("bthigh",), ("ffoot",)))
    variation = Variation(Change("actuator_gear", dead))
    summary = "run forward with one of six actuators dead (two of them held out)"
    return locomotion_family("half-cheetah-crippled", HalfCheetah, summary, variation=variation)


def half_cheetah_wind() -> Family:
    """Wind from ahead or behind."""
    wind = Change("wind", Uniform(-20.0, 20.0), operation="set", elements=("x",))
    variation = Variation(wind, constants={"density": AIR_DENSITY})
    summary = "run forward in a wind along x from U(-20, 20) m/s"
    return locomotion_family("half-cheetah-wind", HalfCheetah, summary, variation=variation)
