"""Changes that couple several fields by one number, and select elements by body or keyframe."""

from __future__ import annotations

import copy
import re
from typing import Any

import mujoco
import numpy as np
import pytest
from small_models import declare, edited, robot_of, rolled, small_robot, text_of, varied

from metarl.envs.draws import Dead, Uniform
from metarl.envs.variation import Change, Part, Variation
from metarl.types import Task

STRENGTH = Uniform(0.5, 1.2)
COUPLED = Change(
    "actuator_gainprm",
    STRENGTH,
    columns=(0,),
    shared=True,
    also=(Part("actuator_biasprm", columns=(1, 2)), Part("actuator_forcerange")),
)


def applied(model: Any, change: Change, *values: float) -> Any:
    """A copy of a model after two tasks, the second with these values."""
    bound = Variation(change).bind(model)
    changed = copy.copy(model)
    for drawn in (np.ones(len(values)), values):
        bound.apply(changed, Task.of("f", **{change.field: drawn}))
    return changed


def test_one_number_scales_gain_bias_and_limit_like_the_named_variation() -> None:
    robot = small_robot("servo_quadruped")
    (factor,) = Variation(COUPLED).bind(robot.model).factors
    assert (factor.name, factor.variates) == ("actuator_gainprm", 1)
    assert "factor on actuator_gainprm and actuator_biasprm and actuator_forcerange" in factor.meaning
    ours, named = applied(robot.model, COUPLED, 0.7), varied(robot, declare("motor_strength", 0.5, 1.2), 0.7)
    for field in ("actuator_gainprm", "actuator_biasprm", "actuator_forcerange"):
        assert np.array_equal(getattr(ours, field), getattr(named, field)), field
    assert np.array_equal(rolled(ours, robot, 50), rolled(named, robot, 50))


def test_a_part_has_an_operation_elements_and_columns_of_its_own() -> None:
    model = small_robot("contact_pairs").model
    both = Change(
        "pair_friction",
        Uniform(0.3, 1.2),
        "set",
        columns=(0, 1),
        shared=True,
        also=(Part("geom_friction", "set", elements=("floor",), columns=(0,)), Part("dof_damping", "add", (0,))),
    )
    changed = applied(model, both, 0.5)
    assert changed.pair_friction[:, :2].tolist() == [[0.5, 0.5]] * 4
    assert np.array_equal(changed.pair_friction[:, 2:], model.pair_friction[:, 2:])
    assert changed.geom("floor").friction.tolist() == [0.5, 0.005, 0.0001]
    assert changed.dof_damping[:2].tolist() == [0.5, 0.0]


def test_derived_constants_follow_a_part_too() -> None:
    model = small_robot("torque_quadruped").model
    change = Change("dof_damping", STRENGTH, shared=True, also=(Part("actuator_gear"),))
    changed = applied(model, change, 0.5)
    theirs = mujoco.MjModel.from_xml_string(
        edited("torque_quadruped", ('gear="24"', 'gear="12"'), ('gear="30"', 'gear="15"'))
    )
    assert np.allclose(changed.actuator_acc0, theirs.actuator_acc0, rtol=1e-12)
    assert changed.dof_damping.tolist() == (0.5 * model.dof_damping).tolist()


def test_another_mass_leaves_the_statistic_of_the_xml() -> None:
    statistic = '<statistic center="1 2 3" extent="4" meaninertia="7"/><worldbody>'
    model = mujoco.MjModel.from_xml_string(edited("servo_quadruped", ("<worldbody>", statistic)))
    changed = applied(model, Change("body_mass", STRENGTH, shared=True, with_inertia=True), 0.5)
    assert (changed.stat.center.tolist(), changed.stat.extent, changed.stat.meaninertia) == ([1, 2, 3], 4, 7)
    assert changed.stat.meanmass < 0.6 * model.stat.meanmass


