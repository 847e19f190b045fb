"""The step of an agent's policy for one task, adapted if its parameters have to be."""

from __future__ import annotations

from typing import Any

from metarl.agent import MetaAgent
from metarl.evaluation import check_spaces
from metarl.learning.networks.exported.step import PolicyStep
from metarl.memory import check_memory
from metarl.sampling import LocalSampler
from metarl.seeding import Streams
from metarl.sizes import evaluation_memory
from metarl.tasks import Family
from metarl.types import Task


def step_for_task(
    name: str,
    agent: MetaAgent[Any],
    family: Family,
    task: Task,
    streams: Streams,
    *,
    adapt_steps: int | None = None,
    episodes: int = 20,
    horizon: int | None = None,
    sampled: bool = False,
) -> tuple[PolicyStep, int]:
    """One step of the policy of a task, and the number of episodes that it was adapted with before.

    An agent that adapts by its memory is exported as it starts a trial. Otherwise it plays `K` collects of `E`
    episodes, as in training, and adapts after each.

    Args:
        name: Name of the agent, for messages.
        agent: The trained agent.
        family: Source of the environments.
        task: The task.
        streams: Source of reset seeds and of the policy's noise.
        adapt_steps: `K`; by default as in training.
        episodes: `E`.
        horizon: `T`; by default the family's.
        sampled: Sample the policy by random numbers that are an input, instead of taking its mode.

    Raises:
        ValueError: The agent has no step to export, or adapts by its memory although `adapt_steps` is given.
    """
    how: Any = getattr(agent, "policy_step", None)
    if how is None:
        raise ValueError(f"export: got the agent {name!r}, which has no policy_step, expected one of metarl's agents")
    check_spaces(agent, family, horizon or family.horizon, "export")
    state = agent.begin([task], 1)
    step: PolicyStep = how(state, sampled=sampled)
    collects = agent.adaptation_steps if adapt_steps is None else adapt_steps
    if step.adapts or not agent.adaptation_steps:
        if adapt_steps:
            reason = "adapts by its memory while it acts" if step.adapts else "does not adapt"
            raise ValueError(f"--adapt-steps: got {adapt_steps}, but {name} {reason}; leave it out")
        return step, 0
    check_memory(evaluation_memory(agent.spaces, 1, 1, episodes, collects))
    envs = family.make_envs(1, episodes, horizon or family.horizon)
    try:
        sampler, state = LocalSampler(envs), agent.begin([task], episodes)
        sampler.set_tasks([task])
        for _ in range(collects):
            experience, state = sampler.collect(agent, state, streams)
            state = agent.adapt(state, experience)
    finally:
        envs.close()
    adapted: PolicyStep = how(state, sampled=sampled)
    return adapted, collects * agent.episodes_per_adaptation(episodes)
