"""`metarl train AGENT FAMILY`: trains an agent on a family, into a folder that can be resumed and evaluated."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import torch
import tyro

from metarl.agent import MetaAgent
from metarl.checkpoint import DAMAGED, load_newest, save_checkpoint, set_aside
from metarl.config import RoundsOrNone, check
from metarl.curves import success_rates
from metarl.evaluation import evaluate
from metarl.files import write_bytes
from metarl.finite import NotFiniteError, naming
from metarl.gymnasium_envs.check.short_test import effect_warnings
from metarl.gymnasium_envs.from_gym import PREFIX, gym_spec, named_again
from metarl.learning.device.process import keep_freed_memory
from metarl.measure import settled
from metarl.own_code.errors import EnvError
from metarl.own_code.guest import limit_output
from metarl.registry import AGENTS, FAMILIES, agent_class, make_family, names
from metarl.report import first_label, last_label, tasks_label, training_picture
from metarl.runs import MetricsLog, RunConfig, TrainConfig, resolve_device, use_matmul
from metarl.sampling import LocalSampler
from metarl.scripts.common import border, end_with_json, option_value, parse, refuse, refuse_environment
from metarl.scripts.display import TrainingDisplay
from metarl.scripts.ending import StopRequest, run_as_process
from metarl.scripts.families import GymOptions
from metarl.scripts.presets import PresetName, default_settings
from metarl.scripts.refusals import (
    advice,
    on_this_machine,
    out_of_memory,
    refuse_impossible,
    say_that_it_blew_up,
)
from metarl.scripts.run_folder import describe, folder_to_go_on_with, how_to_go_on, new_run_dir, prepare, sole_writer
from metarl.seeding import Streams
from metarl.stepping import Stepping
from metarl.tasks import DrawnTasks, Family, split_name, split_tasks
from metarl.train import meta_train
from metarl.types import Progress

BLEW_UP = 2
"""Exit code of a training whose numbers are not finite any more."""

USAGE = """usage: metarl train AGENT FAMILY [--out DIR] [--resume] [--seed S] [--iterations N] [--json] [options]

Trains an agent on a family of tasks. All options, with meaning, range and the preset's value:
  metarl train AGENT FAMILY --help

agents:   {agents}
families: {families}
          gym:ID --vary "NAME=uniform(LOW,HIGH)" [--set "NAME=VALUE"], any environment that Gymnasium knows,
          or one of your own as gym:MODULE:CLASS
          or your own function, as module:function
