"""How well walking robots track their command: velocities of runs on held-out tasks.

Plays the tasks as `metarl evaluate` does, with sampled actions, and reads the velocity of the base from the
observations. It needs robots that observe it (the default). For each run and episode: the mean velocity forwards, the
mean distance of the velocity along x and y from the command at each step, both with 95 % intervals over tasks, and the
share of episodes that ended early. The first second is left out, in which the robot starts to walk.

    python tools/walking.py runs/go1-rl2 runs/go1-rma --tasks 40
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np

import metarl
from metarl.intervals import mean_intervals
from metarl.registry import make_family
from metarl.runs import read_run
from metarl.sampling import LocalSampler, collects
from metarl.seeding import Streams
from metarl.types import Bools, Floats, Trajectories

FIRST_SECOND = 50
"""Steps at the beginning of an episode that are left out, 1 s at 50 actions per second."""
VELOCITY = tuple(f"linear velocity, {axis} of the base" for axis in ("x", "y"))
COMMAND = tuple(f"commanded velocity {way}" for way in ("forwards", "to the left"))


def tracking(observations: Floats, mask: Bools, names: Sequence[str]) -> tuple[Floats, Floats]:
    """Mean velocity forwards and mean distance from the command of each episode, m/s.

    A robot whose episode has ended counts as one that lies still.

    Args:
        observations: Observations after each step, `[..., T, O]`; padding repeats the last one.
        mask: True for steps that happened, `[..., T]`.
        names: Names of the features, `O`.

    Returns:
        Two arrays `[...]`.

    Raises:
        ValueError: The robot does not observe its velocity, or has no command.
    """
    missing = [name for name in (*VELOCITY, *COMMAND) if name not in names]
    if missing:
        raise ValueError(f"got a robot that does not observe {missing[0]!r}, expected one that walks and observes it")
    velocity, command = (observations[..., [names.index(n) for n in group]] for group in (VELOCITY, COMMAND))
    velocity = np.where(mask[..., None], velocity, 0.0)[..., FIRST_SECOND:, :]
    distance = np.linalg.norm(velocity - command[..., FIRST_SECOND:, :], axis=-1)
    return velocity[..., 0].mean(axis=-1), distance.mean(axis=-1)


def played(run: Path, tasks: int, episodes: int, seed: int) -> tuple[list[Trajectories], tuple[str, ...]]:
    """Collects of a run on held-out tasks, from the first to the last of a trial, and the names of the features."""
    agent, family = metarl.load(run), make_family(read_run(run).family)
    held_out = family.distribution.held_out(tasks)
    envs = family.make_envs(len(held_out), episodes, family.horizon)
    try:
        sampler = LocalSampler(envs)
        sampler.set_tasks(held_out)
        trial = collects(sampler, agent, agent.begin(held_out, episodes), Streams(seed))
        return [experience for experience, _ in trial], tuple(envs.observation_names)
    finally:
        envs.close()


def cell(per_episode: Floats) -> str:
    """Mean of `[M, E]` with its interval over the M tasks."""
    (one,) = mean_intervals(per_episode.mean(axis=1)[:, None])
    return f"{one.mean:.3f} [{one.low:.3f}, {one.high:.3f}]"


def main(words: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN")
    parser.add_argument("--tasks", type=int, default=40, help="held-out tasks")
    parser.add_argument("--episodes", type=int, default=2, help="episodes of each task side by side")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(words)
    print("| run | episode | velocity forwards, m/s | distance from the command, m/s | ended early |")
    print("|---|---|---|---|---|")
    for run in given.runs:
        trial, names = played(run, given.tasks, given.episodes, given.seed)
        for number, episodes in enumerate(trial, start=1):
            speed, distance = tracking(episodes.next_observations, episodes.mask, names)
            early = float(episodes.terminated.any(axis=-1).mean())
            print(f"| {run.name} | {number} | {cell(speed)} | {cell(distance)} | {early:.3f} |", flush=True)


if __name__ == "__main__":
    main()
