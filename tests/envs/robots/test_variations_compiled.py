"""Each variation of the model, against a model that MuJoCo compiles from changed XML: the same roll-out."""

from __future__ import annotations

import math

import mujoco
import numpy as np
import pytest
from small_models import declare, edited, robot_of, rolled, small_robot, text_of, varied, written

from metarl.envs.robots.effects import Robot
from metarl.envs.robots.variations import bind

TORQUE, SERVO = "torque_quadruped", "servo_quadruped"
ROBOTS = (TORQUE, SERVO)
EQUAL = {"rtol": 0.0, "atol": 1e-9}


def same_rollout(ours, theirs, robot: Robot) -> None:
    """400 physics steps under moving controls, which the variation changes by more than rounding."""
    one, two, plain = (rolled(model, robot) for model in (ours, theirs, robot.model))
    assert np.allclose(one, two, **EQUAL)
    assert np.abs(one - plain).max() > 1e-4


GHOST = {
    TORQUE: (
        ('<geom type="box" size="0.2 0.07 0.04"', '<geom type="box" contype="0" conaffinity="0" size="0.2 0.07 0.04"'),
        (
            '<geom type="box" size="0.04 0.03 0.02"',
            '<geom type="box" contype="0" conaffinity="0" size="0.04 0.03 0.02"',
        ),
    ),
    SERVO: (),
}
"""Edits that let nothing touch the trunk: how soft a contact is depends on the centre of its body without the load."""
SITE = '<site name="imu" pos="0 0 0"/>'


def load(mass: float, place: str, moment: float) -> str:
    """A body to be welded to another one, whose inertia the XML gives."""
    moments = " ".join([repr(moment)] * 3)
    return f'<body pos="{place}"><inertial pos="0 0 0" mass="{mass}" diaginertia="{moments}"/></body>'


def with_payload(name: str, mass: float, place: str, moment: float):
    """The model with a body welded to the trunk."""
    return mujoco.MjModel.from_xml_string(edited(name, *GHOST[name], (SITE, SITE + load(mass, place, moment))))


@pytest.mark.parametrize("name", ROBOTS)
def test_a_payload_is_a_solid_welded_to_the_body(name: str) -> None:
    robot = robot_of(edited(name, *GHOST[name]))
    mass, density, place = 3.0, 2000.0, "0.05 -0.03 0.1"
    cube = mass * (mass / density) ** (2 / 3) / 6
    theirs = with_payload(name, mass, place, cube)
    same_rollout(varied(robot, declare("payload", 0, 5, at=place, density="2000"), mass), theirs, robot)
    radius = (3 * mass / density / (4 * math.pi)) ** (1 / 3)
    theirs = with_payload(name, mass, place, 0.4 * mass * radius**2)
    ball = declare("payload", 0, 5, at="0.05,-0.03,0.1", density="2000", shape="sphere")
    same_rollout(varied(robot, ball, mass), theirs, robot)


@pytest.mark.parametrize("name", ROBOTS)
def test_a_payload_at_the_centre_of_mass_keeps_the_axes(name: str) -> None:
    robot = robot_of(edited(name, *GHOST[name]))
    center = robot.model.body("trunk").ipos
    ours = varied(robot, declare("payload", 0, 5), 2.0)
    place = " ".join(repr(float(x)) for x in center)
    same_rollout(ours, with_payload(name, 2.0, place, 2.0 * (2.0 / 1000.0) ** (2 / 3) / 6), robot)
    assert np.array_equal(ours.body_iquat, robot.model.body_iquat)
    assert np.array_equal(ours.body_ipos, robot.model.body_ipos)


