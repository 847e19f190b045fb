"""Moments of inertia of varied bodies: physical ones, and those that MuJoCo's compiler refuses."""

from __future__ import annotations

import logging
import re

import mujoco
import numpy as np
import pytest

from metarl.envs.inertia import moments_of_inertia, second_moments, without_rounding
from metarl.envs.mujoco_batch import gymnasium_asset
from metarl.envs.variation import Change, Power, Uniform, Variation
from metarl.logs import warn_once
from metarl.registry import make_family
from metarl.types import Task

ROBOTS = ("walker2d", "hopper", "half-cheetah")


PAIR = """
<mujoco>
  <worldbody>
    <body name="cart">
      <inertial mass="2" pos="0 0 0" diaginertia="0.3 0.25 0.2"/>
      <joint type="slide"/>
      <geom size="0.1"/>
      <body name="pole"><inertial mass="0.5" pos="0 0 0" diaginertia="0.04 0.05 0.02"/><joint/><geom size="0.1"/></body>
    </body>
  </worldbody>
</mujoco>
"""


def compiled():
    return mujoco.MjModel.from_xml_string(PAIR)


def breaks(inertia: np.ndarray) -> np.ndarray:
    """Whether MuJoCo's compiler would refuse the moments; the same comparison as in the compiler."""
    a, b, c = np.moveaxis(inertia, -1, 0)
    return (a + b < c) | (a + c < b) | (b + c < a)


def models_of(name: str, tasks: int):
    family = make_family(name)
    envs = family.make_envs(tasks, 1, 1)
    envs.set_tasks(family.distribution.sample(tasks, np.random.default_rng(0)))
    models, path = list(envs.models), envs.model_path
    envs.close()
    return models, path


def compiled_with_the_values_of(model, path: str):
    """A robot's XML, compiled with the masses, inertias, friction and damping of a model."""
    spec = mujoco.MjSpec.from_file(path)
    spec.compiler.inertiafromgeom = mujoco.mjtInertiaFromGeom.mjINERTIAFROMGEOM_AUTO
    spec.compiler.settotalmass = -1.0
    for body in spec.bodies[1:]:
        i = model.body(body.name).id
        body.mass, body.ipos, body.inertia = model.body_mass[i], model.body_ipos[i], model.body_inertia[i]
        body.iquat, body.explicitinertial = model.body_iquat[i], True
    for i, geom in enumerate(spec.geoms):
        geom.friction = model.geom_friction[i]
    for joint in spec.joints:
        joint.damping = model.dof_damping[model.joint(joint.name).dofadr[0]]
    return spec.compile()


@pytest.mark.parametrize("robot", ROBOTS)
def test_every_random_body_is_physical(robot: str) -> None:
    models, path = models_of(f"{robot}-rand-params", 300)
    inertia = np.array([model.body_inertia[1:] for model in models])
    assert not breaks(inertia).any()
    factors = inertia / mujoco.MjModel.from_xml_path(path).body_inertia[1:]
    assert factors.min() >= 1.5**-3
    assert factors.max() <= 1.5**3
    assert factors.max() / factors.min() > 8, "as wide as published"


@pytest.mark.parametrize("robot", ROBOTS)
def test_a_random_body_equals_a_compiled_one(robot: str, numbers) -> None:
    """In all numbers of the model, and in every step."""
    models, path = models_of(f"{robot}-rand-params", 3)
    for model in models:
        other = compiled_with_the_values_of(model, path)
        ours, theirs = numbers(model), numbers(other)
        for name in ours:
            assert np.allclose(ours[name], theirs[name], rtol=1e-10, atol=1e-12), name
        rng = np.random.default_rng(0)
        first, second = mujoco.MjData(model), mujoco.MjData(other)
        for _ in range(50):
            first.ctrl[:] = second.ctrl[:] = rng.uniform(-1, 1, model.nu)
            mujoco.mj_step(model, first)
            mujoco.mj_step(other, second)
        assert np.allclose(first.qpos, second.qpos, rtol=0, atol=1e-9)


@pytest.mark.parametrize("robot", ROBOTS)
def test_the_published_recipe_draws_unphysical_bodies(robot: str) -> None:
    models, path = models_of(f"{robot}-rand-params-published", 20)
    assert all(breaks(model.body_inertia[1:]).any() for model in models)
    with pytest.raises(ValueError, match="inertia must satisfy"):
        compiled_with_the_values_of(models[0], path)


