"""Friction varied without effect: MuJoCo combines the friction of two geoms, and a warning names what it drops."""

from __future__ import annotations

import logging
import re

import mujoco
import numpy as np
import pytest

from metarl.envs.variation import Change, Power, Uniform, Variation
from metarl.logs import warn_once
from metarl.registry import make_family

MODEL = """
<mujoco>
  <option timestep="0.005"/>
  <worldbody>
    <geom name="floor" type="plane" size="9 9 1" friction="0.5 0.1 0.1" condim="{condim}"/>
    <body name="box" pos="0 0 0.1">
      <freejoint/>
      <geom name="foot" type="box" size="0.1 0.1 0.1" friction="0.6 0.1 0.1" priority="{priority}" condim="{condim}"/>
      <geom name="lamp" size="0.05" pos="0 0 0.3" contype="0" conaffinity="0"/>
    </body>
  </worldbody>
</mujoco>
"""


def model_with(priority: int = 0, condim: int = 3):
    return mujoco.MjModel.from_xml_string(MODEL.format(priority=priority, condim=condim))


def slid(model, geom: str, sliding: float) -> float:
    """Distance in m that the box slides with this sliding friction of a geom."""
    model.geom(geom).friction[0] = sliding
    data = mujoco.MjData(model)
    data.qvel[0] = 1.0
    mujoco.mj_step(model, data, 200)
    return float(data.qpos[0])


@pytest.fixture(autouse=True)
def no_warnings_yet() -> None:
    warn_once.cache_clear()


SLIDING = {"distribution": Uniform(0.2, 1.5), "operation": "set", "columns": (0,)}


@pytest.mark.parametrize(
    ("change", "model", "warning"),
    [
        (Change("geom_friction", **SLIDING, elements=("floor",)), {}, "floor below 0.6 has no effect, .* of foot too"),
        (Change("geom_friction", **SLIDING, elements=("foot",)), {}, "foot below 0.5 has no effect, .* of floor too"),
        (Change("geom_friction", **SLIDING), {}, ""),
        (Change("geom_friction", Uniform(1.3, 2.0), elements=("floor",), columns=(0,)), {}, ""),
        (
            Change("geom_friction", **SLIDING, elements=("floor",)),
            {"priority": 1},
            "the friction of floor has no effect in contact with foot of higher priority",
        ),
        (Change("geom_friction", **SLIDING, elements=("foot",)), {"priority": 1}, ""),
        (
            Change("geom_friction", **SLIDING),
            {"condim": 1},
            "sliding friction of floor acts only in contacts of condim 3",
        ),
        (Change("geom_friction", Power(2, -1, 1), columns=(1,)), {}, "torsional friction of floor .* condim 4"),
        (Change("geom_friction", Power(2, -1, 1), columns=(1,)), {"condim": 4}, ""),
        (Change("geom_friction", **SLIDING, elements=("lamp",)), {}, ""),
    ],
)
def test_friction_without_effect_is_logged_once(change: Change, model: dict, warning: str, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            Variation(change).bind(model_with(**model))
    messages = [record.message for record in caplog.records]
    assert bool(messages) == bool(warning)
    assert len(messages) == len(set(messages))
    if warning:
        assert re.search(warning, messages[0])


def test_mujoco_combines_friction_as_the_warnings_say() -> None:
    assert slid(model_with(), "floor", 0.2) == slid(model_with(), "floor", 0.5)
    assert slid(model_with(), "floor", 0.7) < slid(model_with(), "floor", 0.5)
    assert slid(model_with(priority=1), "floor", 0.2) == slid(model_with(priority=1), "floor", 1.5)


@pytest.mark.parametrize("robot", ["walker2d", "hopper", "half-cheetah"])
def test_the_families_that_come_with_metarl_are_silent(robot: str, caplog) -> None:
    with caplog.at_level(logging.WARNING):
        for suffix in ("", "-published"):
            make_family(f"{robot}-rand-params{suffix}").distribution.sample(1, np.random.default_rng(0))
    assert not caplog.records