def test_a_box_of_water_among_the_geoms_of_a_body_is_the_same_payload() -> None:
    """The compiler joins the geoms' masses by itself: inertia from the geom's size, its own principal axes.

    It finds these to some 1e-6 rad, and moments to their square, so that its roll-outs are apart by more than rounding.
    """
    half = (2.5 / 1000) ** (1 / 3) / 2
    size = " ".join([repr(half)] * 3)
    box = f'<geom type="box" size="{size}" pos="-0.1 0.02 0.06" mass="2.5" contype="0" conaffinity="0"/>'
    theirs = mujoco.MjModel.from_xml_string(edited(TORQUE, (SITE, box + SITE)))
    robot = small_robot(TORQUE)
    ours = varied(robot, declare("payload", 0, 5, at="-0.1 0.02 0.06"), 2.5)
    for field in ("body_mass", "body_inertia", "body_ipos", "body_subtreemass", "dof_invweight0", "body_invweight0"):
        assert np.allclose(getattr(ours, field), getattr(theirs, field), rtol=1e-8, atol=1e-10), field
    assert math.isclose(ours.stat.meaninertia, theirs.stat.meaninertia, rel_tol=1e-9)
    assert np.allclose(rolled(ours, robot, 100), rolled(theirs, robot, 100), rtol=0, atol=1e-6)


def inertial(model, shift: np.ndarray) -> str:
    trunk = model.body("trunk")
    place, axes, moments = (
        " ".join(map(repr, map(float, x))) for x in (trunk.ipos + shift, trunk.iquat, trunk.inertia)
    )
    return f'<inertial pos="{place}" quat="{axes}" mass="{float(trunk.mass[0])!r}" diaginertia="{moments}"/>'


SERVO_INERTIAL = '<inertial pos="0.02 0.003 -0.001" mass="5" fullinertia="0.02 0.065 0.075 0.001 0.002 -0.001"/>'


def with_shift(name: str, shift: np.ndarray, *edits: tuple[str, str]):
    place = '<freejoint name="root"/>'
    edits = (*edits, (place, place + inertial(small_robot(name).model, shift)))
    if name == SERVO:
        edits += ((SERVO_INERTIAL, ""),)
    return mujoco.MjModel.from_xml_string(edited(name, *edits))


@pytest.mark.parametrize("name", [*ROBOTS, "contact_pairs"])
def test_a_shifted_centre_of_mass_equals_a_compiled_model_in_every_number(name: str, numbers) -> None:
    robot, shift = small_robot(name), np.array([0.03, -0.02, 0.05])
    ours, theirs = varied(robot, declare("com_shift", -0.1, 0.1), shift), with_shift(name, shift)
    same_rollout(ours, theirs, robot)
    expected, before = numbers(theirs), numbers(robot.model)
    for field, value in numbers(ours).items():
        if field in ("MjStatistic.center", "MjStatistic.extent", "MjStatistic.meansize"):
            assert np.array_equal(value, before[field]), "cameras look where they looked"
        elif not field.endswith("_sameframe"):  # flags that save time; those of no equal frames are always valid
            assert np.allclose(value, expected[field], rtol=1e-9, atol=1e-12), field
    assert not ours.body_sameframe[robot.base]


@pytest.mark.parametrize("name", ROBOTS)
def test_a_payload_beside_a_shifted_centre_of_mass_counts_both(name: str) -> None:
    robot, shift = robot_of(edited(name, *GHOST[name])), np.array([0.02, 0.01, -0.03])
    effects = bind(robot, [declare("payload", 0, 5, at="0 0 0.08"), declare("com_shift", -0.1, 0.1)])
    moment = 1.5 * (1.5 / 1000) ** (2 / 3) / 6
    theirs = with_shift(name, shift, *GHOST[name], (SITE, SITE + load(1.5, "0 0 0.08", moment)))
    same_rollout(written(robot, effects, payload=1.5, com_shift=shift), theirs, robot)


STRENGTH = {
    TORQUE: (('gear="24"', 'gear="16.8"'), ('gear="30"', 'gear="21"')),
    SERVO: (
        ('kp="60"', 'kp="42"'),
        ('kv="0.5"', 'kv="0.35"'),
        ('forcerange="-24 24"', 'forcerange="-16.8 16.8"'),
        ('forcerange="-30 30"', 'forcerange="-21 21"'),
    ),
}


@pytest.mark.parametrize("name", ROBOTS)
def test_weaker_motors_have_less_gear_or_less_gain_and_bias(name: str) -> None:
    robot = small_robot(name)
    theirs = mujoco.MjModel.from_xml_string(edited(name, *STRENGTH[name]))
    same_rollout(varied(robot, declare("motor_strength", 0.5, 1.1), 0.7), theirs, robot)


