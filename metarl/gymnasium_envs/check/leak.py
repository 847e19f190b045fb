"""Leaks: hidden parameters that the observation at reset reveals, beyond differences in random numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from metarl.gymnasium_envs.check.findings import Clock, Note, Problem
from metarl.gymnasium_envs.check.playing import SMALLEST, rounding
from metarl.gymnasium_envs.check.tasks_apart import Part, mixed, told_apart
from metarl.parameters import describe
from metarl.tasks import ContinuousTasks, Family
from metarl.types import Bools, Floats, Task
from metarl.vector import TaskVecEnv

COMPONENTS = 200
"""Largest number of compared components; those of an image are spread over it."""
RESETS = 100
"""Resets of each of two tasks whose first observations are compared as samples."""


def leaks(
    envs: TaskVecEnv, family: Family, tasks: Sequence[Task], clock: Clock, shifted: set[Task]
) -> Iterator[Problem | Note]:
    """Reports hidden parameters that the first observation reveals, by tasks that differ in nothing else.

    Args:
        envs: One task of `E` rows.
        family: The family.
        tasks: Some of its tasks; each is compared with the first.
        clock: Time limit.
        shifted: Receives the tasks whose first observations differ from the first task's by random numbers only.
    """
    declared = {p.name: p.hidden for p in family.distribution.parameters}
    sensed = {p.name for p in family.distribution.parameters if p.sensed}
    if not all(declared.values()) and not isinstance(family.distribution, ContinuousTasks):
        return  # the visible parameters of two tasks may not fit each other
    base = tasks[0]
    first = _resets(envs, base, 0)
    for other in tasks[1:]:
        if not clock.going():
            clock.skipped.append("leaks of some of the tasks")
            return
        hidden = [name for name, _ in other.parameters if declared.get(name, True) and name not in sensed]
        task = mixed(family, base, other, [Part(name) for name in hidden])
        one, two = first, _resets(envs, task, 0)
        apart = _apart(one, two)
        if not apart.any():
            continue
        for seed in range(1, -(-RESETS // len(first))):
            if not clock.going():
                break
            one = np.concatenate([one, _resets(envs, base, seed)])
            two = np.concatenate([two, _resets(envs, task, seed)])
        components = np.flatnonzero(_apart(one, two))
        if len(components) > COMPONENTS:
            components = components[np.linspace(0, len(components) - 1, COMPONENTS).astype(int)]
        told = [c for c in components if told_apart(one[:, c], two[:, c], len(components) * len(tasks))]
        if told:
            yield Problem(
                "leak",
                f"component {told[0]} of the observation at reset distinguishes tasks that differ only in hidden "
                f"parameters ({', '.join(sorted(hidden))}): {describe(base)} against {describe(task)}, in {len(one)} "
                "resets; take it out of the observation (and out of the state an episode starts in), or declare the "
                "parameter hidden=False",
            )
            return
        if not shifted:
            yield Note(
                "leak",
                f"component {components[0]} of the observation at reset differs between tasks under the same "
                f"seed, but {len(one)} resets of each do not distinguish the tasks by it: the environment seems to "
                "draw its random numbers in another order, which is no leak (a small leak could go unnoticed)",
            )
        shifted.add(other)


def _resets(envs: TaskVecEnv, task: Task, seed: int) -> Floats:
    """First observations `[E, O]`."""
    envs.set_tasks([task])
    return envs.reset(seed=seed)[0]


def _apart(one: Floats, two: Floats) -> Bools:
    """Components `[O]` that differ beyond rounding anywhere."""
    bound = rounding(one[None], two[None])
    differs: Bools = (np.abs(np.nan_to_num(one) - np.nan_to_num(two)) > np.maximum(bound, SMALLEST)).any(axis=0)
    return differs
