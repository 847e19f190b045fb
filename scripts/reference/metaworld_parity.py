"""Meta-World beside our batch, class by class: `python -m metarl.scripts.reference.metaworld_parity`.

Both play the same goals with the same actions for whole episodes: by the scripted policy, by that with noise, and at
random. What is printed is a Markdown table of the largest differences.
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
"""What is compared beside observation, reward and success."""
Schedule = Sequence[tuple[Playing, Sequence[int]]]
SCHEDULE: Schedule = (
    ("scripted", range(10)),
    ("noisy", (10, 25, 40)),
    ("random", (11, 26, 41)),
)
"""Which training goals are played in which way."""


@dataclass(frozen=True)
class Parity:
    """What came of the same episodes there and here.

    Attributes:
        playing: How actions were chosen.
        first_equal: Whether all first observations are the same, bit for bit.
        observation: Largest difference between observations.
        reward: Largest difference between rewards, on a scale of 10.
        infos: Largest difference between the other numbers of a step.
        success: Whether a step was a success: there and here, `[2, E, T]`.
        rewards: What Meta-World said, `[E, T]`.
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
        """Episodes with a successful step, there and here."""
        there, here = self.success.any(axis=2).sum(axis=1).tolist()
        return there, here


def played(playing: Playing, goals: Sequence[tuple[str, int]], steps: int = HORIZON) -> Parity:
    """Plays goals in both.

    Args:
        playing: How actions are chosen.
        goals: Classes and numbers of training goals, an episode each.
        steps: Of an episode.
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
        told = [env.step(action.astype(np.float64)) for env, action in zip(theirs, actions, strict=True)]
        seen, rewards[:, step] = np.stack([t[0] for t in told]), [float(t[1]) for t in told]
        success[0, :, step], success[1, :, step] = [bool(t[4]["success"]) for t in told], infos["success"]
        theirs_infos = np.array([[float(t[4][term]) for term in INFOS] for t in told])
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
    """A schedule of a class."""
    return [played(playing, [(name, goal) for goal in goals]) for playing, goals in schedule]


def table_row(name: str, results: Sequence[Parity]) -> str:
    """A line of the table."""
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
    "| rewards met | scripted: successes of 10, there / here | at the last step |"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table; a process for each core."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("classes", nargs="*", default=sorted(MANIPULATIONS), help="classes of tasks; all by default")
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
