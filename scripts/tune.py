"""`metarl tune AGENT FAMILY`: searches settings by trainings that are scored on tuning tasks, and reports them."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

import tyro

from metarl.config import Count, NonNegative, Rounds, RoundsOrNone, UnitInterval, check
from metarl.few_shot.family import FewShotFamily
from metarl.gymnasium_envs.from_gym import PREFIX
from metarl.own_code.guest import limit_output
from metarl.presets import PresetName
from metarl.registry import AGENTS, FAMILIES, agent_class, find_family, full_name, is_own_agent, names
from metarl.run_folder import new_run_dir, sole_writer
from metarl.run_setup import RunSettings, set_up, starting_settings
from metarl.runs import TrainConfig
from metarl.scripts.common import border, end_with_json, option_value, parse, refuse
from metarl.scripts.ending import StopRequest, run_as_process
from metarl.scripts.refusals import options_first
from metarl.scripts.tuning.ranges import FORMS, read_ranges
from metarl.scripts.tuning.record import Record
from metarl.scripts.tuning.scores import Metric
from metarl.scripts.tuning.spaces import default_space
from metarl.stepping import Stepping
from metarl.tasks import Family
from metarl.vector import available_cores

if TYPE_CHECKING:
    from metarl.scripts.tuning.run import Outcome

USAGE = """usage: metarl tune AGENT FAMILY [--vary "NAME=RANGE" ...] [--trials N] [--out DIR] [--resume] [options]

Searches settings of an agent on a family. All options, with those of a training that all trials share:
  metarl tune AGENT FAMILY --help

agents:   {agents}
          or your own class, as module:Class
families: {families}
          gym:ID?NAME=uniform(LOW,HIGH), mjcf:PATH?..., menagerie:NAME?..., or your own function, as module:function
"""
DATABASE = "study.db"


@dataclass(frozen=True, kw_only=True)
class TuneOptions:
    """Trials, their ranges and their costs."""

    vary: Annotated[tuple[str, ...], tyro.conf.UseAppendAction, tyro.conf.arg(metavar=f'"{FORMS}"')] = ()
    """Setting that varies between trials, and its range: of the agent, or tasks, episodes, train-tasks.
    May be repeated; by default up to five settings around the preset."""
    trials: Count = 20
    """Number of trials, the preset included, which is the first; a resumed study may raise it."""
    seeds: Rounds = 1
    """Trainings of each trial, with seeds from --seed on; its score is their mean."""
    score: Metric = "return"
    """Score: return, or a success rate (at any step, or at the last one), after the last adaptation."""
    prune_after: UnitInterval = 0.25
    """Share of a trial's iterations before which it is never pruned; 1 for no pruning."""
    jobs: RoundsOrNone = 0
    """Trials at once, with one thread each; 0 for one per core. A single one at a time has all cores."""
    budget: NonNegative = 0.0
    """Minutes after which no trial goes on; 0 for no limit. A resumed study has them anew."""
    confirm: RoundsOrNone = 0
    """Fresh seeds by which the best trial and the preset are trained again and compared; 0 for none."""
    out: Path | None = None
    """Folder of the study; by default a new one under runs/."""
    preset: PresetName = "default"
    """Settings to begin with: default (sized for two cores) or published (if `metarl list` shows one)."""
    resume: bool = False
    """Go on with the study in --out."""
    json: bool = False
    """Print the results as one JSON line at the end."""


@dataclass(frozen=True, kw_only=True)
class Command:
    """A parsed command line.

    Args:
        options: Options of the study.
        out: Folder of the study.
        record: The record of the study.
        base: The settings of `metarl train AGENT FAMILY` without further options.
        saved: Whether the folder holds the study.
    """

    options: TuneOptions
    out: Path
    record: Record
    base: RunSettings
    saved: bool


