"""Worker processes of this machine, the part in the process that owns them."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from typing import Any, TypeVar

import torch

from metarl.agent import Actor
from metarl.stepping import MakeEnvs
from metarl.workers.blocks import Block, InProcess, Played
from metarl.workers.faults import TRIES, Tries, WorkersError
from metarl.workers.packed import Packed, copied, device_of, pack, unpack
from metarl.workers.process import READY, Failure, Result
from metarl.workers.shared import Letter, Mailbox, SharedFile
from metarl.workers.worker import CLOSE_SECONDS, START_METHOD, Worker

StateT = TypeVar("StateT")

PRELOADED = ("metarl.workers.process", "metarl.gymnasium_envs.batch")
"""Modules that the clean process imports once for all workers."""
START_SECONDS = 120.0
"""Time limit for the start of a worker, s."""
SILENT_SECONDS = 300.0
"""Default of the longest time without a step of the environments, s."""
LOOK_SECONDS = 1.0
"""Longest interval between two looks at silent workers, s."""
PAYS_AFTER = 3.0
"""Seconds of sampling in this process after which a pool that starts by itself is started: about what a start takes."""


class Processes:
    """Plays blocks in worker processes; in this one until the first worker is ready, with the same results.

    A worker that dies, raises or falls silent is replaced, and its block goes to another worker.

    Args:
        make_envs: Makes a batch of environments; it can be packed.
        count: Number of workers.
        silent: Longest time without a step of the environments, s; after it a worker counts as hung.
        at_once: Start the workers now. Otherwise they are started when sampling has taken `PAYS_AFTER` seconds, and
            this process goes on alone if they cannot be started.
        say: Prints a line about workers that were lost.

    Raises:
        WorkersError: `make_envs` cannot be packed.
    """

    def __init__(
        self,
        make_envs: MakeEnvs,
        count: int,
        *,
        silent: float = SILENT_SECONDS,
        at_once: bool = True,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise WorkersError(
                "a worker process runs this script again, since it defines the agent or the environments; put the "
                'script\'s work under `if __name__ == "__main__":`'
            )
        self.count = count
        self._make_envs, self._silent, self._say, self._strict = make_envs, silent, say, at_once
        self._packed = _packed("the environments", make_envs)
        self._here = InProcess(make_envs)
        self._file = SharedFile()
        self._actor_box, self._actor, self._version = Mailbox(self._file), Packed(b"", []), 0
        self._letter = Letter(b"", (), 0)
        self._workers: list[Worker] = []
        self._alone_seconds, self._failed_starts, self._given_up, self._started = 0.0, 0, False, False
        # At its end Python waits for processes that are not daemonic; those still there then are killed.
        self._at_exit = Finalize(None, _kill_all, args=(self._workers,), exitpriority=100)
        if at_once:
            self._fill()

    def play(self, actor: Actor[StateT], blocks: Sequence[Block[StateT]]) -> list[Played[StateT]]:
        """The results of all blocks, in their order; the arrays are valid until the next call.

        Raises:
            BlockError: A block failed in every worker that tried it.
            WorkersError: The actor or a state cannot be packed, or no worker can be started.
        """
        try:
            packed_actor = _packed("the agent", actor.acting_part())
            packed = [_packed("the agent's state", block) for block in blocks]
        except WorkersError as error:
            self._give_up(str(error))
        if self._given_up:
            return self._here.play(actor, blocks)
        self._publish(packed_actor)
        if self._started:
            self._fill()
        collect = _Collect(blocks, packed, device_of(blocks[0].state))
        try:
            while len(collect.results) < len(blocks):
                self._hand_out(collect)
                alone = bool(collect.waiting) and not any(worker.ready for worker in self._workers)
                if alone:
                    self._play_here(packed_actor, collect)
                for worker, event in self._events(0.0 if alone else LOOK_SECONDS):
                    self._handle(worker, event, collect)
        except BaseException:
            self._drop([worker for worker in self._workers if worker.block is not None])
            raise
        return [collect.results[number] for number in range(len(blocks))]

    @property
    def num_ready(self) -> int:
        """Number of workers that were seen to be ready for a block."""
        return sum(worker.ready for worker in self._workers)

    def close(self) -> None:
        """Closes the environments and ends all workers; those at work are killed."""
        self._at_exit.cancel()
        idle = [worker for worker in self._workers if worker.idle]
        for worker in idle:
            worker.ask_to_close()
        until = time.monotonic() + CLOSE_SECONDS
        for worker in self._workers:
            worker.close(until if worker in idle else 0.0)
        self._workers.clear()
        self._here.close()
        self._file.close()

    # Workers ---------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Starts workers until there are `count`."""
        if not self._started:
            self._started = True
            module = getattr(getattr(self._make_envs, "func", self._make_envs), "__module__", "") or ""
            own = [module] if module.startswith("metarl.") else []
            multiprocessing.get_context(START_METHOD).set_forkserver_preload([*PRELOADED, *own])
        while len(self._workers) < self.count:
            self._workers.append(Worker(self._file, self._packed))

    def _drop(self, workers: Sequence[Worker]) -> None:
        """Kills workers and forgets them."""
        for worker in workers:
            self._workers.remove(worker)
            worker.close(0.0)

    def _give_up(self, why: str) -> None:
        """Goes on in this process only.

        Raises:
            WorkersError: The caller asked for workers.
        """
        if self._strict:
            raise WorkersError(why)
        self._say(f"sampling goes on in this process, since worker processes cannot be used: {why}")
        self._given_up = True
        self._drop(list(self._workers))

    def _publish(self, actor: Packed) -> None:
        """Writes the actor for all workers, unless it has not changed. None of them is at work."""
        if actor.data == self._actor.data and list(actor.arrays) == list(self._actor.arrays):
            return
        self._actor, self._version = copied(actor), self._version + 1
        self._letter = self._actor_box.write(actor)

    # A collect -------------------------------------------------------------------------------------------

    def _hand_out(self, collect: _Collect) -> None:
        """Gives each idle worker a block; that of the last collect, if possible, since its tasks are set there."""
        for i, worker in enumerate(self._workers):
            if collect.waiting and worker.idle:
                number = i if i in collect.waiting else collect.waiting[0]
                collect.waiting.remove(number)
                with contextlib.suppress(OSError):  # it has died, as the next event tells
                    worker.give(
                        number, self._version, self._letter, collect.packed[number], collect.ends.get(worker, 0)
                    )

    def _play_here(self, actor: Packed, collect: _Collect) -> None:
        """Plays a block in this process, since no worker is ready."""
        number, clock = collect.waiting.popleft(), time.perf_counter()
        block = unpack(copied(collect.packed[number]))
        trajectories, state = self._here.play(unpack(copied(actor)), [block])[0]
        collect.results[number] = trajectories, unpack(pack(state), collect.device)
        self._alone_seconds += time.perf_counter() - clock
        if self._alone_seconds >= PAYS_AFTER:
            self._fill()

    def _events(self, seconds: float) -> Iterator[tuple[Worker, Result | Failure | str]]:
        """Waits for news of workers: results, exceptions, or their end in words."""
        heard: list[Any] = [worker.connection for worker in self._workers]
        heard += [worker.process.sentinel for worker in self._workers if worker.process is not None]
        news = wait(heard, seconds)
        for worker in list(self._workers):
            if worker.connection in news:
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    message = worker.end_in_words()
                if message == READY:
                    worker.ready = True
                    continue
                yield worker, message
            elif worker.dead:
                yield worker, worker.end_in_words()
            elif worker.ready and worker.block is not None and worker.silent_seconds() > self._silent:
                worker.ask_for_trace()
                yield worker, f"made no step for {self._silent:g} s and was ended"
            elif not worker.ready and worker.silent_seconds() > START_SECONDS:
                yield worker, f"did not start within {START_SECONDS:g} s"

    def _handle(self, worker: Worker, event: Result | Failure | str, collect: _Collect) -> None:
        """Places a result, or replaces a worker and has its block played again.

        Raises:
            BlockError: The block failed too often.
            WorkersError: Workers were asked for, and do not start.
        """
        number = worker.block
        if isinstance(event, Result):
            assert number is not None
            worker.block, collect.ends[worker] = None, event.state.end
            episodes, state = worker.read(event.trajectories), worker.read(event.state)
            collect.results[number] = unpack(episodes), unpack(copied(state), collect.device)
            return
        trace = event.trace if isinstance(event, Failure) else worker.trace()
        what = f"raised {event.kind}: {event.message}" if isinstance(event, Failure) else event
        self._drop([worker])
        if number is not None:
            collect.waiting.appendleft(number)
            collect.tries.failed(number, what, trace)
            self._say(f"a worker process {what}; its block of tasks is played again")
        elif not worker.ready:
            self._failed_starts += 1
            if self._failed_starts >= TRIES:
                self._give_up(f"a worker process {what}{_last_line(trace)}")
                return
        self._fill()


class _Collect:
    """The state of one collect.

    Args:
        blocks: The blocks.
        packed: The same, packed.
        device: Device of the actor's state.
    """

    def __init__(self, blocks: Sequence[Block[Any]], packed: Sequence[Packed], device: torch.device) -> None:
        self.packed, self.device = packed, device
        self.tries = Tries([len(block.tasks) for block in blocks], [task for block in blocks for task in block.tasks])
        self.waiting = deque(range(len(blocks)))
        self.results: dict[int, Played[Any]] = {}
        self.ends: dict[Worker, int] = {}  # first free byte of the outbox of each worker


def _packed(what: str, value: Any) -> Packed:
    try:
        return pack(value)
    except Exception as error:  # pickle raises exceptions of several types
        raise WorkersError(
            f"{what} cannot be sent to worker processes ({type(error).__name__}: {error}); define functions and "
            "classes at the top of a module, or use --workers 0"
        ) from error


def _last_line(trace: str) -> str:
    lines = trace.strip().splitlines()
    return f" ({lines[-1].strip()})" if lines else ""


def _kill_all(workers: list[Worker]) -> None:
    for worker in workers:
        worker.close(0.0)
