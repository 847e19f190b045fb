"""Inputs about a task, for the agents that may read its declared parameters (`metarl.types.Spaces.task_parameters`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from metarl.types import Floats, Task, TaskParameter


class ToldInputs(NamedTuple):
    """The inputs about a task: numbers in the order of the parameters, then one-hot codes.

    Attributes:
        units: Unit of each number, a unit of its own for each parameter; numbers are normalised.
        codes: Number of inputs of the codes, 0 or 1 each, which are not normalised.
    """

    units: tuple[str, ...]
    codes: int

    @property
    def size(self) -> int:
        """Number of inputs."""
        return len(self.units) + self.codes


def told_inputs(parameters: Sequence[TaskParameter]) -> ToldInputs:
    """The inputs about the tasks of a family that declares these parameters."""
    units = tuple(f"parameter {p.name}" for p in parameters for _ in range(0 if p.categories else p.size))
    return ToldInputs(units, sum(len(p.categories) for p in parameters))


def check_told(agent: str, parameters: Sequence[TaskParameter]) -> None:
    """Checks that a family declares parameters that an agent can be told.

    Args:
        agent: Name of the agent, for the message.
        parameters: The declared parameters.

    Raises:
        ValueError: No parameter is declared.
    """
    if not parameters:
        raise ValueError(
            f"{agent}: got spaces without task_parameters, expected those that Family.spaces declares for a family "
            "with hidden parameters; a run without recorded task_parameters cannot be loaded; train it again"
        )


def told_numbers(agent: str, task: Task, parameters: Sequence[TaskParameter]) -> list[float]:
    """The inputs about a task: numbers in the order of the parameters, then one-hot codes.

    A category without a training task has a code of zeros, because the weights of its input are untrained.

    Args:
        agent: Name of the agent, for the message.
        task: The task.
        parameters: The declared parameters.

    Raises:
        ValueError: The task lacks a declared parameter, or the parameter has another size.
    """
    values, numbers, codes = dict(task.parameters), list[float](), list[float]()
    for parameter in parameters:
        value = values.get(parameter.name, ())
        if len(value) != parameter.size:
            raise ValueError(
                f"{agent}: got a task of {task.family!r} with {len(value)} numbers of {parameter.name!r}, expected "
                f"{parameter.size}, as in the agent's family: Task.of(NAME, {parameter.name}=...)"
            )
        if parameter.categories:
            codes += [float(value == category) for category in parameter.categories]
        else:
            numbers += value
    return numbers + codes


def told_tasks(agent: str, tasks: Sequence[Task], parameters: Sequence[TaskParameter]) -> Floats:
    """The inputs about each of `M` tasks, `[M, D]` float32; arguments and errors as in `told_numbers`."""
    return np.array([told_numbers(agent, task, parameters) for task in tasks], dtype=np.float32)
