from __future__ import annotations

import sys
from pathlib import Path

import pytest

from metarl.registry import agent_class, is_own_code, make_family


def test_a_mistyped_name_gets_the_nearest_one() -> None:
    with pytest.raises(ValueError, match="Did you mean 'maml-trpo'"):
        agent_class("maml_trpo")
    with pytest.raises(ValueError, match=r"Did you mean 'half-cheetah-vel'.*point-robot"):
        make_family("halfcheetah-vel")


def test_options_follow_a_familys_name() -> None:
    family = make_family("bandit:arms=3,pulls=7")
    assert (family.name, family.horizon) == ("bandit:arms=3,pulls=7", 7)
    assert family.make_envs(1, 1, 7).spaces.choices == 3
    assert not is_own_code("bandit:arms=3")
    assert is_own_code("os:system")
    for spec in ("bandit:arms=0", "bandit:legs=3", "bandit:arms", "bandit:arms=x"):
        with pytest.raises(ValueError, match=r"expected arms=INT >= 1, pulls=INT >= 1"):
            make_family(spec)
    with pytest.raises(ValueError, match=r"'point-robot' takes none"):
        make_family("point-robot:size=3")


def test_a_family_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = """
from metarl.registry import make_family

def mine():
    return make_family("point-robot")

def wrong():
    return 3
"""
    (tmp_path / "my_families.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert make_family("my_families:mine").name == "point-robot"
    with pytest.raises(ValueError, match=r"got a int, expected a metarl\.Family"):
        make_family("my_families:wrong")
    for spec in ("my_families:absent", "no_such_module:f", ":f", "my_families:"):
        with pytest.raises(ValueError, match="expected an importable module:function"):
            make_family(spec)
    sys.modules.pop("my_families")
