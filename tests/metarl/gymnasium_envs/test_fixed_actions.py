"""An action component that has a single value can do nothing: `check` and the first line of a run say so."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
import pytest
from gymnasium import spaces

from metarl.logs import warn_once
from metarl.vector import fixed_actions


@pytest.mark.parametrize(
    ("space", "named"),
    [
        (spaces.Box(np.array([-1, 0, 2], np.float32), np.array([1, 0, 2], np.float32)), "component 1, 2 of 3"),
        (spaces.Box(np.zeros((2, 2), np.float32), np.eye(2, dtype=np.float32)), "component 1, 2 of 4"),
        (spaces.Box(-np.inf, np.inf, (2,), np.float32), ""),
        (spaces.Discrete(1), ""),
    ],
)
def test_components_with_a_single_value_are_named(space: spaces.Space, named: str) -> None:
    complaint = fixed_actions(space)
    assert bool(complaint) == bool(named)
    assert named in complaint


def test_a_robot_of_gymnasiums_with_a_dead_servo_is_found(run_metarl, monkeypatch, caplog) -> None:
    """`MujocoEnv` takes 0 to 0 for the bounds of an actuator without `ctrlrange`."""
    monkeypatch.syspath_prepend(Path(__file__).resolve().parents[2] / "robots")
    code, out, _ = run_metarl("check", "still_robot:still")
    assert code == 1
    assert "component 0 of 2 only the value 0, so it has no effect" in " ".join(out.split())
    from still_robot import still

    warn_once.cache_clear()
    with caplog.at_level(logging.WARNING):
        for _ in range(2):
            still().spaces()
    (record,) = caplog.records
    assert "component 0 of 2" in record.message
