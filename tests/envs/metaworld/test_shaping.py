"""Building blocks of rewards, against numbers computed by hand and against Meta-World's caging reward."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

from metarl.envs.metaworld.scene import Scene
from metarl.envs.metaworld.shaping import (
    above,
    aligned,
    distance,
    funnel,
    gripper_caging,
    hamacher,
    norm,
    prism,
    tolerance,
)
from metarl.envs.metaworld.tools import HandInsert
from metarl.scripts.reference.metaworld import record, started

NEXT_ABOVE, NEXT_BELOW = np.nextafter(2.0, 3.0), np.nextafter(1.0, 0.0)


def test_norm_is_the_length_of_each_row() -> None:
    assert norm(np.array([[3.0, 4.0, 12.0], [0.0, 0.0, 0.0], [-1.0, 2.0, -2.0]])).tolist() == [13.0, 0.0, 3.0]
    assert norm(np.array([[3.0, -4.0], [0.0, 1.0]])).tolist() == [5.0, 1.0]


def test_norm_rounds_as_that_of_a_single_vector() -> None:
    for size in (2, 3, 4):
        points = np.random.default_rng(size).normal(size=(2000, size))
        one_by_one = [float(np.linalg.norm(point)) for point in points]
        assert norm(points).tolist() == one_by_one
        assert norm(np.asfortranarray(points)).tolist() == one_by_one


def test_distance_is_taken_row_by_row_or_to_one_point() -> None:
    points = np.array([[1.0, 1.0, 1.0], [4.0, 5.0, 1.0]])
    assert distance(points, np.array([[1.0, 1.0, 3.0], [4.0, 5.0, 1.0]])).tolist() == [2.0, 0.0]
    assert distance(points, np.array([1.0, 1.0, 1.0])).tolist() == [0.0, 5.0]


# Outside [1, 2] with margin 2: half a margin, one and two margins above, half a margin below.
OUTSIDE = np.array([3.0, 4.0, 6.0, 0.0])


def test_a_long_tail_falls_with_the_square_of_the_distance_in_margins() -> None:
    expected = [4 / 13, 1 / 10, 1 / 37, 4 / 13]  # 1 / (1 + 9 s^2) at s = 1/2, 1, 2, 1/2
    assert_allclose(tolerance(OUTSIDE, (1.0, 2.0), 2.0, "long_tail"), expected, rtol=1e-14)


def test_a_gaussian_falls_by_ten_to_the_square_of_the_distance_in_margins() -> None:
    expected = [0.5623413251903491, 0.1, 0.0001, 0.5623413251903491]  # 0.1^(s^2) at s = 1/2, 1, 2, 1/2
    assert_allclose(tolerance(OUTSIDE, (1.0, 2.0), 2.0, "gaussian"), expected, rtol=1e-14)
    assert_allclose(tolerance(OUTSIDE, (1.0, 2.0), 2.0), expected, rtol=1e-14)


def test_a_tolerance_includes_its_bounds_and_without_a_margin_nothing_else() -> None:
    x = np.array([NEXT_BELOW, 1.0, 1.5, 2.0, NEXT_ABOVE])
    for sigmoid in ("gaussian", "long_tail"):
        assert tolerance(x, (1.0, 2.0), 0.0, sigmoid).tolist() == [0.0, 1.0, 1.0, 1.0, 0.0]
        assert tolerance(x[1:4], (1.0, 2.0), 0.25, sigmoid).tolist() == [1.0, 1.0, 1.0]


def test_rows_of_a_tolerance_have_bounds_and_margins_of_their_own() -> None:
    lower, upper, margin = np.array([0.0, 3.0, 3.0]), np.array([1.0, 4.0, 4.0]), np.array([1.0, 0.0, 2.0])
    x = np.array([2.0, 2.0, 2.0])
    assert_allclose(tolerance(x, (lower, upper), margin, "long_tail"), [0.1, 0.0, 4 / 13], rtol=1e-14)


def test_the_hamacher_product_of_known_numbers() -> None:
    a = np.array([0.5, 0.2, 1.0, 0.0, 1.0, 0.0])
    b = np.array([0.5, 0.8, 0.3, 0.7, 1.0, 0.0])
    assert_allclose(hamacher(a, b), [1 / 3, 4 / 21, 0.3, 0.0, 1.0, 0.0], rtol=1e-14)
    assert hamacher(a, b).tolist() == hamacher(b, a).tolist()


def test_a_funnel_is_open_within_its_throat_and_reaches_its_height_one_metre_beyond() -> None:
    radius = np.array([0.0, 0.03, 0.03 + np.exp(-5.0), 1.03])
    assert_allclose(funnel(radius, 0.03, slope=0.02, height=0.2), [0.0, 0.0, 0.1, 0.2], atol=1e-12)


def test_rows_of_a_funnel_have_throats_of_their_own() -> None:
    assert_allclose(funnel(np.array([1.0, 1.0]), np.array([0.0, 1.0]), slope=1.0, height=3.0), [3.0, 0.0])


def test_above_forgives_a_centimetre_and_then_falls_to_a_tenth_at_the_margin() -> None:
    z, floor = np.array([0.5, 0.3, 0.295, 0.24]), np.full(4, 0.3)
    assert_allclose(above(z, floor, 0.05), [1.0, 1.0, 1.0, 0.1])


def test_above_a_floor_below_zero_is_one() -> None:
    floor = np.array([-0.2, 0.0])
    assert above(np.array([0.1, 0.1]), floor, floor / 2.0).tolist() == [1.0, 1.0]


def test_alignment_falls_linearly_to_zero() -> None:
    ideal = np.array([1.0, 0.0, 0.0, 0.0])
    turned = np.array([[1.0, 0.0, 0.0, 0.0], [1.0, 0.06, 0.08, 0.0], [0.0, 0.0, 0.0, 1.0]])
    assert_allclose(aligned(turned, ideal, 0.4), [1.0, 0.75, 0.0])


def test_in_a_prism_the_ways_along_the_axes_are_multiplied_and_outside_it_is_one() -> None:
    zero, one = np.array([1.0, 0.0, 4.0]), np.array([0.0, 2.0, 0.0])
    points = np.array(
        [
            [0.25, 0.5, 1.0],  # 3/4, 1/4 and 3/4 of the way
            [1.0, 0.0, 4.0],  # the corner worth 0
            [0.0, 2.0, 0.0],  # the corner worth 1
            [0.25, 0.0, 1.0],  # on a face
            [0.25, -1e-9, 1.0],
            [0.25, 2.5, 1.0],
            [1.5, 2.5, 5.0],
        ]
    )
    expected = [9 / 64, 0.0, 1.0, 0.0, 1.0, 1.0, 1.0]
    assert_allclose(prism(points, zero, one), expected, rtol=1e-14)
    rows = np.broadcast_to(zero, points.shape), np.broadcast_to(one, points.shape)
    assert_allclose(prism(points, *rows), expected, rtol=1e-14)
    assert_allclose(prism(points[:1], one, zero), [3 / 64], rtol=1e-14)


def caging_scene() -> tuple[Scene, np.ndarray]:
    """Four rows; the object starts at the origin, the tcp 0.5 m away from it in the x-z plane."""
    tcp = np.array([[0.3, 0.0, 0.4], [0.0, 0.0, 0.0], [0.0, 0.5, 0.0], [0.0, 0.1, 0.0]])
    fingers = np.array([0.0, 0.04, 0.0])
    pads = {"left_pad": [0.15, 0.03, 0.03, 0.25], "right_pad": [-0.03, -0.03, -0.03, 0.07]}  # y
    sensed = {name: np.stack([np.full(4, 9.0), np.array(y), np.full(4, 9.0)], axis=1) for name, y in pads.items()}
    actions = np.zeros((4, 4))
    actions[:, 3] = [1.0, 0.4, 2.0, -1.0]
    scene = Scene(
        sensed={**sensed, "right_finger": tcp - fingers, "left_finger": tcp + fingers},
        goal={"obj_init_pos": np.zeros((4, 3)), "init_tcp": np.tile([0.3, 0.0, 0.4], (4, 1))},
        observation=np.zeros((4, 39)),
        actions=actions,
        touching=np.zeros(4, dtype=bool),
    )
    return scene, np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], [0.0, 0.1, 0.0]])


def test_the_caging_reward_of_known_scenes() -> None:
    """Along y and in the plane, row by row, with the tolerances written as s, the distance outside in margins.

    0: one pad at s = 1, hence 1/10, the other encloses; the plane's s is 1 too: caging is (1/10) & (1/10) = 1/19, too
       little for the closing to count; the reach's s is 1.
    1: encloses, and closes by half of the effort: 1 & 1/2; reached.
    2: likewise, closes by more than the effort; the reach's s is 1, for the tcp is far along y.
    3: the object has moved by 0.1 along y: one pad is 0.15 from it, and 0.25 from the start, so that its margin is 0.2
       and s = 1/2, hence 4/13; opens; reached.
    """
    scene, position = caging_scene()
    caging, low, reach = np.array([1 / 19, 1.0, 1.0, 4 / 13]), np.array([0.0, 0.5, 1.0, 0.0]), [0.1, 1.0, 0.1, 1.0]
    sizes = {"radius": 0.02, "pad_threshold": 0.05, "reach_radius": 0.1, "xz_threshold": 0.1, "effort": 0.8}
    assert_allclose(gripper_caging(scene, position, **sizes), low, rtol=1e-12)
    assert_allclose(gripper_caging(scene, position, **sizes, density="high"), (low + caging) / 2, rtol=1e-12)
    assert_allclose(gripper_caging(scene, position, **sizes, density="medium"), (low + reach) / 2, rtol=1e-12)


def test_the_caging_reward_equals_meta_world() -> None:
    """In all steps of an episode in which the gripper reaches, encloses, grasps and lifts a block."""
    steps = 120
    scene = record(HandInsert, goal=3, playing="scripted", steps=steps).scene
    env = started(HandInsert.name, goal=3)
    theirs: dict[str, list[float]] = {"low": [], "medium": [], "high": []}
    for action in scene.actions:
        env.step(action)
        for density, values in theirs.items():
            value = env._gripper_caging_reward(
                action,
                env.data.body("obj").xpos,
                obj_radius=0.015,
                pad_success_thresh=0.05,
                object_reach_radius=0.01,
                xz_thresh=0.005,
                desired_gripper_effort=0.7,
                high_density=density == "high",
                medium_density=density == "medium",
            )
            values.append(float(value))
    sizes = {"radius": 0.015, "pad_threshold": 0.05, "reach_radius": 0.01, "xz_threshold": 0.005, "effort": 0.7}
    position = scene.sensed["block"]
    assert_allclose(gripper_caging(scene, position, **sizes, density="low"), theirs["low"], rtol=1e-9, atol=1e-9)
    assert_allclose(gripper_caging(scene, position, **sizes, density="medium"), theirs["medium"], rtol=1e-9, atol=1e-9)
    assert_allclose(gripper_caging(scene, position, **sizes, density="high"), theirs["high"], rtol=1e-9, atol=1e-9)
    assert min(theirs["low"]) == 0.0
    assert max(theirs["low"]) > 0.5, "the gripper never closed around the block: nothing was compared"
