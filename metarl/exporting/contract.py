"""The contract of an exported policy: what its numbers mean, as a JSON value."""

from __future__ import annotations

import math
from collections.abc import Sequence
from importlib import metadata
from typing import Any

from metarl.exporting.graph import NEEDED, OPSET, OUTPUTS
from metarl.learning.experience.normalisation import NORMALISATION
from metarl.learning.networks.exported.step import Normalise, PolicyStep
from metarl.runs import RunConfig, versions
from metarl.tasks import Family
from metarl.types import Progress, Spaces, Task
from metarl.vector import TaskVecEnv

FORMAT = 1
"""Version of the contract: it changes when a reader of the old one would run a policy wrongly."""
ABOUT = {
    "observation": "the current observation, raw, in the order and the units of `observation`",
    "previous_action": "the action that the robot received last, after every limit; ignored in the first step",
    "previous_reward": "the reward of that action, as in training; ignored in the first step",
    "done": "1 if the previous step ended its episode, else 0; ignored in the first step",
    "memory": "next_memory of the previous step; zeros at the start of a trial",
    "noise": "independent random numbers, new ones in each step",
}
"""Meaning of each input."""
CLOCK = "call the policy once per step, at equal times; its action acts from its observation until the next one"
QUIET = (
    "its mode in every step, also while it explores, although it was trained with noise: it may adapt worse without "
    "it; metarl export --sample keeps the noise"
)
"""How a policy acts that adapts in its memory and is exported without its noise."""
DRIVES = {
    "servo": "target of a position servo of the robot",
    "pd": "target of a position servo that training made of a torque motor; the robot has to run `gains` itself",
    "torque": "torque or force of a motor",
    "other": "control of another actuator, in the units of the MJCF file",
}
"""Meaning of each kind of control."""
GAINS = (
    "torque = clip(kp * (target - position) - kd * velocity, -limit, limit), of the joint: target is the control in "
    "rad or m; kp in N m/rad, kd in N m s/rad, limit in N m, of a slide in N/m, N s/m, N; before a task's variations; "
    "training computed it at every physics step"
)
"""The torque of a servo."""
LATENCY = "latency"
"""Name of the task parameter that delays actions, in families that have it."""


def contract(
    step: PolicyStep, run: RunConfig, family: Family, named: str, task: Task, progress: Progress, episodes: int
) -> dict[str, Any]:
    """The contract of a step.

    Args:
        step: The step.
        run: Configuration of the run.
        family: The family that it was exported for.
        named: Name of the family, as `metarl.find_family` takes it.
        task: The task.
        progress: Counters of the run.
        episodes: Adaptation episodes whose effect is in the parameters.
    """
    envs = family.make_envs(1, 1, run.spaces.horizon)
    try:
        observation, action, seconds = _observation(run.spaces, envs), _action(run.spaces, envs), envs.step_seconds
        home = _home(envs)
    finally:
        envs.close()
    return {
        "format": FORMAT,
        "agent": run.agent,
        "family": named,
        "reward_version": family.reward_version or None,
        "iteration": progress.iteration,
        "env_steps": progress.env_steps,
        "inputs": [
            {"name": n, "shape": [size], "type": "float32", "meaning": ABOUT[n]} for n, size in step.sizes.items()
        ],
        "outputs": [
            {"name": name, "shape": [step.sizes[of]], "type": "float32"}
            for name, of in zip(OUTPUTS, ("previous_action", "memory"), strict=True)
        ],
        "observation": observation,
        "home": home,
        "normalisation": _normalisation(step),
        "action": action,
        "acts_by": acts_by(step),
        "noise": {"size": step.noise, "distribution": f"standard {step.distribution}"} if step.noise else None,
        "memory": {
            "at_start": "zeros",
            "parts": [part._asdict() for part in step.parts],
            "adapts": step.adapts,
        },
        "rate": {
            "step_seconds": seconds,
            "hertz": None if seconds is None else 1.0 / seconds,
            "steps_per_episode": run.spaces.horizon,
            "clock": CLOCK,
        },
        "delay": _delay(family),
        "adaptation": _adaptation(step, episodes),
        "task": task.to_json(),
        "task_parameters": [
            {"name": p.name, "meaning": p.meaning, "hidden": p.hidden} for p in family.distribution.parameters
        ],
        "opset": OPSET,
        "versions": _versions(),
    }


