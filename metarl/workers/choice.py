"""`--workers`: who plays the blocks of a run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from metarl.registry import make_family
from metarl.stepping import MakeEnvs, Stepping
from metarl.tasks import Family
from metarl.vector import TaskVecEnv, available_cores
from metarl.workers.blocks import InProcess, Player
from metarl.workers.faults import WorkersError
from metarl.workers.main_module import refuse_second_run
from metarl.workers.packed import pack

AUTO = "auto"
RAY = "ray"
EARLIER = {"sync": "0 (this process)", "async": "auto, or a number of worker processes"}
"""Values of an earlier version, and what replaces them."""
MOST = 1024
"""Largest number of workers."""


@dataclass(frozen=True)
class WorkerChoice:
    """Who plays the blocks.

    Args:
        count: Number of workers; 0 plays in this process, None chooses by the number of cores.
        ray: Whether they are actors of a Ray cluster.
        address: Address of the cluster, `auto` or `HOST:PORT`; None starts Ray on this machine.
        silent: Longest time without a step of the environments, s; after it a worker counts as hung.
        by_name: Whether workers may make the family anew by its name. False for a family that the caller made, which
            may be another one than the registered family of that name.
    """

    count: int | None = None
    ray: bool = False
    address: str | None = None
    silent: float = 300.0
    by_name: bool = True

    def number(self, blocks: int, most: int | None = None) -> int:
        """Number of workers.

        Args:
            blocks: Number of blocks of a collect.
            most: Largest number of blocks, in evaluations too; further workers would have no work.
        """
        if self.count is not None:
            return min(self.count, most or blocks)
        count = min(available_cores(), blocks)
        return count if count > 1 else 0

    def in_words(self, blocks: int, most: int | None = None) -> str:
        """A line for the start of a run; arguments as for `number`."""
        work = f"{blocks} block{'s' if blocks > 1 else ''} of tasks"
        if self.ray:
            actors = f"{self.count} actor{'s' if self.count != 1 else ''}" if self.count else "one actor per CPU"
            return f"sampling: {work}, {actors} of Ray"
        count = self.number(blocks, most)
        where = f"{count} worker process{'es' if count > 1 else ''}" if count else "this process"
        chosen = f", chosen by {available_cores()} cores" if self.count is None else ""
        if self.count is not None and self.count > count:
            chosen = f" ({self.count} asked for; at most one per block: --blocks)"
        return f"sampling: {work}, {where}{chosen}"


IN_PROCESS = WorkerChoice(0)
"""This process plays all blocks."""


def read_workers(text: str, *, address: str | None = None, silent: float = 300.0) -> WorkerChoice:
    """The choice that `--workers` names: `auto`, a number, `ray`, or `ray:N`.

    Raises:
        ValueError: The text is none of these, or an address is given without Ray.
    """
    if text in EARLIER:
        raise ValueError(f"workers: got {text!r}, a value of an earlier version; use {EARLIER[text]}")
    kind, _, number = text.partition(":")
    ray = kind == RAY
    digits = number if ray else text
    whole = digits.isascii() and digits.isdecimal() and len(digits) < 6 and int(digits) <= MOST
    if not (text in (AUTO, RAY) or (whole and (not ray or int(digits) > 0))):
        raise ValueError(
            f"workers: got {text!r}, expected auto, a number from 0 (this process) to {MOST}, ray, or ray:N with N "
            "of at least 1"
        )
    if address is not None and not ray:
        raise ValueError(f"ray_address: got {address!r} without Ray, expected workers to be ray or ray:N")
    return WorkerChoice(int(digits) if whole else None, ray, address, silent)


@dataclass(frozen=True)
class NamedEnvs:
    """Makes the environments of a family by its name, for a family whose functions cannot be pickled.

    Args:
        spec: Name of the family with its options, or the user's `module:function`.
        stepping: Settings of single environments; None for any other family.
    """

    spec: str
    stepping: Stepping | None

    def __call__(self, num_tasks: int, episodes: int, horizon: int) -> TaskVecEnv:
        """The batch of environments."""
        return make_family(self.spec).with_stepping(self.stepping).make_envs(num_tasks, episodes, horizon)


def sendable_envs(family: Family, spec: str) -> MakeEnvs:
    """Makes a family's environments in another process: by the function itself, or else by the family's name.

    Args:
        family: The family.
        spec: Its name; empty if it has none.
    """
    try:
        pack(family.make_envs)
    except Exception:  # pickle raises exceptions of several types
        if spec:
            return NamedEnvs(spec, family.stepping)
    return family.make_envs


def make_player(
    choice: WorkerChoice,
    family: Family,
    spec: str,
    blocks: int,
    most: int | None = None,
    say: Callable[[str], None] | None = None,
) -> Player:
    """The player of a run.

    Args:
        choice: Who plays.
        family: Source of the environments.
        spec: Name of the family, as on the command line; empty if it has none.
        blocks: Number of blocks of a collect.
        most: Largest number of blocks, in evaluations too; `blocks` by default.
        say: Prints a line about lost workers; on stderr by default.

    Raises:
        WorkersError: Workers were asked for, and the environments cannot be sent to them, or Ray is not there.
    """
    refuse_second_run()
    say, spec = say or _warn, spec if choice.by_name else ""
    count = choice.number(blocks, most)
    if choice.ray:
        from metarl.workers.ray_pool import RayActors  # an optional package

        return RayActors(sendable_envs(family, spec), choice.count, address=choice.address, say=say)
    if not count:
        return InProcess(family.make_envs)
    from metarl.workers.pool import Processes

    settings: dict[str, Any] = {"silent": choice.silent, "at_once": choice.count is not None, "say": say}
    try:
        return Processes(sendable_envs(family, spec), count, **settings)
    except WorkersError as error:
        if choice.count is not None:
            raise
        say(f"sampling in this process: {error}")
        return InProcess(family.make_envs)


def _warn(line: str) -> None:
    print(f"warning: {line}", file=sys.stderr, flush=True)
