"""Varied dynamics: values in the model, derived constants, refused declarations, and combination with goals."""

from __future__ import annotations

import copy
import re
from pathlib import Path

import mujoco
import numpy as np
import pytest

from metarl.envs.half_cheetah import HalfCheetah
from metarl.envs.locomotion import DIRECTION, Goal, Locomotion, locomotion_family, speed
from metarl.envs.mujoco_batch import gymnasium_asset
from metarl.envs.task_sets import Choices, MixedTasks, combined_tasks
from metarl.envs.variation import Change, Dead, Power, Uniform, Variation
from metarl.tasks import ContinuousTasks, DiscreteTasks, Family, uniform
from metarl.types import Task

MODEL = """
<mujoco>
  <option gravity="0 0 {gravity}" wind="{wind} 0 0" density="{density}" viscosity="{viscosity}"/>
  <worldbody>
    <geom name="floor" type="plane" size="5 5 1" friction="{floor} 0.02 0.003"/>
    <body name="cart" pos="0 0 0.1">
      <inertial mass="{mass}" pos="0 0 0" diaginertia="0.3 {inertia} 0.2"/>
      <joint name="slide" type="slide" axis="1 0 0" damping="{damping}" armature="{armature}" frictionloss="{loss}"/>
      <geom name="box" type="box" size="0.2 0.1 0.1" friction="0.7 {rolling} 0.001"/>
      <body name="pole" pos="0 0 0.2">
        <inertial mass="0.5" pos="0 0 0.3" diaginertia="0.04 0.05 0.02"/>
        <joint name="hinge" axis="0 1 0" damping="0.3" armature="0.02" stiffness="{stiffness}" springref="9"/>
        <geom name="rod" type="capsule" size="0.02 0.3" pos="0 0 0.3"/>
      </body>
    </body>
  </worldbody>
  <actuator>
    <motor name="push" joint="slide" gear="{gear}" ctrlrange="-1 1"/>
    <motor joint="hinge" gear="3" ctrlrange="-1 1"/>
  </actuator>
</mujoco>
"""
VALUES = {
    "gravity": -9.81, "wind": 1.0, "density": 1.5, "viscosity": 0.02, "floor": 0.9, "mass": 2.0, "inertia": 0.25,
    "damping": 0.5, "armature": 0.1, "loss": 0.05, "rolling": 0.01, "stiffness": 4.0, "gear": 20.0,
}  # fmt: skip


def compiled(**changed: float):
    """The model, with some of its values changed in the XML."""
    return mujoco.MjModel.from_xml_string(MODEL.format(**{**VALUES, **changed}))


PLACES = [
    # key of the XML, field, elements, columns
    ("mass", "body_mass", ("cart",), ()),
    ("inertia", "body_inertia", (1,), (1,)),
    ("floor", "geom_friction", ("floor",), (0,)),
    ("rolling", "geom_friction", ("box",), (1,)),
    ("stiffness", "jnt_stiffness", ("hinge",), ()),
    ("damping", "dof_damping", ("slide",), ()),
    ("armature", "dof_armature", ("slide",), ()),
    ("loss", "dof_frictionloss", ("slide",), ()),
    ("gear", "actuator_gear", ("push",), (0,)),
    ("gravity", "gravity", ("z",), ()),
    ("wind", "wind", ("x",), ()),
    ("density", "density", (), ()),
    ("viscosity", "viscosity", (), ()),
]


@pytest.mark.parametrize(("operation", "drawn"), [("scale", 1.25), ("add", 0.125), ("set", 0.375)])
@pytest.mark.parametrize(("key", "field", "elements", "columns"), PLACES)
def test_a_changed_model_equals_a_compiled_one(key, field, elements, columns, operation, drawn, numbers) -> None:
    """In all its numbers: the field itself, derived constants, and all unchanged fields."""
    model = compiled()
    change = Change(field, Uniform(0.0625, 2.0), operation, elements=elements, columns=columns)
    bound = Variation(change).bind(model)
    bound.apply(model, Task.of("f", **{field: 0.5}))  # an earlier task must leave no trace
    bound.apply(model, Task.of("f", **{field: drawn}))
    new = {"scale": VALUES[key] * drawn, "add": VALUES[key] + drawn, "set": drawn}[operation]
    ours, expected, before = numbers(model), numbers(compiled(**{key: new})), numbers(compiled())
    assert ours.keys() == expected.keys()
    changed = {name for name in ours if not np.array_equal(expected[name], before[name])}
    assert any(name.endswith(f".{field}") for name in changed)
    for name in ours:
        assert np.allclose(ours[name], expected[name], rtol=1e-12, atol=1e-14), name