def acts_by(step: PolicyStep) -> str:
    """How a step chooses its action, in words; `QUIET` if it lacks the noise that it explored by in training."""
    if step.noise:
        return "random numbers: the input `noise`"
    return QUIET if step.adapts else "its mode"


def _delay(family: Family) -> str:
    """The delay between observation and action that training knew, in words."""
    known = [p.meaning for p in family.distribution.parameters if p.name == LATENCY]
    return known[0] if known else "none in training; that of sensing, computing and sending should be well below a step"


def _versions() -> dict[str, Any]:
    """Versions of everything that the graph was made with."""
    found = versions()
    packages = {**found["packages"], **{name: metadata.version(name) for name in NEEDED}}
    return {"packages": packages, "python": found["python"], "commit": found["commit"]}


def _adaptation(step: PolicyStep, episodes: int) -> str:
    if step.adapts:
        return (
            "in the memory: a trial begins with zeros and goes on through episodes of the same task; "
            "for another task, robot or payload, begin again with zeros"
        )
    if episodes:
        return f"in the parameters: {episodes} episodes of `task`; another task needs another export"
    return "none: the parameters are those of the run"


def _observation(spaces: Spaces, envs: TaskVecEnv) -> dict[str, Any]:
    size, space = spaces.observation_size, envs.single_observation_space
    return {
        "size": size,
        "names": _listed(envs.observation_names, size),
        "units": _listed(spaces.observation_units, size),
        "low": _bounds(space.low.ravel()),
        "high": _bounds(space.high.ravel()),
    }


def _action(spaces: Spaces, envs: TaskVecEnv) -> dict[str, Any]:
    size = spaces.action_size
    discrete = {"choices": spaces.choices, "first_choice": spaces.first_choice} if spaces.choices else {}
    return {
        "kind": "discrete" if spaces.choices else "continuous",
        **discrete,
        "size": size,
        "names": _listed(envs.action_names, size),
        "units": _listed(envs.action_units, size),
        "low": _bounds(spaces.action_low),
        "high": _bounds(spaces.action_high),
        "clipped": "to these bounds, inside the graph",
        "controls": _controls(envs),
    }


def _controls(envs: TaskVecEnv) -> dict[str, Any] | None:
    """The controls of the robot's actuators; None if actions are the controls themselves, or have none."""
    found = envs.action_controls
    if found is None:
        return None
    gains = {name: _bounds(getattr(found, name)) for name in ("kp", "kd", "limit")}
    return {
        "formula": "clip(centre + scale * action, low, high), each in its `unit`",
        "relative_to": "centre: of a servo or pd, the control that holds `home`; else the middle of its range",
        "kind": list(found.kind),
        "kinds": {name: meaning for name, meaning in DRIVES.items() if name in found.kind},
        "unit": list(found.unit),
        **{name: _bounds(getattr(found, name)) for name in ("centre", "scale", "low", "high")},
        "gains": {"formula": GAINS, **gains} if {"servo", "pd"} & set(found.kind) else None,
    }


def _home(envs: TaskVecEnv) -> dict[str, Any] | None:
    """The pose that joint positions are relative to; None if they are absolute, or have none."""
    found = envs.home_pose
    if found is None:
        return None
    joints = zip(found.joints, found.positions, found.units, strict=True)
    return {
        "meaning": "subtract `position` from the position of each joint; episodes start near this pose",
        "joints": [{"name": name, "position": float(at), "unit": unit} for name, at, unit in joints],
        "site": found.site or None,
    }


def _normalisation(step: PolicyStep) -> dict[str, Any]:
    """The normalisation of the observation, for information: it is a part of the graph."""
    found = [module for module in step.modules() if isinstance(module, Normalise)]
    about: dict[str, Any] = {"where": "inside the graph: inputs are raw", "formula": NORMALISATION if found else None}
    first = next((m for m in found if len(m.coarse) >= step.observation_size), None)
    if first is not None:
        size = step.observation_size
        about["mean"] = (first.coarse.double() + first.fine.double())[:size].tolist()
        about["deviation"] = first.deviation[:size].tolist()
    return about


def _listed(names: Sequence[str], size: int) -> list[str] | None:
    """Names of all components; None if they are unknown."""
    return list(names) if len(names) == size else None


def _bounds(bounds: Any) -> list[float | None]:
    """Bounds; None for an infinite one."""
    return [float(bound) if math.isfinite(bound) else None for bound in bounds]
