"""The action space of a robot: bounds of the controls of its MuJoCo model.

MuJoCo clamps a control to its `ctrlrange` only if `ctrllimited` is set. Otherwise `ctrlrange` is (0, 0) and has no
meaning, and these bounds apply instead:

| actuator | bounds |
|---|---|
| position servo on a limited joint or tendon | the targets that hold it at its limits |
| muscle | 0 to 1, as MuJoCo clamps it |
| motor with a `forcerange`, or on a joint with an `actuatorfrcrange` | the controls at which its force is clamped |
| any other | none: the control is the policy's unscaled output |

Actuators of the last kind are named in a warning, because most agents explore with outputs of size 1 and pearl needs
bounds.
"""

from __future__ import annotations

import logging
from typing import Any

import mujoco
import numpy as np
from gymnasium import spaces

from metarl.envs.elements import ON_JOINTS, SCALAR_JOINTS
from metarl.logs import warn_once
from metarl.types import Floats

LAGGING = (mujoco.mjtDyn.mjDYN_NONE, mujoco.mjtDyn.mjDYN_FILTER, mujoco.mjtDyn.mjDYN_FILTEREXACT)
"""Activation dynamics that follow the control, unlike an integrator's."""
UNBOUNDED = (-np.inf, np.inf)

logger = logging.getLogger(__name__)


def control_space(model: Any) -> spaces.Box:
    """The space of a model's controls, a `Box` of shape `[nu]`, float32. Infinite bounds and dead controls are logged.

    Args:
        model: The `MjModel`.

    Raises:
        ValueError: The model has no actuators.
    """
    if not model.nu:
        raise ValueError(
            "controls: got a model without actuators, expected at least one; write, for example, "
            '<actuator><motor joint="NAME" ctrlrange="-1 1"/></actuator> into its XML'
        )
    bounds = np.array([_bounds(model, i) for i in range(model.nu)])
    unbounded = [i for i in range(model.nu) if not np.isfinite(bounds[i]).all()]
    if unbounded:
        names = ", ".join(_name(model, i) for i in unbounded)
        warn_once(
            logger,
            f"controls: got no range for {names}, so these actions are unbounded; to bound them, add "
            'ctrlrange="LOW HIGH" to the actuators (with <compiler autolimits="true"/>, or ctrllimited="true")',
        )
    if dead := [i for i in range(model.nu) if _is_disabled(model, i)]:
        names = ", ".join(_name(model, i) for i in dead)
        warn_once(
            logger,
            f"controls: got {names} disabled by the model's <option>, so these actions have no effect; remove the "
            "actuators from the XML, or their group from actuatorgroupdisable",
        )
    low, high = bounds.astype(np.float32).T
    return spaces.Box(low, high, dtype=np.float32)


def _bounds(model: Any, i: int) -> tuple[float, float]:
    """Lowest and highest useful control of an actuator."""
    if model.actuator_ctrllimited[i]:
        low, high = model.actuator_ctrlrange[i]
        return float(low), float(high)
    if model.actuator_dyntype[i] == mujoco.mjtDyn.mjDYN_MUSCLE:
        return 0.0, 1.0
    gain, bias = float(model.actuator_gainprm[i, 0]), _bias(model, i)
    if model.actuator_dyntype[i] not in LAGGING or model.actuator_gaintype[i] != mujoco.mjtGain.mjGAIN_FIXED:
        return UNBOUNDED
    if bias is None or gain == 0.0:
        return UNBOUNDED
    if bias[1] < 0.0 < gain:
        length = _length_range(model, i)
        return UNBOUNDED if length is None else _sorted(-(bias[0] + bias[1] * length) / gain)
    if not bias.any():
        return _force_bounds(model, i, gain)
    return UNBOUNDED


def _bias(model: Any, i: int) -> Floats | None:
    """Coefficients `[3]` of 1, length and velocity in an affine bias force; None for any other bias."""
    kind = model.actuator_biastype[i]
    if kind == mujoco.mjtBias.mjBIAS_NONE:
        return np.zeros(3)
    return np.array(model.actuator_biasprm[i, :3]) if kind == mujoco.mjtBias.mjBIAS_AFFINE else None


def _scalar_joint(model: Any, i: int) -> int | None:
    """Index of the slide or hinge joint that an actuator drives; None if it drives something else."""
    joint = int(model.actuator_trnid[i, 0])
    scalar = model.actuator_trntype[i] in ON_JOINTS and model.jnt_type[joint] in SCALAR_JOINTS
    return joint if scalar else None


def _length_range(model: Any, i: int) -> Floats | None:
    """Actuator lengths `[2]` at both limits of the driven joint or tendon; None if that has no limits."""
    gear, target, joint = model.actuator_gear[i, 0], int(model.actuator_trnid[i, 0]), _scalar_joint(model, i)
    if joint is not None and model.jnt_limited[joint]:
        return np.array(gear * model.jnt_range[joint])
    if model.actuator_trntype[i] == mujoco.mjtTrn.mjTRN_TENDON and model.tendon_limited[target]:
        return np.array(gear * model.tendon_range[target])
    return None


def _force_bounds(model: Any, i: int, gain: float) -> tuple[float, float]:
    """Lowest and highest control at which a motor's force is not yet clamped."""
    low, high = UNBOUNDED
    if model.actuator_forcelimited[i]:
        low, high = _sorted(model.actuator_forcerange[i] / gain)
    joint, gear = _scalar_joint(model, i), float(model.actuator_gear[i, 0])
    if joint is not None and gear != 0.0 and model.jnt_actfrclimited[joint]:
        of_joint = _sorted(model.jnt_actfrcrange[joint] / (gain * gear))
        low, high = max(low, of_joint[0]), min(high, of_joint[1])
    return low, high


def _is_disabled(model: Any, i: int) -> bool:
    """Whether the model's options disable an actuator, by its group or all of them."""
    off = bool(model.opt.disableflags & mujoco.mjtDisableBit.mjDSBL_ACTUATION)
    group = int(model.actuator_group[i])
    return off or (0 <= group < 31 and bool(model.opt.disableactuator & (1 << group)))


def _sorted(pair: Floats) -> tuple[float, float]:
    return float(pair.min()), float(pair.max())


def _name(model: Any, i: int) -> str:
    """An actuator's name, else its joint's name, else its index."""
    if model.actuator(i).name:
        return str(model.actuator(i).name)
    if model.actuator_trntype[i] in ON_JOINTS:
        return str(model.joint(int(model.actuator_trnid[i, 0])).name) or f"actuator {i}"
    return f"actuator {i}"