def test_constants_that_follow_are_recomputed_and_the_pose_stays() -> None:
    model = compiled()
    Variation(Change("body_mass", Uniform(0.1, 3.0))).bind(model).apply(model, Task.of("f", body_mass=(2.0, 3.0)))
    assert model.body_mass.tolist() == [0.0, 4.0, 1.5]
    assert model.body_subtreemass.tolist() == [5.5, 5.5, 1.5]
    assert not np.array_equal(model.dof_invweight0, compiled().dof_invweight0)
    assert np.array_equal(model.qpos0, compiled().qpos0)
    assert np.array_equal(model.qpos_spring, compiled().qpos_spring)


@pytest.mark.parametrize("asset", ["half_cheetah", "ant", "humanoid", "walker2d_v5", "hopper", "swimmer", "pusher_v5"])
def test_factors_of_one_leave_every_number_of_a_model_as_it_is(asset: str, numbers) -> None:
    model = mujoco.MjModel.from_xml_path(gymnasium_asset(f"{asset}.xml"))
    changed = copy.copy(model)
    bound = Variation(*(Change(field, Power(2.0, -1, 1)) for field in ("body_mass", "dof_armature"))).bind(model)
    bound.apply(changed, Task.of("f", **{f.name: np.ones(f.variates) for f in bound.factors}))
    ours, theirs = numbers(changed), numbers(model)
    assert [name for name in theirs if not np.array_equal(ours[name], theirs[name])] == []


def test_a_declaration_says_how_many_values_it_draws_and_from_where() -> None:
    model = compiled()
    variation = Variation(
        Change("body_mass", Power(2.0, -1, 1)),  # cart and pole; the world is left out
        Change("geom_friction", Uniform(0.5, 2.0), shared=True),
        Change("dof_damping", Uniform(0.0, 1.0), "add", elements=("hinge",)),
    )
    mass, friction, damping = variation.bind(model).factors
    assert [f.name for f in (mass, friction, damping)] == ["body_mass", "geom_friction", "dof_damping"]
    assert [f.variates for f in (mass, friction, damping)] == [2, 1, 1]
    assert all(f.hidden for f in (mass, friction, damping))
    assert mass.transform(np.array([[0.0, 0.5]])).tolist() == [[0.5, 1.0]]
    assert friction.transform(np.array([[0.5]])).tolist() == [[1.25]]
    assert "2^U(-1, 1)" in mass.meaning
    assert "the same for all" in friction.meaning
    plain = model.geom_friction.copy()
    variation.bind(model).apply(model, Task.of("f", body_mass=(1, 1), geom_friction=2.0, dof_damping=0.25))
    assert np.array_equal(model.geom_friction, 2.0 * plain)
    assert model.dof_damping.tolist() == [0.5, 0.55]


def test_a_dead_group_is_scaled_by_zero() -> None:
    model = compiled()
    (factor,) = Variation(Change("actuator_gear", Dead((("push",),), withheld=(("hinge",),)))).bind(model).factors
    assert isinstance(factor, Choices)
    assert factor.train == ((0.0, 1.0),)
    assert factor.withheld == ((1.0, 0.0),), "an actuator without a name goes by its joint's"


HALF = Uniform(0.5, 1.5)


