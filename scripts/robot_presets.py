"""Presets of robots, `mjcf:PATH` and `menagerie:NAME`, by their task, with the source of each number."""

from __future__ import annotations

from collections.abc import Mapping

from metarl.presets import Preset

OWN_RUNS = "own runs with seed 0"
NO_RUNS = "this agent and task had no long runs"
RUN = {(agent, task) for agent in ("rl2", "multitask", "oracle", "rma") for task in ("walk", "reach")}
"""Agents and tasks that had long runs."""
WALK = {
    "learning_rate": 1e-3,
    "anneal": True,
    "gamma": 0.98,
    "normalise_observations": True,
    "init_std": 0.4,
    "min_std": 0.1,
}
FEED_FORWARD = {**WALK, "hidden": (128, 128), "minibatches": 16}
DYNAMICS = {"history_rewards": False}
"""The history of `rma` as published: motion shows payload, friction and motors."""
RECURRENT = {**WALK, "minibatches": 8, "units": 32, "encoder": (), "hidden": (128, 128)}
WALK_RUN = {"iterations": 250, "tasks": 40, "episodes": 2, "eval_every": 25, "eval_tasks": 20}
WALK_TRIALS = {"iterations": 350, "tasks": 40, "episodes": 1, "eval_every": 25, "eval_tasks": 20}
WALK_SOURCE = f"PPO's settings of half-cheetah-vel-3, with a larger step and a discount of 0.98 (1 s): {OWN_RUNS}"
REACH = {"gamma": 0.95, "min_std": 0.02}
TRIALS_TO_REACH = {"units": 64, "encoder": (64, 64), "reward_input_scale": 5.0}
"""A goal follows from distances at places by their products, which the layers before the memory compute."""
HISTORY_TO_REACH = {"phase_two": 0.3, "history_updates": 100, "units": 64, "reward_input_scale": 5.0}
"""Most of the run is for the history encoder, since the policy of phase 1, which is told the goal, learns quickly."""
REACH_RUN = {"iterations": 150, "tasks": 40, "episodes": 4, "eval_every": 25, "eval_tasks": 20}
REACH_PHASES = {**REACH_RUN, "iterations": 300, "episodes": 2, "eval_every": 50}
REACH_TRIALS = {"iterations": 700, "tasks": 80, "episodes": 1, "eval_every": 50, "eval_tasks": 20}
REACH_SOURCE = f"PPO's settings of robot-walk, with a discount of 0.95 and a smaller deviation, 0.02 rad: {OWN_RUNS}"

ROBOT_PRESETS: Mapping[tuple[str, str], Preset] = {
    **{
        (agent, f"robot-{task}"): Preset(
            training=run, agent=settings, source=WALK_SOURCE if (agent, task) in RUN else f"{WALK_SOURCE}; {NO_RUNS}"
        )
        for agent, run, settings in (
            ("rl2", WALK_TRIALS, RECURRENT),
            ("multitask", WALK_RUN, FEED_FORWARD),
            ("oracle", WALK_RUN, FEED_FORWARD),
            ("rma", WALK_RUN, {**FEED_FORWARD, **DYNAMICS}),
        )
        for task in ("walk", "hold", "own")
    },
    **{
        (agent, "robot-reach"): Preset(
            training=run,
            agent={**settings, **REACH},
            source=REACH_SOURCE if (agent, "reach") in RUN else f"{REACH_SOURCE}; {NO_RUNS}",
        )
        for agent, run, settings in (
            ("rl2", REACH_TRIALS, {**RECURRENT, **TRIALS_TO_REACH}),
            ("multitask", REACH_RUN, FEED_FORWARD),
            ("oracle", REACH_RUN, FEED_FORWARD),
            ("rma", REACH_PHASES, {**FEED_FORWARD, **HISTORY_TO_REACH}),
        )
    },
}
