"""`metarl render RUN_DIR`: the policy before and after adaptation on one task, side by side, as a clip or a picture."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import imageio.v3 as iio
import tyro

from metarl.config import Pixels, Rounds, RoundsOrDefault, RowsOrNone, RowsOrOwn, Seed, check
from metarl.evaluation import evaluate
from metarl.files import write_bytes
from metarl.memory import Need, check_memory
from metarl.report import first_label, tasks_label
from metarl.runs import RunConfig
from metarl.scripts.common import border, end_with_json, parse, refuse
from metarl.scripts.ending import run_as_process
from metarl.scripts.families import agent_of_run, family_of_run
from metarl.scripts.film import Filmed, Take, encoded, side_by_side, still
from metarl.scripts.off_screen import use_off_screen_rendering
from metarl.seeding import Streams
from metarl.tasks import Family, Split, split_name, split_tasks
from metarl.types import Task
from metarl.vector import TaskVecEnv

ENDINGS = (".mp4", ".gif", ".png")


@dataclass(frozen=True, kw_only=True)
class RenderCommand:
    """Films a trained agent on one task, before and after adaptation side by side, without a screen."""

    run_dir: Annotated[Path, tyro.conf.Positional]
    """Folder that `metarl train` made."""
    out: Path
    """What to write: a clip (.mp4, .gif), or a picture of three moments (.png)."""
    task: RowsOrOwn = 0
    """Which task of the split, counted from 0."""
    adapt_steps: RoundsOrDefault = None
    """Adaptation steps before the second film; as trained by default."""
    split: Split = "test"
    """Held-out tasks to report on; tune: held-out tasks to choose settings by; or training tasks."""
    family: str | None = None
    """Family to play; the run's own by default (name it again if it is your own module:function)."""
    episodes: RowsOrNone = None
    """Episodes per collect (E) to adapt to; as trained by default. The first one is filmed."""
    seed: Seed = 0
    """Seed of resets and actions."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the agent computes."""
    checkpoint: Path | None = None
    """Checkpoint file; the newest whole one by default."""
    width: Pixels = 400
    """Of one side, pixels."""
    height: Pixels = 300
    """Of one side, pixels."""
    fps: Rounds = 25
    """Frames per second, at most; the clip runs at the robot's own speed."""
    json: bool = False
    """End stdout with one line of JSON."""


def _check_out(out: Path) -> None:
    """Raises ValueError where the film cannot go there."""
    if out.suffix.lower() not in ENDINGS:
        raise ValueError(f"--out: got {out}, expected a name that ends in {', '.join(ENDINGS)}")
    if out.exists():
        raise ValueError(f"--out: got {out}, which exists already; expected another name")
    if not out.parent.is_dir():
        raise ValueError(f"--out: got {out}, but there is no folder {out.parent}; make it first")


def _task(family: Family, split: Split, index: int) -> Task:
    tasks = split_tasks(family.distribution, split, index + 1)
    if index >= len(tasks):
        raise ValueError(
            f"--task: got {index}, expected 0 to {len(tasks) - 1}: {family.name!r} has no more tasks there"
        )
    return tasks[index]


def _in_words(task: Task) -> str:
    return ", ".join(f"{name} = {' '.join(f'{v:.3g}' for v in values)}" for name, values in task.parameters)


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        print(f"\rpicture {done} of at most {total}", end="", file=sys.stderr, flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with border():
        command: RenderCommand = parse(RenderCommand, "metarl render", words)
        check(command)
        _check_out(command.out)
        run = RunConfig.read(command.run_dir)
        complaint = use_off_screen_rendering()
        agent, _ = agent_of_run(command.run_dir, command.device, command.checkpoint)
        family = family_of_run(run, command.family).drawing()
        if complaint and "mujoco" in sys.modules:  # other families draw without it
            refuse(complaint)
        task = _task(family, command.split, command.task)
        steps = agent.adaptation_steps if command.adapt_steps is None else command.adapt_steps
        films: list[Filmed] = []
        check_memory([_film_memory(command, run.spaces.horizon)])

        def filmed_envs(num_tasks: int, episodes: int, horizon: int) -> TaskVecEnv:
            envs = family.make_envs(num_tasks, episodes, horizon)
            size = (command.width, command.height)
            films.append(Filmed(envs, {0, steps}, size, command.fps, _show_progress))
            return cast(TaskVecEnv, films[0])  # it passes on all that an evaluation asks for

        result = evaluate(
            agent,
            replace(family, make_envs=filmed_envs),
            [task],
            Streams.for_evaluation(command.seed),
            split=command.split,
            adapt_steps=steps,
            episodes=command.episodes or run.training.episodes,
            horizon=run.spaces.horizon,
            diverged_limit=1.0,  # a film may show how a simulation blows up
        )
        if sys.stderr.isatty():
            print(file=sys.stderr)
        split = split_name(family.distribution, command.split)
        title = (
            f"{run.agent} on {family.name}, {tasks_label(split).removesuffix('s')} {command.task} ({_in_words(task)})"
        )
        headings = [first_label(result.adapts_within_episodes), _after(steps, result.episodes[-1])][
            : len(films[0].takes)
        ]
        _write(command, list(films[0].takes.values()), headings, title, films[0].fps)
    returns = [take.returns[-1] for take in films[0].takes.values()]
    print(title)
    for heading, earned in zip(headings, returns, strict=True):
        print(f"  {heading}: return {earned:.2f} of the filmed episode")
    print(f"{'picture' if command.out.suffix.lower() == '.png' else 'clip'}: {command.out}")
    if command.json:
        end_with_json(_summary(run, family, task, split, steps, returns, command.out))
    return 0


def _film_memory(command: RenderCommand, horizon: int) -> Need:
    """What two films, and the pictures with both of them side by side, need at most."""
    frames = 2 * 2 * (horizon + 1)
    return Need(
        f"keeping {frames:,} pictures of {command.width:,} by {command.height:,} pixels",
        3 * frames * command.width * command.height,
        "a smaller --width and --height",
    )


def _after(steps: int, episodes: int) -> str:
    return f"after {_count(steps, 'adaptation step')} ({_count(episodes, 'episode')})"


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number != 1 else ''}"


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
