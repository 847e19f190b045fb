"""Named variations: tasks in any order, contacts, refused declarations, and values that the environment plays."""

from __future__ import annotations

import copy
import math
import pickle

import mujoco
import numpy as np
import pytest
from small_models import BASES, NAMES, declare, edited, moving_controls, robot_of, small_robot, varied, written

from metarl.envs.derived_constants import DerivedConstants
from metarl.envs.draws import Power, Uniform
from metarl.envs.robots.body_effects import solid_moment
from metarl.envs.robots.effects import PLAYED, SENSOR_DEVIATIONS, Declared, Robot, write_task
from metarl.envs.robots.variations import KINDS, bind, explain
from metarl.tasks import ContinuousTasks, Parameter
from metarl.types import Task

ALL = (
    declare("payload", 0, 5, at="0.05 0.02 0.1"),
    declare("motor_strength", 0.5, 1.2),
    declare("floor_friction", 0.2, 1.4),
    declare("joint_damping", 0.5, 2),
    declare("joint_friction", 0, 1, operation="add"),
    declare("com_shift", -0.1, 0.1),
    declare("gravity_tilt", -0.2, 0.2),
)
A = {
    "payload": 2.0, "motor_strength": 0.7, "floor_friction": 0.4, "joint_damping": 1.5, "joint_friction": 0.1,
    "com_shift": (0.05, 0.02, -0.03), "gravity_tilt": 0.1,
}  # fmt: skip
B = {
    "payload": 0.0, "motor_strength": 1.1, "floor_friction": 1.2, "joint_damping": 0.7, "joint_friction": 0.0,
    "com_shift": (0.0, 0.0, 0.0), "gravity_tilt": 0.0,
}  # fmt: skip
OWN = {**B, "motor_strength": 1.0, "joint_damping": 1.0}


@pytest.mark.parametrize("name", NAMES)
def test_tasks_follow_each_other_in_any_order_to_the_last_bit(name: str, numbers) -> None:
    robot = small_robot(name)
    effects, constants = bind(robot, ALL), DerivedConstants(robot.model)
    model, fresh, before = copy.copy(robot.model), copy.copy(robot.model), numbers(robot.model)
    for values in (A, B, A):
        write_task(effects, constants, model, Task.of("f", **values))
    write_task(effects, constants, fresh, Task.of("f", **A))
    ours, theirs = numbers(model), numbers(fresh)
    assert [field for field in theirs if not np.array_equal(ours[field], theirs[field])] == []
    assert not np.array_equal(ours["MjModel.body_mass"], before["MjModel.body_mass"])
    assert [f for f, v in numbers(robot.model).items() if not np.array_equal(v, before[f])] == [], "not modified"


@pytest.mark.parametrize("name", NAMES)
def test_values_that_change_nothing_leave_the_robot_as_it_is(name: str, numbers) -> None:
    robot = small_robot(name)
    declared = [one for one in ALL if one.name != "floor_friction"]
    values = {key: value for key, value in OWN.items() if key != "floor_friction"}
    effects = bind(robot, declared)
    model = written(robot, effects, **values)
    ours, before = numbers(model), numbers(robot.model)
    assert [field for field in before if not np.array_equal(ours[field], before[field])] == []


@pytest.mark.parametrize("name", ["torque_quadruped", "servo_quadruped", "contact_pairs"])
@pytest.mark.parametrize("friction", [0.05, 0.65, 2.0])
def test_every_contact_with_the_ground_has_the_drawn_friction(name: str, friction: float) -> None:
    robot = small_robot(name)
    model = varied(robot, declare("floor_friction", 0.01, 3), friction)
    data, seen = mujoco.MjData(model), 0
    data.qpos[:] = robot.qpos
    for control in moving_controls(robot, 400):
        data.ctrl[:] = control
        mujoco.mj_step(model, data)
        for contact in (data.contact[i] for i in range(data.ncon)):
            if set(contact.geom.tolist()) & set(robot.floor):
                assert contact.friction[:2].tolist() == [friction] * 2
                seen += 1
    assert seen > 200


def test_priorities_between_those_of_two_floors_all_get_the_drawn_friction() -> None:
    """A robot on two planes of priority 0 and 2, with feet of priority 1 and more friction."""
    text = """
    <mujoco><worldbody>
      <geom name="floor" type="plane" size="0 0 1" friction="0.3"/>
      <geom name="rock" type="box" size="1 1 0.05" pos="1.5 0 0" priority="2" friction="0.9"/>
      <body name="a" pos="0 0 0.09"><freejoint/><geom size="0.1" priority="1" friction="1.5"/></body>
      <body name="b" pos="1.5 0 0.14"><freejoint/><geom size="0.1" priority="1" friction="0.1"/></body>
      <body name="c" pos="1 0.9 0.14"><freejoint/><geom size="0.1" priority="2" friction="2"/></body>
    </worldbody></mujoco>
    """
    model = mujoco.MjModel.from_xml_string(text)
    robot = Robot(model, model.qpos0.copy(), np.zeros(0), 1, (0, 1))
    model = varied(robot, declare("floor_friction", 0.1, 1), 0.5)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    assert data.ncon >= 3
    assert {round(float(f), 12) for f in data.contact.friction[:, 0]} == {0.5}


