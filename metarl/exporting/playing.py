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
        SystemExit: The family is code of the user's own and not named, or unknown; with one line.
    """
    named = contract["family"]
    try:
        if family is None and is_own_code(named):
            raise ValueError(f"--family: got none, but {named!r} is code of your own; name it again with --family")
        envs = make_family(family or named).make_envs(1, 1, contract["rate"]["steps_per_episode"])
        envs.set_tasks([Task.from_json(contract["task"])])
    except ValueError as error:
        raise SystemExit(f"run_policy.py: error: {error}") from None
    return envs
