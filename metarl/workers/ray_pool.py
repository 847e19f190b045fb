"""Blocks played by the actors of a Ray cluster, the part in the process that owns them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import torch

from metarl.agent import Actor
from metarl.finite import NotFiniteError
from metarl.stepping import MakeEnvs
from metarl.vector import available_cores
from metarl.workers.blocks import Block, Played
from metarl.workers.faults import TRIES, Tries, WorkersError
from metarl.workers.packed import Packed, copied, device_of, pack_or_refuse, same, unpack
from metarl.workers.process import Failure
from metarl.workers.ray_actor import RayBlocks, Started, package_versions, received, sendable, vector_instructions
from metarl.workers.ray_cluster import EXAMPLE, RUNTIME_ENV, Cluster

StateT = TypeVar("StateT")

PATIENCE_SECONDS = 120.0
"""Longest time without any actor, s: no node has a CPU for one, or none can start."""
LOOK_SECONDS = 1.0
"""Longest interval between two looks at actors that do not start, s."""
CLOSE_SECONDS = 5.0
"""Time in which idle actors close their environments, s."""


class RayActors:
    """Plays blocks in Ray actors of one CPU and one thread each.

    An actor that dies or raises is replaced, and its block goes to another actor; so does that of a node that is lost.
    Actors are started when there are blocks for them.

    Args:
        make_envs: Makes a batch of environments; it can be packed.
        count: Number of actors; None for one per CPU of the cluster.
        address: Address of the cluster, `auto` or `HOST:PORT`; None starts Ray on this machine. A Ray that this process
            is already connected to is used in any case, and not shut down.
        say: Prints a line about actors that were lost, or wait for a CPU.
        patience: Longest time without any actor, s.

    Raises:
        WorkersError: Ray is not installed, there is no cluster to join, or `make_envs` cannot be packed.
    """

    def __init__(
        self,
        make_envs: MakeEnvs,
        count: int | None,
        *,
        address: str | None = None,
        say: Callable[[str], None] = lambda line: None,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._envs = sendable(pack_or_refuse("the environments", make_envs))
        self._say, self._patience = say, patience
        self._cluster = Cluster(address, count)
        self._ray = self._cluster.ray
        try:
            self.count = self._number(count)
        except BaseException:
            self._cluster.close()
            raise
        self._kind = self._ray.remote(RayBlocks).options(num_cpus=1, max_restarts=0, max_task_retries=0)
        self._seats: list[_Seat] = []
        self._packed, self._version = Packed(b"", []), 0
        self._agent: Any = None  # Ray's reference to the packed actor
        self._failed_starts, self._said_that_some_wait = 0, False
        self._machines: set[str] = set()

    def play(self, actor: Actor[StateT], blocks: Sequence[Block[StateT]]) -> list[Played[StateT]]:
        """The results of all blocks, in their order; the arrays are valid until the next call, and read-only.

        Raises:
            BlockError: A block failed in every actor that tried it.
            WorkersError: The actor or a state cannot be packed, no actor can be started, or the machines differ.
        """
        packed_actor = pack_or_refuse("the agent", actor.acting_part())
        collect = _Collect(blocks, [pack_or_refuse("the agent's state", block) for block in blocks])
        self._publish(packed_actor)
        self._fill(len(blocks))
        since = time.monotonic()
        try:
            while len(collect.results) < len(blocks):
                self._hand_out(collect)
                for seat, event in self._events():
                    self._handle(seat, event, collect)
                if any(seat.ready for seat in self._seats):
                    since = time.monotonic()
                self._check_patience(since)
        except BaseException:
            self._drop([seat for seat in self._seats if seat.block is not None])
            raise
        return [collect.results[number] for number in range(len(blocks))]

    def close(self) -> None:
        """Closes the environments and ends the actors; Ray too, if it was started for them."""
        if self._ray.is_initialized():
            idle = [seat for seat in self._seats if seat.ready and seat.block is None]
            closing = [seat.actor.close.remote() for seat in idle]
            if closing:
                self._ray.wait(closing, num_returns=len(closing), timeout=CLOSE_SECONDS)
            self._drop(list(self._seats))
        self._agent = None
        self._cluster.close()

    # Actors ----------------------------------------------------------------------------------------------

    def _number(self, count: int | None) -> int:
        """Number of actors.

        Raises:
            WorkersError: It follows from the cluster's CPUs, and there are none.
        """
        cpus = self._cluster.cpus
        if count is None:
            if not cpus:
                raise WorkersError(
                    "workers: got ray, and the cluster has no CPU yet; expected ray:N with the number of actors"
                )
            return cpus
        if self._cluster.started_here and count > available_cores():
            self._say(f"{count} actors of Ray share the {available_cores()} cores of this machine")
        elif count > cpus:
            self._say(f"ray:{count} asks for {count} CPUs, and the cluster has {cpus}; the other actors wait for one")
        return count

    def _fill(self, blocks: int = 0) -> None:
        """Starts actors until there is one for each block, or all."""
        wanted = max(min(self.count, blocks), len(self._seats))
        while len(self._seats) < wanted:
            self._add()

    def _add(self) -> None:
        actor = self._kind.remote()
        self._seats.append(_Seat(actor, actor.start.remote(self._envs)))

    def _drop(self, seats: Sequence[_Seat]) -> None:
        """Kills actors and forgets them."""
        for seat in seats:
            self._seats.remove(seat)
            self._ray.kill(seat.actor)

    def _publish(self, actor: Packed) -> None:
        """Puts the agent into Ray's memory once for all actors, unless it has not changed."""
        if same(actor, self._packed):
            return
        self._packed, self._version = copied(actor), self._version + 1
        self._agent = self._ray.put(sendable(self._packed))

    def _check_patience(self, since: float) -> None:
        """Says that actors wait for a CPU.

        Args:
            since: Time at which there last was an actor.

        Raises:
            WorkersError: There has been none for too long.
        """
        now = time.monotonic()
        waiting = sum(not seat.ready and now - seat.since > self._patience for seat in self._seats)
        if waiting and any(seat.ready for seat in self._seats) and not self._said_that_some_wait:
            self._said_that_some_wait = True
            self._say(
                f"{waiting} of {len(self._seats)} actors of Ray still wait for a CPU; the others play their blocks"
            )
        if now - since > self._patience:
            raise WorkersError(
                f"workers: no actor of Ray has started within {self._patience:g} s; the cluster has "
                f"{self._cluster.cpus} CPUs, of which {self._cluster.free_cpus} are free, and each actor needs one; "
                "end other work there, or add a node (ray start --address=HOST:PORT)"
            )

    # A collect -------------------------------------------------------------------------------------------

    def _hand_out(self, collect: _Collect) -> None:
        """Gives each idle actor a block; that of the last collect, if possible, since its tasks are set there."""
        for i, seat in enumerate(self._seats):
            if collect.waiting and seat.ready and seat.block is None:
                seat.block = i if i in collect.waiting else collect.waiting[0]
                collect.waiting.remove(seat.block)
                packed = sendable(collect.packed[seat.block])
                seat.work = seat.actor.play.remote(self._version, self._agent, packed)

    def _events(self) -> Iterator[tuple[_Seat, Any]]:
        """Waits for results of actors; an actor's end comes in words."""
        busy = {seat.work: seat for seat in self._seats if seat.work is not None}
        done, _ = self._ray.wait(list(busy), num_returns=1, timeout=LOOK_SECONDS)
        for work in done:
            seat = busy[work]
            seat.work = None
            try:
                yield seat, self._ray.get(work)
            except self._ray.exceptions.RayError as error:
                yield seat, _in_words(error)

    def _handle(self, seat: _Seat, event: Any, collect: _Collect) -> None:
        """Places a result, or replaces an actor and has its block played again.

        Raises:
            BlockError: The block failed too often.
            NotFiniteError: The numbers of the training are not finite, which another try does not change.
            WorkersError: Actors do not start, or their machines differ from this one.
        """
        number = seat.block
        if isinstance(event, Started):
            self._compare(event)
            seat.started, self._failed_starts = event, 0
        elif number is None:
            self._drop([seat])
            self._failed_starts += 1
            if isinstance(event, Failure) or self._failed_starts >= TRIES:
                raise WorkersError(_why_no_start(event))
            self._add()
        elif isinstance(event, Failure) and event.not_finite is not None:
            raise NotFiniteError(event.not_finite)
        elif isinstance(event, Failure | str):
            self._drop([seat])
            self._add()
            collect.waiting.appendleft(number)
            what = event.in_words() if isinstance(event, Failure) else event
            collect.tries.failed(number, what, event.trace if isinstance(event, Failure) else "")
            self._say(f"{seat} {what}; its block of tasks is played again")
        else:
            seat.block = None
            episodes, state = event
            collect.results[number] = (
                unpack(received(episodes)),
                unpack(copied(received(state)), collect.device),
            )

    def _compare(self, started: Started) -> None:
        """Compares an actor's machine with this one.

        Raises:
            WorkersError: Versions of packages differ.
        """
        here = package_versions()
        names = sorted({name for name, _ in here.items() ^ started.versions.items()})
        if names:
            there = ", ".join(f"{name} {started.versions.get(name, 'none')} (here {here.get(name)})" for name in names)
            raise WorkersError(
                f"workers: node {started.machine} has {there}; results depend on them, so install the same versions on "
                "all nodes"
            )
        if started.instructions != vector_instructions() and started.machine not in self._machines:
            self._say(
                f"node {started.machine} computes with {started.instructions}, this machine with "
                f"{vector_instructions()}: the last bits of results depend on which node plays a block"
            )
        self._machines.add(started.machine)


