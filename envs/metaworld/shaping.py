"""Building blocks of Meta-World's rewards (version 2), vectorised over rows.

Source: Yu et al. 2019, "Meta-World" (arXiv:1910.10897), with the tolerances of the DeepMind Control Suite (Tassa et al.
2018, arXiv:1801.00690). Functions take and return arrays `[R]` (points: `[R, 3]`). In each row they equal Meta-World's
functions of plain numbers.
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from metarl.envs.metaworld.scene import Scene
from metarl.types import Floats

VALUE_AT_MARGIN = 0.1
GAUSSIAN_SCALE, LONG_TAIL_SCALE = np.sqrt(-2.0 * np.log(VALUE_AT_MARGIN)), np.sqrt(1.0 / VALUE_AT_MARGIN - 1.0)
PAD_REACH = 0.05
"""Largest distance along y, in m, of a finger's pad from an object that it encloses."""


def distance(a: Floats, b: Floats) -> Floats:
    """Euclidean distance between points, `[R]` from `[R, D]` each."""
    return norm(a - b)


def norm(a: Floats) -> Floats:
    """Euclidean length, `[R]` from `[R, D]`.

    The dot product of each contiguous row with itself rounds as `numpy.linalg.norm` does for a single vector, so that
    comparisons with a radius agree with Meta-World; `einsum` rounds some rows differently.
    """
    rows = np.ascontiguousarray(a)
    return np.sqrt(np.vecdot(rows, rows))


def tolerance(
    x: Floats,
    bounds: tuple[Floats | float, Floats | float],
    margin: Floats | float,
    sigmoid: Literal["gaussian", "long_tail"] = "gaussian",
) -> Floats:
    """1 within the bounds; outside it decreases with the distance d to the nearer bound, and is 0.1 at d = margin.

    With s = d / margin, `gaussian` is 0.1^(s^2) and `long_tail` is 1 / (1 + 9 s^2). With a margin of 0 it is 0 outside.

    Args:
        x: Values, `[R]` or `[..., R]`.
        bounds: Lower and upper bound, inclusive.
        margin: Distance from the bounds at which the result is 0.1; not negative.
        sigmoid: Shape outside of the bounds.
    """
    lower, upper = bounds
    return _falling(np.maximum(lower - x, x - upper), margin, sigmoid)


def near(offset: Floats, radius: Floats | float, margin: Floats | float) -> Floats:
    """Long-tailed tolerance of a distance (m): 1 up to `radius`, 0.1 at `radius + margin`, `[R]`."""
    return _falling(offset - radius, margin, "long_tail")


def _falling(outside: Floats, margin: Floats | float, sigmoid: Literal["gaussian", "long_tail"]) -> Floats:
    """`tolerance` as a function of the distance outside of the bounds, which is 0 or negative within them."""
    with np.errstate(divide="ignore", invalid="ignore"):  # a margin of 0 gives an infinite distance, hence 0
        scaled = outside / margin
        if sigmoid == "gaussian":
            value = np.exp(-0.5 * (scaled * GAUSSIAN_SCALE) ** 2)
        else:
            value = 1.0 / ((scaled * LONG_TAIL_SCALE) ** 2 + 1.0)
    return np.where(outside <= 0.0, 1.0, value)


def hamacher(a: Floats, b: Floats) -> Floats:
    """The Hamacher product `a b / (a + b - a b)`, a soft "and" of two numbers in [0, 1]; 0 if both are 0."""
    product = a * b
    divisor = a + b - product
    return np.divide(product, divisor, out=np.zeros(product.shape), where=divisor > 0.0)


def prism(point: Floats, zero: Floats, one: Floats) -> Floats:
    """Product over the axes of a point's relative position in the box from corner `zero` to corner `one`; 1 outside.

    Args:
        point: The point, `[R, 3]` in m.
        zero: Corner of value 0, `[R, 3]` or `[3]` in m.
        one: Corner of value 1, `[R, 3]` or `[3]` in m.
    """
    low, high = np.minimum(zero, one), np.maximum(zero, one)
    inside = np.all((low <= point) & (point <= high), axis=-1)
    scale = (point - zero) / (one - zero)
    return np.where(inside, scale[:, 0] * scale[:, 1] * scale[:, 2], 1.0)


def funnel(radius: Floats, throat: Floats | float, slope: float, height: float) -> Floats:
    """Height of a funnel's surface in m: 0 within the throat, `slope * ln(radius - throat) + height` outside.

    Args:
        radius: Horizontal distance from the funnel's axis, `[R]` in m.
        throat: Radius of the throat, m.
        slope: Factor on the logarithm, m.
        height: Height of the surface 1 m outside of the throat, m.
    """
    outside = radius > throat
    return np.where(outside, slope * np.log(np.where(outside, radius - throat, 1.0)) + height, 0.0)


