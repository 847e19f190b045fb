"""`metarl render RUN_DIR`: a video or picture of the policy before and after adaptation on one task, side by side."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import imageio.v3 as iio
import tyro

from metarl.config import Pixels, Rounds, RoundsOrDefault, RowsOrNone, RowsOrOwn, Seed, check
from metarl.files import write_bytes
from metarl.report import tasks_label
from metarl.runs import RunConfig
from metarl.scripts.common import border, end_with_json, option_value, parse, refuse
from metarl.scripts.ending import run_as_process
from metarl.scripts.families import agent_of_run, check_named, checked_digest, config_of_run, family_of_run, own_agents
from metarl.scripts.film import Take, encoded, recorded, side_by_side, still
from metarl.scripts.off_screen import use_off_screen_rendering
from metarl.tasks import Family, Split, split_name, split_tasks
from metarl.types import Task

ENDINGS = (".mp4", ".gif", ".png")

FEW_SHOT = "a few-shot run has no episodes to film; metarl evaluate RUN draws its adaptation"
"""Advice for a few-shot run."""


@dataclass(frozen=True, kw_only=True)
class RenderCommand:
    """Renders one episode before and one after adaptation to a task, side by side. Needs no screen."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, created by `metarl train`."""
    out: Path
    """File to write: a video (.mp4, .gif), or a picture with three moments of each episode (.png)."""
    task: RowsOrOwn = 0
    """Index of the task in the split, from 0."""
    adapt_steps: RoundsOrDefault = None
    """Adaptation steps (K) before the second episode; by default as in training."""
    split: Split = "test"
    """Tasks: test (held out, to report), tune (held out, to choose settings by), or train (training tasks)."""
    family: str | None = None
    """Family to render; by default that of the run. Name your own module:function again."""
    agent: tuple[str, ...] = ()
    """Classes of your own agents in the runs, as module:Class."""
    episodes: RowsOrNone = None
    """Episodes per collect (E) to adapt from; by default as in training. The first one is rendered."""
    seed: Seed = 0
    """Seed of resets and actions."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the agent's networks."""
    checkpoint: Path | None = None
    """Checkpoint file; by default the newest intact one."""
    width: Pixels = 400
    """Width of each of the two pictures, pixels."""
    height: Pixels = 300
    """Height of each of the two pictures, pixels."""
    fps: Rounds = 25
    """Largest number of frames per second; the video plays in real time."""
    json: bool = False
    """Print the results as one JSON line at the end."""


def _check_out(out: Path) -> None:
    """Raises ValueError if the file cannot be written there."""
    if out.suffix.lower() not in ENDINGS:
        raise ValueError(f"--out: got {out}, expected a name that ends in {', '.join(ENDINGS)}")
    if out.exists():
        raise ValueError(f"--out: got {out}, which exists already; expected another name")
    if not out.parent.is_dir():
        raise ValueError(f"--out: got {out}, but folder {out.parent} does not exist; create it first")


def task_of_split(family: Family, split: Split, index: int) -> Task:
    """A task by its index in a split.

    Raises:
        ValueError: The split has no such task.
    """
    tasks = split_tasks(family.distribution, split, index + 1)
    if index >= len(tasks):
        raise ValueError(
            f"--task: got {index}, expected 0 to {len(tasks) - 1}: {family.name!r} has no more tasks in --split {split}"
        )
    return tasks[index]


def _in_words(task: Task) -> str:
    return ", ".join(f"{name} = {' '.join(f'{v:.3g}' for v in values)}" for name, values in task.parameters)


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\rrendered frame {done} of at most {total}", end="", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with border(option_value(words, "--agent", "")):
        command: RenderCommand = parse(RenderCommand, "metarl render", words)
        check(command)
        _check_out(command.out)
        own = own_agents(command.agent)
        check_named(own, [command.run_dir])
        run = config_of_run(command.run_dir, own, FEW_SHOT)
        problem = use_off_screen_rendering()
        family = family_of_run(run, command.family).drawing()
        checked_digest(family, [(command.run_dir, run)])
        agent, _ = agent_of_run(command.run_dir, command.device, command.checkpoint, own, family)
        if problem and "mujoco" in sys.modules:  # other families render without OpenGL
            refuse(problem)
        task = task_of_split(family, command.split, command.task)
        steps = agent.adaptation_steps if command.adapt_steps is None else command.adapt_steps
        size = (command.width, command.height)
        recording = recorded(
            agent,
            family,
            task,
            split=command.split,
            steps=steps,
            episodes=command.episodes or run.training.episodes,
            horizon=run.spaces.horizon,
            seed=command.seed,
            size=size,
            fps=command.fps,
            on_picture=_show_progress,
        )
        if sys.stderr.isatty():
            print(file=sys.stderr)
        split = split_name(family.distribution, command.split)
        title = (
            f"{run.agent} on {family.name}, {tasks_label(split).removesuffix('s')} {command.task} ({_in_words(task)})"
        )
        headings = recording.headings
        _write(command, recording.takes, headings, title, recording.fps)
    returns = [take.returns[-1] for take in recording.takes]
    print(title)
    for heading, earned in zip(headings, returns, strict=True):
        print(f"  {heading}: return {earned:.2f} of the rendered episode")
    print(f"{'picture' if command.out.suffix.lower() == '.png' else 'video'}: {command.out}")
    if command.json:
        end_with_json(_summary(run, family, task, split, steps, returns, command.out))
    return 0


def _write(command: RenderCommand, takes: Sequence[Take], headings: Sequence[str], title: str, fps: float) -> None:
    size, ending = (command.width, command.height), command.out.suffix.lower()
    if ending == ".png":
        data = iio.imwrite("<bytes>", still(takes, headings, title, size), extension=ending)
    else:
        data = encoded(side_by_side(takes, headings, title, size), fps, ending)
    write_bytes(command.out, data)


def _summary(
    run: RunConfig, family: Family, task: Task, split: str, steps: int, returns: Sequence[float], out: Path
) -> dict[str, Any]:
    return {
        "agent": run.agent,
        "family": family.name,
        "split": split,
        "task": task.to_json(),
        "adapt_steps": steps,
        "returns": list(returns),
        "out": str(out),
    }


if __name__ == "__main__":
    run_as_process(main)
