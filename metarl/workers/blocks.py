"""Blocks of tasks: the unit of work of a collect, with results that do not depend on who plays it.

A block is a pure function of the acting parameters and of its own fields. Its random numbers come from streams that are
keyed by seed, iteration, collect and block. So a block may be played anywhere, and again if its worker died.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Generic, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from metarl.agent import Actor
from metarl.own_code.generators import global_generators_kept
from metarl.rollout import collect
from metarl.seeding import Streams
from metarl.stepping import MakeEnvs
from metarl.types import Actions, Task, Trajectories
from metarl.vector import TaskVecEnv
from metarl.workers.packed import copied, device_of, pack, unpack

StateT = TypeVar("StateT")

BATCHES = 3
"""Largest number of batches of environments that a process keeps: two sizes of blocks in training, one in evaluation.
"""


@dataclass(frozen=True)
class Block(Generic[StateT]):
    """The part of a collect that some of the tasks make up.

    Args:
        tasks: The tasks of the block.
        episodes: `E`, episodes per task.
        horizon: `T`.
        state: The actor's state for these tasks.
        streams: Source of the reset seed and of the policy's noise.
        actions: Sample the policy, or take its mode.
        end_at_success: Truncate an episode at its first success.
        reports_success: Whether any episode has reported success before.
    """

    tasks: tuple[Task, ...]
    episodes: int
    horizon: int
    state: StateT
    streams: Streams
    actions: Actions = "sample"
    end_at_success: bool = False
    reports_success: bool = False


Played = tuple[Trajectories, StateT]
"""The episodes of a block, and the state after acting."""


class Player(Protocol):
    """Plays blocks: in this process, in others, or on other machines."""

    def play(self, actor: Actor[StateT], blocks: Sequence[Block[StateT]]) -> list[Played[StateT]]:
        """The results of all blocks of a collect, in their order; the arrays are valid until the next call."""
        ...

    def close(self) -> None:
        """Closes environments and processes."""
        ...


class Batches:
    """Batches of environments by size; the least recently used one is closed when there are too many.

    Args:
        make_envs: Makes a batch.
        calls: Numbers for `TaskVecEnv.report_calls`; None outside of worker processes.
    """

    def __init__(self, make_envs: MakeEnvs, calls: NDArray[np.int64] | None = None) -> None:
        self._make_envs, self._calls = make_envs, calls
        self._kept: OrderedDict[tuple[int, int, int], tuple[TaskVecEnv, bool]] = OrderedDict()

    def play(
        self, actor: Actor[StateT], block: Block[StateT], on_step: Callable[[], None] | None = None
    ) -> Played[StateT]:
        """Plays a block.

        The global generators of Python and NumPy are seeded from the block's streams meanwhile: environments that use
        them, against Gymnasium's rules, repeat too.

        Args:
            actor: The actor, or its acting part.
            block: The block.
            on_step: Called before each step of the environments.
        """
        size = (len(block.tasks), block.episodes, block.horizon)
        if size not in self._kept:
            while len(self._kept) >= BATCHES:
                self._kept.popitem(last=False)[1][0].close()
            envs = self._make_envs(*size)
            if self._calls is not None:
                envs.report_calls(self._calls)
            self._kept[size] = envs, envs.reports_success
        self._kept.move_to_end(size)
        envs, reports_success = self._kept[size]
        envs.reports_success = reports_success or block.reports_success
        with global_generators_kept(int(block.streams.child(0).envs.integers(2**32))):
            if envs.tasks != block.tasks:
                envs.set_tasks(block.tasks)
            return collect(
                envs,
                actor,
                block.state,
                block.streams,
                actions=block.actions,
                end_at_success=block.end_at_success,
                on_step=on_step,
            )

    def close(self) -> None:
        """Closes all environments."""
        while self._kept:
            self._kept.popitem()[1][0].close()


class InProcess:
    """Plays blocks one after another in this process; the environments may use all cores.

    An agent on a GPU acts through a copy on the CPU, as in a worker: the networks are small, and each step on a GPU
    waits for its launches. One that cannot be packed acts on its own device.

    Args:
        make_envs: Makes a batch of environments.
    """

    def __init__(self, make_envs: MakeEnvs) -> None:
        self._batches = Batches(make_envs)

    def play(self, actor: Actor[StateT], blocks: Sequence[Block[StateT]]) -> list[Played[StateT]]:
        """The results of all blocks, in their order."""
        try:
            part = actor.acting_part()
            device = device_of((part, blocks[0].state))
            on_cpu = None if device.type == "cpu" else unpack(copied(pack(part)))
        except Exception:  # pickle raises exceptions of several types
            on_cpu = None
        if on_cpu is None:
            return [self._batches.play(actor, block) for block in blocks]
        played = (self._batches.play(on_cpu, unpack(copied(pack(block)))) for block in blocks)
        return [(trajectories, unpack(copied(pack(state)), device)) for trajectories, state in played]

    def close(self) -> None:
        """Closes the environments."""
        self._batches.close()


def cut(num_tasks: int, blocks: int) -> list[slice]:
    """Cuts `num_tasks` tasks into consecutive blocks whose sizes differ by at most one, larger ones first."""
    size, larger = divmod(num_tasks, blocks)
    ends = [0]
    for i in range(min(blocks, num_tasks)):
        ends.append(ends[-1] + size + (i < larger))
    return [slice(start, end) for start, end in pairwise(ends)]


def default_blocks(num_tasks: int, cores: int) -> int:
    """Number of blocks that keeps all cores busy, and no core longer than it has to be.

    With 20 tasks on 16 cores, some worker plays two tasks in any case: ten blocks of two tasks take no longer than
    twenty blocks of one, and act half as often.
    """
    return -(-num_tasks // -(-num_tasks // cores))


class BlockSampler:
    """Collects by blocks of tasks, whoever plays them.

    Args:
        player: Plays the blocks.
        num_tasks: `M`.
        episodes: `E`.
        horizon: `T`.
        blocks: Number of blocks; at most one per task. It changes the random numbers, and so the results.
        actions: Sample the policy, or take its mode.
        end_at_success: Truncate an episode at its first success.
        reports_success: Whether any episode has reported success before.
    """

    def __init__(
        self,
        player: Player,
        num_tasks: int,
        episodes: int,
        horizon: int,
        blocks: int = 1,
        *,
        actions: Actions = "sample",
        end_at_success: bool = False,
        reports_success: bool = False,
    ) -> None:
        self.num_tasks, self.episodes, self.horizon = num_tasks, episodes, horizon
        self.reports_success = reports_success
        self._player, self._parts = player, cut(num_tasks, blocks)
        self._actions, self._end_at_success = actions, end_at_success
        self._tasks: tuple[Task, ...] = ()

    def set_tasks(self, tasks: Sequence[Task]) -> None:
        """Sets the `M` tasks of the next collects.

        Raises:
            ValueError: The number of tasks is not `M`.
        """
        if len(tasks) != self.num_tasks:
            raise ValueError(f"set_tasks: got {len(tasks)} tasks, expected {self.num_tasks}")
        self._tasks = tuple(tasks)

    def collect(self, actor: Actor[StateT], state: StateT, streams: Streams) -> tuple[Trajectories, StateT]:
        """Collects one episode per environment; block `b` draws from child `b` of the next child of the streams.

        Raises:
            ValueError: There are several blocks, and the state cannot be cut and joined.
        """
        return self._collect(actor, state, streams, self._actions)

    def _collect(
        self, actor: Actor[StateT], state: StateT, streams: Streams, actions: Actions
    ) -> tuple[Trajectories, StateT]:
        if not self._tasks:
            raise ValueError("collect: got no tasks; call set_tasks first")
        streams = streams.next()
        blocks = [
            Block(
                self._tasks[part],
                self.episodes,
                self.horizon,
                piece,
                streams.child(b),
                actions=actions,
                end_at_success=self._end_at_success,
                reports_success=self.reports_success,
            )
            for b, (part, piece) in enumerate(zip(self._parts, _pieces(state, self._parts), strict=True))
        ]
        trajectories, states = zip(*self._player.play(actor, blocks), strict=True)
        experience = Trajectories.join_tasks(trajectories)
        self.reports_success = self.reports_success or experience.success is not None
        return experience, states[0] if len(states) == 1 else type(state).join(states)  # type: ignore[attr-defined]


def _pieces(state: Any, parts: Sequence[slice]) -> list[Any]:
    """A state cut along the tasks; unchanged if there is one part."""
    if len(parts) == 1:
        return [state]
    if not (hasattr(state, "tasks") and hasattr(state, "join")):
        raise ValueError(
            f"collect: got a state of type {type(state).__name__} without `tasks` and `join`, which cut and join it "
            "along the tasks (metarl.agent.State); define them, or use one block (--blocks 1)"
        )
    return [state.tasks(part) for part in parts]
