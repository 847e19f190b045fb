"""`metarl report RUN ... --out report.html`: a self-contained page on one or several runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import tyro

import metarl
from metarl.comparison import alike_in_success
from metarl.config import RowsOrNone, RowsOrOwn, check
from metarl.few_shot.run import FewShotRun, is_few_shot
from metarl.files import write_bytes
from metarl.names import without_folders
from metarl.own_code.errors import EnvError
from metarl.registry import AGENTS, LEARNERS
from metarl.report import tasks_label
from metarl.run_config import BaseRun, own_agent_of, read_config
from metarl.runs import RunConfig
from metarl.scripts.common import border, option_value, parse
from metarl.scripts.ending import run_as_process
from metarl.scripts.evaluate_shots import few_shot_family_of_run, reported
from metarl.scripts.families import OwnAgents, agent_of_run, check_named, checked_digest, family_of_run, own_agents
from metarl.scripts.groups import Group, check_alike, grouped, run_folders
from metarl.scripts.off_screen import use_off_screen_rendering
from metarl.scripts.report_page import episodes, shots
from metarl.scripts.report_page.blocks import Film, Page
from metarl.scripts.report_page.entries import Entry, RunFiles, digits_for, run_files
from metarl.scripts.report_page.evaluations import Wanted, evaluation_of, result_of, untrained_of
from metarl.scripts.report_page.films import films_of
from metarl.scripts.report_page.page import html
from metarl.scripts.report_page.tasks import in_words
from metarl.scripts.sampling import SamplingOptions
from metarl.tasks import REPORTED, Family, Split, split_name, split_tasks

ENDING = ".html"


@dataclass(frozen=True, kw_only=True)
class ReportCommand(SamplingOptions):
    """Writes one self-contained HTML page on one or several runs of a family: results, films, training, setting.

    Runs without a fitting evaluation in their folder are evaluated first, as by `metarl evaluate RUN`.
    """

    run_dirs: tyro.conf.Positional[tuple[Path, ...]]
    """Folders of runs, or folders with several seeds, created by `metarl train`."""
    out: Path
    """File to write, a new one that ends in .html."""
    reference: tuple[Path, ...] = ()
    """Folders of other runs to plot on the same axes, without films and tables of their own.
    Runs of multitask and oracle are drawn as lines, here and among the runs."""
    split: Split = "test"
    """Tasks: test (held out, to report), tune (held out, to choose settings by), or train (training tasks)."""
    family: str | None = None
    """Family of the runs; required only for your own module:function."""
    agent: tuple[str, ...] = ()
    """Classes of your own agents in the runs, as module:Class."""
    tasks: RowsOrNone = None
    """Number of tasks, at most all of the split; by default those that tables report on."""
    films: bool = True
    """Film one episode before and one after adaptation for each agent. Needs no screen."""
    film_task: RowsOrOwn = 0
    """Index of the filmed task in the split, from 0."""
    title: str = ""
    """Title of the page; by default agents and family."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the agents' networks."""


def _check_out(out: Path) -> None:
    """Raises ValueError if the file cannot be written there."""
    if out.suffix.lower() != ENDING:
        raise ValueError(f"--out: got {out}, expected a name that ends in {ENDING}")
    if out.exists():
        raise ValueError(f"--out: got {out}, which exists already; expected another name")
    if not out.parent.is_dir():
        raise ValueError(f"--out: got {out}, but folder {out.parent} does not exist; create it first")


def _short(groups: Sequence[Group[Any]]) -> list[str]:
    """Names of the agents, each once and without full paths: with the folder of runs if several have the same agent."""
    agents, named = [group.config.agent for group in groups], list[str]()
    for group, agent in zip(groups, agents, strict=True):
        folder = group.paths[0].resolve()
        folder = folder.parent if len(group.paths) > 1 else folder
        name = agent if agents.count(agent) == 1 else f"{agent}, {folder.name}"
        taken = sum(one == name or one.startswith(f"{name} (") for one in named)
        named.append(f"{name} ({taken + 1})" if taken else name)
    return named


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with border(option_value(words, "--agent", "")):
        command: ReportCommand = parse(ReportCommand, "metarl report", words)
        check(command)
        _check_out(command.out)
        command.choice()
        paths = run_folders("report", command.run_dirs)
        others = run_folders("report", command.reference) if command.reference else []
        if twice := [path for path in others if path.resolve() in {one.resolve() for one in paths}]:
            raise ValueError(f"--reference: got {twice[0]}, which is one of the runs too; expected other runs")
        few = {path: is_few_shot(read_config(path)[1]) for path in [*paths, *others]}
        if len(set(few.values())) > 1:
            kinds = [next(path for path, one in few.items() if one is kind) for kind in (False, True)]
            raise ValueError(f"report: got {kinds[0]} on episodes and {kinds[1]}, a few-shot run; expected one kind")
        page = (_shots_page if few[paths[0]] else _episodes_page)(command, paths, others)
        _check_out(command.out)
        write_bytes(command.out, html(page).encode())
    print(f"report: {command.out} ({command.out.stat().st_size / 1e6:.2f} MB)")
    return 0


def _made() -> str:
    return f"Made by metarl {metarl.__version__} on {time.strftime('%d %B %Y')}. This file contacts no server."


