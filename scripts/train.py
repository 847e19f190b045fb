"""`metarl train AGENT FAMILY`: trains an agent on a family, in a folder from which it can be resumed and evaluated."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, cast

import tyro

from metarl.agent import MetaAgent
from metarl.config import check
from metarl.few_shot.family import FewShotFamily
from metarl.gymnasium_envs.check.short_test import effect_warnings, effect_warnings_apart
from metarl.gymnasium_envs.from_gym import PREFIX, gym_spec, named_again
from metarl.own_code.guest import limit_output
from metarl.presets import PresetName, default_settings
from metarl.registry import (
    AGENTS,
    FAMILIES,
    FEW_SHOT_FAMILIES,
    LEARNERS,
    agent_class,
    find_family,
    full_name,
    is_own_agent,
    make_family,
    names,
)
from metarl.run_setup import RunSettings, set_up, starting_settings
from metarl.runs import RunConfig, TrainConfig
from metarl.scripts.common import border, option_value, parse, refuse
from metarl.scripts.ending import run_as_process
from metarl.scripts.families import GymOptions
from metarl.scripts.refusals import folder_to_go_on_with, options_first
from metarl.scripts.sampling import SamplingOptions
from metarl.scripts.train_shots import read_few_shot
from metarl.scripts.training_runs import RunDoor, one_per_seed, train_all
from metarl.stepping import Stepping
from metarl.tasks import Family
from metarl.watch import trackers

USAGE = """usage: metarl train AGENT FAMILY [--out DIR] [--resume] [--seed S] [--iterations N] [--json] [options]

Trains an agent on a family of tasks. All options, with their ranges and the preset's values:
  metarl train AGENT FAMILY --help

agents:   {agents}
          or your own class, as module:Class
          few-shot learners: {learners}
families: {families}
          gym:ID --vary "NAME=uniform(LOW,HIGH)" [--set "NAME=VALUE"], any environment that Gymnasium knows,
          or one of your own as gym:MODULE:CLASS
          mjcf:PATH?payload=uniform(0,5)&..., a robot of your own as a MuJoCo XML file,
          or menagerie:NAME?... for one of MuJoCo Menagerie
          or your own function, as module:function
          few-shot families: {few_shot}
"""


@dataclass(frozen=True, kw_only=True)
class Door(RunDoor, SamplingOptions):
    """Folder, start and output of a run, and who plays its episodes."""


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


def _read_command(agent: str, name: str, family: Family | None, arguments: Sequence[str]) -> Command:
    """Reads the command line.

    The family is None for gym:ID, whose options define it. With --resume, other settings come from the run's
    configuration, or from the preset if `--preset` names one.
    """
    agent_type = agent_class(agent)
    from_gym = name.startswith(PREFIX)  # the options --vary and --set define the family
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
        groups = {"agents": AGENTS, "families": FAMILIES, "learners": LEARNERS, "few_shot": FEW_SHOT_FAMILIES}
        usage = USAGE.format(**{word: ", ".join(names(group)) for word, group in groups.items()})
        if words and words[0] in ("-h", "--help"):
            print(usage)
            return 0
        if said := options_first("train", words):
            refuse(said)
        refuse(
            f"train: got {' '.join(words) or 'nothing'}, expected AGENT and FAMILY; "
            f"agents: {', '.join(names(AGENTS))}; families: {', '.join(names(FAMILIES))}"
        )
    agent, family_name, options = words[0], words[1], words[2:]
    limit_output()
    with border(agent if is_own_agent(agent) else ""):
        family_name = full_name(family_name)
        found = None if family_name.startswith(PREFIX) else find_family(family_name)
        if isinstance(found, FewShotFamily):
            door_and_runs = read_few_shot(agent, family_name, found, options)
    if isinstance(found, FewShotFamily):
        return train_all(*door_and_runs)
    with border(agent if is_own_agent(agent) else ""):
        command = _read_command(agent, family_name, found, options)
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
        for note in family.notes:
            print(f"note: {note}", file=sys.stderr)
        runs = one_per_seed(door, run)
    if not door.resume and (run.stepping or family_name.partition(":")[0] not in names(FAMILIES)):
        choice = door.choice()
        if run.stepping and (choice.ray or choice.count):  # an environment may end its process
            seen = effect_warnings_apart(run.family, run.stepping, run.spaces.horizon)
        else:
            from metarl.envs.silence import silence  # it imports MuJoCo

            seen = effect_warnings(dataclasses.replace(family, horizon=run.spaces.horizon), reasons=silence)
        _warn(f"{line}; see metarl check {shlex.quote(run.family)}" for line in seen)
    return train_all(door, runs, family)


def _warn(lines: Iterable[str]) -> None:
    for line in lines:
        print(f"warning: {line}", file=sys.stderr)


if __name__ == "__main__":
    run_as_process(main)
