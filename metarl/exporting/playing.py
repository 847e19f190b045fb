"""The environment that an exported policy was trained in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from metarl.registry import is_own_code, make_family
from metarl.types import Task
from metarl.vector import TaskVecEnv


def environment(contract: Mapping[str, Any], family: str | None = None) -> TaskVecEnv:
    """One environment with the task of a contract.

    Args:
        contract: Content of contract.json; it never imports code of the user's own.
        family: Name of the family, if it is code of the user's own; by default that of the contract.

    Raises:
        SystemExit: The contract lacks what makes the environment, or its family is unknown, or code of the user's own
            that is not named; with one line.
    """
    try:
        named, steps, task = contract["family"], contract["rate"]["steps_per_episode"], contract["task"]
        if not isinstance(named, str) or not isinstance(steps, int) or steps < 1:
            raise TypeError
        task = Task.from_json(task)
    except (KeyError, TypeError, ValueError):
        raise SystemExit(
            "run_policy.py: error: contract.json: got no family, task or steps per episode, expected those that "
            "metarl export wrote"
        ) from None
    try:
        if family is None and is_own_code(named):
            raise ValueError(f"--family: got none, but {named!r} is code of your own; name it again with --family")
        envs = make_family(family or named).make_envs(1, 1, steps)
        envs.set_tasks([task])
    except ValueError as error:
        raise SystemExit(f"run_policy.py: error: {error}") from None
    return envs
