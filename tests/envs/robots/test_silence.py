"""Variations without effect, or with another one than their name promises: each is found, with its reason."""

from __future__ import annotations

import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import mujoco
import numpy as np
import pytest
from small_models import edited

from metarl.envs.locomotion import Locomotion
from metarl.envs.silence import model_silence, silence
from metarl.envs.task_sets import combined_tasks
from metarl.envs.variation import Change, Part, Uniform, Variation
from metarl.gymnasium_envs.check.ends import at_both_ends
from metarl.gymnasium_envs.check.findings import Clock, Note, Problem, Seen
from metarl.registry import make_family
from metarl.scripts.check import main
from metarl.tasks import Family

ROWS, STEPS = 3, 25
FLOOR = {"elements": ("floor",), "columns": (0,)}


def named(model: str, variation: str, edits: tuple[tuple[str, str], ...], folder: Path) -> Family:
    """The family of a small robot with a named variation."""
    path = folder / f"{model}.xml"
    path.write_text(edited(model, *edits), encoding="utf-8")
    hold = "&task=hold" if "arm" in model else ""
    return make_family(f"mjcf:{path}?{variation}{hold}")


def plain(model: str, change: Change, edits: tuple[tuple[str, str], ...], folder: Path) -> Family:
    """A family of one's own: a robot that is rewarded for moving, with a change of its model."""
    path = folder / f"{model}.xml"
    path.write_text(edited(model, *edits), encoding="utf-8")
    loaded = mujoco.MjModel.from_xml_path(str(path))

    class Plain(Locomotion):
        model_path = str(path)
        frame_skip = 10
        observation_size = loaded.nq + loaded.nv
        skipped_positions = 0
        position_noise = velocity_noise = 0.005
        control_cost = 0.1
        keyframe = "home"

    variation = Variation(change)
    return Family(
        name="plain",
        summary="moves",
        distribution=combined_tasks("plain", variation.bind(loaded).factors),
        horizon=STEPS,
        make_envs=partial(Plain, variation=variation),
    )


def findings(family: Family) -> list[Problem | Note | Seen]:
    """The findings at both ends of the ranges."""
    envs = family.make_envs(1, ROWS, STEPS)
    base = family.distribution.train_tasks(1)[0]
    try:
        return list(at_both_ends(envs, family, base, Clock(), silence, set()))
    finally:
        envs.close()


def switched(flag: str) -> tuple[tuple[str, str], ...]:
    """Edits that switch something off for the torque quadruped."""
    return (('<option timestep="0.002"/>', f'<option timestep="0.002"><flag {flag}="disable"/></option>'),)


