"""Preparation of a few-shot run: settings, device, and checks that it can work. Writes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from typing import Any

import numpy as np
import torch

from metarl.agent import MetaAgent
from metarl.few_shot.family import FewShotFamily
from metarl.few_shot.run import FewShotRun, ShotsTrainConfig
from metarl.memory import DOUBLE, FLOAT, Need, RunSize, agent_memory, check_memory
from metarl.presets import PresetName, settings_from_preset
from metarl.run_setup import on_this_machine, out_of_memory
from metarl.runs import use_matmul
from metarl.tasks import DrawnTasks


def starting_few_shot_settings(
    learner: str,
    spec: str,
    family: FewShotFamily,
    *,
    preset: PresetName | None = None,
    kind: type[MetaAgent[Any]],
    saved: FewShotRun | None = None,
) -> tuple[ShotsTrainConfig, Any]:
    """The settings that a run starts from: those of the run to resume, else a preset.

    Args:
        learner: Name of the learner.
        spec: Name of the family, with its options.
        family: The family.
        preset: Name of the preset; if given, it takes precedence over the settings of the run to resume.
        kind: The learner's class.
        saved: Configuration of the run to resume.

    Returns:
        Settings of the run and of the learner.

    Raises:
        ValueError: There is no preset of that name for the learner and the family.
    """
    if saved and saved.agent == learner and not preset:
        return saved.training, saved.agent_config
    training, config = settings_from_preset(learner, spec, preset or "default", kind, ShotsTrainConfig)
    if not isinstance(family.distribution, DrawnTasks):
        training = dataclasses.replace(training, train_tasks=0)
    return training, config


def set_up_few_shot(
    learner: str,
    spec: str,
    family: FewShotFamily,
    training: ShotsTrainConfig,
    config: Any,
    *,
    kind: type[MetaAgent[Any]] | None = None,
    saved: FewShotRun | None = None,
    named: Collection[str] = (),
) -> tuple[FewShotRun, FewShotFamily]:
    """The configuration of a run, and the family with the run's changes.

    Args:
        learner: Name of the learner.
        spec: Name of the family, as `config.json` records it.
        family: The family.
        training: Settings of the run.
        config: Settings of the learner.
        kind: Class of a learner that no package registers.
        saved: Configuration of the run to resume.
        named: Settings given by the caller, such as `device`.

    Raises:
        ValueError: The run cannot work: too large for the memory, no such device, examples that it cannot learn from.
    """
    training = on_this_machine(training, named, resumed=saved is not None)
    use_matmul(training.matmul, torch.device(training.device))
    family = family.with_finite_train_set(training.train_tasks)
    run = FewShotRun(
        agent=learner,
        family=spec,
        training=training,
        agent_config=config,
        spaces=family.spaces,
        own_agent=kind,
    )
    _refuse_impossible(run, family)
    return run, family


def _refuse_impossible(run: FewShotRun, family: FewShotFamily) -> None:
    """Raises ValueError if a run exceeds the memory, or its learner cannot learn from the examples."""
    kind: Any = run.agent_type
    training, spaces = run.training, run.spaces
    size = RunSize(tasks=training.tasks, episodes=1, iterations=training.iterations, gpu=training.device == "cuda")
    numbers = int(np.prod(spaces.x_shape)) + spaces.y_size
    examples = (spaces.shots + spaces.queries) * spaces.per_shot
    most = max(training.tasks, training.eval_tasks if training.eval_every else 0)
    drawn = Need(
        f"drawing {examples:,} examples of {numbers:,} numbers for each of {most:,} tasks",
        most * examples * numbers * (DOUBLE + FLOAT),
        "fewer --tasks or --eval-tasks, or fewer shots and queries of the family",
    )
    check_memory([drawn, *agent_memory(kind, run.agent_config, spaces, size)])
    try:
        built = run.build_agent(torch.device("cpu"), np.random.default_rng(0))
        built.begin(family.distribution.train_tasks(1), 1)
    except (MemoryError, RuntimeError) as error:
        if said := out_of_memory(error):
            raise ValueError(said) from error
        raise
