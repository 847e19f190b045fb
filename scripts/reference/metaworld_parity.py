"""Compares our batch with Meta-World: `python -m metarl.scripts.reference.metaworld_parity`.

Both play whole episodes with the same goals and actions: of the scripted policy, of that policy with noise, and random
ones. The output is a Markdown table of the largest differences per task class.
"""

from __future__ import annotations

import argparse
import platform
import sys
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import numpy as np

from metarl.envs.metaworld.batch import HORIZON
from metarl.envs.metaworld.classes import MANIPULATIONS
from metarl.envs.metaworld.families import class_of, ml
from metarl.runs import versions
from metarl.scripts.reference.metaworld import Player, Playing, started
from metarl.vector import available_cores

INFOS = ("near_object", "grasp_success", "grasp_reward", "in_place_reward", "obj_to_target")
"""Infos that are compared besides observation, reward and success."""
Schedule = Sequence[tuple[Playing, Sequence[int]]]
SCHEDULE: Schedule = (
    ("scripted", range(10)),
    ("noisy", (10, 25, 40)),
    ("random", (11, 26, 41)),
)
"""Training goals of a class, by source of actions."""


@dataclass(frozen=True)
class Parity:
    """Differences between Meta-World and our batch in the same episodes.

    Attributes:
        playing: Source of the actions.
        first_equal: Whether all first observations are equal bit for bit.
        observation: Largest absolute difference between observations.
        reward: Largest absolute difference between rewards, which are 0 to 10.
        infos: Largest absolute difference between the `INFOS`.
        success: Success of each step, of Meta-World and of our batch, `[2, E, T]`.
        rewards: Rewards of Meta-World, `[E, T]`.
    """

    playing: Playing
    first_equal: bool
    observation: float
    reward: float
    infos: float
    success: np.ndarray
    rewards: np.ndarray

    @property
    def successful_episodes(self) -> tuple[int, int]:
        """Number of episodes with a successful step, of Meta-World and of our batch."""
        there, here = self.success.any(axis=2).sum(axis=1).tolist()
        return there, here


def played(playing: Playing, goals: Sequence[tuple[str, int]], steps: int = HORIZON) -> Parity:
    """Plays the same episodes in Meta-World and in our batch.

    Args:
        playing: Source of the actions.
        goals: Class and number of a training goal for each of the `E` episodes.
        steps: `T`, steps of an episode.
    """
    names = list(dict.fromkeys(name for name, _ in goals))
    family = ml(f"{','.join(names)}/{names[0]}")
    known = {(class_of(t), int(t["goal"][0])): t for t in family.distribution.train_tasks(50 * len(names))}
    envs = family.make_envs(len(goals), 1, steps)
    envs.set_tasks([known[goal] for goal in goals])
    theirs = [started(name, goal) for name, goal in goals]
    players = [Player(name, playing, seed=goal) for name, goal in goals]
    observations, _ = envs.reset(seed=0)
    first = [env.reset()[0] for env in theirs]
    first_equal = bool(np.array_equal(observations, np.stack(first)))
    success, rewards = np.zeros((2, len(goals), steps), dtype=np.bool_), np.zeros((len(goals), steps))
    largest = {"observation": 0.0, "reward": 0.0, "infos": 0.0}
    seen = np.stack(first)
    for step in range(steps):
        actions = np.stack([p.action(e, o) for p, e, o in zip(players, theirs, seen, strict=True)]).astype(np.float32)
        ours, reward, _, _, infos = envs.step(actions)
        results = [env.step(action.astype(np.float64)) for env, action in zip(theirs, actions, strict=True)]
        seen, rewards[:, step] = np.stack([r[0] for r in results]), [float(r[1]) for r in results]
        success[0, :, step], success[1, :, step] = [bool(r[4]["success"]) for r in results], infos["success"]
        theirs_infos = np.array([[float(r[4][term]) for term in INFOS] for r in results])
        ours_infos = np.stack([infos[term] for term in INFOS], axis=1)
        for key, a, b in (
            ("observation", ours, seen),
            ("reward", reward, rewards[:, step]),
            ("infos", ours_infos, theirs_infos),
        ):
            largest[key] = max(largest[key], float(np.abs(a - b).max()))
    envs.close()
    return Parity(playing, first_equal, **largest, success=success, rewards=rewards)


def class_parity(name: str, schedule: Schedule = SCHEDULE) -> list[Parity]:
    """The comparisons of a task class, one per entry of the schedule."""
    return [played(playing, [(name, goal) for goal in goals]) for playing, goals in schedule]


def table_row(name: str, results: Sequence[Parity]) -> str:
    """A row of the table, in Markdown."""
    scripted = next(p for p in results if p.playing == "scripted")
    success = np.concatenate([p.success for p in results], axis=1)
    rewards = np.concatenate([p.rewards for p in results])
    there, here = scripted.successful_episodes
    last_there, last_here = scripted.success[:, :, -1].sum(axis=1).tolist()
    cells = (
        name,
        "equal" if all(p.first_equal for p in results) else "differs",
        *(f"{max(getattr(p, key) for p in results):.0e}" for key in ("observation", "reward", "infos")),
        f"{int((success[0] != success[1]).sum())} of {success[0].size}",
        f"{success[0].mean():.2f}",
        f"{rewards.min():.1f} to {rewards.max():.1f}",
        f"{there} / {here}",
        f"{last_there} / {last_here}",
    )
    return "| " + " | ".join(cells) + " |"


HEADER = (
    "| class | first observation | observation | reward | infos | success differs, steps | share of successful steps "
    "| range of rewards | scripted: successes of 10, Meta-World / ours | at the last step |"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table, computed with one process per core; returns the exit code 0."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("classes", nargs="*", default=sorted(MANIPULATIONS), help="task classes; all by default")
    names = parser.parse_args(arguments).classes
    packages = {name: versions()["packages"][name] for name in ("metaworld", "mujoco", "gymnasium", "numpy")}
    print(f"Python {platform.python_version()}, {', '.join(f'{k} {v}' for k, v in packages.items())}\n")
    print(HEADER + "\n|" + "---|" * (HEADER.count("|") - 1))
    with ProcessPoolExecutor(available_cores()) as pool:
        for done, (name, results) in enumerate(zip(names, pool.map(class_parity, names), strict=True), start=1):
            print(table_row(name, results), flush=True)
            print(f"{done} of {len(names)}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