TURRET_ON_STAND = tuple(
    (f'{size}" mass', f'{size}" contype="1" conaffinity="1" mass') for size in ("0.06 0.2", "0.05 0.04")
)
FIXED = "payload.body=stand"
WIDE = Uniform(0.3, 1.2)
SILENT: dict[str, tuple[Any, str, Any, tuple[tuple[str, str], ...], type, str]] = {
    # name: (kind of family, robot, variation, edits of its XML, finding, its words)
    "friction of a floor whose feet have priority": (
        plain, "servo_quadruped", Change("geom_friction", WIDE, "set", **FLOOR), (), Problem,
        r"\d+ of \d+ contacts .* keep their friction: in contact with floor, the friction of FL, FR, RL, RR counts "
        r"alone, whose priority is higher \(0.8\)",
    ),
    "friction of a floor whose feet touch it by contact pairs": (
        plain, "contact_pairs", Change("geom_friction", WIDE, "set", **FLOOR), (), Problem,
        r"explicit contact pairs of floor and FL, FR, RL, RR have a friction of their own \(0.6\): vary pair_friction",
    ),
    "friction of a floor below that of the feet": (
        plain, "torque_quadruped", Change("geom_friction", Uniform(0.1, 0.6), "set", **FLOOR), (), Problem,
        r"the friction of a geom of trunk, a geom of FL_calf, .* counts, which is the larger of both \(0.7 to 1\)",
    ),
    "friction of a floor that nothing touches": (
        named, "gravity_compensated_arm", "floor_friction=uniform(0.3,1.2)", (), Problem,
        "nothing that moves touched floor in 1 s from the start",
    ),
    "friction of a floor that nothing touches, of a turret that rubs on its stand": (
        named, "gravity_compensated_arm", "floor_friction=uniform(0.3,1)", TURRET_ON_STAND, Problem,
        r"changes nothing in .* A reason: nothing that moves touched floor in 1 s from the start under constant "
        r"controls\Z",
    ),
    "torsional friction of contacts without torsion": (
        plain, "torque_quadruped", Change("geom_friction", WIDE, columns=(1,)), (), Problem,
        "contacts of .* have fewer dimensions",
    ),
    "gravity that an arm compensates": (
        named, "gravity_compensated_arm", "gravity_tilt=uniform(0,0.3)", (), Problem,
        "all moving bodies are gravity compensated",
    ),
    "payload that an arm compensates": (
        named, "gravity_compensated_arm", "payload=uniform(0,2)", (), Note,
        "hand is gravity compensated .*, so another mass or centre has no weight: it is felt only while the robot",
    ),
    "payload of a body that is fixed to the world": (
        named, "gravity_compensated_arm", f"payload=uniform(0,2)&{FIXED}", (), Problem,
        "stand is fixed to the world, so mass and inertia move nothing",
    ),
    "gear of position servos": (
        plain, "servo_quadruped", Change("actuator_gear", Uniform(0.7, 1.1), shared=True), (), Note,
        r"FL_hip, .* position servos: another gear moves the pose that they hold \(by up to 0.73 rad",
    ),
    "gain of position servos without their bias": (
        plain, "servo_quadruped", Change("actuator_gainprm", Uniform(0.7, 1.1), shared=True, columns=(0,)), (), Note,
        "position servos: another gain without its bias moves the pose",
    ),
    "a delay below one step": (
        named, "servo_quadruped", "latency=uniform(0,0.9)", (), Problem,
        "both ends are a delay of 0 env steps, since delays are rounded down",
    ),
    "sensor noise of 0": (
        named, "servo_quadruped", "sensor_noise=uniform(0,1e-12)", (), Problem, "the noise is 0 or as good as 0",
    ),
    "a push without an impulse": (
        named, "servo_quadruped", "push=uniform(-1e-12,1e-12)", (), Problem, "the impulse is 0 or as good as 0",
    ),
    "joint friction that is switched off": (
        named, "torque_quadruped", "joint_friction=uniform(0.5,4)", switched("frictionloss"), Problem,
        '<flag frictionloss="disable"/>',
    ),
    "gravity that is switched off": (
        named, "torque_quadruped", "gravity_tilt=uniform(0,0.3)", switched("gravity"), Problem,
        '<flag gravity="disable"/>',
    ),
    "a stiffness that is switched off": (
        plain, "torque_quadruped", Change("jnt_stiffness", Uniform(1, 4), "set"), switched("passive"), Problem,
        '<flag passive="disable"/>',
    ),
    "motors that are switched off": (
        named, "torque_quadruped", "motor_strength=uniform(0.5,1)", switched("actuation"), Problem,
        '<flag actuation="disable"/>',
    ),
    "a limit of forces that are not limited": (
        plain, "contact_pairs", Change("actuator_forcerange", Uniform(1, 2), "add"), (), Problem,
        r"the force of FL_hip, .* is not limited \(forcelimited\)",
    ),
    "an unused column of a gear": (
        plain, "torque_quadruped", Change("actuator_gear", WIDE, "set", columns=(3,)), (), Problem,
        "only the first number of a gear acts",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", SILENT)
def test_a_silent_variation_is_found_with_its_reason(case: str, tmp_path: Path, caplog) -> None:
    make, model, variation, edits, kind, words = SILENT[case]
    with caplog.at_level(logging.ERROR):  # some are warned of when they are bound
        (found,) = findings(make(model, variation, edits, tmp_path))
    assert type(found) is kind
    assert found.kind == "effect"
    assert words in found.message or re.search(words, found.message)
    assert "\n" not in found.message


EFFECTIVE = [
    *(
        (named, model, variation)
        for model in ("torque_quadruped", "servo_quadruped", "contact_pairs")
        for variation in (
            "payload=uniform(0,3)",
            "motor_strength=uniform(0.7,1.1)",
            "floor_friction=uniform(0.3,1.2)",
            "joint_damping=uniform(0.5,2)",
            "joint_friction=uniform(0,1)&joint_friction.operation=set",
            "com_shift=uniform(-0.05,0.05)",
            "gravity_tilt=uniform(-0.1,0.2)",
            "latency=uniform(0,3)",
            "push=uniform(-10,10)",
            "breaking=uniform(0.2,0.5)",
            "sensor_noise=uniform(0,1)",
        )
    ),
    (named, "gravity_compensated_arm", "payload=uniform(0,2)&payload.compensated=no"),
    (named, "gravity_compensated_arm", "motor_strength=uniform(0.7,1.1)"),
    (plain, "servo_quadruped", Change("geom_friction", WIDE, "set", ("keyframe:home", "floor"), (0,), shared=True)),
    (plain, "contact_pairs", Change("pair_friction", WIDE, "set", columns=(0, 1), shared=True)),
    (plain, "torque_quadruped", Change("geom_friction", WIDE, columns=(0,), shared=True)),
    (plain, "torque_quadruped", Change("actuator_gear", Uniform(0.7, 1.1), shared=True)),
    (
        plain,
        "servo_quadruped",
        Change("actuator_gainprm", WIDE, shared=True, columns=(0,), also=(Part("actuator_biasprm"),)),
    ),
    (plain, "torque_quadruped", Change("gravity", Uniform(0.8, 1.2))),
    (plain, "torque_quadruped", Change("body_mass", Uniform(0.8, 1.2), with_inertia=True)),
]


@pytest.mark.parametrize(("make", "model", "variation"), EFFECTIVE)
def test_an_effective_variation_is_not_reported(make, model: str, variation: Any, tmp_path: Path) -> None:
    assert findings(make(model, variation, (), tmp_path)) == []


@pytest.mark.parametrize(
    "name",
    [
        "ant-dir-2d",  # an angle: both ends are the same direction
        "half-cheetah-breaking",
        "half-cheetah-rand-params",
        "walker2d-rand-params-published",
        "hopper-gravity",
        "humanoid-dir-2d",
        "tabular-mdp",  # no robot; its transform has no value at the very ends
        "bandit",
    ],
)
def test_families_that_come_with_metarl_have_no_findings(name: str) -> None:
    assert findings(make_family(name)) == []


SLIDER = """
<mujoco><worldbody>
  <body name="cart"><joint name="slide" type="slide" axis="1 0 0"/><geom size="0.1"/></body>
  <body name="lamp" pos="1 0 0"><geom size="0.1"/></body>
</worldbody><actuator><motor joint="slide" group="3"/></actuator></mujoco>
"""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda m: m.body_inertia.__setitem__(1, 2.0 * m.body_inertia[1]), "cart cannot rotate, so moments of inertia"),
        (lambda m: m.opt.gravity.__setitem__(1, 5.0), "exerts no force on any joint at the start"),
        (lambda m: m.opt.wind.__setitem__(0, 5.0), "has no medium, so there is no wind"),
        (lambda m: m.body_mass.__setitem__(2, 5.0), "lamp is fixed to the world"),
        (lambda m: m.geom_friction.__setitem__(1, 0.1), "nothing can touch a geom of lamp"),
    ],
)
def test_reasons_in_a_robot_without_rotation_wind_or_contacts(change, words: str) -> None:
    text = SLIDER.replace(
        '<geom size="0.1"/></body>\n</w', '<geom size="0.1" contype="0" conaffinity="0"/></body>\n</w'
    )
    one, two = (mujoco.MjModel.from_xml_string(text) for _ in range(2))
    change(two)
    (reason,) = model_silence(one, two, np.zeros(1), np.zeros(1))
    assert reason.hides == "all"
    assert words in reason.words


