"""Entry points for a user's script: `metarl.make_agent` and `metarl.train`."""

from __future__ import annotations

import dataclasses
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from metarl.agent import MetaAgent
from metarl.config import check
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.run import FewShotRun, ShotsTrainConfig
from metarl.few_shot.setup import set_up_few_shot, starting_few_shot_settings
from metarl.few_shot.shots import ShotSpaces
from metarl.names import did_you_mean
from metarl.presets import PresetName, split_settings
from metarl.registry import AGENTS, LEARNERS, agent_class, checked_agent, find_family
from metarl.run_folder import new_run_dir
from metarl.run_setup import set_up, starting_settings
from metarl.runs import RunConfig, load_with_progress, resolve_device
from metarl.seeding import Streams
from metarl.session import run_session
from metarl.stepping import Stepping
from metarl.tasks import Family
from metarl.training import IterationReport
from metarl.types import Progress, Spaces
from metarl.watch import RunStart, Watcher, trackers
from metarl.workers.choice import WorkerChoice, read_workers


def make_agent(
    agent: str | type[MetaAgent[Any]],
    spaces: Spaces | ShotSpaces,
    *,
    device: str = "cpu",
    seed: int = 0,
    **settings: Any,
) -> MetaAgent[Any]:
    """A new, untrained agent or few-shot learner.

    Args:
        agent: Name of the agent, `module:Class`, or its class.
        spaces: Sizes and action bounds of the environments, such as `family.spaces()`; for a few-shot learner those of
            the examples, `family.spaces`.
        device: `cpu`, `cuda` or `auto`.
        seed: Seed of the initial parameters and of the updates' random numbers.
        **settings: Settings of the agent, fields of its `Config`; defaults for the others.

    Raises:
        ValueError: There is no such agent, setting or device, or a value is out of range.
    """
    name, kind = _named(agent, LEARNERS if isinstance(spaces, ShotSpaces) else AGENTS)
    unknown = sorted(set(settings) - {field.name for field in dataclasses.fields(kind.Config)})
    if unknown:
        there = [field.name for field in dataclasses.fields(kind.Config)]
        raise ValueError(
            f"make_agent: got the setting {unknown[0]!r}, which {name} does not have."
            f"{did_you_mean(unknown[0], there)} There are: {', '.join(there)}"
        )
    config = kind.Config(**settings)
    check(config, "agent.")
    sizes: Any = spaces
    return kind.build(config, sizes, device=resolve_device(device), rng=Streams(seed).learner)


@dataclass(frozen=True)
class Trained:
    """A run created by `train`.

    Args:
        out: Folder of the run.
        progress: The counters at the end.
        agent: The trained agent, equal to the newest checkpoint.
    """

    out: Path
    progress: Progress
    agent: MetaAgent[Any]