def test_collisions_of_a_loaded_body_are_found_where_its_geoms_are() -> None:
    """Boxes of a body's geoms are stored in the frame of its inertia, which a payload moves and turns."""
    robot = small_robot("torque_quadruped")
    model = varied(robot, declare("payload", 0, 9, at="0.3 0.2 0.4"), 8.0)
    slow, stale = copy.copy(model), copy.copy(model)
    slow.opt.disableflags |= mujoco.mjtDisableBit.mjDSBL_MIDPHASE
    stale.bvh_aabb[:] = robot.model.bvh_aabb
    assert not np.array_equal(model.bvh_aabb, stale.bvh_aabb)
    rng, met = np.random.default_rng(0), np.zeros(3, dtype=np.int64)
    for _ in range(200):
        qpos = robot.qpos.copy()
        qpos[2], qpos[3:7] = rng.uniform(0.03, 0.2), rng.standard_normal(4)
        for i, one in enumerate((model, slow, stale)):
            data = mujoco.MjData(one)
            data.qpos[:] = qpos
            mujoco.mj_forward(one, data)
            met[i] += data.ncon
    assert met[0] == met[1] > met[2]


def test_statistics_of_the_xml_and_moved_anchors_of_constraints_stay() -> None:
    text = """
    <mujoco><statistic center="1 2 3" extent="4" meaninertia="7"/><worldbody>
      <body name="a"><joint axis="0 1 0"/><geom size="0.1" pos="0.3 0 0"/></body>
      <body name="b" pos="0 0 1"><freejoint/><geom size="0.1" pos="0.1 0 0"/></body>
    </worldbody><equality><connect body1="a" body2="b" anchor="0.5 0 0"/></equality></mujoco>
    """
    model = mujoco.MjModel.from_xml_string(text)
    model.eq_data[0, 3:6] = 9.0
    robot = Robot(model, model.qpos0.copy(), np.zeros(0), 2, ())
    ours = varied(robot, declare("payload", 0, 5), 3.0)
    assert ours.eq_data[0, 3:6].tolist() == [9.0] * 3
    assert (ours.stat.center.tolist(), ours.stat.extent, ours.stat.meaninertia) == ([1, 2, 3], 4, 7)
    plain = mujoco.MjModel.from_xml_string(text.replace('meaninertia="7"', ""))
    ours = varied(Robot(plain, robot.qpos, robot.ctrl, 2, ()), declare("payload", 0, 5), 3.0)
    assert ours.stat.meaninertia > plain.stat.meaninertia, "derived from masses, unless the XML sets it"


def test_the_solver_of_a_servo_rests_where_it_did() -> None:
    """The pose under weight moves little with the strength, and not at all without gravity."""
    robot = robot_of(edited("servo_quadruped", ("<option ", '<option gravity="0 0 0" ')))
    poses = [rolled_still(varied(robot, declare("motor_strength", 0.5, 1.2), s), robot) for s in (0.6, 1.1)]
    assert np.abs(poses[0] - poses[1]).max() < 1e-9
    gear = copy.copy(robot.model)
    gear.actuator_gear[:] *= 0.8
    assert np.abs(rolled_still(gear, robot) - poses[1]).max() > 0.1, "another gear is another pose"


def rolled_still(model, robot: Robot) -> np.ndarray:
    data = mujoco.MjData(model)
    data.qpos[:], data.ctrl[:] = robot.qpos, robot.ctrl
    mujoco.mj_step(model, data, 1000)
    return data.qpos[7:].copy()


def held(model, robot: Robot) -> float:
    """Largest deviation of an arm from its home pose after 2 s, rad."""
    data = mujoco.MjData(model)
    data.qpos[:], data.ctrl[:] = robot.qpos, robot.ctrl
    mujoco.mj_step(model, data, 1000)
    return float(np.abs(data.qpos - robot.qpos).max())