def above(z: Floats, floor: Floats, margin: Floats | float) -> Floats:
    """1 above a floor and down to 0.01 m below it; long-tailed tolerance further down, `[R]`.

    Args:
        z: Height, `[R]` in m.
        floor: Height of the floor, `[R]` in m.
        margin: Margin of the tolerance, m; it may be negative if `z` is above the floor.
    """
    return near(np.maximum(floor - z, 0.0), 0.01, margin)


def aligned(quaternion: Floats, ideal: Floats, error: float) -> Floats:
    """1 for the ideal quaternion (`[R, 4]` and `[4]`), decreasing linearly to 0 at a Euclidean distance of `error`."""
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
    """Meta-World's shared caging reward: quality of enclosing an object and closing the gripper, 0 to 1, `[R]`.

    Requires the goal constants `init_tcp` and `start`.

    Args:
        scene: The scene.
        position: Position of the object, `[R, 3]` in m.
        radius: Radius of the object, m.
        pad_threshold: Distance along y up to which a finger's pad encloses the object, m.
        reach_radius: Distance up to which the tcp has reached the object, m; only for `medium`.
        xz_threshold: Distance in the x-z plane up to which the gripper encloses the object, m.
        effort: Gripper action that counts as fully closing.
        density: `low`: enclosing and closing. `high`: mean of that and enclosing. `medium`: mean of `low` and reaching.
        start: Name of the goal constant with the object's initial position.
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
    """Caging of the classes that push and sweep: quality of enclosing and pinching an object, 0 to 1, `[R]`.

    The mean of enclosing and pinching. Pinching measures how close both pads are along y; it counts only if enclosing
    is above 0.95. Requires the goal constants `obj_init_pos` and `init_tcp`.

    Args:
        scene: The scene.
        position: Position of the object, `[R, 3]` in m.
        radius: Radius of the object, m.
        slack: Largest gap between a pinching pad and the radius, m.
        xz_threshold: Distance in the x-z plane up to which the gripper encloses the object, m.
    """
    caging = enclosing(scene, position, radius=radius, xz_threshold=xz_threshold)
    pinched = between_pads(scene, position, radius, radius + slack)
    return (caging + np.where(caging > 0.95, pinched, 0.0)) / 2.0


def enclosing(scene: Scene, position: Floats, *, radius: float, xz_threshold: float) -> Floats:
    """Quality of enclosing an object with one pad on each side, 0 to 1, `[R]`; arguments as in `pinching`."""
    in_plane = enclosed_in_plane(scene, position, scene.goal["obj_init_pos"], xz_threshold)
    return hamacher(between_pads(scene, position, radius, PAD_REACH), in_plane)


def between_pads(scene: Scene, position: Floats, radius: float, bound: float) -> Floats:
    """Quality of an object's position between the pads along y, one pad on each side, 0 to 1, `[R]`.

    The Hamacher product of both pads' tolerances. A pad's margin is the difference between its current gap to the
    object's centre and `PAD_REACH`; Meta-World takes the current gap, not the initial one.

    Args:
        scene: The scene.
        position: Position of the object, `[R, 3]` in m.
        radius: Smallest gap between pad and centre with the full value, m.
        bound: Largest gap between pad and centre with the full value, m.
    """
    gaps = np.array([[1.0], [-1.0]]) * (_pads_along_y(scene) - position[:, 1])
    left, right = tolerance(gaps, (radius, bound), np.abs(np.abs(gaps) - PAD_REACH), "long_tail")
    return hamacher(left, right)


def _pads_along_y(scene: Scene) -> Floats:
    """Positions of the left and the right finger's pad along y, `[2, R]` in m."""
    return np.stack([scene.sensed["left_pad"][:, 1], scene.sensed["right_pad"][:, 1]])


def closing(scene: Scene, caging: Floats, effort: float = 1.0) -> Floats:
    """Hamacher product of caging and gripper action relative to `effort`; 0 for a caging of up to 0.97, `[R]`."""
    closed = np.minimum(np.maximum(0.0, scene.actions[:, 3]), effort) / effort
    return hamacher(caging, np.where(caging > 0.97, closed, 0.0))


def enclosed_in_plane(scene: Scene, position: Floats, origin: Floats, threshold: float) -> Floats:
    """Nearness of the tcp to an object in the x-z plane: 1 within `threshold`, 0.1 at the initial distance, `[R]`.

    Requires the goal constant `init_tcp`.

    Args:
        scene: The scene.
        position: Position of the object, `[R, 3]` in m.
        origin: Initial position of the object, `[R, 3]` in m.
        threshold: Distance up to which the result is 1, m.
    """
    margin = distance(origin[:, ::2], scene.goal["init_tcp"][:, ::2]) - threshold
    return near(distance(scene.tcp[:, ::2], position[:, ::2]), threshold, margin)
