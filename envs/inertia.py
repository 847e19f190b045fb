"""Physical moments of inertia, and their second moments of mass.

With the second moments of a body's mass along its principal axes, s1 = integral of x^2 dm and likewise s2, s3, the
principal moments of inertia are A = s2 + s3, B = s1 + s3, C = s1 + s2. For any s >= 0 a distribution of mass exists,
and the triangle inequalities A + B >= C, B + C >= A, C + A >= B hold. MuJoCo's compiler refuses moments that violate
one. Scaling s_i by f stretches the body along axis i by the square root of f, at constant mass.
"""

from __future__ import annotations

from typing import Any

import mujoco
import numpy as np

from metarl.types import Bools, Floats

SECOND_MOMENT = "body_second_moment"
"""Name of the second moments in a `Change`. It is not a field of `MjModel`; `body_inertia` follows from it."""

ROUNDING = 1e-12
"""Relative rounding error of a moment. Second moments below this share of the largest count as 0 (a flat body)."""


def second_moments(inertia: Floats) -> Floats:
    """Second moments of mass `[..., 3]` from principal moments of inertia `[..., 3]`, both in kg m^2."""
    moments = inertia.sum(axis=-1, keepdims=True) / 2 - inertia
    return np.where(moments > ROUNDING * np.abs(moments).max(axis=-1, keepdims=True), moments, 0.0)


def moments_of_inertia(second: Floats) -> Floats:
    """Principal moments of inertia `[..., 3]` from second moments of mass `[..., 3]`, both in kg m^2.

    Each is a sum of two numbers, and rounding is monotone, so the triangle inequality holds to the last bit.
    """
    x, y, z = np.moveaxis(second, -1, 0)
    return np.stack([y + z, x + z, x + y], axis=-1)


def breaks_triangle(low: Floats, high: Floats) -> Bools:
    """Whether moments of inertia within the bounds can violate the triangle inequality, `[...]`.

    Args:
        low: Lowest moments, `[..., 3]`.
        high: Highest moments, `[..., 3]`.
    """
    others = low.sum(axis=-1, keepdims=True) - low
    return np.asarray((high > others * (1 + ROUNDING)).any(axis=-1))


def without_rounding(inertia: Floats) -> Floats:
    """Principal moments of inertia `[..., 3]`, lowered if only rounding violates the triangle inequality.

    A flat body has A + B = C, and a common factor may round C up. MuJoCo's compiler would refuse it.
    """
    a, b, c = np.moveaxis(inertia, -1, 0)
    others = np.stack([b + c, a + c, a + b], axis=-1)
    return np.where((inertia > others) & (inertia <= others * (1 + ROUNDING)), others, inertia)


def turns(model: Any, body: int) -> bool:
    """Whether a body can rotate, by its own joints or those of its ancestors."""
    while body:
        first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
        if count and (model.jnt_type[first : first + count] != mujoco.mjtJoint.mjJNT_SLIDE).any():
            return True
        body = int(model.body_parentid[body])
    return False