def test_a_compensated_payload_has_no_weight_unless_the_declaration_says_so() -> None:
    robot = small_robot("gravity_compensated_arm")
    assert held(varied(robot, declare("payload", 0, 2), 2.0), robot) < 1e-12
    heavy = varied(robot, declare("payload", 0, 2, compensated="no"), 2.0)
    assert held(heavy, robot) > 0.02
    data = mujoco.MjData(heavy)
    data.qpos[:] = robot.qpos
    mujoco.mj_forward(heavy, data)
    hand, jacobian = heavy.body("hand").id, np.zeros((3, heavy.nv))
    mujoco.mj_jacBodyCom(heavy, data, jacobian, None, hand)
    assert np.allclose(data.qfrc_bias - data.qfrc_gravcomp, jacobian[2] * 2.0 * 9.81, atol=1e-12), "2 kg at the hand"


def test_solids_have_the_moments_of_the_books() -> None:
    """Cube of 0.2 m and 8 kg: m a^2 / 6. Sphere of 0.1 m: 2 m r^2 / 5."""
    assert math.isclose(solid_moment(8.0, "cube", 1000.0), 8.0 * 0.04 / 6, rel_tol=1e-14)
    mass = 4 / 3 * math.pi * 1e-3 * 500.0
    assert math.isclose(solid_moment(mass, "sphere", 500.0), 0.4 * mass * 0.01, rel_tol=1e-14)
    assert solid_moment(0.0, "cube", 1000.0) == 0.0


def test_values_of_played_variations_have_the_documented_form() -> None:
    robot = small_robot("servo_quadruped")
    declared = [
        declare("latency", 0, 3), declare("push", -20, 20), declare("breaking", 0.25, 0.5, actuators="FL_hip+2"),
        declare("sensor_noise", 0, 2),
    ]  # fmt: skip
    factors = {effect.factor.name: effect.factor for effect in bind(robot, declared)}
    assert tuple(factors) == PLAYED
    tasks = ContinuousTasks("f", tuple(factors.values())).train_tasks(400)
    latency, push, dead, noise = (np.array([task[name] for task in tasks]) for name in PLAYED)
    assert latency.shape == noise.shape == (400, 1)
    assert set(np.floor(latency[:, 0])) == {0, 1, 2}
    assert push.shape == (400, 3)
    assert (push[:, 0].min(), push[:, 0].max()) == pytest.approx((0.2, 0.8), abs=0.01)
    assert np.abs(push[:, 1:]).max() <= 20
    assert np.abs(np.corrcoef(push.T)[0, 1:]).max() < 0.2, "drawn independently"
    assert set(dead[:, 1]) == {0.0, 2.0}
    assert abs((dead[:, 1] == 2).mean() - 0.5) < 0.1
    assert ((dead[:, 0] >= 0.25) & (dead[:, 0] < 0.5)).all()
    model = written(robot, bind(robot, declared), **dict(tasks[0].parameters))
    assert np.array_equal(model.actuator_gainprm, robot.model.actuator_gainprm), "nothing is written"
    assert factors["sensor_noise"].sensed


def test_every_variation_says_what_it_changes_and_can_be_sent_to_a_worker() -> None:
    robot = small_robot("servo_quadruped")
    ranges = {"com_shift": (-0.1, 0.1), "floor_friction": (0.1, 1), "breaking": (0.1, 0.9)}
    effects = bind(robot, [declare(name, *ranges.get(name, (0, 1))) for name in KINDS])
    assert [effect.factor.name for effect in effects] == list(KINDS)
    for effect in effects:
        factor = pickle.loads(pickle.dumps(effect.factor))
        assert isinstance(factor, Parameter)
        assert factor.hidden
        assert factor.transform(np.full((2, factor.variates), 0.5)).shape[0] == 2
        words = explain(factor.name)
        assert words.startswith(f"`{factor.name}` (")
        assert "hanges" in words
    assert set(SENSOR_DEVIATIONS) == {"rad", "rad/s", "m", "m/s", "1"}


LINK = """
<mujoco><worldbody><geom name="floor" type="plane" size="0 0 1"/>
  <body name="box" pos="0 0 1"><freejoint/><geom size="0.1" contype="0" conaffinity="0"/></body>
</worldbody>{}</mujoco>
"""
OVERRIDE = 'impratio="100"><flag override="enable"/></option>'
MUSCLE = '<actuator><muscle name="biceps" joint="turn" lengthrange="0 1"/></actuator>'


def link(more: str = "", floor: tuple[int, ...] = (0,), joint: str = "<freejoint/>") -> Robot:
    model = mujoco.MjModel.from_xml_string(LINK.format(more).replace("<freejoint/>", joint))
    return Robot(model, model.qpos0.copy(), np.zeros(model.nu), 1, floor)


def servo() -> Robot:
    return small_robot("servo_quadruped")


