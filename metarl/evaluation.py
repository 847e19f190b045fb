"""`evaluate`: what an agent earns on tasks as it adapts to them, with nothing averaged away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy import stats

from metarl.agent import MetaAgent
from metarl.rollout import collect
from metarl.seeding import Streams
from metarl.tasks import Family
from metarl.types import EvalResult, Floats, Task

StateT = TypeVar("StateT")

TASKS_AT_ONCE = 50
RESAMPLES = 9_999


def evaluate(
    agent: MetaAgent[StateT],
    family: Family,
    tasks: Sequence[Task],
    streams: Streams,
    *,
    split: str = "test",
    adapt_steps: int | None = None,
    episodes: int = 20,
    horizon: int | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvalResult:
    """Adapts to every task with the same number of episodes and keeps every return.

    Args:
        agent: The agent; it is not changed.
        family: Makes the environments.
        tasks: The tasks to adapt to.
        streams: Source of all random numbers.
        split: What the tasks are, for the record: `test` or `train`.
        adapt_steps: `K`; as the agent was trained by default.
        episodes: `E`, episodes per task and collect.
        horizon: `T`; the family's by default.
        on_progress: Called with the number of collects done and to do.

    Returns:
        Returns and successes `[task, k, repeat]`, `k` from 0 (before adaptation) to `K`.

    Raises:
        ValueError: There is no task, or the agent was built for other spaces.
    """
    if not tasks:
        raise ValueError(f"evaluate: got no task of {family.name!r}, expected at least one")
    k_max = agent.adaptation_steps if adapt_steps is None else adapt_steps
    groups = np.array_split(np.arange(len(tasks)), -(-len(tasks) // TASKS_AT_ONCE))
    returns, success = (
        np.zeros((len(tasks), k_max + 1, episodes)),
        np.zeros((len(tasks), k_max + 1, episodes)),
    )
    knows_success, diverged = True, 0
    for done, group in enumerate(groups):
        envs = family.make_envs(len(group), episodes, horizon or family.horizon)
        try:
            if envs.spaces != agent.spaces:
                raise ValueError(
                    f"evaluate: the agent was built for {agent.spaces}, but {family.name!r} has {envs.spaces}"
                )
            group_tasks = [tasks[i] for i in group]
            envs.set_tasks(group_tasks)
            state = agent.begin(group_tasks, episodes)
            for k in range(k_max + 1):
                trajectories, state = collect(envs, agent, state, streams)
                returns[group, k] = trajectories.returns()
                successes = trajectories.successes()
                knows_success &= successes is not None
                if successes is not None:
                    success[group, k] = successes
                diverged += int(trajectories.diverged.sum())
                if k < k_max:
                    state = agent.adapt(state, trajectories)
                on_progress(done * (k_max + 1) + k + 1, len(groups) * (k_max + 1))
        finally:
            envs.close()
    return EvalResult(
        family=family.name,
        split=split,
        tasks=tuple(tasks),
        returns=returns,
        success=success if knows_success else None,
        episodes=tuple(k * agent.episodes_per_adaptation(episodes) for k in range(k_max + 1)),
        diverged=diverged,
    )


@dataclass(frozen=True)
class Interval:
    """A mean and its 95 % bootstrap interval over tasks; NaN bounds where there is a single task."""

    mean: float
    low: float
    high: float


def bootstrap_means(values: Floats, seed: int = 0) -> list[Interval]:
    """Means of the columns of `[task, k]`, with percentile bootstrap intervals that resample tasks.

    Hand in differences to make it a paired bootstrap: a task's difficulty then cancels.
    """
    means = values.mean(axis=0)
    if len(values) < 2:
        return [Interval(float(m), float("nan"), float("nan")) for m in means]
    interval = stats.bootstrap(
        (values,),
        np.mean,
        axis=0,
        n_resamples=RESAMPLES,
        batch=500,
        method="percentile",
        rng=np.random.default_rng(seed),
    ).confidence_interval
    return [Interval(*map(float, row)) for row in zip(means, interval.low, interval.high, strict=True)]


def adaptation_curve(result: EvalResult) -> list[Interval]:
    """Mean return of each `k`, over tasks and repeats."""
    return bootstrap_means(result.returns.mean(axis=2))


def adaptation_differences(result: EvalResult) -> list[Interval]:
    """Mean return of each `k >= 1` minus that of `k = 0`, paired by task."""
    means = result.returns.mean(axis=2)
    return bootstrap_means(means[:, 1:] - means[:, :1]) if means.shape[1] > 1 else []


def success_rates(result: EvalResult) -> list[float | None]:
    """Share of successful episodes of each `k`; None where the family knows no success."""
    if result.success is None:
        return [None] * result.returns.shape[1]
    return [float(s) for s in result.success.mean(axis=(0, 2))]
