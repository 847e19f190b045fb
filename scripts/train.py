"""`metarl train AGENT FAMILY`: trains an agent on a family, in a folder from which it can be resumed and evaluated."""

from __future__ import annotations

import contextlib
import dataclasses
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, cast

import tyro

from metarl.agent import MetaAgent
from metarl.checkpoint import UnfitError
from metarl.config import RoundsOrNone, check
from metarl.finite import NotFiniteError
from metarl.gymnasium_envs.check.short_test import effect_warnings, effect_warnings_apart
from metarl.gymnasium_envs.from_gym import PREFIX, gym_spec, named_again
from metarl.own_code.errors import EnvError
from metarl.own_code.guest import limit_output
from metarl.presets import PresetName, default_settings
from metarl.registry import AGENTS, FAMILIES, agent_class, is_own_agent, make_family, names
from metarl.run_folder import new_run_dir
from metarl.run_setup import RunSettings, out_of_memory, set_up, starting_settings
from metarl.runs import RunConfig, TrainConfig
from metarl.scripts.common import (
    border,
    end_with_block,
    end_with_json,
    option_value,
    own_agent_failure,
    parse,
    refuse,
    refuse_environment,
)
from metarl.scripts.display import RunDisplay
from metarl.scripts.ending import StopRequest, run_as_process
from metarl.scripts.families import GymOptions
from metarl.scripts.refusals import (
    DEFAULT_TRACK,
    advice,
    folder_to_go_on_with,
    how_to_go_on,
    say_that_it_blew_up,
)
from metarl.scripts.sampling import SamplingOptions
from metarl.session import run_session
from metarl.stepping import Stepping
from metarl.tasks import Family
from metarl.watch import trackers
from metarl.workers.faults import BlockError, WorkersError

BLEW_UP = 2
"""Exit code of a diverged training."""

USAGE = """usage: metarl train AGENT FAMILY [--out DIR] [--resume] [--seed S] [--iterations N] [--json] [options]

Trains an agent on a family of tasks. All options, with their ranges and the preset's values:
  metarl train AGENT FAMILY --help

agents:   {agents}
          or your own class, as module:Class
families: {families}
          gym:ID --vary "NAME=uniform(LOW,HIGH)" [--set "NAME=VALUE"], any environment that Gymnasium knows,
          or one of your own as gym:MODULE:CLASS
          or your own function, as module:function
"""


@dataclass(frozen=True, kw_only=True)
class Door(SamplingOptions):
    """Folder, start and output of a run."""

    out: Path | None = None
    """Folder of the run; by default a new one under runs/."""
    preset: PresetName = "default"
    """Default settings: default (sized for two cores) or published (if `metarl list` shows one)."""
    resume: bool = False
    """Resume from the newest intact checkpoint in --out."""
    seeds: RoundsOrNone = 0
    """Number of runs, trained one after another with seeds from --seed on, in OUT/seed-S; 0 for one run in OUT."""
    track: str = DEFAULT_TRACK
    """Trackers of the metrics, separated by commas: tensorboard, csv, wandb, mlflow; or none."""
    json: bool = False
    """Print the results as one JSON line at the end."""


@dataclass(frozen=True, kw_only=True)
class GymDoor(GymOptions, Door):
    """Folder, start and output of a run, for a family gym:ID."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A parsed command line.

    Args:
        door: Folder, start and output of the run.
        spec: Name of the family.
        family: The family.
        settings: Settings of the run.
        saved: Configuration of the run to resume, if there is one.
    """

    door: Door
    spec: str
    family: Family
    settings: RunSettings
    saved: RunConfig | None


def _command_type(kind: type[MetaAgent[Any]], door: type[Door], stepping: bool) -> Any:
    """The dataclass of the whole command line: the agent's settings are under --agent, all others at the top level."""
    fields: list[tuple[str, Any]] = [
        ("door", Annotated[door, tyro.conf.arg(name="")]),
        ("training", Annotated[TrainConfig, tyro.conf.arg(name="")]),
        ("agent", kind.Config),
    ]
    if stepping:
        fields.insert(2, ("stepping", Annotated[Stepping, tyro.conf.arg(name="")]))
    return dataclasses.make_dataclass("TrainCommand", fields, frozen=True, kw_only=True)


def _read_command(agent: str, name: str, arguments: Sequence[str]) -> Command:
    """Reads the command line.

    With --resume, other settings come from the run's configuration, or from the preset if `--preset` names one.
    """
    agent_type = agent_class(agent)
    from_gym = name.startswith(PREFIX)  # the options --vary and --set define the family
    family = None if from_gym else make_family(name)
    stepping = family.stepping if family else Stepping()
    door_type: type[Door] = GymDoor if from_gym else Door
    kind, prog = _command_type(agent_type, door_type, stepping is not None), f"metarl train {agent} {name}"

    def read(start: RunSettings) -> Any:
        mine = {"stepping": start.stepping} if start.stepping else {}
        default = kind(door=door_type(), training=start.training, agent=start.agent, **mine)
        return parse(kind, prog, arguments, default)

    preset = cast(PresetName | None, option_value(arguments, "--preset", "") or None)
    training, agent_config = default_settings(agent, name, preset or "default", agent_type)
    door: Any = read(RunSettings(training=training, agent=agent_config, stepping=stepping)).door
    if door.resume and door.out is None:
        raise ValueError("--resume: got no --out, expected the folder of the run to resume")
    earlier = folder_to_go_on_with(door.out, door.seeds) if door.resume else None
    saved = RunConfig.read(earlier, _own(agent, agent_type)) if earlier else None
    spec = gym_spec(name, door.vary, door.constants) if from_gym else name
    if saved and saved.family.startswith(f"{spec}?"):
        spec = named_again(saved.family, spec)
    family = family or make_family(spec)
    command = read(starting_settings(agent, spec, family, preset=preset, kind=agent_type, saved=saved))
    settings = RunSettings(
        training=command.training, agent=command.agent, stepping=command.stepping if stepping else None
    )
    check(door)
    return Command(door=door, spec=spec, family=family, settings=settings.checked(), saved=saved)