@pytest.mark.parametrize(
    ("model", "change", "names"),
    [
        ("servo_quadruped", ("geom_friction", "body:FL_calf"), {"", "FL"}),
        ("torque_quadruped", ("geom_friction", "keyframe:home"), {""}),
        ("servo_quadruped", ("geom_friction", "keyframe:home"), {"FL", "FR", "RL", "RR"}),
        ("contact_pairs", ("geom_friction", "keyframe:home"), {"FL", "FR", "RL", "RR"}),
        ("servo_quadruped", ("dof_damping", "body:FL_calf"), {"FL_knee"}),
        ("servo_quadruped", ("dof_armature", "body:FL_calf"), {"FL_knee"}),
        ("servo_quadruped", ("actuator_gear", "body:RR_calf"), {"RR_knee"}),
        ("servo_quadruped", ("body_mass", "body:RR_calf"), {"RR_calf"}),
    ],
)
def test_elements_can_be_those_of_a_body_or_on_the_ground_of_a_keyframe(
    model: str, change: tuple[str, str], names: set[str]
) -> None:
    own = small_robot(model).model
    field, element = change
    declared = Change(field, Uniform(1.5, 2.0), elements=(element,), shared=True, with_inertia=_mass(field))
    before, after = (np.atleast_2d(getattr(m, field).T).T for m in (own, applied(own, declared, 2.0)))
    rows = np.flatnonzero((before != after).any(axis=1))
    owner = {"geom_friction": own.geom, "body_mass": own.body, "actuator_gear": own.actuator}.get(field)
    found = [owner(int(i)).name if owner else own.joint(int(own.dof_jntid[i])).name for i in rows]
    assert set(found) == names
    if element == "keyframe:home":
        assert len(rows) == 4
        assert {own.body(int(own.geom_bodyid[i])).name for i in rows} == {
            f"{leg}_calf" for leg in ("FL", "FR", "RL", "RR")
        }


def _mass(field: str) -> bool | None:
    return True if field == "body_mass" else None


def test_geoms_that_are_high_above_the_ground_are_not_on_it() -> None:
    high = robot_of(re.sub('qpos="0 0 0.326', 'qpos="0 0 0.5', text_of("servo_quadruped")))
    with pytest.raises(ValueError, match="'keyframe:home', expected at least one geom within 1 cm of the ground"):
        Variation(Change("geom_friction", STRENGTH, elements=("keyframe:home",))).bind(high.model)


@pytest.mark.parametrize(
    ("declare_it", "expected"),
    [
        (lambda: Change("dof_damping", STRENGTH, also=(Part("actuator_gear"),)), "without shared=True, expected one"),
        (lambda: Change("dof_damping", STRENGTH, shared=True, also=(Part("gear"),)), "got field 'gear', expected one"),
        (
            lambda: Change("dof_damping", STRENGTH, shared=True, also=(Part("dof_damping"),)),
            r"\['dof_damping', 'dof_damping'\], expected at least one, each of another field",
        ),
        (
            lambda: Change("dof_damping", STRENGTH, shared=True, also=(Part("actuator_gear", "halve"),)),  # type: ignore[arg-type]
            "variation of actuator_gear: got operation 'halve'",
        ),
        (
            lambda: Change("dof_damping", STRENGTH, shared=True, also=(Part("actuator_gear", elements="FL_hip"),)),
            "variation of actuator_gear: got elements 'FL_hip', expected a tuple",
        ),
        (
            lambda: Change("dof_damping", Uniform(-1, 1), "add", shared=True, also=(Part("body_mass", "set"),)),
            "got values down to -",
        ),
        (
            lambda: Change("geom_friction", STRENGTH, elements=("body:torso",)),
            "got 'torso', expected a body: world, tr",
        ),
        (lambda: Change("geom_friction", STRENGTH, elements=("keyframe:up",)), "got 'up', expected a keyframe: home"),
        (lambda: Change("actuator_gear", STRENGTH, elements=("body:trunk",)), "expected at least one actuator there"),
        (lambda: Change("dof_damping", STRENGTH, elements=("keyframe:home",)), "expected at least one dof there"),
        (lambda: Change("geom_friction", STRENGTH, elements=("bodies:trunk",)), "got element 'bodies:trunk'"),
        (
            lambda: Change("actuator_gear", Dead((("FL_hip",),), None), shared=True, also=(Part("dof_damping"),)),
            "Dead",
        ),
    ],
)
def test_a_coupling_that_cannot_be_is_one_clear_value_error(declare_it, expected: str) -> None:
    model = small_robot("servo_quadruped").model
    with pytest.raises(ValueError, match=expected) as caught:
        Variation(declare_it()).bind(model)
    assert "\n" not in str(caught.value)