@dataclass(eq=False)
class _Seat:
    """An actor, seen by its owner.

    Attributes:
        actor: Ray's handle.
        work: Ray's reference to what it does now; None if it is idle.
        started: Its machine and process, once it can play blocks.
        block: Index of the block that it plays, or None.
        since: When it was asked for.
    """

    actor: Any
    work: Any
    started: Started | None = None
    block: int | None = None
    since: float = field(default_factory=time.monotonic)

    @property
    def ready(self) -> bool:
        """Whether it can play blocks."""
        return self.started is not None

    def __str__(self) -> str:
        where = f" (process {self.started.pid} on {self.started.machine})" if self.started else ""
        return f"an actor of Ray{where}"


class _Collect:
    """The state of one collect.

    Args:
        blocks: The blocks.
        packed: The same, packed.
    """

    def __init__(self, blocks: Sequence[Block[Any]], packed: Sequence[Packed]) -> None:
        self.packed = packed
        self.device: torch.device = device_of(blocks[0].state)
        self.tries = Tries([len(block.tasks) for block in blocks], [task for block in blocks for task in block.tasks])
        self.waiting = deque(range(len(blocks)))
        self.results: dict[int, Played[Any]] = {}


def _why_no_start(event: Failure | str) -> str:
    """One line on an actor that does not start."""
    if isinstance(event, str):
        return f"workers: an actor of Ray {event} before it could play"
    way = ""
    if event.kind in ("ModuleNotFoundError", "ImportError", "AttributeError"):
        way = f"; your own module must be there too, for instance with {RUNTIME_ENV}='{EXAMPLE}', or installed on each"
    return f"workers: the environments cannot be made on the cluster's nodes ({event.kind}: {event.message}){way}"


def _in_words(error: Exception) -> str:
    """How an actor ended, from Ray's exception of several lines."""
    text = " ".join(str(error).split())
    kind = type(error).__name__
    if "OutOfMemory" in kind or "memory usage threshold" in text:
        return f"died for want of memory ({kind})"
    if "node has died" in text or "node was terminated" in text:
        return f"died with its node ({kind})"
    if "RuntimeEnv" in kind:
        return f"cannot get its runtime environment ({text[:200]})"
    if "Unavailable" in kind:
        return f"is out of reach ({kind})"
    return f"died ({kind})"