def test_a_limit_of_the_force_on_a_joint_is_scaled_with_the_motors() -> None:
    limit = 'range="-1 2.2" actuatorfrcrange="-6 6"'
    weaker = 'range="-1 2.2" actuatorfrcrange="-4.2 4.2"'
    robot = robot_of(edited(TORQUE, ('range="-1 2.2"', limit)))
    theirs = mujoco.MjModel.from_xml_string(edited(TORQUE, ('range="-1 2.2"', weaker), *STRENGTH[TORQUE]))
    same_rollout(varied(robot, declare("motor_strength", 0.5, 1.1), 0.7), theirs, robot)


FRICTION = {
    TORQUE: (
        ('size="0 0 0.05" friction="0.5 ', 'size="0 0 0.05" friction="{} '),
        ('friction="0.7 ', 'friction="{foot} '),
        ('mass="4"/>', 'mass="4" friction="{trunk}"/>'),
        ('mass="0.3"/>', 'mass="0.3" friction="{trunk}"/>'),
    ),
    SERVO: (
        ('size="0 0 0.05"/>', 'size="0 0 0.05" friction="{}"/>'),
        ('friction="0.8 ', 'friction="{} '),
        ('condim="1"/>', 'condim="1" friction="{trunk}"/>'),
        ('<geom type="box" size="0.2 0.07 0.04"/>', '<geom type="box" size="0.2 0.07 0.04" friction="{trunk}"/>'),
    ),
    "contact_pairs": (('friction="0.6 0.6 ', 'friction="{0} {0} '),),
}


@pytest.mark.parametrize("name", FRICTION)
@pytest.mark.parametrize("friction", [0.25, 0.75, 1.3])
def test_floor_friction_is_the_friction_of_floor_feet_and_pairs(name: str, friction: float) -> None:
    """Geoms that have less friction than the floor keep theirs, for their contacts with other things."""
    robot, less = small_robot(name), {"foot": min(0.7, friction), "trunk": min(1.0, friction)}
    theirs = mujoco.MjModel.from_xml_string(
        edited(name, *((old, new.format(friction, **less)) for old, new in FRICTION[name]))
    )
    same_rollout(varied(robot, declare("floor_friction", 0.1, 1.5), friction), theirs, robot)


JOINTS = {
    TORQUE: ((0.4, 0.3), (0.05, 0.05)),
    SERVO: ((0.5, 0.5), (0.1, 0.1)),
}


@pytest.mark.parametrize("name", ROBOTS)
@pytest.mark.parametrize(("operation", "value"), [("scale", 2.5), ("add", 0.125), ("set", 0.75)])
@pytest.mark.parametrize("kind", ["damping", "frictionloss"])
def test_joint_damping_and_friction_are_those_of_the_joints(name: str, operation: str, value: float, kind: str) -> None:
    robot, text = small_robot(name), text_of(name)
    for own in dict.fromkeys(JOINTS[name][kind == "frictionloss"]):
        new = {"scale": own * value, "add": own + value, "set": value}[operation]
        assert f'{kind}="{own:g}"' in text
        text = text.replace(f'{kind}="{own:g}"', f'{kind}="@{new!r}"')
    theirs = mujoco.MjModel.from_xml_string(text.replace("@", ""))
    variation = "joint_damping" if kind == "damping" else "joint_friction"
    same_rollout(varied(robot, declare(variation, 0, 3, operation=operation), value), theirs, robot)


@pytest.mark.parametrize("name", ROBOTS)
def test_a_tilt_of_gravity_is_a_slope(name: str) -> None:
    robot, tilt = small_robot(name), 0.2
    gravity = f"{-9.81 * math.sin(tilt)!r} 0 {-9.81 * math.cos(tilt)!r}"
    theirs = mujoco.MjModel.from_xml_string(edited(name, ("<option ", f'<option gravity="{gravity}" ')))
    same_rollout(varied(robot, declare("gravity_tilt", -0.5, 0.5), tilt), theirs, robot)
    gravity = f"0 {-9.81 * math.sin(tilt)!r} {-9.81 * math.cos(tilt)!r}"
    theirs = mujoco.MjModel.from_xml_string(edited(name, ("<option ", f'<option gravity="{gravity}" ')))
    across = declare("gravity_tilt", -0.5, 0.5, heading=repr(math.pi / 2))
    same_rollout(varied(robot, across, tilt), theirs, robot)
