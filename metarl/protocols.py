"""Published protocols of evaluation: how many adaptation episodes, and which episodes count."""

from __future__ import annotations

from typing import Any

from metarl.agent import MetaAgent

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