def test_both_recipes_draw_the_same_numbers_for_everything_else() -> None:
    families = [make_family(f"hopper-rand-params{suffix}") for suffix in ("", "-published")]
    drawn = [family.distribution.sample(3, np.random.default_rng(0)) for family in families]
    held_out = [family.distribution.held_out(3) for family in families]
    for ours, published in (drawn, held_out):
        for mine, theirs in zip(ours, published, strict=True):
            for name in ("body_mass", "geom_friction", "dof_damping"):
                assert mine[name] == theirs[name]
            assert mine["body_second_moment"] == theirs["body_inertia"], (
                "the same factors, on other fields of the model"
            )


def test_in_a_plane_a_published_task_moves_as_a_body_with_the_same_moment_about_y() -> None:
    """Reason why the published benchmark is sound in spite of unphysical bodies: only one moment acts."""
    (model, *_), path = models_of("walker2d-rand-params-published", 1)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    axes = data.ximat[1:].reshape(-1, 3, 3)[:, 1, :]  # [body, principal axis], the part along y
    assert np.allclose(np.sort(np.abs(axes)), [0, 0, 1], atol=1e-7)
    assert breaks(model.body_inertia[1:]).any()
    other = mujoco.MjModel.from_xml_path(path)
    for name in ("body_mass", "geom_friction", "dof_damping"):
        getattr(other, name)[:] = getattr(model, name)
    other.body_inertia[1:] = np.einsum("bi,bi->b", axes**2, model.body_inertia[1:])[:, None]  # as of a ball
    mujoco.mj_setConst(other, mujoco.MjData(other))
    first, second = mujoco.MjData(model), mujoco.MjData(other)
    rng = np.random.default_rng(0)
    for _ in range(50):
        first.ctrl[:] = second.ctrl[:] = rng.uniform(-1, 1, model.nu)
        mujoco.mj_step(model, first)
        mujoco.mj_step(other, second)
    assert np.allclose(first.qpos, second.qpos, rtol=0, atol=1e-9)


SLABS = """
<mujoco>
  <worldbody>
    <body name="arm">
      <joint axis="0 1 0"/>
      <geom type="box" size="0.3 0.1 0.05" density="{density}"/>
      <geom type="sphere" size="0.1" pos="0.3 0.1 0" density="{density}"/>
      <body name="disc" pos="0.5 0 0"><joint axis="1 0 0"/><geom type="cylinder" size="0.1 0.02"/></body>
    </body>
  </worldbody>
</mujoco>
"""


@pytest.mark.parametrize(("operation", "drawn"), [("scale", 1.75), ("add", None), ("set", None)])
def test_a_mass_with_its_inertia_is_a_denser_body(operation: str, drawn: float | None, numbers) -> None:
    """A change of the mass alone leaves the inertia unchanged, like a point mass at the centre."""
    model = mujoco.MjModel.from_xml_string(SLABS.format(density=1000))
    dense = mujoco.MjModel.from_xml_string(SLABS.format(density=1750))
    mass = model.body("arm").mass[0]
    value = drawn or {"add": 0.75 * mass, "set": 1.75 * mass}[operation]
    change = Change("body_mass", Uniform(0.1, 99.0), operation, elements=("arm",), with_inertia=True)
    bound = Variation(change).bind(model)
    for between in (0.5, value):  # an earlier task must leave no trace
        bound.apply(model, Task.of("f", body_mass=between))
    ours, theirs = numbers(model), numbers(dense)
    for name in ours:
        assert np.allclose(ours[name], theirs[name], rtol=1e-12, atol=1e-14), name
    alone = mujoco.MjModel.from_xml_string(SLABS.format(density=1000))
    Variation(Change("body_mass", Uniform(0.5, 2.0))).bind(alone).apply(alone, Task.of("f", body_mass=(1.75, 1)))
    assert alone.body("arm").mass == pytest.approx(dense.body("arm").mass)
    assert not np.allclose(alone.body("arm").inertia, dense.body("arm").inertia)


def test_mass_and_shape_vary_together() -> None:
    model = compiled()
    variation = Variation(
        Change("body_mass", Uniform(0.5, 2.0), elements=("cart",), with_inertia=True),
        Change("body_second_moment", Uniform(0.5, 2.0), elements=("cart",), columns=(0,)),
    )
    assert [factor.name for factor in variation.bind(model).factors] == ["body_mass", "body_second_moment"]
    bound = variation.bind(model)
    x, y, z = second_moments(model.body_inertia[1])
    for _ in range(2):
        bound.apply(model, Task.of("f", body_mass=1.5, body_second_moment=2.0))
    assert model.body_inertia[1] == pytest.approx(1.5 * moments_of_inertia(np.array([2.0 * x, y, z])))


