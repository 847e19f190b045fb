"""Moments of inertia that a body can have.

With the second moments of a body's mass along its principal axes, s1 = integral of x^2 dm and likewise s2, s3, the
principal moments of inertia are A = s2 + s3, B = s1 + s3, C = s1 + s2. Any s >= 0 is some distribution of the mass,
so A + B >= C and its permutations hold by construction; moments that break it belong to no body, and MuJoCo's
compiler refuses them. Scaling s_i by f is a stretch of the body along axis i by the square root of f at the same mass.
"""

from __future__ import annotations

import functools
import logging
from typing import Any

import mujoco
import numpy as np

from metarl.types import Bools, Floats

SECOND_MOMENT = "body_second_moment"
"""Not a field of MuJoCo's: what `body_inertia` is the sums of, see above."""

ROUNDING = 1e-12
"""Relative error of a moment; second moments below this share of the largest are those of a flat body."""

logger = logging.getLogger(__name__)


def second_moments(inertia: Floats) -> Floats:
    """The second moments of mass `[..., 3]` of principal moments of inertia `[..., 3]`."""
    moments = inertia.sum(axis=-1, keepdims=True) / 2 - inertia
    return np.where(moments > ROUNDING * np.abs(moments).max(axis=-1, keepdims=True), moments, 0.0)


def moments_of_inertia(second: Floats) -> Floats:
    """The principal moments of inertia `[..., 3]` of second moments of mass `[..., 3]`.

    Sums of two: rounding is monotone, so the triangle inequality holds to the last bit.
    """
    x, y, z = np.moveaxis(second, -1, 0)
    return np.stack([y + z, x + z, x + y], axis=-1)


def breaks_triangle(low: Floats, high: Floats) -> Bools:
    """Whether one moment of inertia, at its highest, exceeds the sum of the others at their lowest, `[...]`.

    Args:
        low: `[..., 3]`.
        high: `[..., 3]`.
    """
    others = low.sum(axis=-1, keepdims=True) - low
    return np.asarray((high > others * (1 + ROUNDING)).any(axis=-1))


def without_rounding(inertia: Floats) -> Floats:
    """Principal moments of inertia `[..., 3]` of which none exceeds the sum of the others by rounding alone.

    A flat body has A + B = C, and a common factor may round C up: MuJoCo's compiler would refuse it.
    """
    a, b, c = np.moveaxis(inertia, -1, 0)
    others = np.stack([b + c, a + c, a + b], axis=-1)
    return np.where((inertia > others) & (inertia <= others * (1 + ROUNDING)), others, inertia)


def turns(model: Any, body: int) -> bool:
    """Whether a body can turn, by a joint of its own or of what it hangs on."""
    while body:
        first, count = int(model.body_jntadr[body]), int(model.body_jntnum[body])
        if count and (model.jnt_type[first : first + count] != mujoco.mjtJoint.mjJNT_SLIDE).any():
            return True
        body = int(model.body_parentid[body])
    return False


@functools.cache
def warn_same_inertia(names: str) -> None:
    """Says once which bodies get another mass and keep their inertia."""
    logger.warning(
        "variation of body_mass: got another mass with the same inertia for %s, as if the rest sat at its centre; say "
        "with_inertia=True for a denser body that is harder to turn too, or with_inertia=False if this is meant",
        names,
    )


@functools.cache
def warn_unphysical(names: str) -> None:
    """Says once which bodies get moments of inertia that no body has."""
    logger.warning(
        "variation of body_inertia: got moments that no body has for %s in some tasks (one exceeds the sum of the "
        "other two); vary %s instead, or say unphysical=True",
        names,
        SECOND_MOMENT,
    )
