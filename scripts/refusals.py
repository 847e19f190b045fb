"""What `metarl train` refuses before it begins, and what it says when a training cannot go on."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from metarl.checkpoint import list_checkpoints
from metarl.evaluation import TASKS_AT_ONCE
from metarl.finite import NotFiniteError, remedies
from metarl.memory import RunSize, agent_memory, check_memory, slow_parts
from metarl.registry import agent_class
from metarl.runs import RunConfig, TrainConfig, resolve_device
from metarl.scripts.common import option_value
from metarl.sizes import batch_memory, evaluation_memory
from metarl.tasks import Family

DEVICE_FIELDS = ("training.device", "training.matmul")
"""Settings that a run may change when it goes on on another machine; its numbers then change by rounding."""


def refuse_impossible(run: RunConfig, family: Family) -> None:
    """Refuses a run that no memory holds, or that its agent cannot learn, before anything is written.

    A part of the agent that fits but is slow is a warning on stderr.

    Raises:
        ValueError: The message names the largest part, or what the agent does not take, and the option that helps.
    """
    kind: Any = agent_class(run.agent)
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
        agent.begin(family.distribution.train_tasks(1), 1)  # what it has to say about the family, it says now
    except (MemoryError, RuntimeError) as error:
        if said := out_of_memory(error):
            raise ValueError(said) from error
        raise
    steps = agent.adaptation_steps
    check_memory([*batch_memory(family, spaces, size.tasks, size.episodes, steps + 1), *needs])
    if training.eval_every:
        check_memory(evaluation_memory(spaces, training.eval_tasks, TASKS_AT_ONCE, size.episodes, steps))
    for line in slow_parts(needs):
        print(f"warning: {line}", file=sys.stderr)


def on_this_machine(training: TrainConfig, arguments: Sequence[str], *, resumed: bool) -> TrainConfig:
    """The settings with the device that is used.

    Args:
        training: The settings; those of the run's own configuration where the command line says nothing else.
        arguments: The command line.
        resumed: Whether there is such a configuration.

    Raises:
        ValueError: There is no such device here.
    """
    asked = option_value(arguments, "--device", "")
    if resumed and not asked and training.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device: this run was made on a GPU, but torch finds no CUDA device here; add --device cpu to go on with "
            "it here (its numbers are then no longer the same, bit for bit)"
        )
    device: Literal["cpu", "cuda"] = "cuda" if resolve_device(training.device).type == "cuda" else "cpu"
    if resumed and device == "cpu" and not option_value(arguments, "--matmul", ""):
        training = dataclasses.replace(training, matmul="float32")  # only a GPU has the other
    return dataclasses.replace(training, device=device)


def warn_of_another_device(before: RunConfig, now: RunConfig) -> None:
    """Says on stderr that a run goes on elsewhere, where the last bits of its numbers differ."""
    was, is_now = before.training.device, now.training.device
    if was != is_now:
        print(
            f"warning: this run was made on {was} and goes on on {is_now}: its numbers are no longer the same, bit for "
            "bit, as without the change",
            file=sys.stderr,
        )


def advice(out: Path, go_on: str) -> str:
    """What is left of a run that failed, and how to go on."""
    saved = list_checkpoints(out / "checkpoints")
    left = f"the last checkpoint, {saved[-1]}, is whole" if saved else "there was no checkpoint yet"
    return f"; {left}. Once that is mended, {go_on}"


def say_that_it_blew_up(run: RunConfig, error: NotFiniteError, out: Path, go_on: str) -> None:
    """One line on stderr: what is not finite, since when, what to try, and what is left."""
    tried = f"in a new run try {remedies(run.agent_config)}"
    print(f"metarl: error: {run.agent} blew up in {error}; {tried}{advice(out, go_on)}", file=sys.stderr)


def out_of_memory(error: BaseException) -> str:
    """What to say where memory ran out; empty where something else went wrong."""
    if isinstance(error, MemoryError | torch.cuda.OutOfMemoryError) or "can't allocate memory" in str(error):
        said = (str(error).splitlines() or ["no more to be had"])[0]
        return f"memory: {said}; try fewer --tasks or --episodes, smaller networks, or a smaller replay"
    return ""
