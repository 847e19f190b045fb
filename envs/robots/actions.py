"""Actions of a robot: numbers in [-1, 1] that become controls of its model.

| actuator | control at action a |
|---|---|
| position servo on a hinge | that of home, plus a times `scale` rad of its joint |
| any other position servo | that of home, plus a times half of its range |
| motor, or any other | middle of its range, plus a times `scale` times half of its range |

Controls are clipped to the actuator's range. A motor without a range has the range -1 to 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np

from metarl.envs.controls import control_space
from metarl.envs.elements import ON_JOINTS, position_servos
from metarl.types import Floats

HINGE = int(mujoco.mjtJoint.mjJNT_HINGE)
LEGS, ARM, TORQUE = 0.4, 1.0, 1.0
"""Default `scale` of servos of a walking robot and of an arm, rad, and of motors (share of the range)."""


@dataclass(frozen=True)
class Actions:
    """The mapping from actions to controls.

    Args:
        centre: Controls at action 0, `[A]`.
        half: Change of the controls per unit of action, `[A]`.
        low: Lowest control, `[A]`.
        high: Highest control, `[A]`.
        note: A sentence on the kind and range of the actions.
    """

    centre: Floats
    half: Floats
    low: Floats
    high: Floats
    note: str

    def controls(self, actions: Floats) -> Floats:
        """Controls `[rows, A]` of actions `[rows, A]` in [-1, 1]."""
        return np.minimum(np.maximum(self.centre + self.half * actions, self.low), self.high)


def make_actions(model: Any, home: Floats, scale: float | None, *, legs: bool, how: str) -> Actions:
    """The actions of a robot.

    Args:
        model: The `MjModel`.
        home: Controls that hold the home pose, `[nu]`.
        scale: The option `scale`; None for the default.
        legs: Whether the robot walks, for the default.
        how: The option `action`, for the note; empty if it was chosen by the actuators.
    """
    space = control_space(model)
    low, high = space.low.astype(np.float64), space.high.astype(np.float64)
    servos, hinges = position_servos(model), _on_hinges(model)
    bounded = np.isfinite(low) & np.isfinite(high)
    middle = np.where(bounded, (np.where(bounded, low, 0) + np.where(bounded, high, 0)) / 2, 0.0)
    reach = np.where(bounded, (np.where(bounded, high, 0) - np.where(bounded, low, 0)) / 2, 1.0)
    around = LEGS if legs else ARM
    around, share = (around, TORQUE) if scale is None else (scale, scale)
    with np.errstate(divide="ignore", invalid="ignore"):
        per_rad = -model.actuator_biasprm[:, 1] * model.actuator_gear[:, 0] / model.actuator_gainprm[:, 0]
    centre = np.where(servos, home, middle)
    half = np.where(servos, np.where(hinges, around * np.abs(per_rad), reach), share * reach)
    return Actions(centre, half, low, high, _note(servos, around, share, how))


def _on_hinges(model: Any) -> np.ndarray:
    """True for actuators of a hinge, `[nu]`."""
    on_joint = np.isin(model.actuator_trntype, ON_JOINTS)
    return on_joint & (model.jnt_type[np.where(on_joint, model.actuator_trnid[:, 0], 0)] == HINGE)


def _note(servos: np.ndarray, around: float, share: float, how: str) -> str:
    parts = []
    if servos.any():
        parts.append(f"{int(servos.sum())} joint targets within {around:g} rad of home")
    if not servos.all():
        parts.append(f"{int((~servos).sum())} torques or other controls, at most {share:g} of their range")
    return (
        f"actions: {' and '.join(parts)} ({f'action={how}' if how else 'by the actuators; action=, scale= change it'})"
    )
