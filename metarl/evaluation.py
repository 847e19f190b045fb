"""`evaluate`: the return of every episode while an agent adapts to tasks."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, get_args

import numpy as np

from metarl.agent import Actor
from metarl.memory import check_memory
from metarl.results import EvalResult
from metarl.sampling import collects
from metarl.seeding import Streams
from metarl.sizes import evaluation_memory
from metarl.tasks import Family
from metarl.types import Actions, Bools, Floats, Spaces, Task, Trajectories
from metarl.workers.blocks import BlockSampler, InProcess, Player

StateT = TypeVar("StateT")

TASKS_AT_ONCE = 50
BLOCK_TASKS = 5
"""Tasks in a block of an evaluation by a command: the same for all agents, on all machines."""
DIVERGED_LIMIT = 0.01
"""Largest fraction of diverged episodes in an evaluation."""


def evaluate(
    agent: Actor[StateT],
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
    block_tasks: int = TASKS_AT_ONCE,
    player: Player | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> EvalResult:
    """Adapts to each task with the same number of episodes, and returns the result of every episode.

    Args:
        agent: The actor, which is not changed.
        family: Source of the environments.
        tasks: The tasks to adapt to.
        streams: Source of all random numbers.
        split: Name of the split that the tasks belong to: `test`, `tune` or `train`.
        adapt_steps: `K`; by default as in training.
        episodes: `E`, episodes per task and collect.
        horizon: `T`; by default the family's.
        actions: How the policy acts. `sample`: samples in all episodes. `mode`: its mode in the evaluated episodes,
            samples in those for adaptation, so that each point of the curve is a separate collect from the same state.
            `mode-only`: its mode in all episodes, as a policy exported without its noise acts; the evaluated episodes
            are those that it adapts from.
        end_at_success: Truncate an episode at its first success.
        diverged_limit: Largest fraction of episodes whose simulation may diverge. Each of them counts with
            the worst return of its task.
        block_tasks: Largest number of tasks in a block (`metarl.workers.blocks`); it changes the random numbers.
        player: Plays the blocks on environments of this family; by default this process.
        on_progress: Called with the number of finished collects, from 0 on, and their total.

    Returns:
        Returns and successes `[task, k, repeat]`, `k` from 0 (before adaptation) to `K`.

    Raises:
        ValueError: There are no tasks, `actions` is unknown, the agent was built for other spaces, the episodes do not
            fit into memory, or too many simulations diverged.
    """
    if not isinstance(family, Family):
        raise ValueError(f"evaluate: got {family!r}, expected a metarl.Family; else metarl.evaluate_shots")
    if not tasks:
        raise ValueError(f"evaluate: got no tasks of {family.name!r}, expected at least one")
    if actions not in (known := get_args(Actions)):
        raise ValueError(f"evaluate: got actions = {actions!r}, expected {', '.join(map(repr, known))}")
    if actions != "sample" and "mode" not in inspect.signature(agent.act).parameters:
        raise ValueError(
            f"evaluate: got actions = {actions!r}, but act() of this agent takes no `mode`; expected 'sample'"
        )
    k_max = agent.adaptation_steps if adapt_steps is None else adapt_steps
    check_memory(evaluation_memory(agent.spaces, len(tasks), TASKS_AT_ONCE, episodes, k_max))
    check_spaces(agent, family, horizon or family.horizon)
    groups = np.array_split(np.arange(len(tasks)), -(-len(tasks) // TASKS_AT_ONCE))
    returns, success, at_last, diverged = (np.zeros((len(tasks), k_max + 1, episodes)) for _ in range(4))
    knows_success = False
    with contextlib.ExitStack() as closing:
        if player is None:
            player = InProcess(family.make_envs)
            closing.callback(player.close)
        for done, group in enumerate(groups):
            sampler = _JudgingSampler(
                collects=k_max + 1,
                player=player,
                num_tasks=len(group),
                episodes=episodes,
                horizon=horizon or family.horizon,
                blocks=-(-len(group) // block_tasks),
                actions=actions,
                end_at_success=end_at_success,
                reports_success=knows_success,
            )
            group_tasks = [tasks[i] for i in group]
            sampler.set_tasks(group_tasks)
            if not done:
                on_progress(0, len(groups) * (k_max + 1))
            trial = collects(sampler, agent, agent.begin(group_tasks, episodes), streams, k_max)
            for k, _ in enumerate(trial):
                judged = sampler.judged
                returns[group, k], diverged[group, k] = judged.returns(), judged.diverged
                successes, last = judged.successes(), judged.last_step_successes()
                if successes is not None and last is not None:
                    success[group, k], at_last[group, k] = successes, last
                on_progress(done * (k_max + 1) + k + 1, len(groups) * (k_max + 1))
            knows_success = sampler.reports_success
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
        adapts_within_episodes=agent.adapts_within_episodes,
    )


class _JudgingSampler(BlockSampler):
    """Collects the evaluated episodes and the episodes for adaptation; these differ with the actions `mode` alone.

    Args:
        collects: Number of collects, `K + 1`; the last one is not adapted to.
        **settings: Further arguments of `BlockSampler`.

    Attributes:
        judged: The evaluated episodes of the last collect.
    """

    judged: Trajectories

    def __init__(self, *, collects: int, **settings: Any) -> None:
        super().__init__(**settings)
        self._left = collects

    def collect(self, actor: Actor[StateT], state: StateT, streams: Streams) -> tuple[Trajectories, StateT]:
        """Collects the episodes for adaptation; keeps the evaluated ones in `judged`."""
        self._left -= 1
        self.judged, after = self._collect(actor, state, streams, self._actions)
        if self._actions == "mode" and self._left:
            return self._collect(actor, state, streams, "sample")
        return self.judged, after


def check_spaces(agent: Actor[Any], family: Family, horizon: int, use: str = "evaluate") -> None:
    """Checks that an agent was built for the spaces of a family.

    Args:
        agent: The agent.
        family: The family.
        horizon: `T`.
        use: First word of the message.

    Raises:
        ValueError: It was built for others.
    """
    envs = family.make_envs(1, 1, horizon)
    spaces = envs.spaces
    envs.close()
    if spaces != agent.spaces:
        raise ValueError(
            f"{use}: the agent was built for {_sizes(agent.spaces)}, but {family.name!r} has {_sizes(spaces)}"
        )


def _sizes(spaces: Spaces) -> str:
    """Spaces in words."""
    box = f"actions from {spaces.action_low} to {spaces.action_high}"
    actions = f"{spaces.choices} choices" if spaces.choices else box
    return f"{spaces.observation_size} observations, {actions} and horizon {spaces.horizon}"


def with_worst_of_task(returns: Floats, diverged: Bools) -> Floats:
    """Returns `[task, k, repeat]` in which each diverged episode has the worst return of its task.

    A diverged episode is short; if rewards are negative, its own return would be among the best.
    """
    if not diverged.any():
        return returns
    sound = np.where(diverged, np.inf, returns).min(axis=(1, 2), keepdims=True)
    worst = np.where(np.isfinite(sound), sound, returns.min())
    return np.where(diverged, np.minimum(returns, worst), returns)


def _check_diverged(family: Family, tasks: Sequence[Task], diverged: Bools, limit: float) -> None:
    """Raises ValueError if more than this fraction of episodes diverged."""
    if diverged.mean() > limit:
        worst, share = int(diverged.sum(axis=(1, 2)).argmax()), f"{diverged.mean():.1%}"
        raise ValueError(
            f"evaluate: got {int(diverged.sum())} of {diverged.size} episodes of {family.name!r} ({share})"
            f" with a diverged simulation or a non-finite number, expected at most {limit:.0%}. Worst "
            f"task: {tasks[worst].to_json()['parameters']}"
        )