def _own(agent: str, kind: type[MetaAgent[Any]]) -> type[MetaAgent[Any]] | None:
    """The class of a user's own agent; None for a registered one."""
    return kind if is_own_agent(agent) else None


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
    agent, family_name, options = words[0], words[1], words[2:]
    limit_output()
    with border(agent if is_own_agent(agent) else ""):
        command = _read_command(agent, family_name, options)
        door = command.door
        door.choice()
        trackers(door.track)  # a missing package is refused before anything is written
        run, family, warnings = set_up(
            agent,
            command.spec,
            command.family,
            command.settings,
            kind=_own(agent, agent_class(agent)),
            saved=command.saved,
            named=[name for name in ("device", "matmul") if option_value(options, f"--{name}", "")],
        )
        _warn(warnings)
        runs = _one_per_seed(door, run)
    if not door.resume and (run.stepping or family_name.partition(":")[0] not in names(FAMILIES)):
        choice = door.choice()
        if run.stepping and (choice.ray or choice.count):  # an environment may end its process
            seen = effect_warnings_apart(run.family, run.stepping, run.spaces.horizon)
        else:
            seen = effect_warnings(dataclasses.replace(family, horizon=run.spaces.horizon))
        _warn(f"{line}; see metarl check {shlex.quote(run.family)}" for line in seen)
    ends, blown = [], []
    for one_door, one_run in runs:
        code, end, stopped = _train_here(one_door, one_run, family)
        ends.append(end)
        if stopped and not code and len(ends) < len(runs):
            code = 130
            go_on = how_to_go_on(one_run, Path(end["run"]), door.seeds, door.track, door)
            print(f"stopped before {runs[len(ends)][0].out}; {go_on}", file=sys.stderr)
        if code == BLEW_UP:  # the other seeds may not diverge
            blown.append(str(end["run"]))
        elif code:
            break
    if blown and door.seeds:
        print(f"metarl: error: {len(blown)} of {len(runs)} seeds diverged: {', '.join(blown)}", file=sys.stderr)
    if door.json:
        end_with_json(ends if door.seeds else ends[0])
    return code or (BLEW_UP if blown else 0)


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


def _one_per_seed(door: Door, run: RunConfig) -> list[tuple[Door, RunConfig]]:
    """The run itself; with --seeds, one run for each seed from the run's seed on, in subfolders of --out."""
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
    """Trains one run in its folder; returns the exit code, the counters at its end, and whether Ctrl-C was pressed."""
    stop = StopRequest()
    display = RunDisplay(stop)
    with border():
        out = door.out or new_run_dir(run.agent, run.family)
        watch = [*trackers(door.track), display]  # its clock starts last
        how: dict[str, Any] = {"watch": watch, "stop": lambda: stop.requested, "workers": door.choice()}
        session = run_session(run, family, out, resume=door.resume, **how)
    go_on = how_to_go_on(run, out, door.seeds, door.track, door)
    try:
        with contextlib.closing(session), stop:
            for _ in session:
                pass
    except EnvError as failure:
        refuse_environment(failure, advice(out, go_on))
    except UnfitError as error:
        refuse(error)
    except BlockError as failure:
        end_with_block(failure, advice(out, go_on))
    except WorkersError as error:
        refuse(f"{error}{advice(out, go_on)}")
    except OSError as error:
        refuse(f"{error}{advice(out, go_on)}")
    except NotFiniteError as error:
        say_that_it_blew_up(run, error, out, go_on)
        return BLEW_UP, {"run": str(out), "iteration": None, "env_steps": None}, False
    except KeyboardInterrupt:
        print(f"stopped at once; {go_on}", file=sys.stderr)
        return 130, {"run": str(out), "iteration": None, "env_steps": None}, True
    except Exception as error:
        if said := out_of_memory(error):
            refuse(f"{said}{advice(out, go_on)}")
        if run.own_agent is None:
            raise
        refuse_environment(own_agent_failure(run.agent, "in training", error), advice(out, go_on))
    progress = display.progress
    end = {"run": str(out), "iteration": progress.iteration, "env_steps": progress.env_steps}
    if progress.iteration < run.training.iterations:
        print(f"saved after iteration {progress.iteration}; {go_on}", file=sys.stderr)
        return 130, end, stop.requested
    print(f"run: {out}\ntraining curve: {out / 'training.png'}")
    return 0, end, stop.requested


if __name__ == "__main__":
    run_as_process(main)
