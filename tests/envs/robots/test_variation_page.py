"""The page on variations: names, options and code, and the tool that makes its table."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from small_models import MODELS, NAMES, text_of

from metarl.envs.robots.effects import SENSOR_DEVIATIONS
from metarl.envs.robots.variations import KINDS, explain

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "robot-variations.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^## (\w+)\n(.*?)(?=^## )", PAGE, re.MULTILINE | re.DOTALL))


def test_the_page_has_a_line_and_a_section_for_every_variation() -> None:
    lines = re.findall(r"^\| \[`(\w+)`\]\(#(\w+)\) \| .* \| (.*) \| .* \|$", PAGE, re.MULTILINE)
    assert {name for name, _, _ in lines} == set(KINDS)
    for name, anchor, bounds in lines:
        assert anchor == name
        assert name in SECTIONS
        low = KINDS[name].low
        if low in (0.0, 1e-5, -1.0):
            assert bounds.removeprefix("at least ").split(" to ")[0] == f"{low:g}".replace("e-05", "e-5")
    table = re.findall(r"^\| `(\w+)` \| .*/", PAGE, re.MULTILINE)
    assert table == [name for name in table if name in KINDS]
    assert set(table) == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_page_and_docstring_name_every_option_and_field(name: str) -> None:
    for option in KINDS[name].options:
        assert f"`{option}`" in explain(name) or "as for `joint_damping`" in explain(name)
        assert f"`{option}`" in SECTIONS[name] or "as for `joint_damping`" in SECTIONS[name]
    fields = set(re.findall(r"`((?:body|dof|geom|actuator|pair|jnt|opt)[_.]\w+)`", explain(name)))
    assert fields <= set(re.findall(r"`([\w.]+)`", SECTIONS[name])), "every changed field"


def test_the_deviations_of_sensors_are_those_of_the_code() -> None:
    words = " ".join(SECTIONS["sensor_noise"].split())
    for unit, deviation in SENSOR_DEVIATIONS.items():
        assert f"{deviation:g}{' for a direction' if unit == '1' else f' {unit}'}" in words


def test_the_code_of_the_page_fits_a_robot_with_servos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_quadruped.xml").write_text(text_of("servo_quadruped"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    named, own = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    found: dict = {"__name__": "my_robot"}
    exec(named, found)
    assert [effect.factor.name for effect in found["effects"]] == ["payload", "motor_strength"]
    found = {"__name__": "my_robot"}
    exec(own, found)
    family = found["family"]()
    assert [parameter.variates for parameter in family.distribution.parameters] == [1, 1, 1]
    envs = family.make_envs(2, 1, 3)
    envs.set_tasks(family.distribution.train_tasks(2))
    envs.reset(seed=0)
    observations, *_ = envs.step(np.zeros_like(envs.action_space.sample()))
    assert np.isfinite(observations).all()
    envs.close()


def test_the_tool_measures_a_difference_at_home_and_in_motion(capsys, monkeypatch) -> None:
    place = importlib.util.spec_from_file_location("robot_variations", ROOT / "tools" / "robot_variations.py")
    assert place is not None
    assert place.loader is not None
    tool = importlib.util.module_from_spec(place)
    place.loader.exec_module(tool)
    monkeypatch.setattr(tool, "RANGES", [one for one in tool.RANGES if one[0] in ("payload", "sensor_noise")])
    tool.main([str(MODELS / f"{name}.xml") for name in NAMES[1:3]])
    head, _, payload, noise = (line.strip("|").split("|") for line in capsys.readouterr().out.splitlines())
    assert [word.strip() for word in head] == ["variation", *NAMES[1:3]]
    servo, arm = (np.array([float(x) for x in cell.split("/")]) for cell in payload[1:])
    assert servo.min() > 1e-3
    assert arm[0] < 1e-6 < 1e-2 < arm[1], "gravity compensation hides the weight"
    assert [cell.strip() for cell in noise[1:]] == ["0 / 0"] * 2
