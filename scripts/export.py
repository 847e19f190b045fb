"""`metarl export RUN_DIR --out DIR`: a trained policy as an ONNX graph with a contract, to run without metarl."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from metarl.config import RoundsOrDefault, RowsOrNone, RowsOrOwn, Seed, check
from metarl.exporting.adapted import step_for_task
from metarl.exporting.contract import QUIET, contract
from metarl.exporting.folder import CONTRACT, GRAPH, SCRIPT, check_new, write_folder
from metarl.exporting.graph import check_packages, onnx_graph
from metarl.memory import in_units
from metarl.scripts.common import border, end_with_json, option_value, parse
from metarl.scripts.ending import run_as_process
from metarl.scripts.families import (
    agent_of_run,
    check_named,
    checked_digest,
    config_of_run,
    family_name_of_run,
    family_of_run,
    own_agents,
)
from metarl.scripts.render import task_of_split
from metarl.seeding import Streams
from metarl.tasks import Split

FEW_SHOT = "a few-shot learner has no policy to export; metarl.load(RUN) adapts it in Python"
"""Advice for a few-shot run."""


@dataclass(frozen=True, kw_only=True)
class ExportCommand:
    """Writes a trained policy as policy.onnx, contract.json and run_policy.py, which need no metarl.

    An agent that adapts by its memory is exported as it begins a trial; any other is adapted to a task first.
    """

    run_dir: Annotated[Path, tyro.conf.Positional]
    """Folder of a run, created by `metarl train`."""
    out: Path
    """Folder to create."""
    task: RowsOrOwn = 0
    """Index of the task in the split, from 0: the one to adapt to, and the one that run_policy.py plays."""
    split: Split = "test"
    """Tasks: test (held out, to report), tune (held out, to choose settings by), or train (training tasks)."""
    adapt_steps: RoundsOrDefault = None
    """Adaptation steps (K) of an agent whose parameters adapt; by default as in training."""
    episodes: RowsOrNone = None
    """Episodes per collect (E) to adapt from; by default as in training."""
    sample: bool = False
    """Sample the policy by random numbers, which become an input; otherwise actions are its mode.
    An agent that adapts by its memory explores by this noise, and may adapt worse without it."""
    family: str | None = None
    """Family to adapt in; by default that of the run. Name your own module:function again."""
    agent: tuple[str, ...] = ()
    """Classes of your own agents in the runs, as module:Class."""
    seed: Seed = 0
    """Seed of the adaptation episodes."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the agent's networks while it adapts; the graph runs anywhere."""
    checkpoint: Path | None = None
    """Checkpoint file; by default the newest intact one."""
    json: bool = False
    """Print the results as one JSON line at the end."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with border(option_value(words, "--agent", "")):
        command: ExportCommand = parse(ExportCommand, "metarl export", words)
        check(command)
        check_packages()
        check_new(command.out)
        own = own_agents(command.agent)
        check_named(own, [command.run_dir])
        run = config_of_run(command.run_dir, own, FEW_SHOT)
        family = family_of_run(run, command.family)
        checked_digest(family, [(command.run_dir, run)])
        agent, progress = agent_of_run(command.run_dir, command.device, command.checkpoint, own, family)
        task = task_of_split(family, command.split, command.task)
        step, episodes = step_for_task(
            run.agent,
            agent,
            family,
            task,
            Streams.for_evaluation(command.seed),
            adapt_steps=command.adapt_steps,
            episodes=command.episodes or run.training.episodes,
            horizon=run.spaces.horizon,
            sampled=command.sample,
        )
        about = contract(step, run, family, family_name_of_run(run, command.family), task, progress, episodes)
        if sys.stderr.isatty():
            print("writing the graph, which takes some seconds", file=sys.stderr)
        graph = onnx_graph(step)
        write_folder(command.out, graph, about)
    print(f"{run.agent} on {family.name} after {progress.iteration} iterations: {command.out}")
    print(f"  {GRAPH}: {in_units(len(graph))}, memory of {step.sizes['memory']} numbers, zeros at the start")
    print(f"  {CONTRACT}: names, units, bounds, rate, delay; adaptation {about['adaptation'].partition(';')[0]}")
    print(f"  {SCRIPT}: python {command.out / SCRIPT} --play 3")
    if about["acts_by"] == QUIET:
        print(
            "note: the exported policy acts by its mode, also while it explores, but it was trained with noise; "
            f"measure both: metarl evaluate {shlex.quote(str(command.run_dir))} --actions mode-only, and --actions "
            "sample; --sample exports it with its noise"
        )
    if command.json:
        end_with_json(_summary(command, about, len(graph)))
    return 0


def _summary(command: ExportCommand, about: dict[str, Any], size: int) -> dict[str, Any]:
    kept = ("agent", "family", "iteration", "env_steps", "task", "adaptation", "acts_by")
    return {**{name: about[name] for name in kept}, "bytes": size, "out": str(command.out)}


if __name__ == "__main__":
    run_as_process(main)
