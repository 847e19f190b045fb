"""The gripping rewards that Meta-World's classes share, against numbers computed by hand."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pytest

from metarl.envs.metaworld.scene import Scene
from metarl.envs.metaworld.shaping import between_pads, closing, enclosed_in_plane, gripper_caging, near, pinching
from metarl.types import Floats


def grip(left: float, right: float, tcp: tuple[float, float, float] = (0.0, 0.0, 0.0), closing: float = 0.0) -> Scene:
    """One row with given pad positions along y; the tcp starts 0.2 m above the object at the origin."""
    zero = np.zeros((1, 3))
    return Scene(
        sensed={
            "left_pad": np.array([[0.0, left, 0.0]]),
            "right_pad": np.array([[0.0, right, 0.0]]),
            "left_finger": np.array([tcp]),
            "right_finger": np.array([tcp]),
        },
        goal={"obj_init_pos": zero, "init_tcp": np.array([[0.0, 0.7, 0.2]]), "elsewhere": np.array([[0.0, 0.2, 0.0]])},
        observation=np.zeros((1, 39)),
        actions=np.array([[0.0, 0.0, 0.0, closing]]),
        touching=np.array([False]),
    )


OBJECT: Floats = np.zeros((1, 3))


def test_near_is_one_within_the_radius_and_a_tenth_at_the_margin() -> None:
    offsets = np.array([0.0, 0.05, 0.15, 0.25])
    np.testing.assert_allclose(near(offsets, 0.05, 0.1), [1.0, 1.0, 0.1, 1.0 / 37.0])


@pytest.mark.parametrize(("tcp", "expected"), [((0.0, 9.0, 0.01), 1.0), ((0.2, 9.0, 0.0), 0.1)])
def test_enclosing_in_the_plane_leaves_y_out(tcp: tuple[float, float, float], expected: float) -> None:
    assert enclosed_in_plane(grip(0.0, 0.0, tcp), OBJECT, OBJECT, 0.01) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("scene", "expected"),
    [
        (grip(0.025, -0.025), 1.0),
        # Both pads enclose; each is 0.01 m too far to pinch, as far as from the reach of 0.05: a tenth each, 1/19 both.
        (grip(0.04, -0.04), (1.0 + 1.0 / 19.0) / 2.0),
        # Enclosed by a tenth only: pinching does not count.
        (grip(0.025, -0.025, tcp=(0.2, 0.0, 0.0)), 0.1 / 2.0),
        # The left pad on the wrong side, 0.05 m from where it should be, and 0.02 m from the reach on its own side.
        (grip(-0.03, -0.025), 1.0 / (1.0 + 9.0 * 2.5**2) / 2.0),
    ],
)
def test_pinching_adds_to_enclosing(scene: Scene, expected: float) -> None:
    assert pinching(scene, OBJECT, radius=0.02, slack=0.01, xz_threshold=0.01) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("left", "right", "expected"),
    [
        (0.02, -0.05, 1.0),
        # 0.03 m too far out, as far as from the threshold: a tenth.
        (0.08, -0.03, 0.1),
        # On the wrong side: 0.045 m from where the pad should be, 0.02 m from the threshold on its own side.
        (0.03, 0.03, 1.0 / (1.0 + 9.0 * 2.25**2)),
    ],
)
def test_an_object_between_the_pads_has_each_on_its_own_side(left: float, right: float, expected: float) -> None:
    assert between_pads(grip(left, right), OBJECT, 0.015, 0.05) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("caging", "effort", "expected"),
    [(1.0, 1.0, 0.35), (1.0, 0.7, 0.5), (1.0, 0.1, 1.0), (0.97, 0.7, 0.0), (0.98, 0.7, 0.49 / 0.99)],
)
def test_closing_counts_once_the_object_is_caged(caging: float, effort: float, expected: float) -> None:
    assert closing(grip(0.0, 0.0, closing=0.35), np.array([caging]), effort) == pytest.approx(expected)


Density = Literal["low", "medium", "high"]


def caging(scene: Scene, density: Density, effort: float = 1.0, start: str = "obj_init_pos") -> Floats:
    return gripper_caging(
        scene,
        OBJECT,
        radius=0.02,
        pad_threshold=0.05,
        reach_radius=0.01,
        xz_threshold=0.01,
        effort=effort,
        density=density,
        start=start,
    )


@pytest.mark.parametrize(("density", "expected"), [("low", 0.5), ("high", 0.75), ("medium", 0.5 / 2.0 + 0.1 / 2.0)])
def test_caging_once_enclosed_is_the_closing_of_the_gripper(density: Density, expected: float) -> None:
    start = np.hypot(0.7, 0.2)  # of the tcp, from the object
    scene = grip(0.03, -0.03, tcp=(0.0, start, 0.0), closing=0.35)
    assert caging(scene, density, effort=0.7) == pytest.approx(expected)


def test_caging_measures_its_margins_from_where_the_object_started() -> None:
    scene = grip(0.06, -0.06)
    assert caging(scene, "high") == pytest.approx(1.0 / 19.0 / 2.0)
    # 0.01 m outside, margins 0.14 - 0.05 and 0.26 - 0.05: 1 / (1 + 9/81) = 0.9 and 1 / (1 + 9/441) = 0.98.
    expected = 0.9 * 0.98 / (0.9 + 0.98 - 0.9 * 0.98) / 2.0
    assert caging(scene, "high", start="elsewhere") == pytest.approx(expected)