def _command_type(kind: Any, stepping: bool) -> Any:
    """The dataclass of the whole command line: the agent's settings are under --agent, all others at the top level."""
    fields: list[tuple[str, Any]] = [
        ("options", Annotated[TuneOptions, tyro.conf.arg(name="")]),
        ("training", Annotated[TrainConfig, tyro.conf.arg(name="")]),
        ("agent", kind.Config),
    ]
    if stepping:
        fields.insert(2, ("stepping", Annotated[Stepping, tyro.conf.arg(name="")]))
    return dataclasses.make_dataclass("TuneCommand", fields, frozen=True, kw_only=True)


def _read_command(agent: str, spec: str, family: Family, arguments: Sequence[str]) -> Command:
    """Reads the command line. With --resume, settings that it does not name come from the study."""
    kind, prog = agent_class(agent), f"metarl tune {agent} {spec}"
    command_type = _command_type(kind, family.stepping is not None)

    def read(start: RunSettings, options: TuneOptions) -> Any:
        mine = {"stepping": start.stepping} if start.stepping else {}
        default = command_type(options=options, training=start.training, agent=start.agent, **mine)
        return parse(command_type, prog, arguments, default)

    preset = cast(PresetName | None, option_value(arguments, "--preset", "") or None)
    base = starting_settings(agent, spec, family, preset=preset, kind=kind)
    command = read(base, TuneOptions())
    saved = _saved(agent, spec, command.options)
    if saved is not None:
        if saved.preset and preset is None:
            base = starting_settings(agent, spec, family, preset=cast(PresetName, saved.preset), kind=kind)
        start = TuneOptions(
            seeds=saved.seeds, score=saved.score, prune_after=saved.prune_after,
            preset=cast(PresetName, saved.preset or "default"),
        )  # fmt: skip
        command = read(saved.settings, start)
    options: TuneOptions = command.options
    check(options)
    stepping = command.stepping if family.stepping is not None else None
    settings = RunSettings(training=command.training, agent=command.agent, stepping=stepping).checked()
    _check_evaluations(settings.training)
    texts = options.vary or (saved.vary if saved else default_space(settings))
    varied = read_ranges(texts, settings)
    record = Record(
        agent=agent,
        family=spec,
        preset="" if options.preset == "default" else options.preset,
        settings=settings,
        vary=tuple(one.text for one in varied),
        seeds=options.seeds,
        score=options.score,
        prune_after=options.prune_after,
        cores=saved.cores if saved else available_cores(),
    )
    if saved is not None and (changed := saved.changed(record)):
        raise ValueError(
            f"--resume: got settings that differ from those of the study in {options.out}: {', '.join(changed)}; only "
            "--trials, --jobs, --budget and --confirm may change. Leave the others out, or choose another --out"
        )
    set_up(agent, spec, family, settings, kind=kind if is_own_agent(agent) else None)  # refuses what cannot work
    out = options.out or new_run_dir(f"tune-{agent}", spec)
    return Command(options=options, out=out, record=record, base=base, saved=saved is not None)


def _saved(agent: str, spec: str, options: TuneOptions) -> Record | None:
    """The record of the study to resume; None for a new one.

    Raises:
        ValueError: The folder cannot hold this study.
    """
    from metarl.scripts.tuning.study import read_record

    out = options.out
    if out is None:
        if options.resume:
            raise ValueError("--resume: got no --out, expected the folder of the study to resume")
        return None
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out: got {out}, which is a file; expected a folder or a new name")
    if (out / DATABASE).exists():
        if not options.resume:
            raise ValueError(f"--out: got {out}, which already holds a study; add --resume, or choose another folder")
        return read_record(out / DATABASE, agent, spec)
    if (out / "config.json").exists() or any(out.glob("trial-*")) or any(out.glob("seed-*")):
        raise ValueError(f"--out: got {out}, which holds trainings without a study ({DATABASE}); choose another folder")
    return None


def _check_evaluations(training: TrainConfig) -> None:
    """Raises ValueError if trials would have no score."""
    if not training.eval_every or training.eval_every > training.iterations:
        raise ValueError(
            f"--eval-every: got {training.eval_every} with {training.iterations} iterations, expected 1 to "
            f"{training.iterations}: trials are scored by these evaluations"
        )