def train(
    agent: str | type[MetaAgent[Any]],
    family: str | Family | FewShotFamily,
    *,
    out: str | Path | None = None,
    resume: bool = False,
    preset: PresetName | None = None,
    track: str = "tensorboard",
    watch: Sequence[Watcher] = (),
    stepping: Stepping | None = None,
    workers: int | str = "auto",
    **settings: Any,
) -> Trained:
    """Trains an agent on a family, as `metarl train AGENT FAMILY` does: the same presets, numbers and folder.

    Args:
        agent: Name of the agent, `module:Class`, or its class.
        family: Name of the family with its options, `module:function`, or the family itself.
        out: Folder of the run; by default a new one under `runs/`.
        resume: Continue the run in `out` from its newest intact checkpoint, with its own settings.
        preset: Name of the preset to start from.
        track: Trackers, separated by commas: `tensorboard`, `csv`, `wandb`, `mlflow`; or `none`.
        watch: Further watchers.
        stepping: Settings of your own Gymnasium environments; by default those of their family.
        workers: Processes that sample: `auto` (by the number of cores), a number (0: this process), `ray`, or `ray:N`.
            Results do not depend on it.
        **settings: Changes to the preset: settings of the run (fields of `TrainConfig`) and of the agent (fields of its
            `Config`), such as `iterations=3, inner_lr=0.05`.

    Returns:
        The folder, the counters and the agent, on the device that trained it.

    Raises:
        ValueError: A name, setting or folder is wrong, or the run cannot work; the message has the remedy.
        NotFiniteError: The training diverged.
        EnvError: A user's environment raised.
        BlockError: Some tasks failed in every worker that tried them.
        WorkersError: Workers were asked for and cannot be used.
    """
    watchers = [_Warnings(), *trackers(track), *watch]
    choice = dataclasses.replace(read_workers(str(workers)), by_name=isinstance(family, str))
    spec, family = (family, find_family(family)) if isinstance(family, str) else (getattr(family, "name", ""), family)
    if not isinstance(family, Family | FewShotFamily):
        raise ValueError(f"family: got {family!r}, expected its name, a metarl.Family or a metarl.FewShotFamily")
    name, kind = _named(agent, AGENTS if isinstance(family, Family) else LEARNERS)
    own = kind if ":" in name else None
    if resume and out is None:
        raise ValueError("resume: got no out, expected the folder of the run to continue")
    earlier = Path(out) if resume and out and (Path(out) / "config.json").exists() else None
    if isinstance(family, FewShotFamily):
        how: dict[str, Any] = {"preset": preset, "earlier": earlier, "own": own}
        return _trained(*_few_shot_run(name, kind, spec, family, settings, **how), out, resume, watchers, choice, own)
    saved = RunConfig.read(earlier, own) if earlier else None
    chosen = starting_settings(name, spec, family, preset=preset, kind=kind, saved=saved)
    of_run, of_agent = split_settings(kind, settings)
    chosen = dataclasses.replace(
        chosen,
        training=dataclasses.replace(chosen.training, **of_run),
        agent=dataclasses.replace(chosen.agent, **of_agent),
        stepping=chosen.stepping and (stepping or chosen.stepping),
    ).checked()
    run, family, said = set_up(name, spec, family, chosen, kind=own, saved=saved, named=settings)
    for line in said:
        warnings.warn(line, stacklevel=2)
    return _trained(run, family, out, resume, watchers, choice, own)


def _few_shot_run(
    name: str,
    kind: type[MetaAgent[Any]],
    spec: str,
    family: FewShotFamily,
    settings: Mapping[str, Any],
    *,
    preset: PresetName | None,
    earlier: Path | None,
    own: type[MetaAgent[Any]] | None,
) -> tuple[FewShotRun, FewShotFamily]:
    """The configuration of a few-shot run, and its family."""
    saved = FewShotRun.read(earlier, own) if earlier else None
    training, config = starting_few_shot_settings(name, spec, family, preset=preset, kind=kind, saved=saved)
    of_run, of_learner = split_settings(kind, settings, ShotsTrainConfig)
    training, config = dataclasses.replace(training, **of_run), dataclasses.replace(config, **of_learner)
    check(training)
    check(config, "agent.")
    return set_up_few_shot(name, spec, family, training, config, kind=own, saved=saved, named=settings)


def _trained(
    run: RunConfig | FewShotRun,
    family: Family | FewShotFamily,
    out: str | Path | None,
    resume: bool,
    watchers: Sequence[Watcher],
    choice: WorkerChoice,
    own: type[MetaAgent[Any]] | None,
) -> Trained:
    """Trains, and loads the result."""
    folder = Path(out) if out is not None else new_run_dir(run.agent, run.family)
    for _ in run_session(run, family, folder, resume=resume, watch=watchers, workers=choice):
        pass
    named = family if isinstance(family, Family) else None
    trained, progress, _ = load_with_progress(folder, device=run.training.device, agent=own, family=named)
    return Trained(folder, progress, trained)


class _Warnings:
    """A watcher that passes the warnings of a start to Python's `warnings`."""

    def start(self, start: RunStart) -> None:
        """Warns, also if there was nothing to resume."""
        afresh = [start.note] if start.note and not start.progress.iteration else []
        for line in (*start.warnings, *afresh):
            warnings.warn(line, stacklevel=4)

    def iteration(self, report: IterationReport) -> None:
        """Does nothing."""

    def close(self) -> None:
        """Does nothing."""


def _named(agent: str | type[MetaAgent[Any]], group: str) -> tuple[str, type[MetaAgent[Any]]]:
    """Name and class of an agent of a group; a class that no package registers is named `module:Class`.

    The module of a class of the script itself is the script's file, so that a command line can name it again.
    """
    if isinstance(agent, str):
        return agent, agent_class(agent, group)
    agent = checked_agent("agent", agent)
    script = getattr(sys.modules["__main__"], "__file__", None) if agent.__module__ == "__main__" else None
    spec = f"{Path(script).stem if script else agent.__module__}:{agent.__qualname__}"
    return next((point.name for point in entry_points(group=group) if point.value == spec), spec), agent