def test_a_disabled_group_of_actuators_is_a_reason() -> None:
    one, two = (
        mujoco.MjModel.from_xml_string(SLIDER.replace("<worldbody>", '<option actuatorgroupdisable="3"/><worldbody>'))
        for _ in range(2)
    )
    two.actuator_gear[0, 0] = 2.0
    (reason,) = model_silence(one, two, np.zeros(1), np.zeros(1))
    assert "groups of the actuators slide are disabled" in reason.words


def test_equal_models_have_no_reasons() -> None:
    one, two = (mujoco.MjModel.from_xml_string(SLIDER) for _ in range(2))
    assert list(model_silence(one, two, np.zeros(1), np.zeros(1))) == []


def test_the_command_reports_a_silent_variation_once_among_others(tmp_path: Path, capsys) -> None:
    path = tmp_path / "robot.xml"
    path.write_text(edited("servo_quadruped"), encoding="utf-8")
    name = f"mjcf:{path}?payload=uniform(0,3)&latency=uniform(0,0.9)&sensor_noise=uniform(0,1)"
    assert main([name]) == 1
    said = capsys.readouterr().out.splitlines()
    (problem,) = (line for line in said if line.startswith("effect: "))
    assert "'latency' changes neither rewards nor transitions" in problem
    assert problem.endswith("both ends are a delay of 0 env steps, since delays are rounded down")
    assert not [line for line in said if line.startswith("leak: ")], "sensor noise is no leak"
    assert any(line.startswith("seen: 'payload': changes observations") for line in said)
    assert said[-1].endswith("1 problem found")


def test_the_command_says_that_nothing_touches_the_floor_and_nothing_of_constructors(tmp_path: Path, capsys) -> None:
    path = tmp_path / "arm.xml"
    path.write_text(edited("gravity_compensated_arm", *TURRET_ON_STAND), encoding="utf-8")
    assert main([f"mjcf:{path}?floor_friction=uniform(0.3,1)&task=hold"]) == 1
    said = capsys.readouterr().out
    assert "nothing that moves touched floor" in said
    assert "constructor" not in said
    assert "vary theirs" not in said
    assert "does all of it" not in said
