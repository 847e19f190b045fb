"""Differences that each named variation makes to robots, as a Markdown table.

    python tools/robot_variations.py tests/robots/models/*.xml unitree_go1/scene.xml trs_so_arm100/scene.xml

Both ends of a range play 1 s under the same actions, without noise at the start and without ends of episodes. A cell
has the largest difference of a joint's position: after 1 s of action 0, which holds the home pose, and within 1 s of
actions that swing by half of their range.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from metarl.gymnasium_envs.check.ends import end_tasks
from metarl.registry import make_family
from metarl.types import Floats, Task

RANGES = (
    ("payload", "payload=uniform(0,{payload})"),
    ("motor_strength", "motor_strength=uniform(0.7,1.1)"),
    ("floor_friction", "floor_friction=uniform(0.3,1.2)"),
    ("joint_damping", "joint_damping=uniform(0.5,2)"),
    ("joint_friction", "joint_friction=uniform(0,0.2)&joint_friction.operation=set"),
    ("com_shift", "com_shift=uniform(-0.02,0.02)"),
    ("gravity_tilt", "gravity_tilt=uniform(0,0.1)"),
    ("latency", "latency=uniform(0,3)"),
    ("push", "push=uniform(-3,3)"),
    ("breaking", "breaking=uniform(0.2,0.8)"),
    ("sensor_noise", "sensor_noise=uniform(0,1)"),
)
"""The variations with their ranges; the payload of a robot is a quarter of its mass."""
STEPS = 50
"""Env steps of 1 s at 50 Hz."""
STILL = "task={task}&start_noise=0&tilt=180&height=0"


def swinging(size: int) -> Floats:
    """Actions `[STEPS, A]` that swing by half of their range, each at another rate."""
    phase = np.arange(size)
    return 0.5 * np.sin(2 * np.pi * (1.0 + phase % 3) * np.arange(STEPS)[:, None] / STEPS + phase)


def positions(envs: Any, task: Task, actions: Floats) -> Floats:
    """Joint positions `[STEPS, nq]` of one episode, without those of a free base."""
    envs.set_tasks([task])
    envs.reset(seed=0)
    free = 7 if envs.setup.sensors.base_joint >= 0 else 0
    places = []
    for action in actions:
        envs.step(action[None])
        places.append(envs.batch.qpos[0, free:].copy())
    return np.array(places)


def cell(path: Path, variation: str) -> str:
    """The two differences that a variation makes, rad; the reason if it does not fit the robot."""
    task = "hold" if "arm" in str(path) else "walk"
    mass = float(
        make_family(f"mjcf:{path}?latency=uniform(0,1)&task={task}").make_envs(1, 1, 1).models[0].body_mass.sum()
    )
    try:
        family = make_family(f"mjcf:{path}?{variation.format(payload=round(mass / 4, 2))}&{STILL.format(task=task)}")
    except ValueError as error:
        return "refused: " + str(error).split(": ", 2)[-1].split(",")[0]
    envs, words = family.make_envs(1, 1, STEPS), []
    base = family.distribution.train_tasks(1)[0]
    (parameter,) = family.distribution.parameters
    size = int(np.prod(envs.single_action_space.shape))
    for actions, last in ((np.zeros((STEPS, size)), True), (swinging(size), False)):
        low, high = (positions(envs, task, actions) for task in end_tasks(family, base, parameter)[:2])
        gap = np.abs(low - high)
        words.append(f"{(gap[-1] if last else gap).max():.1g}")
    envs.close()
    return " / ".join(words)


def main(arguments: Sequence[str] | None = None) -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "paths", nargs="+", type=Path, help="MJCF files; one with `arm` in its path is held, not walked"
    )
    paths = parser.parse_args(arguments).paths
    names = [path.parent.name if path.stem == "scene" else path.stem for path in paths]
    print("|".join(["", " variation ", *(f" {name} " for name in names), ""]))
    print("|" + "---|" * (len(paths) + 1))
    for name, variation in RANGES:
        print("|".join(["", f" `{name}` ", *(f" {cell(path, variation)} " for path in paths), ""]), flush=True)


if __name__ == "__main__":
    main()
