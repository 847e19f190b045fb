"""tools/walking.py: velocities of episodes, worked out by hand."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))

import walking as tool  # noqa: E402  # a script beside the package


def test_the_first_second_is_left_out_and_a_fallen_robot_lies_still() -> None:
    names = ("height", *tool.VELOCITY, *tool.COMMAND)
    observations = np.zeros((2, 100, 5))
    observations[..., 3] = 0.5  # the command
    observations[:, :50, 1] = 9.0  # the first second
    observations[:, 50:, 1:3] = 0.8, 0.4  # 0.3 too fast, 0.4 to the side
    mask = np.ones((2, 100), dtype=bool)
    mask[1, 60:] = False
    speed, distance = tool.tracking(observations, mask, names)
    assert speed == pytest.approx([0.8, 0.2 * 0.8])
    assert distance == pytest.approx([0.5, 0.2 * 0.5 + 0.8 * 0.5])


def test_a_robot_that_does_not_observe_its_velocity_is_refused() -> None:
    with pytest.raises(ValueError, match="does not observe 'linear velocity, x of the base'"):
        tool.tracking(np.zeros((1, 60, 1)), np.ones((1, 60), dtype=bool), ("height",))