@pytest.mark.parametrize(
    ("declare", "expected"),
    [
        (lambda: Variation(), "at least one"),
        (lambda: Variation(Change("body_mas", HALF)), "got field 'body_mas', expected one of body_mass"),
        (lambda: Variation(Change("body_mass", HALF), Change("body_mass", HALF)), "each of another field"),
        (lambda: Variation(Change("body_mass", HALF, "double")), "got operation 'double', expected scale, add, set"),
        (lambda: Variation(Change("body_mass", HALF, elements="cart")), "got elements 'cart', expected a tuple"),
        (lambda: Variation(Change("wind", HALF), constants={"densty": 1.0}), "got the constant 'densty' = 1.0"),
        (lambda: Variation(Change("wind", HALF), constants={"density": -1.0}), "got the constant 'density' = -1.0"),
        (
            lambda: Variation(Change("wind", HALF, "set", elements=("x",))).bind(compiled(density=0, viscosity=0)),
            "got a model without a medium, expected one: pass constants",
        ),
        (lambda: Uniform(1.0, 1.0), "got the range 1.0 to 1.0"),
        (lambda: Uniform(0.0, float("inf")), "got the range 0.0 to inf"),
        (lambda: Power(0.0, -1, 1), "got base 0.0"),
        (lambda: bind(Change("body_mass", HALF, elements=("torso",))), "got element 'torso', expected one of world, c"),
        (lambda: bind(Change("dof_damping", HALF, elements=(2,))), "got element 2, .*index below 2"),
        (
            lambda: Variation(Change("actuator_gear", HALF)).bind(mujoco.MjModel.from_xml_string("<mujoco/>")),
            "got a model without any actuator",
        ),
        (lambda: bind(Change("gravity", HALF, elements=("up",))), "got element 'up', expected one of x, y, z"),
        (lambda: bind(Change("geom_friction", HALF, columns=(3,))), r"got columns \(3,\), expected numbers below 3"),
        (lambda: bind(Change("gravity", HALF, elements=("x",))), "got scale for numbers that are all 0"),
        (lambda: bind(Change("body_mass", Uniform(-1, 1))), "body_mass: got values down to -2, expected above 0"),
        (lambda: bind(Change("body_mass", Uniform(0, 1))), "got values down to 0, expected above 0"),
        (lambda: bind(Change("dof_damping", Uniform(-1, 1), "add")), "got values down to -0.7, expected at least 0"),
        (lambda: bind(Change("body_mass", Dead((("cart",),), None))), "got values down to 0, expected above 0"),
        (lambda: bind(Change("actuator_gear", Dead((("pull",),), None))), "got element 'pull', expected one of push"),
        (
            lambda: bind(Change("actuator_gear", Dead((("hinge",),), None), elements=("push",))),
            r"got the dead group \('hinge',\), expected one or more of the change",
        ),
        (lambda: bind(Change("actuator_gear", Dead(((),), None))), r"got the dead group \(\)"),
        (
            lambda: bind(Change("actuator_gear", Dead((("push",),), None), "set")),
            "got Dead with shared or an operation",
        ),
    ],
)
def test_a_bad_declaration_is_one_clear_value_error(declare, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        declare()
    assert "\n" not in str(caught.value)


def bind(change: Change):
    return Variation(change).bind(compiled())


def test_a_task_with_a_wrong_number_of_values_is_refused() -> None:
    model = compiled()
    bound = bind(Change("body_mass", HALF))
    with pytest.raises(ValueError, match="got a task with 3 values, expected 2"):
        bound.apply(model, Task.of("f", body_mass=(1, 1, 1)))
    with pytest.raises(KeyError, match="no parameter 'body_mass'"):
        bound.apply(model, Task.of("f", mass=1))


@pytest.fixture
def cart(tmp_path: Path) -> type[Locomotion]:
    """A custom robot: the cart of `MODEL`."""
    (tmp_path / "cart.xml").write_text(MODEL.format(**VALUES))

    class Cart(Locomotion):
        model_path = str(tmp_path / "cart.xml")
        frame_skip = 2
        observation_size = 3
        position_noise = velocity_noise = 0.01
        control_cost = 0.1

    return Cart


def test_any_model_gets_a_family_by_declaration_alone(cart: type[Locomotion]) -> None:
    """Twice the mass under the same push: the heavier cart is slower, and it moves as in plain MuJoCo."""
    variation = Variation(Change("body_mass", Power(2.0, -1, 1), shared=True))
    family = locomotion_family("heavy-cart", cart, "push a cart", variation=variation)
    assert isinstance(family, Family)
    envs = family.make_envs(2, 1, 20)
    envs.set_tasks([Task.of("heavy-cart", body_mass=m) for m in (1.0, 2.0)])
    envs.reset(seed=0)
    start = envs.batch.qpos.copy(), envs.batch.qvel.copy()
    push = np.array([[1.0, 0.0]] * 2, dtype=np.float32)
    _, rewards, *_, infos = envs.step(push)
    assert np.array_equal(rewards, infos["x_velocity"] - 0.1)
    assert infos["x_velocity"][0] > infos["x_velocity"][1]
    for row, factor in enumerate((1.0, 2.0)):
        model = compiled()
        model.body_mass[:] *= factor
        data = mujoco.MjData(model)
        mujoco.mj_setConst(model, data)
        mujoco.mj_resetData(model, data)
        data.qpos[:], data.qvel[:], data.ctrl[:] = start[0][row], start[1][row], push[row]
        mujoco.mj_forward(model, data)
        mujoco.mj_step(model, data, 2)
        assert np.array_equal(data.qpos, envs.batch.qpos[row])
    envs.close()


def test_the_family_that_the_page_declares_works() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "families.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    found: dict = {}
    exec(block, found)
    family = found["heavy_cheetah"]()
    envs = family.make_envs(1, 1, 2)
    (task,) = family.distribution.held_out(1)
    envs.set_tasks([task])
    plain = mujoco.MjModel.from_xml_path(envs.model_path)
    (model,) = envs.models
    assert model.body("torso").mass == plain.body("torso").mass * task["body_mass"][0]
    assert np.allclose(model.body("torso").inertia, plain.body("torso").inertia * task["body_mass"][0], rtol=1e-14)
    assert np.array_equal(model.geom_friction, plain.geom_friction * [task["geom_friction"][0], 1, 1])
    envs.close()


def test_a_goal_and_a_variation_combine() -> None:
    variation = Variation(Change("gravity", Uniform(0.5, 1.5), elements=("z",)))
    family = locomotion_family("both", HalfCheetah, "both", goal=speed(0.0, 2.0), variation=variation)
    assert [p.name for p in family.distribution.parameters] == ["velocity", "gravity"]
    tasks = family.distribution.sample(2, np.random.default_rng(0))
    envs = family.make_envs(2, 1, 5)
    envs.set_tasks(tasks)
    envs.reset(seed=0)
    _, rewards, *_, infos = envs.step(np.zeros((2, 6), dtype=np.float32))
    targets = [task["velocity"][0] for task in tasks]
    assert np.array_equal(rewards, -np.abs(infos["x_velocity"] - targets))
    assert [model.opt.gravity[2] for model in envs.models] == [-9.81 * task["gravity"][0] for task in tasks]
    envs.close()


CRIPPLED = Variation(Change("actuator_gear", Dead(train=(("bshin",), ("fshin",)), withheld=(("bfoot",),))))


@pytest.mark.parametrize("goal", [DIRECTION, speed(0.0, 2.0)], ids=["choices", "continuous"])
def test_a_goal_and_a_dead_actuator_combine_and_stay_held_out(goal: Goal) -> None:
    distribution = locomotion_family("both", HalfCheetah, "both", goal=goal, variation=CRIPPLED).distribution
    rng = np.random.default_rng(0)
    train, held_out = distribution.sample(400, rng), distribution.held_out()
    assert distribution.splits
    assert {task["actuator_gear"] for task in train} == {(1, 0, 1, 1, 1, 1), (1, 1, 1, 1, 0, 1)}
    assert {task["actuator_gear"] for task in held_out} == {(1, 1, 0, 1, 1, 1)}
    assert not set(train) & set(held_out)
    assert distribution.held_out(2) == held_out[:2]
    assert len(set(held_out)) == len(held_out)
    assert set(distribution.train_tasks(8)).isdisjoint(held_out)
    assert Task.from_json(train[0].to_json()) == train[0]


def test_mixed_tasks_meet_every_choice_with_every_value() -> None:
    mixed = combined_tasks(
        "f",
        [
            uniform("x", 0.0, 1.0, meaning="x"),
            Choices(name="way", meaning="way", train=((0.0,), (1.0,)), withheld=((2.0,), (3.0,))),
        ],
    )
    assert isinstance(mixed, MixedTasks)
    first = [(task["x"][0], task["way"][0]) for task in mixed.held_out(4)]
    assert first == [(0.5, 2.0), (0.5, 3.0), (0.25, 2.0), (0.25, 3.0)], "Halton: 1/2, 1/4"
    assert len(mixed.held_out()) == 200
    ways = [task["way"][0] for task in mixed.sample(10, np.random.default_rng(0))]
    assert sorted(ways) == [0.0] * 5 + [1.0] * 5


def test_a_finite_set_of_mixed_tasks_is_few_values_with_all_choices() -> None:
    way = Choices(name="way", meaning="way", train=((0.0,), (1.0,), (4.0,)), withheld=((2.0,),))
    mixed = combined_tasks("f", [uniform("x", 0.0, 1.0, meaning="x"), way])
    assert isinstance(mixed, MixedTasks)
    finite = mixed.with_finite_set(7)
    tasks = finite.train_tasks(100)
    assert [task["way"][0] for task in tasks] == [0.0, 1.0, 4.0, 0.0, 1.0, 4.0, 0.0]
    values = [task["x"][0] for task in tasks]
    assert [values.index(x) for x in values] == [0, 0, 0, 3, 3, 3, 6], "three values in all"
    assert finite.train_tasks(2) == tasks[:2]
    drawn = finite.sample(70, np.random.default_rng(0))
    assert [drawn.count(task) for task in tasks] == [10] * 7
    assert drawn[:7] != tasks, "in random order"
    assert finite.held_out() == mixed.held_out()
    assert finite.splits
    with pytest.raises(ValueError, match=r"train_tasks: got 2, but training tasks of 'f' have 3 values of way; use 3"):
        mixed.with_finite_set(2)


def test_simple_cases_have_simple_types_and_no_parameter_is_refused() -> None:
    x, way = uniform("x", 0.0, 1.0, meaning="x"), Choices(name="way", meaning="way", train=((0.0,), (1.0,)))
    assert isinstance(combined_tasks("f", [x]), ContinuousTasks)
    discrete = combined_tasks("f", [way])
    assert isinstance(discrete, DiscreteTasks)
    assert not discrete.splits
    with pytest.raises(ValueError, match=r"got parameters \[\], expected at least one"):
        combined_tasks("f", [])
    with pytest.raises(ValueError, match=r"got parameters \['x', 'x'\], .*distinct names"):
        combined_tasks("f", [x, x])