def test_a_flat_body_stays_flat_to_the_last_bit() -> None:
    rng = np.random.default_rng(0)
    flat = moments_of_inertia(rng.uniform(0.1, 1.0, (2000, 3)) * [1, 1, 0])
    assert (second_moments(flat)[:, 2] == 0.0).all()
    scaled = flat * rng.uniform(0.1, 3.0, (2000, 1))
    assert breaks(scaled).any(), "by rounding"
    sound = without_rounding(scaled)
    assert not breaks(sound).any()
    assert np.allclose(sound, scaled, rtol=1e-15)
    thin = moments_of_inertia(rng.uniform(0.1, 1.0, (2000, 3)) * 10.0 ** rng.uniform(-20, 0, (2000, 3)))
    assert not breaks(thin).any()


@pytest.fixture(autouse=True)
def no_warnings_yet() -> None:
    warn_once.cache_clear()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (Change("body_inertia", Power(1.5, -3, 3)), "cart, pole"),
        (Change("body_inertia", Uniform(0.5, 1.5), elements=("pole",), columns=(1,)), "pole"),
        (Change("body_inertia", Uniform(0.1, 0.9), "set", elements=("cart",), shared=True, columns=(0,)), "cart"),
        (Change("body_inertia", Power(1.5, -3, 3), shared=True), ""),
        (Change("body_inertia", Uniform(0.9, 1.1), elements=("cart",)), ""),
        (Change("body_inertia", Power(1.5, -3, 3), unphysical=True), ""),
        (Change("body_second_moment", Power(1.5, -3, 3)), ""),
        (Change("body_mass", Power(1.5, -3, 3), with_inertia=True), ""),
    ],
)
def test_unphysical_moments_are_logged_with_an_alternative(change: Change, named: str, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            Variation(change).bind(compiled())
    messages = [record.message for record in caplog.records]
    assert len(messages) == bool(named)
    for message in messages:
        assert f"unphysical moments for {named} in some tasks" in message
        assert "vary body_second_moment instead" in message


@pytest.mark.parametrize(
    ("declare", "expected"),
    [
        (
            lambda: Variation(Change("body_inertia", Uniform(0.5, 1.5), with_inertia=True)),
            "variation of body_inertia: got with_inertia, expected it only for body_mass",
        ),
        (
            lambda: Variation(
                Change("body_mass", Uniform(0.5, 1.5), with_inertia=True), Change("body_inertia", Uniform(0.9, 1.1))
            ),
            "got body_inertia and with_inertia, expected one of them",
        ),
        (
            lambda: Variation(
                Change("body_second_moment", Uniform(0.5, 1.5)), Change("body_inertia", Uniform(0.9, 1.1))
            ),
            "got body_inertia and body_second_moment, expected one of them",
        ),
        (
            lambda: Variation(
                Change("body_mass", Uniform(0.5, 1.5), "add", elements=("world",), with_inertia=True)
            ).bind(compiled()),
            "got with_inertia for a body without mass",
        ),
        (
            lambda: Variation(Change("body_second_moment", Uniform(-1.0, 1.5))).bind(compiled()),
            "body_second_moment: got values down to -.*, expected above 0",
        ),
    ],
)
def test_a_meaningless_declaration_is_one_line(declare, expected: str) -> None:
    with pytest.raises(ValueError, match=expected) as caught:
        declare()
    assert not re.search("\n", str(caught.value))


@pytest.mark.parametrize("asset", ["half_cheetah", "ant", "humanoid", "walker2d_v5", "hopper", "swimmer", "pusher_v5"])
def test_masses_of_one_leave_every_number_of_a_model_as_it_is(asset: str, numbers) -> None:
    model = mujoco.MjModel.from_xml_path(gymnasium_asset(f"{asset}.xml"))
    before = numbers(model)
    bound = Variation(Change("body_mass", Power(2.0, -1, 1), with_inertia=True)).bind(model)
    bound.apply(model, Task.of("f", **{f.name: np.ones(f.variates) for f in bound.factors}))
    after = numbers(model)
    assert [name for name in before if not np.array_equal(before[name], after[name])] == []


MASS = Uniform(0.5, 2.0)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ((Change("body_mass", MASS),), "pole"),  # the cart does not turn
        ((Change("body_mass", MASS, elements=("cart",)),), ""),
        ((Change("body_mass", MASS, with_inertia=True),), ""),
        ((Change("body_mass", MASS, with_inertia=False),), ""),
        ((Change("body_mass", MASS), Change("body_second_moment", MASS)), ""),
    ],
)
def test_a_mass_change_without_inertia_is_logged_with_the_settings_for_it(changes, named: str, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            Variation(*changes).bind(compiled())
    messages = [record.message for record in caplog.records]
    assert len(messages) == bool(named)
    for message in messages:
        assert f"the same inertia for {named}, as if" in message
        assert "with_inertia=True" in message
