"""`evaluate`: what an agent earns on tasks as it adapts to them, with nothing averaged away."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeVar

import numpy as np

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
    returns, success, at_last = (np.zeros((len(tasks), k_max + 1, episodes)) for _ in range(3))
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
                successes, last = trajectories.successes(), trajectories.last_step_successes()
                if successes is None or last is None:
                    knows_success = False
                else:
                    success[group, k], at_last[group, k] = successes, last
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
        last_step_success=at_last if knows_success else None,
    )


META_WORLD_ADAPTATION, META_WORLD_EPISODES = 10, 3
"""Episodes to adapt from, and to be judged by afterwards."""


def meta_world_protocol(agent: MetaAgent[Any]) -> tuple[int, int]:
    """How to evaluate as Meta-World does: each goal is adapted to from ten episodes, and then tried in three.

    Yu et al. 2019 (arXiv:1910.10897). Where episodes of a goal are pooled, the ten are one collect for each step of
    adaptation; where they are trials of their own, three trials of ten and one episode. Every goal counts the same,
    and every episode is waited for.

    Args:
        agent: The agent.

    Returns:
        `K` and `E` for `evaluate`; of the last collect only the first `META_WORLD_EPISODES` episodes count.

    Raises:
        ValueError: The agent's steps of adaptation do not divide the ten episodes.
    """
    if agent.episodes_per_adaptation(META_WORLD_ADAPTATION) == 1:
        return META_WORLD_ADAPTATION, META_WORLD_EPISODES
    steps = max(1, agent.adaptation_steps)
    if META_WORLD_ADAPTATION % steps:
        raise ValueError(
            f"protocol metaworld: got an agent with {steps} steps of adaptation, expected a number that divides "
            f"{META_WORLD_ADAPTATION}, the episodes there are to adapt from"
        )
    episodes = META_WORLD_ADAPTATION // steps
    if episodes < META_WORLD_EPISODES:
        raise ValueError(
            f"protocol metaworld: got an agent with {steps} steps of adaptation, {episodes} episodes each, expected at "
            f"most {META_WORLD_ADAPTATION // META_WORLD_EPISODES} steps"
        )
    return steps, episodes


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
    from scipy import stats  # here, because importing it would delay the start of every training

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


def success_rates(result: EvalResult, at: Literal["any", "last"] = "any") -> list[float | None]:
    """Share of successful episodes of each `k`, tasks counting alike; None where the family knows no success.

    Args:
        result: The evaluation.
        at: Count what was a success at `any` step, or at the episode's `last`.
    """
    success = result.success if at == "any" else result.last_step_success
    if success is None:
        return [None] * result.returns.shape[1]
    return [float(s) for s in success.mean(axis=(0, 2))]


def success_intervals(result: EvalResult, at: Literal["any", "last"] = "any") -> list[Interval]:
    """`success_rates` with intervals over tasks; empty where the family knows no success."""
    success = result.success if at == "any" else result.last_step_success
    return [] if success is None else bootstrap_means(success.mean(axis=2))


def by_class(result: EvalResult, class_of: Callable[[Task], str]) -> dict[str, EvalResult]:
    """The same evaluation for each class of tasks alone, in the order in which they come up."""
    members: dict[str, list[int]] = {}
    for i, task in enumerate(result.tasks):
        members.setdefault(class_of(task), []).append(i)
    return {name: _of_tasks(result, np.array(rows)) for name, rows in members.items()}


def _of_tasks(result: EvalResult, rows: np.ndarray) -> EvalResult:
    success, last = result.success, result.last_step_success
    return replace(
        result,
        tasks=tuple(result.tasks[i] for i in rows),
        returns=result.returns[rows],
        success=None if success is None else success[rows],
        last_step_success=None if last is None else last[rows],
    )