@pytest.mark.parametrize(
    ("robot", "one", "expected"),
    [
        (servo, declare("payloads"), "got the name 'payloads', expected one of breaking, com_shift"),
        (servo, declare("payload", -1, 1), r"payload: got values from -1 to 1 \(mass of a payload, kg\), expected"),
        (servo, declare("motor_strength", -0.5, 1), "motor_strength: got values from -0.5 to 1"),
        (servo, declare("floor_friction", 0, 1), "floor_friction: got values from 0 to 1 .* expected at least 1e-05"),
        (servo, declare("com_shift", -2, 1), "expected at least -1 and at most 1"),
        (servo, declare("gravity_tilt", 0, 2), "at most 1.5708"),
        (servo, declare("latency", 0, 1000), "at least 0 and at most 100"),
        (servo, declare("breaking", 0, 1.5), "at most 1"),
        (servo, Declared("payload", Power(1e200, 0, 2)), "got values from 1 to inf"),
        (servo, declare("payload", limb="x"), "payload: got the option 'limb', expected one of body, at, shape"),
        (servo, declare("latency", 0, 2, steps="2"), "latency: got the option 'steps', expected none"),
        (servo, declare("payload", body="torso"), r"got body 'torso', expected a name \(world, trunk, .* below 10"),
        (servo, declare("payload", body="world"), "payload: got the body 'world' without mass"),
        (servo, declare("payload", at="1 2"), "payload: got at '1 2', expected 3 finite numbers"),
        (servo, declare("payload", density="0"), "got density 0 kg/m.3, expected a number above 0"),
        (servo, declare("payload", density="thick"), "got density 'thick', expected a finite number"),
        (servo, declare("payload", shape="duck"), "got shape 'duck', expected cube or sphere"),
        (servo, declare("payload", compensated="half"), "got compensated 'half', expected yes or no"),
        (servo, declare("motor_strength", actuators="FL_hip+arm"), r"got actuator 'arm', expected a name \(FL_hip,"),
        (servo, declare("joint_damping", joints="99"), "joint_damping: got joint '99', expected a name"),
        (servo, declare("joint_damping", operation="halve"), "got operation 'halve', expected scale, add, set"),
        (servo, declare("gravity_tilt", heading="north"), "got heading 'north', expected a finite number"),
        (
            lambda: small_robot("contact_pairs"),
            declare("joint_friction"),
            "got joints whose dof_frictionloss is 0, which a factor does not change; use operation=set",
        ),
        (lambda: link(floor=()), declare("floor_friction", 0.1, 1), "got a robot without a floor"),
        (link, declare("floor_friction", 0.1, 1), "none of whose geoms can touch the floor"),
        (
            lambda: robot_of(edited("servo_quadruped", ('impratio="100"/>', OVERRIDE))),
            declare("floor_friction", 0.1, 1),
            "got a model whose contacts all have the friction of <option o_friction>",
        ),
        (link, declare("motor_strength"), "got a robot without actuators"),
        (link, declare("breaking"), "breaking: got a robot without actuators"),
        (link, declare("joint_damping"), "got a robot without joints besides the free one"),
        (link, declare("com_shift"), "com_shift: got the body 'box', whose mass matrix was compiled as diagonal"),
        (link, declare("payload", at="0 0 1"), "payload: got the body 'box', whose mass matrix was compiled as"),
        (lambda: link(joint=""), declare("push"), "push: got the base 'box', which is fixed to the world"),
        (
            lambda: link('<option gravity="0 0 0"/>'),
            declare("gravity_tilt"),
            "gravity_tilt: got a model without gravity",
        ),
        (
            lambda: link(MUSCLE, joint='<joint name="turn"/>'),
            declare("motor_strength"),
            "got biceps, a muscle or an actuator with a function of its own",
        ),
        (
            lambda: link('<actuator><motor joint="turn" gear="0"/></actuator>', joint='<joint name="turn"/>'),
            declare("motor_strength"),
            "got actuators with gain or gear 0",
        ),
    ],
)  # fmt: skip
def test_a_variation_that_cannot_be_is_one_clear_value_error(robot, one: Declared, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        bind(robot(), [one])
    assert "\n" not in str(caught.value)


def test_a_name_given_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="got 'payload' 2 times, expected each name once"):
        bind(servo(), [declare("payload"), declare("payload")])


def test_a_subset_of_motors_and_joints_can_be_named() -> None:
    robot = servo()
    weak = varied(robot, declare("motor_strength", 0.5, 1, actuators="FL_hip+7"), 0.5)
    changed = np.flatnonzero(weak.actuator_gainprm[:, 0] != robot.model.actuator_gainprm[:, 0])
    assert changed.tolist() == [0, 7]
    damped = varied(robot, declare("joint_damping", 0, 2, joints="RR_knee", operation="set"), 1.5)
    assert damped.dof_damping.tolist() == [0.0] * 6 + [0.5] * 7 + [1.5]
    assert {"hand"} == set(BASES.values())
    assert Uniform(0, 1) == declare("payload").distribution
