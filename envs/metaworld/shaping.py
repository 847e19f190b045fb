"""The shapes that Meta-World's rewards (version 2) are put together from, over rows.

Yu et al. 2019, "Meta-World" (arXiv:1910.10897); the tolerances are those of the DeepMind Control Suite (Tassa et al.
2018, arXiv:1801.00690). Each function takes and gives arrays `[R]` (points `[R, 3]`), and equals what Meta-World
computes for one row with plain numbers.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from metarl.envs.metaworld.scene import Scene
from metarl.types import Floats

VALUE_AT_MARGIN = 0.1
GAUSSIAN_SCALE, LONG_TAIL_SCALE = np.sqrt(-2.0 * np.log(VALUE_AT_MARGIN)), np.sqrt(1.0 / VALUE_AT_MARGIN - 1.0)
PAD_REACH = 0.05
"""Distance of a finger's pad from an object along y, in m, up to which the pad encloses it."""


def distance(a: Floats, b: Floats) -> Floats:
    """Euclidean distance between points, `[R]` from `[R, D]` each."""
    return norm(a - b)


def norm(a: Floats) -> Floats:
    """Euclidean length, `[R]` from `[R, D]`.

    The product of each contiguous row with itself is what `numpy.linalg.norm` computes for a single vector, so that it
    rounds the same, and comparisons with a radius come out the same; `einsum` rounds some rows differently.
    """
    rows = np.ascontiguousarray(a)
    return np.sqrt(np.vecdot(rows, rows))


def tolerance(
    x: Floats,
    bounds: tuple[Floats | float, Floats | float],
    margin: Floats | float,
    sigmoid: Literal["gaussian", "long_tail"] = "gaussian",
) -> Floats:
    """1 within the bounds; outside falling with the distance d to the nearer one, to 0.1 where d is the margin.

    With s = d / margin: `gaussian` is 0.1^(s^2), `long_tail` is 1 / (1 + 9 s^2). Where the margin is zero, 0 outside.

    Args:
        x: `[R]`, or several of them, `[..., R]`.
        bounds: Lower and upper, both included.
        margin: How far outside the value has fallen to 0.1; not negative.
        sigmoid: The shape outside.
    """
    lower, upper = bounds
    return _falling(np.maximum(lower - x, x - upper), margin, sigmoid)


def near(offset: Floats, radius: Floats | float, margin: Floats | float) -> Floats:
    """1 within `radius` (m), falling to 0.1 at `radius + margin`: the long-tailed tolerance of a distance, `[R]`."""
    return _falling(offset - radius, margin, "long_tail")


def _falling(outside: Floats, margin: Floats | float, sigmoid: Literal["gaussian", "long_tail"]) -> Floats:
    """`tolerance` by how far outside the bounds something is; not positive within them."""
    with np.errstate(divide="ignore", invalid="ignore"):  # without a margin: infinitely many margins, worth 0
        scaled = outside / margin
        if sigmoid == "gaussian":
            value = np.exp(-0.5 * (scaled * GAUSSIAN_SCALE) ** 2)
        else:
            value = 1.0 / ((scaled * LONG_TAIL_SCALE) ** 2 + 1.0)
    return np.where(outside <= 0.0, 1.0, value)


def hamacher(a: Floats, b: Floats) -> Floats:
    """The Hamacher product `a b / (a + b - a b)`, a soft "and" of two numbers in [0, 1]; 0 where both are 0."""
    product = a * b
    divisor = a + b - product
    return np.divide(product, divisor, out=np.zeros(product.shape), where=divisor > 0.0)


def prism(point: Floats, zero: Floats, one: Floats) -> Floats:
    """In the box between two corners, the product of how far along each axis a point is from `zero` to `one`; else 1.

    Args:
        point: `[R, 3]`.
        zero: The corner worth 0, `[R, 3]` or `[3]`.
        one: The corner worth 1, likewise.
    """
    low, high = np.minimum(zero, one), np.maximum(zero, one)
    inside = np.all((low <= point) & (point <= high), axis=-1)
    scale = (point - zero) / (one - zero)
    return np.where(inside, scale[:, 0] * scale[:, 1] * scale[:, 2], 1.0)


def funnel(radius: Floats, throat: Floats | float, slope: float, height: float) -> Floats:
    """The surface of a funnel: 0 within the throat, outside `slope * ln(radius - throat) + height`, in m.

    Args:
        radius: Horizontal distance from the funnel's axis, `[R]` in m.
        throat: Up to which radius the way down is free, m.
        slope: m.
        height: Of the surface where the radius is 1 m wider than the throat, m.
    """
    outside = radius > throat
    return np.where(outside, slope * np.log(np.where(outside, radius - throat, 1.0)) + height, 0.0)


def above(z: Floats, floor: Floats, margin: Floats | float) -> Floats:
    """1 down to 0.01 m below a floor, lower falling with a long tail.

    Args:
        z: Height, `[R]` in m.
        floor: Likewise.
        margin: See `tolerance`; it may be negative where `z` is above the floor.
    """
    return near(np.maximum(floor - z, 0.0), 0.01, margin)