"""


@dataclass(frozen=True, kw_only=True)
class Door:
    """Where the run goes, and how it starts and ends."""

    out: Path | None = None
    """Folder of the run; a new one under runs/ by default."""
    preset: PresetName = "default"
    """The settings to start from: default, sized for two cores, or published where there is one (`metarl list`)."""
    resume: bool = False
    """Go on from the newest whole checkpoint in --out."""
    seeds: RoundsOrNone = 0
    """Train this many runs one after another, with seeds from --seed on, in OUT/seed-S; 0 trains one in OUT."""
    json: bool = False
    """End stdout with one line of JSON."""


@dataclass(frozen=True, kw_only=True)
class GymDoor(GymOptions, Door):
    """The same, for a family gym:ID."""


def _command_type(agent: str, door: type[Door], stepping: bool) -> Any:
    """The dataclass of the whole command line: the door and the run's settings flat, the agent's under --agent."""
    fields: list[tuple[str, Any]] = [
        ("door", Annotated[door, tyro.conf.arg(name="")]),
        ("training", Annotated[TrainConfig, tyro.conf.arg(name="")]),
        ("agent", agent_class(agent).Config),
    ]
    if stepping:
        fields.insert(2, ("stepping", Annotated[Stepping, tyro.conf.arg(name="")]))
    return dataclasses.make_dataclass("TrainCommand", fields, frozen=True, kw_only=True)


def _read_command(agent: str, name: str, arguments: Sequence[str]) -> tuple[Door, Family, dict[str, Any]]:
    """The command line: the door, the family, and the settings as `RunConfig` holds them.

    With --resume, what it does not say comes from the run's own configuration (from the preset that it names, if any),
    and `spaces` are those of the run; they are None otherwise.
    """
    agent_class(agent)
    from_gym = name.startswith(PREFIX)  # its command line has to be read before there is a family
    family = None if from_gym else make_family(name)
    stepping = family.stepping if family else Stepping()
    door_type: type[Door] = GymDoor if from_gym else Door
    kind, prog = _command_type(agent, door_type, stepping is not None), f"metarl train {agent} {name}"

    def read(training: TrainConfig, agent_config: Any, stepping: Stepping | None) -> Any:
        mine = {"stepping": stepping} if stepping else {}
        return parse(kind, prog, arguments, kind(door=door_type(), training=training, agent=agent_config, **mine))

    preset_name = option_value(arguments, "--preset", "")
    training, agent_config = default_settings(agent, name, cast(PresetName, preset_name or "default"))
    door: Any = read(training, agent_config, stepping).door
    if door.resume and door.out is None:
        raise ValueError("--resume: got no --out, expected the folder of the run to go on with")
    earlier = folder_to_go_on_with(door.out, door.seeds) if door.resume else None
    saved = RunConfig.read(earlier) if earlier else None
    spec = gym_spec(name, door.vary, door.constants) if from_gym else name
    if saved and saved.family.startswith(f"{spec}?"):
        spec = named_again(saved.family, spec)
    family = family or make_family(spec)
    if saved and saved.agent == agent and not preset_name:
        training, agent_config, stepping = saved.training, saved.agent_config, saved.stepping or stepping
    elif not isinstance(family.distribution, DrawnTasks):
        training = dataclasses.replace(training, train_tasks=0)  # a fixed set already
    command = read(training, agent_config, stepping)
    settings = {"training": command.training, "agent_config": command.agent, "spaces": saved.spaces if saved else None}
    if stepping:
        settings["stepping"] = command.stepping
        check(command.stepping)
    check(door)
    check(command.training)
    check(command.agent, "agent.")
    return door, family, {"family": spec, **settings}


def train(run: RunConfig, family: Family, out: Path, *, resume: bool) -> tuple[Progress, bool]:
    """Trains a run in its folder: metrics, held-out evaluations, checkpoints, display.

    Args:
        run: The configuration.
        family: Its family.
        out: Its folder, prepared.
        resume: Go on from the newest whole checkpoint.

    Returns:
        The counters at the end, or where Ctrl-C stopped it; and whether there was a Ctrl-C, if only after all was done.
    """
    config = run.training
    streams = Streams(config.seed)
    agent = run.build_agent(resolve_device(config.device), streams.learner)
    envs = family.make_envs(config.tasks, config.episodes, run.spaces.horizon)
    start: Progress | None = None
    if resume:
        start, complaints = load_newest(out / "checkpoints", agent, streams)
        for line in complaints:
            print(f"warning: {line}", file=sys.stderr)
        print(
            f"resuming after iteration {start.iteration}"
            if start
            else f"no {'whole checkpoint' if complaints else 'checkpoint'} in {out}: starting afresh"
            f"{' (the damaged ones get the ending ' + DAMAGED + ')' if complaints else ''}",
            file=sys.stderr,
        )
        if complaints and not start:
            set_aside(out / "checkpoints")
    progress = start or Progress()
    log = MetricsLog(out / "metrics.jsonl", after=progress.iteration)
    from torch.utils.tensorboard import SummaryWriter  # slow to import

    folder = (out / "tensorboard").absolute()  # a thread writes there, whatever folder an environment is in
    board = SummaryWriter(str(folder), purge_step=progress.iteration + 1)
    title = f"{run.agent} on {run.family}: {out}"
    first, split = getattr(agent, "adapts_within_episodes", False), split_name(family.distribution, "tune")
    try:
        labels = first_label(first), last_label(first), tasks_label(split)
        with TrainingDisplay(title, config.iterations, progress, *labels) as display, StopRequest() as stop:
            with stop.showing():
                display.note(title)
            for report in meta_train(
                agent, LocalSampler(envs), family.distribution, streams, iterations=config.iterations, start=progress
            ):
                progress, metrics = report.progress, report.metrics
                if config.eval_every and progress.iteration % config.eval_every == 0:
                    with naming(f"the evaluation after iteration {progress.iteration}"):
                        metrics = metrics | _evaluated(agent, family, run, progress)
                log.add(progress, metrics)
                for name, value in metrics.items():
                    board.add_scalar(name, value, progress.iteration)
                stopped = stop.requested  # read once: Ctrl-C may come at any moment, and what stops is saved first
                if (
                    stopped
                    or progress.iteration == config.iterations
                    or progress.iteration % config.checkpoint_every == 0
                ):
                    log.sync()
                    save_checkpoint(out / "checkpoints", agent, streams, progress, config.checkpoints_kept)
                with stop.showing():
                    display.update(progress, metrics)
                if stopped:
                    break
    finally:
        log.close()
        board.close()
        envs.close()
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    if rows:
        title = f"{run.agent} on {run.family}, seed {config.seed}"
        write_bytes(out / "training.png", training_picture(rows, title, tasks_label(split), first))
    return progress, stop.requested


def _evaluated(agent: MetaAgent[Any], family: Family, run: RunConfig, progress: Progress) -> dict[str, float]:
    """Means over the tuning tasks at each point of the curve, for the log."""
    config = run.training
    result = evaluate(
        agent,
        family,
        split_tasks(family.distribution, "tune", config.eval_tasks),
        Streams.for_evaluation(config.seed, progress.iteration),
        episodes=config.episodes,
        horizon=run.spaces.horizon,
        diverged_limit=1.0,  # a policy at work on it may still learn to stay where the simulation is sound
    )
    metrics = {f"evaluation/return/{k}": float(v) for k, v in enumerate(result.returns.mean(axis=(0, 2)))}
    for name, rates in (("success_last", success_rates(result, "last")), ("success", success_rates(result))):
        metrics |= {f"evaluation/{name}/{k}": rate for k, rate in enumerate(rates) if rate is not None}
    return metrics | {"evaluation/diverged_episodes": float(result.diverged_episodes)}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) < 2 or words[0].startswith("-") or words[1].startswith("-"):
        usage = USAGE.format(agents=", ".join(names(AGENTS)), families=", ".join(names(FAMILIES)))
        if words and words[0] in ("-h", "--help"):
            print(usage)
            return 0
        refuse(
            f"train: got {' '.join(words) or 'nothing'}, expected AGENT and FAMILY; "
            f"agents: {', '.join(names(AGENTS))}; families: {', '.join(names(FAMILIES))}"
        )
    agent_name, family_name = words[:2]
    limit_output()
    with border():
        door, family, settings = _read_command(agent_name, family_name, words[2:])
        resumed = settings["spaces"] is not None
        training = settings["training"] = on_this_machine(settings["training"], words[2:], resumed=resumed)
        use_matmul(training.matmul, torch.device(training.device))
        keep_freed_memory()
        family = family.with_finite_train_set(training.train_tasks)
        spaces, recorded = family.spaces(training.horizon), settings.pop("spaces")
        if recorded == spaces:  # what the family declares otherwise since is not for a run that began without it
            spaces = recorded
        run = RunConfig(agent=agent_name, spaces=spaces, **settings)
        refuse_impossible(run, family)
        stepping = settled(family.with_stepping(run.stepping), training.tasks * training.episodes)
        family, run = family.with_stepping(stepping), dataclasses.replace(run, stepping=stepping)  # likewise
        runs = _one_per_seed(door, run)
    if not door.resume and (stepping or family_name.partition(":")[0] not in names(FAMILIES)):
        for line in effect_warnings(dataclasses.replace(family, horizon=spaces.horizon)):
            print(f"warning: {line}; see metarl check {shlex.quote(run.family)}", file=sys.stderr)
    ends, blown = [], []
    for one_door, one_run in runs:
        code, end, stopped = _train_here(one_door, one_run, family)
        ends.append(end)
        if stopped and not code and len(ends) < len(runs):
            code = 130
            go_on = how_to_go_on(one_run, Path(end["run"]), door.seeds)
            print(f"stopped before {runs[len(ends)][0].out}; {go_on}", file=sys.stderr)
        if code == BLEW_UP:  # the other seeds may be sound
            blown.append(str(end["run"]))
        elif code:
            break
    if blown and door.seeds:
        print(f"metarl: error: {len(blown)} of {len(runs)} seeds blew up: {', '.join(blown)}", file=sys.stderr)
    if door.json:
        end_with_json(ends if door.seeds else ends[0])
    return code or (BLEW_UP if blown else 0)


def _one_per_seed(door: Door, run: RunConfig) -> list[tuple[Door, RunConfig]]:
    """The run itself; with --seeds, one for each seed from the run's own on, in folders side by side."""
    if not door.seeds:
        return [(door, run)]
    parent, first = door.out or new_run_dir(run.agent, run.family), run.training.seed
    check(dataclasses.replace(run.training, seed=first + door.seeds - 1))
    if (parent / "config.json").exists():
        raise ValueError(f"--seeds: got --out {parent}, which is a single run; expected a folder for several")
    return [
        (
            dataclasses.replace(door, out=parent / f"seed-{seed}"),
            dataclasses.replace(run, training=dataclasses.replace(run.training, seed=seed)),
        )
        for seed in range(first, first + door.seeds)
    ]


