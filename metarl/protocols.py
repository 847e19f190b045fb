"""Published evaluation protocols: the number of adaptation episodes and of evaluated episodes."""

from __future__ import annotations

from typing import Any

from metarl.agent import MetaAgent

META_WORLD_ADAPTATION, META_WORLD_EPISODES = 10, 3
"""Adaptation episodes per goal, and evaluated episodes after them."""


def meta_world_protocol(agent: MetaAgent[Any]) -> tuple[int, int]:
    """Meta-World's protocol (Yu et al. 2019, arXiv:1910.10897): ten adaptation episodes per goal, three evaluated.

    An agent that pools the episodes of a goal divides the ten among its adaptation steps. An agent with independent
    trials plays three of them, each with ten adaptation episodes and one evaluated episode. An agent that does not
    adapt plays the three evaluated episodes. Every goal has the same weight, and every episode is completed.

    Args:
        agent: The agent.

    Returns:
        `K` and `E` for `evaluate`. Only the first `META_WORLD_EPISODES` episodes of the last collect are evaluated.

    Raises:
        ValueError: The number of adaptation steps does not divide ten, or leaves fewer than three episodes each.
    """
    if not agent.adaptation_steps:  # a reference, which ten episodes do not change
        return 0, META_WORLD_EPISODES
    if agent.episodes_per_adaptation(META_WORLD_ADAPTATION) == 1:
        return META_WORLD_ADAPTATION, META_WORLD_EPISODES
    steps = agent.adaptation_steps
    if META_WORLD_ADAPTATION % steps:
        raise ValueError(
            f"protocol metaworld: got an agent with {steps} steps of adaptation, expected a number that divides "
            f"{META_WORLD_ADAPTATION}, the number of adaptation episodes"
        )
    episodes = META_WORLD_ADAPTATION // steps
    if episodes < META_WORLD_EPISODES:
        raise ValueError(
            f"protocol metaworld: got an agent with {steps} steps of adaptation, {episodes} episodes each, expected at "
            f"most {META_WORLD_ADAPTATION // META_WORLD_EPISODES} steps"
        )
    return steps, episodes