def _family(name: str) -> Family:
    """The family of a name.

    Raises:
        ValueError: It is one of few-shot learning, or a gym:ID without its variations.
    """
    if name.startswith(PREFIX) and "?" not in name:
        raise ValueError(
            f"family: got {name!r}, expected its variations in the name, as {name}?NAME=uniform(LOW,HIGH); "
            "--vary names settings here"
        )
    family = find_family(name)
    if isinstance(family, FewShotFamily):
        raise ValueError(f"family: got {name!r}, a few-shot family; metarl tune tunes agents that act in environments")
    return family


def _check_package() -> None:
    """Raises ValueError if Optuna is not installed."""
    if find_spec("optuna") is None:
        raise ValueError('tune: its package is not installed; run: pip install "metarl-robots[tune]"')


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) < 2 or words[0].startswith("-") or words[1].startswith("-"):
        if words and words[0] in ("-h", "--help"):
            print(USAGE.format(agents=", ".join(names(AGENTS)), families=", ".join(names(FAMILIES))))
            return 0
        if said := options_first("tune", words):
            refuse(said)
        refuse(
            f"tune: got {' '.join(words) or 'nothing'}, expected AGENT and FAMILY; "
            f"agents: {', '.join(names(AGENTS))}; families: {', '.join(names(FAMILIES))}"
        )
    agent, options = words[0], words[2:]
    limit_output()
    with border(agent if is_own_agent(agent) else ""):
        _check_package()
        spec = full_name(words[1])
        command = _read_command(agent, spec, _family(spec), options)
        command.out.mkdir(parents=True, exist_ok=True)
    if command.options.resume and not command.saved:
        print(f"note: no study in {command.out}: starting a new one", file=sys.stderr)
    with border(), sole_writer(command.out):
        return _tune(command)


def _tune(command: Command) -> int:
    """Searches, confirms and reports; returns the exit code."""
    from metarl.scripts.tuning.page import PAGE, PICTURE, summary
    from metarl.scripts.tuning.page import command as words_to_type
    from metarl.scripts.tuning.run import tune

    options, out = command.options, command.out
    go_on = f"metarl {shlex.join(_words_to_go_on(command))}"
    with StopRequest() as stop:
        try:
            outcome: Outcome = tune(
                command.record,
                command.base,
                out,
                saved=command.saved,
                trials=options.trials,
                jobs=options.jobs or available_cores(),
                seconds=60.0 * options.budget,
                confirmed=options.confirm,
                go_on=go_on,
                stop=stop,
            )
        except KeyboardInterrupt:
            print(f"stopped at once; go on with: {go_on}", file=sys.stderr)
            return 130
    result = outcome.result
    print("\n".join(summary(result)))
    if result.best is not None:
        print(f"settings of trial {result.best.number}: {words_to_type(result, result.best)}")
    print(f"report: {out / PAGE}" + (f", {out / PICTURE}" if (out / PICTURE).exists() else ""))
    if outcome.unfinished:
        why = "" if stop.requested else "the budget is over; "
        print(f"{why}go on with: {go_on}", file=sys.stderr)
    if options.json:
        end_with_json({**result.to_json(), "out": str(out), "finished": not outcome.unfinished})
    if outcome.failure:
        refuse(f"{outcome.failure}; {out / PAGE} lists them. After fixing this, start in another --out")
    return 130 if stop.requested else 0


def _words_to_go_on(command: Command) -> list[str]:
    """The words after `metarl` that go on with the study."""
    words = ["tune", command.record.agent, command.record.family, "--out", str(command.out), "--resume"]
    for name in ("trials", "jobs", "budget", "confirm"):
        value, default = getattr(command.options, name), getattr(TuneOptions(), name)
        words += [f"--{name}", f"{value:g}"] if value != default else []
    return words


if __name__ == "__main__":
    run_as_process(main)
