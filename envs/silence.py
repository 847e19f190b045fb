"""Reasons why a parameter of the task has no effect on a MuJoCo robot, or another one than its name promises.

`metarl check` plays each parameter at both ends of its range and asks `silence` for reasons. Two copies of the model,
one with each end's numbers, are compared: which fields differ, and whether physics reads them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from metarl.envs.model_fields import element_names
from metarl.envs.robots.effects import PLAYED
from metarl.envs.silent_contacts import silent_friction
from metarl.envs.silent_fields import differing, disabled, silent_bodies, silent_drives, silent_gravity, silent_medium
from metarl.gymnasium_envs.check.ends import Reason
from metarl.types import Floats, Task
from metarl.vector import TaskVecEnv

PLAYED_SIZES = dict(zip(PLAYED, (1, 3, 2, 1), strict=True))
"""Numbers of values of the variations that an environment plays."""
SMALLEST_IMPULSE = 1e-9  # N s
SMALLEST_NOISE = 1e-9


def silence(envs: TaskVecEnv, name: str, low: Task, high: Task) -> Sequence[Reason]:
    """Reasons for a parameter whose two tasks may be alike; none for a batch that is no MuJoCo robot.

    Args:
        envs: The batch; its tasks are set, and it is reset.
        name: The parameter.
        low: The task with the parameter at the lower end of its range.
        high: The same task with the parameter at the upper end.
    """
    simulations = getattr(envs, "simulations", None)
    if simulations is None:
        return ()
    one, two = (_model_of(envs, task) for task in (low, high))
    data = simulations()[0].data
    start, ctrl = data.qpos.copy(), data.ctrl.copy()
    if not ctrl.any():  # no keyframe has set controls: those of action 0
        envs.step(np.zeros_like(envs.action_space.sample()))
        ctrl = data.ctrl.copy()
    found = list(model_silence(one, two, start, ctrl, name))
    if PLAYED_SIZES.get(name) == len(low[name]) and not differing(one, two):
        return [*_played(name, np.array(low[name]), np.array(high[name]), envs.horizon, two), *found]
    if not differing(one, two) and getattr(envs, "varies_dynamics", False):
        found.append(Reason("both ends give the same numbers of the model"))
    return found


def _model_of(envs: Any, task: Task) -> Any:
    """A copy of the first row's model with a task's numbers, at the start of an episode."""
    envs.set_tasks([task] * envs.num_tasks)
    envs.reset(seed=0)
    return copy.copy(envs.simulations()[0].model)


def model_silence(one: Any, two: Any, qpos: Floats, ctrl: Floats, parameter: str = "") -> Iterator[Reason]:
    """Reasons why two models with the same elements move alike.

    Args:
        one: `MjModel` with the numbers of one task.
        two: `MjModel` with those of another.
        qpos: Joint positions at the start, `[nq]`.
        ctrl: Controls that the robot is held with, `[nu]`.
        parameter: Name of the parameter in which the tasks differ.
    """
    fields = differing(one, two)
    if not fields:
        return
    yield from disabled(one, fields)
    yield from silent_bodies(one, two, fields)
    yield from silent_gravity(one, two, fields, qpos)
    yield from silent_medium(one, two, fields)
    yield from silent_drives(one, two, fields, ctrl)
    yield from silent_friction(one, two, fields, qpos, ctrl, parameter)


def _played(name: str, low: Floats, high: Floats, horizon: int, model: Any) -> Iterator[Reason]:
    """Reasons for the variations that the environment plays; their values are in `metarl.envs.robots.effects`."""
    if name == "latency" and np.floor(low[0]) == np.floor(high[0]):
        yield Reason(f"both ends are a delay of {int(low[0])} env steps, since delays are rounded down")
    if name == "sensor_noise" and max(low[0], high[0]) < SMALLEST_NOISE:
        yield Reason(f"the noise is 0 or as good as 0 (at most {max(low[0], high[0]):g} of the usual deviation)")
    if name == "push" and max(np.abs(low[1:]).max(), np.abs(high[1:]).max()) < SMALLEST_IMPULSE:
        yield Reason("the impulse is 0 or as good as 0")
    if name in ("push", "breaking") and min(low[0], high[0]) * horizon >= horizon - 1:
        yield Reason(f"it happens in the last of {horizon} steps or later")
    if name == "breaking":
        dead = {int(low[1]), int(high[1])}
        idle = [i for i in dead if not model.actuator_gear[i].any() or not model.actuator_gainprm[i].any()]
        if set(idle) == dead:
            names = element_names(model, "actuator", model.nu)
            yield Reason(f"the actuators {', '.join(names[i] or str(i) for i in idle)} have gear or gain 0 anyway")
