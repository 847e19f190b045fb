"""The shared shapes of Meta-World's rewards, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from metarl.envs.metaworld.scene import Scene
from metarl.envs.metaworld.shaping import above, aligned, between_pads, closing, enclosed_in_plane, funnel, near
from metarl.types import Floats

OBJECT: Floats = np.zeros((1, 3))


def grip(left: float = 0.0, right: float = 0.0, tcp: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> Scene:
    """One row: pads at some places along y, and a tcp that was 0.2 m above the object, which lies at zero."""
    return Scene(
        sensed={
            "left_pad": np.array([[0.0, left, 0.0]]),
            "right_pad": np.array([[0.0, right, 0.0]]),
            "left_finger": np.array([tcp]),
            "right_finger": np.array([tcp]),
        },
        goal={"init_tcp": np.array([[0.0, 0.7, 0.2]])},
        observation=np.zeros((1, 39)),
        actions=np.array([[0.0, 0.0, 0.0, 0.35]]),
        touching=np.array([False]),
    )


def test_near_is_one_within_the_radius_and_a_tenth_at_the_margin() -> None:
    np.testing.assert_allclose(near(np.array([0.0, 0.05, 0.15, 0.25]), 0.05, 0.1), [1.0, 1.0, 0.1, 1.0 / 37.0])


def test_a_funnel_is_open_within_its_throat_and_reaches_its_height_one_metre_beyond() -> None:
    radius = np.array([0.0, 0.03, 0.03 + np.exp(-5.0), 1.03])
    np.testing.assert_allclose(funnel(radius, 0.03, slope=0.02, height=0.2), [0.0, 0.0, 0.1, 0.2], atol=1e-12)


def test_rows_of_a_funnel_have_throats_of_their_own() -> None:
    np.testing.assert_allclose(funnel(np.array([1.0, 1.0]), np.array([0.0, 1.0]), slope=1.0, height=3.0), [3.0, 0.0])


def test_above_forgives_a_centimetre_and_then_falls_to_a_tenth_at_the_margin() -> None:
    z, floor = np.array([0.5, 0.3, 0.295, 0.24]), np.full(4, 0.3)
    np.testing.assert_allclose(above(z, floor, 0.05), [1.0, 1.0, 1.0, 0.1])


def test_above_a_floor_below_zero_is_one() -> None:
    floor = np.array([-0.2, 0.0])
    assert above(np.array([0.1, 0.1]), floor, floor / 2.0).tolist() == [1.0, 1.0]


def test_alignment_falls_linearly_to_zero() -> None:
    ideal = np.array([1.0, 0.0, 0.0, 0.0])
    turned = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 0.06, 0.08, 0.0], [0.0, 0.0, 0.0, 1.0]])
    np.testing.assert_allclose(aligned(turned, ideal, 0.4), [1.0, 0.75, 0.0])


@pytest.mark.parametrize(("tcp", "expected"), [((0.0, 9.0, 0.01), 1.0), ((0.2, 9.0, 0.0), 0.1)])
def test_enclosing_in_the_plane_leaves_y_out(tcp: tuple[float, float, float], expected: float) -> None:
    assert enclosed_in_plane(grip(tcp=tcp), OBJECT, OBJECT, 0.01) == pytest.approx(expected)


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
    assert closing(grip(), np.array([caging]), effort) == pytest.approx(expected)