def _train_here(door: Door, run: RunConfig, family: Family) -> tuple[int, dict[str, Any], bool]:
    """Trains one run in its folder; returns the exit code, where the run stands, and whether there was a Ctrl-C."""
    with border():
        out = prepare(door.out, run, resume=door.resume)
        lock = contextlib.ExitStack()
        lock.enter_context(sole_writer(out))
        describe(out, run)
    go_on = how_to_go_on(run, out, door.seeds)
    try:
        with lock:
            progress, stopped = train(run, family, out, resume=door.resume)
    except EnvError as failure:
        refuse_environment(failure, advice(out, go_on))
    except OSError as error:
        refuse(f"{error}{advice(out, go_on)}")
    except NotFiniteError as error:
        say_that_it_blew_up(run, error, out, go_on)
        return BLEW_UP, {"run": str(out), "iteration": None, "env_steps": None}, False
    except (MemoryError, RuntimeError) as error:
        if said := out_of_memory(error):
            refuse(f"{said}{advice(out, go_on)}")
        raise
    except KeyboardInterrupt:
        print(f"left at once; {go_on}", file=sys.stderr)
        return 130, {"run": str(out), "iteration": None, "env_steps": None}, True
    end = {"run": str(out), "iteration": progress.iteration, "env_steps": progress.env_steps}
    if progress.iteration < run.training.iterations:
        print(f"saved after iteration {progress.iteration}; {go_on}", file=sys.stderr)
        return 130, end, stopped
    print(f"run: {out}\ntraining curve: {out / 'training.png'}")
    return 0, end, stopped


if __name__ == "__main__":
    run_as_process(main)