def aligned(quaternion: Floats, ideal: Floats, error: float) -> Floats:
    """1 for the ideal quaternion (`[R, 4]` and `[4]`), falling linearly to 0 at a Euclidean distance of `error`."""
    return np.maximum(1.0 - distance(quaternion, ideal) / error, 0.0)


def gripper_caging(
    scene: Scene,
    position: Floats,
    *,
    radius: float,
    pad_threshold: float,
    reach_radius: float,
    xz_threshold: float,
    effort: float = 1.0,
    density: Literal["low", "medium", "high"] = "low",
    start: str = "obj_init_pos",
) -> Floats:
    """How well the gripper encloses an object and closes on it, `[R]`: Meta-World's shared caging reward.

    Needs the goal's constants `init_tcp` and `start`.

    Args:
        scene: The scene.
        position: Of the object, `[R, 3]` in m.
        radius: Of the object, m.
        pad_threshold: Distance of a finger's pad from the object along y that counts as enclosing, m.
        reach_radius: Distance of the tcp from the object that counts as reached, m; for `medium` only.
        xz_threshold: Distance in the x-z plane that counts as enclosing, m.
        effort: The action's closing that counts as full.
        density: `high` averages with the enclosing alone, `medium` with reaching.
        start: The constant that says where the object was after the reset.
    """
    origin = scene.goal[start]
    pads = _pads_along_y(scene)
    margin = np.abs(np.abs(pads - origin[:, 1]) - pad_threshold)
    left, right = tolerance(np.abs(pads - position[:, 1]), (radius, pad_threshold), margin, "long_tail")
    along_y = hamacher(left, right)
    caging = hamacher(along_y, enclosed_in_plane(scene, position, origin, xz_threshold))
    result = closing(scene, caging, effort)
    if density == "high":
        result = (result + caging) / 2.0
    elif density == "medium":
        reach_margin = np.abs(distance(origin, scene.goal["init_tcp"]) - reach_radius)
        result = (result + near(distance(position, scene.tcp), reach_radius, reach_margin)) / 2.0
    return result


def pinching(scene: Scene, position: Floats, *, radius: float, slack: float, xz_threshold: float) -> Floats:
    """How well the gripper encloses and then pinches a flat object, `[R]`: caging of the classes that push and sweep.

    The mean of the enclosing and, once that is above 0.95, of how closely both pads lie at the object along y. Needs
    the goal's constants `obj_init_pos` and `init_tcp`.

    Args:
        scene: The scene.
        position: Of the object, `[R, 3]` in m.
        radius: Of the object, m.
        slack: How far beyond the radius a pad may be and still pinches, m.
        xz_threshold: Distance in the x-z plane that counts as enclosing, m.
    """
    caging = enclosing(scene, position, radius=radius, xz_threshold=xz_threshold)
    pinched = between_pads(scene, position, radius, radius + slack)
    return (caging + np.where(caging > 0.95, pinched, 0.0)) / 2.0


def enclosing(scene: Scene, position: Floats, *, radius: float, xz_threshold: float) -> Floats:
    """How well the gripper encloses an object, with each pad on its own side of it, `[R]`; see `pinching`."""
    in_plane = enclosed_in_plane(scene, position, scene.goal["obj_init_pos"], xz_threshold)
    return hamacher(between_pads(scene, position, radius, PAD_REACH), in_plane)


def between_pads(scene: Scene, position: Floats, radius: float, bound: float) -> Floats:
    """How well an object lies between the fingers' pads along y, each on its own side of it, `[R]`.

    The soft "and" of both pads' tolerances. The margin of each is how much its gap to the object's centre differs from
    `PAD_REACH` now, not at the start.

    Args:
        scene: The scene.
        position: Of the object, `[R, 3]` in m.
        radius: Least gap between pad and centre that earns the full value, m.
        bound: Largest one, m.
    """
    gaps = np.array([[1.0], [-1.0]]) * (_pads_along_y(scene) - position[:, 1])
    left, right = tolerance(gaps, (radius, bound), np.abs(np.abs(gaps) - PAD_REACH), "long_tail")
    return hamacher(left, right)


def _pads_along_y(scene: Scene) -> Floats:
    """Where the left and the right finger's pad are along y, `[2, R]` in m."""
    return np.stack([scene.sensed["left_pad"][:, 1], scene.sensed["right_pad"][:, 1]])


def closing(scene: Scene, caging: Floats, effort: float = 1.0) -> Floats:
    """The caging "and" the action's closing, as a part of `effort`; 0 up to a caging of 0.97, `[R]`."""
    closed = np.minimum(np.maximum(0.0, scene.actions[:, 3]), effort) / effort
    return hamacher(caging, np.where(caging > 0.97, closed, 0.0))


def enclosed_in_plane(scene: Scene, position: Floats, origin: Floats, threshold: float) -> Floats:
    """How near the tcp is to an object in the x-z plane, `[R]`: 1 within `threshold`, 0.1 as far as after the reset.

    Args:
        scene: The scene; its goal has the constant `init_tcp`.
        position: Of the object, `[R, 3]` in m.
        origin: Where it was after the reset, likewise.
        threshold: Distance that counts as enclosing, m.
    """
    margin = distance(origin[:, ::2], scene.goal["init_tcp"][:, ::2]) - threshold
    return near(distance(scene.tcp[:, ::2], position[:, ::2]), threshold, margin)