def _wanted(command: ReportCommand, family: Any, few_shot: bool) -> Wanted:
    """The evaluation that the page needs of every run."""
    count = command.tasks or (reported(family) if few_shot else REPORTED)
    words = ["--split", command.split, "--tasks", str(count), "--device", command.device]
    words += ["--family", command.family] if command.family else []
    if not few_shot:
        words += ["--workers", command.workers, "--worker-timeout", str(command.worker_timeout)]
        words += ["--ray-address", command.ray_address] if command.ray_address else []
    found = tuple(split_tasks(family.distribution, command.split, count))
    return Wanted(split_name(family.distribution, command.split), found, tuple(words), command.family or "")


def _files(path: Path, run: BaseRun, wanted: Wanted, command: ReportCommand, *words: str) -> RunFiles:
    """A run with its evaluation."""
    own = own_agent_of(path)
    named = [spec for spec in command.agent if own and spec.rpartition(":")[2] == own]
    more = (*wanted.words, *words, *(("--agent", *named) if named else ()))
    _, value = evaluation_of(path, run, replace(wanted, words=more))
    return run_files(path, run, value)


# Episodes ---------------------------------------------------------------------------------------------------


def _episodes_page(command: ReportCommand, paths: Sequence[Path], others: Sequence[Path]) -> Page:
    own = own_agents(command.agent, AGENTS)
    check_named(own, [*paths, *others])
    runs = [(path, RunConfig.read(path, own.get(own_agent_of(path)))) for path in [*paths, *others]]
    check_alike("report", runs)
    groups = grouped("report", runs)
    problem = use_off_screen_rendering() if command.films else None  # before the family imports MuJoCo
    family = family_of_run(runs[0][1], command.family)
    digest = checked_digest(family, runs)
    wanted = replace(_wanted(command, family, few_shot=False), digest=digest)
    if command.films and command.film_task >= len(wanted.tasks):
        raise ValueError(f"--film-task: got {command.film_task}, expected 0 to {len(wanted.tasks) - 1}")
    configs, entries = dict(runs), []
    for i, (label, group) in enumerate(zip(_short(groups), groups, strict=True)):
        files = tuple(_files(path, configs[path], wanted, command) for path in group.paths)
        results = tuple(result_of(run.evaluation, wanted.tasks) for run in files)
        if len({result.returns.shape for result in results}) > 1:
            raise ValueError(f"report: got evaluations of {label} of different sizes; remove their evaluation folders")
        untrained = untrained_of(files[0].evaluation, results[0])
        entries.append(Entry(label, i, files, results, untrained, group.paths[0] in others))
    entries.sort(key=lambda one: (one.reference, bool(one.line)))  # stable: references last
    entries = alike_in_success(entries)
    films, without = _films(command, entries, family, wanted, own, problem) if command.films else ([], "")
    return episodes.page(entries, family, films, without, command.title, _made())


def _films(
    command: ReportCommand,
    entries: Sequence[Entry],
    family: Family,
    wanted: Wanted,
    own: OwnAgents,
    problem: str | None,
) -> tuple[list[list[Film]], str]:
    """The films of all agents that are no references, or the reason that there are none."""
    films: list[list[Film]] = []
    task = wanted.tasks[command.film_task]
    label = tasks_label(wanted.split).removesuffix("s")
    named = f"{label} {command.film_task} ({in_words(task.parameters)})"
    filmed = [one for one in entries if not one.reference and not one.line] or entries[:1]
    try:
        drawing = family.drawing()
        if problem and "mujoco" in sys.modules:  # other families render without OpenGL
            raise ValueError(problem)
        for one in filmed:
            config = cast(RunConfig, one.runs[0].config)
            agent, _ = agent_of_run(one.runs[0].path, command.device, own=own, family=family)
            print(f"filming {one.label}", file=sys.stderr, flush=True)
            films.append(
                films_of(
                    one.label,
                    agent,
                    drawing,
                    task,
                    split=command.split,
                    named=named,
                    episodes=config.training.episodes,
                    horizon=config.spaces.horizon,
                    digits=digits_for(entries),
                )
            )
    except (ValueError, EnvError) as error:
        print(f"warning: no films: {error}", file=sys.stderr)
        return [], str(error).rstrip(".").replace(family.name, without_folders(family.name))
    return films, ""


# Examples ---------------------------------------------------------------------------------------------------


def _shots_page(command: ReportCommand, paths: Sequence[Path], others: Sequence[Path]) -> Page:
    own = own_agents(command.agent, LEARNERS)
    check_named(own, [*paths, *others])
    runs = [(path, FewShotRun.read(path, own.get(own_agent_of(path)))) for path in [*paths, *others]]
    check_alike("report", runs)
    groups = grouped("report", runs)
    family = few_shot_family_of_run(runs[0][1], command.family)
    wanted = _wanted(command, family, few_shot=True)
    configs, learners = dict(runs), list[shots.Learner]()
    for i, (label, group) in enumerate(zip(_short(groups), groups, strict=True)):
        files: list[RunFiles] = []
        for path in group.paths:
            more = () if not (files or learners) else ("--no-oracle",)  # the first one has it
            files.append(_files(path, configs[path], wanted, command, *more))
        learners.append(shots.learner_of(label, i, files, family, wanted.tasks, wanted.split))
    return shots.page(learners, family, command.title, _made())


if __name__ == "__main__":
    run_as_process(main)
