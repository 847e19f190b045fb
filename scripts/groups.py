"""Runs on a command line: folders of seeds, checks that runs are alike, and groups that differ only in their seed."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from metarl.checkpoint import list_checkpoints
from metarl.run_config import BaseRun
from metarl.runs import STEPPING_FIELDS

RunT = TypeVar("RunT", bound=BaseRun)
INERT_FIELDS = (
    "training.eval_every",
    "training.eval_tasks",
    "training.checkpoint_every",
    "training.checkpoints_kept",
    *STEPPING_FIELDS,
)
"""Settings that do not affect the trained parameters."""


def run_folders(command: str, folders: Sequence[Path]) -> list[Path]:
    """The folders of all runs; a folder is a run, or has the runs of several seeds.

    Args:
        command: Name of the command, for messages.
        folders: The folders on the command line.

    Raises:
        ValueError: There is no run.
    """
    paths: list[Path] = []
    for folder in folders:
        seeds = sorted(folder.glob("seed-*/config.json"))
        paths += [path.parent for path in seeds] if seeds else [folder]
    if not paths:
        raise ValueError(f"{command}: got no run, expected at least one folder created by `metarl train`")
    return paths


def check_alike(command: str, runs: Sequence[tuple[Path, RunT]]) -> None:
    """Raises ValueError unless all runs have the same family and spaces."""
    first_path, first = runs[0]
    for path, run in runs[1:]:
        if not run.has_family_of(first) or run.spaces != first.spaces:
            raise ValueError(
                f"{command}: got {first_path} on {_sizes(first)} and {path} on {_sizes(run)}, expected the same "
                f"{'family and horizon' if hasattr(first.spaces, 'horizon') else 'few-shot family'} for all"
            )


def _sizes(run: BaseRun) -> str:
    horizon = getattr(run.spaces, "horizon", None)
    return f"{run.family!r}" if horizon is None else f"{run.family!r} with horizon {horizon}"


@dataclass(frozen=True)
class Group(Generic[RunT]):
    """Runs that differ only in their seed.

    Args:
        label: Name of the agent, followed by the folder if several groups have the same agent.
        paths: Folders of the runs.
        config: Configuration of the first run.
        iteration: Number of meta-updates of each run.
    """

    label: str
    paths: tuple[Path, ...]
    config: RunT
    iteration: int


def grouped(command: str, runs: Sequence[tuple[Path, RunT]]) -> list[Group[RunT]]:
    """The runs, grouped by settings, in the order of their first appearance.

    Raises:
        ValueError: A run has no checkpoint, or two runs of a group have the same seed.
    """
    groups: list[Group[RunT]] = []
    for path, run in runs:
        iteration = iterations_done(path)
        for i, known in enumerate(groups):
            if known.iteration == iteration and not run.changed_fields(known.config, ("training.seed", *INERT_FIELDS)):
                groups[i] = dataclasses.replace(known, paths=(*known.paths, path))
                break
        else:
            groups.append(Group(run.agent, (path,), run, iteration))
    config = dict(runs)
    agents = [group.config.agent for group in groups]
    for i, group in enumerate(groups):
        seeds = [config[path].training.seed for path in group.paths]
        twice = next((seed for seed in seeds if seeds.count(seed) > 1), None)
        if twice is not None:
            same = [str(path) for path, seed in zip(group.paths, seeds, strict=True) if seed == twice]
            raise ValueError(
                f"{command}: got {' and '.join(same[:2])}, trained with the same settings, with the same seed {twice}, "
                "expected different seeds: a copy is not an independent training"
            )
        if agents.count(group.label) > 1:
            first = group.paths[0]
            groups[i] = dataclasses.replace(group, label=f"{group.label}, {first.parent if len(seeds) > 1 else first}")
    return groups


def iterations_done(path: Path) -> int:
    """Number of meta-updates in the newest checkpoint of a run.

    Raises:
        ValueError: The run has no checkpoint.
    """
    saved = list_checkpoints(path / "checkpoints")
    if not saved:
        raise ValueError(f"{path}: got a run without an intact checkpoint, expected one in {path / 'checkpoints'}")
    return int(saved[-1].stem)
