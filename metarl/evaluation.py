"""`evaluate`: what an agent earns on tasks as it adapts to them, with nothing averaged away."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal, TypeVar

import numpy as np

from metarl.agent import MetaAgent
from metarl.intervals import Interval, mean_intervals, rate_intervals
from metarl.memory import check_memory
from metarl.rollout import collect
from metarl.seeding import Streams
from metarl.sizes import evaluation_memory
from metarl.tasks import Family
from metarl.types import Actions, Bools, EvalResult, Floats, Spaces, Task

StateT = TypeVar("StateT")

TASKS_AT_ONCE = 50
DIVERGED_LIMIT = 0.01
"""Share of episodes that blown-up simulations may end before an evaluation fails."""


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
    actions: Actions = "sample",
    end_at_success: bool = False,
    diverged_limit: float = DIVERGED_LIMIT,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvalResult:
    """Adapts to every task with the same number of episodes and keeps every return.

    Args:
        agent: The agent; it is not changed.
        family: Makes the environments.
        tasks: The tasks to adapt to.
        streams: Source of all random numbers.
        split: What the tasks are, for the record: `test`, `tune` or `train`.
        adapt_steps: `K`; as the agent was trained by default.
        episodes: `E`, episodes per task and collect.
        horizon: `T`; the family's by default.
        actions: How the policy acts in the episodes that count. Those that it adapts from are always sampled: with
            `mode`, each point of the curve is a collect of its own, played from the same state.
        end_at_success: Cut an episode at its first success.
        diverged_limit: Share of episodes that blown-up simulations may end. Each has the worst return of its task.
        on_progress: Called with the number of collects done and to do.

    Returns:
        Returns and successes `[task, k, repeat]`, `k` from 0 (before adaptation) to `K`.

    Raises:
        ValueError: There is no task, the agent was built for other spaces, no memory holds the episodes, or too many
            simulations blew up.
    """
    if not tasks:
        raise ValueError(f"evaluate: got no task of {family.name!r}, expected at least one")
    if actions == "mode" and "mode" not in inspect.signature(agent.act).parameters:
        raise ValueError("evaluate: got actions = 'mode', but act() of this agent takes no `mode`; expected 'sample'")
    k_max = agent.adaptation_steps if adapt_steps is None else adapt_steps
    check_memory(evaluation_memory(agent.spaces, len(tasks), TASKS_AT_ONCE, episodes, k_max))
    groups = np.array_split(np.arange(len(tasks)), -(-len(tasks) // TASKS_AT_ONCE))
    returns, success, at_last, diverged = (np.zeros((len(tasks), k_max + 1, episodes)) for _ in range(4))
    knows_success = False
    for done, group in enumerate(groups):
        envs = family.make_envs(len(group), episodes, horizon or family.horizon)
        if knows_success:
            envs.reports_success = True
        try:
            if envs.spaces != agent.spaces:
                raise ValueError(
                    f"evaluate: the agent was built for {_sizes(agent.spaces)}, but {family.name!r} has "
                    f"{_sizes(envs.spaces)}"
                )
            group_tasks = [tasks[i] for i in group]
            envs.set_tasks(group_tasks)
            state = agent.begin(group_tasks, episodes)
            for k in range(k_max + 1):
                judged, after = collect(envs, agent, state, streams, actions=actions, end_at_success=end_at_success)
                returns[group, k], diverged[group, k] = judged.returns(), judged.diverged
                successes, last = judged.successes(), judged.last_step_successes()
                if successes is not None and last is not None:
                    success[group, k], at_last[group, k] = successes, last
                if k < k_max:
                    seen = judged
                    if actions == "mode":
                        seen, after = collect(envs, agent, state, streams, end_at_success=end_at_success)
                    state = agent.adapt(after, seen)
                on_progress(done * (k_max + 1) + k + 1, len(groups) * (k_max + 1))
            knows_success = envs.reports_success
        finally:
            envs.close()
    blown = diverged > 0
    success[blown] = at_last[blown] = 0.0
    _check_diverged(family, tasks, blown, diverged_limit)
    return EvalResult(
        family=family.name,
        split=split,
        tasks=tuple(tasks),
        returns=with_worst_of_task(returns, blown),
        success=success if knows_success else None,
        episodes=tuple(k * agent.episodes_per_adaptation(episodes) for k in range(k_max + 1)),
        diverged=blown,
        last_step_success=at_last if knows_success else None,
        actions=actions,
        adapts_within_episodes=getattr(agent, "adapts_within_episodes", False),
    )


def _sizes(spaces: Spaces) -> str:
    """Spaces in words."""
    box = f"actions from {spaces.action_low} to {spaces.action_high}"
    actions = f"{spaces.choices} choices" if spaces.choices else box
    return f"{spaces.observation_size} observations, {actions} and horizon {spaces.horizon}"


def with_worst_of_task(returns: Floats, diverged: Bools) -> Floats:
    """Returns `[task, k, repeat]` with the worst of its task for each episode that a blown-up simulation ended.

    Such an episode is short: where rewards are costs, its own return would be among the best.
    """
    if not diverged.any():
        return returns
    sound = np.where(diverged, np.inf, returns).min(axis=(1, 2), keepdims=True)
    worst = np.where(np.isfinite(sound), sound, returns.min())
    return np.where(diverged, np.minimum(returns, worst), returns)


def _check_diverged(family: Family, tasks: Sequence[Task], diverged: Bools, limit: float) -> None:
    """Raises ValueError where more than the given share of episodes diverged."""
    if diverged.mean() > limit:
        worst, share = int(diverged.sum(axis=(1, 2)).argmax()), f"{diverged.mean():.1%}"
        raise ValueError(
            f"evaluate: got {int(diverged.sum())} of {diverged.size} episodes of {family.name!r} ({share})"
            f" ended by a simulation that blew up, or a number that is not finite; expected at most {limit:.0%}. Worst "
            f"task: {tasks[worst].to_json()['parameters']}"
        )


META_WORLD_ADAPTATION, META_WORLD_EPISODES = 10, 3
"""Episodes to adapt from, and to be judged by afterwards."""


def meta_world_protocol(agent: MetaAgent[Any]) -> tuple[int, int]:
    """How to evaluate as Meta-World does: each goal is adapted to from ten episodes, and then tried in three.

    Yu et al. 2019 (arXiv:1910.10897). Where episodes of a goal are pooled, the ten are one collect for each step of
    adaptation; where they are trials of their own, three trials of ten and one episode. An agent that does not adapt
    plays the three. Every goal counts the same,
    and every episode is waited for.

    Args:
        agent: The agent.

    Returns:
        `K` and `E` for `evaluate`; of the last collect only the first `META_WORLD_EPISODES` episodes count.

    Raises:
        ValueError: The agent's steps of adaptation do not divide the ten episodes.
    """
    if not agent.adaptation_steps:  # a reference: it is the same after ten episodes
        return 0, META_WORLD_EPISODES
    if agent.episodes_per_adaptation(META_WORLD_ADAPTATION) == 1:
        return META_WORLD_ADAPTATION, META_WORLD_EPISODES
    steps = agent.adaptation_steps
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


def with_known_successes(results: Sequence[EvalResult]) -> list[EvalResult]:
    """Evaluations of one family; if any met a success, those that met none have a rate of 0, in place of None."""
    if all(r.success is None for r in results):
        return list(results)
    return [
        replace(r, success=np.zeros_like(r.returns), last_step_success=np.zeros_like(r.returns))
        if r.success is None
        else r
        for r in results
    ]


def adaptation_curve(result: EvalResult) -> list[Interval]:
    """Mean return of each `k`, over tasks and repeats."""
    return mean_intervals(result.returns.mean(axis=2))


def adaptation_differences(result: EvalResult) -> list[Interval]:
    """Mean return of each `k >= 1` minus that of `k = 0`, paired by task."""
    means = result.returns.mean(axis=2)
    return mean_intervals(means[:, 1:] - means[:, :1]) if means.shape[1] > 1 else []


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
    return [] if success is None else rate_intervals(success.mean(axis=2))


def by_class(result: EvalResult, class_of: Callable[[Task], str]) -> dict[str, EvalResult]:
    """The same evaluation for each class of tasks alone, in the order in which they come up."""
    members: dict[str, list[int]] = {}
    for i, task in enumerate(result.tasks):
        members.setdefault(class_of(task), []).append(i)
    return {name: result.of_tasks(rows) for name, rows in members.items()}
