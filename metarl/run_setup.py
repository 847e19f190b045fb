"""Preparation of a run: settings, device, and checks that it can work. Writes nothing."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import numpy as np
import torch

from metarl.agent import MetaAgent
from metarl.config import check
from metarl.evaluation import TASKS_AT_ONCE
from metarl.memory import RunSize, agent_memory, check_memory, slow_parts
from metarl.presets import PresetName, default_settings
from metarl.run_config import LearningConfig
from metarl.runs import RunConfig, TrainConfig, resolve_device, use_matmul
from metarl.sizes import batch_memory, evaluation_memory
from metarl.stepping import Stepping
from metarl.tasks import DrawnTasks, Family
from metarl.vector import available_cores
from metarl.workers.blocks import default_blocks

TrainingT = TypeVar("TrainingT", bound=LearningConfig)


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """The settings of a run, before its spaces are known.

    Args:
        training: Settings of the run.
        agent: Settings of the agent, an instance of its `Config`.
        stepping: Settings of Gymnasium environments; None for any other family.
    """

    training: TrainConfig
    agent: Any
    stepping: Stepping | None = None

    def checked(self) -> RunSettings:
        """The same settings.

        Raises:
            ValueError: A value is out of range.
        """
        check(self.training)
        check(self.agent, "agent.")
        if self.stepping:
            check(self.stepping)
        return self


def starting_settings(
    agent: str,
    spec: str,
    family: Family,
    *,
    preset: PresetName | None = None,
    kind: type[MetaAgent[Any]] | None = None,
    saved: RunConfig | None = None,
) -> RunSettings:
    """The settings that a run starts from: those of the run to resume, else a preset.

    Args:
        agent: Name of the agent.
        spec: Name of the family, with its options.
        family: The family.
        preset: Name of the preset; if given, it takes precedence over the settings of the run to resume.
        kind: The agent's class; found by its name by default.
        saved: Configuration of the run to resume.

    Raises:
        ValueError: There is no preset of that name for the agent and the family.
    """
    stepping = family.stepping
    if saved and saved.agent == agent and not preset:
        return RunSettings(training=saved.training, agent=saved.agent_config, stepping=saved.stepping or stepping)
    training, agent_config = default_settings(agent, spec, preset or "default", kind)
    if not saved and not isinstance(family.distribution, DrawnTasks):
        training = dataclasses.replace(training, train_tasks=0)  # its training tasks are a fixed set
    return RunSettings(training=training, agent=agent_config, stepping=stepping)


def set_up(
    agent: str,
    spec: str,
    family: Family,
    settings: RunSettings,
    *,
    kind: type[MetaAgent[Any]] | None = None,
    saved: RunConfig | None = None,
    named: Collection[str] = (),
) -> tuple[RunConfig, Family, list[str]]:
    """The configuration of a run, and the family with the run's changes.

    Args:
        agent: Name of the agent.
        spec: Name of the family, as `config.json` records it.
        family: The family.
        settings: The settings.
        kind: Class of an agent that no package registers.
        saved: Configuration of the run to resume.
        named: Settings given by the caller, such as `device`.

    Returns:
        The configuration, the family, and warnings of one line each.

    Raises:
        ValueError: The run cannot work: too large for the memory, no such device, tasks that the agent cannot learn.
    """
    training = on_this_machine(settings.training, named, resumed=saved is not None)
    if training.blocks > training.tasks:
        raise ValueError(f"blocks: got {training.blocks}, expected at most one for each of {training.tasks} tasks")
    if not training.blocks:
        training = dataclasses.replace(training, blocks=default_blocks(training.tasks, available_cores()))
    use_matmul(training.matmul, torch.device(training.device))
    family = family.with_finite_train_set(training.train_tasks)
    spaces = family.spaces(training.horizon)
    if saved and saved.spaces == spaces:  # a run keeps its recorded units and task parameters
        spaces = dataclasses.replace(saved.spaces, reward=spaces.reward)
    run = RunConfig(
        agent=agent,
        family=spec,
        training=training,
        agent_config=settings.agent,
        spaces=spaces,
        stepping=settings.stepping,
        family_digest=family.digest(),
        own_agent=kind,
    )
    warnings = refuse_impossible(run, family)
    return run, family.with_stepping(run.stepping), warnings


def on_this_machine(training: TrainingT, named: Collection[str], *, resumed: bool) -> TrainingT:
    """The settings with the actual device.

    Args:
        training: The settings.
        named: Settings given by the caller; the others come from the run to resume, if there is one.
        resumed: Whether a run is resumed.

    Raises:
        ValueError: There is no such device here.
    """
    if resumed and "device" not in named and training.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device: this run was made on a GPU, but torch finds no CUDA device here; add --device cpu to resume it "
            "here (its numbers are then no longer the same, bit for bit)"
        )
    device: Literal["cpu", "cuda"] = "cuda" if resolve_device(training.device).type == "cuda" else "cpu"
    if resumed and device == "cpu" and "matmul" not in named:
        training = dataclasses.replace(training, matmul="float32")  # tf32 needs a GPU
    return dataclasses.replace(training, device=device)


def refuse_impossible(run: RunConfig, family: Family) -> list[str]:
    """Refuses a run that exceeds the memory, or whose tasks the agent cannot learn.

    Returns:
        Warnings about slow parts of the agent, one line each.

    Raises:
        ValueError: The message names the largest part, or the unsuitable tasks, and an option that helps.
    """
    kind: Any = run.agent_type
    training, spaces = run.training, run.spaces
    size = RunSize(
        tasks=training.tasks,
        episodes=training.episodes,
        iterations=training.iterations,
        gpu=training.device == "cuda",
    )
    needs = agent_memory(kind, run.agent_config, spaces, size)
    check_memory([*batch_memory(family, spaces, size.tasks, size.episodes), *needs])
    if hasattr(kind, "check_distribution"):
        kind.check_distribution(run.agent_config, family.distribution, size)
    try:
        agent = run.build_agent(torch.device("cpu"), np.random.default_rng(0))
        agent.begin_training(family.distribution.train_tasks(1), 1)  # raises if the agent cannot learn the family
    except (MemoryError, RuntimeError) as error:
        if said := out_of_memory(error):
            raise ValueError(said) from error
        raise
    steps = agent.adaptation_steps
    check_memory([*batch_memory(family, spaces, size.tasks, size.episodes, steps + 1), *needs])
    if training.eval_every:
        check_memory(evaluation_memory(spaces, training.eval_tasks, TASKS_AT_ONCE, size.episodes, steps))
    return slow_parts(needs)


def out_of_memory(error: BaseException) -> str:
    """One line for an error due to lack of memory; empty for any other error."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error):
        said = (str(error).splitlines() or ["no more is free"])[0]
        return f"memory: {said}; try fewer --tasks or --episodes, smaller networks, or a smaller replay"
    return ""
