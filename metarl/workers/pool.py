"""Worker processes of this machine, the part in the process that owns them."""

from __future__ import annotations

import resource
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import wait
from multiprocessing.util import Finalize
from typing import Any, TypeVar

import torch

from metarl.agent import Actor
from metarl.finite import NotFiniteError
from metarl.parameters import describe
from metarl.stepping import MakeEnvs
from metarl.workers.blocks import Block, InProcess, Played
from metarl.workers.faults import TRIES, Tries, WorkersError
from metarl.workers.main_module import check_importable, is_needed, refuse_second_run
from metarl.workers.packed import Packed, copied, device_of, pack, pack_or_refuse, same, unpack
from metarl.workers.process import READY, Failure, Result
from metarl.workers.server import start_server
from metarl.workers.shared import Letter, Mailbox, SharedFile
from metarl.workers.worker import CLOSE_SECONDS, Worker

StateT = TypeVar("StateT")

START_SECONDS = 120.0
"""Time limit for the start of a worker, s."""
SILENT_SECONDS = 300.0
"""Default of the longest time without a step of the environments, s."""
LOOK_SECONDS = 1.0
"""Longest interval between two looks at silent workers, s."""
PAYS_AFTER = 3.0
"""Seconds of sampling in this process after which a pool that starts by itself is started: about what a start takes."""
FILES_PER_WORKER, FILES_BESIDES = 16, 256
"""Upper bounds on the open files of this process: of each worker, and of all else."""


class Processes:
    """Plays blocks in worker processes.

    A worker that dies, raises or falls silent is replaced, and its block goes to another worker.

    Args:
        make_envs: Makes a batch of environments; it can be packed.
        count: Number of workers.
        silent: Longest time without a step of the environments, s; after it a worker counts as hung.
        at_once: Start the workers now, and play in them only. Otherwise this process plays, with the same results,
            until sampling has taken `PAYS_AFTER` seconds and the first worker is ready; it goes on alone if workers
            cannot be used.
        say: Prints a line about workers that were lost.

    Raises:
        WorkersError: `make_envs` cannot be sent to workers, or they cannot be started.
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
        refuse_second_run()
        self.count = count
        self._make_envs, self._silent, self._say, self._strict = make_envs, silent, say, at_once
        self._packed = pack_or_refuse("the environments", make_envs)
        self._with_main = is_needed(self._packed)
        if self._with_main:
            check_importable()
        self._here = InProcess(make_envs)
        self._file = SharedFile()
        self._actor_box, self._actor, self._version = Mailbox(self._file), Packed(b"", []), 0
        self._letter = Letter(b"", (), 0)
        self._workers: list[Worker] = []
        self._alone_seconds, self._failed_starts = 0.0, 0
        self._started = self._was_ready = self._given_up = False
        # At its end Python waits for processes that are not daemonic; those still there then are killed.
        self._at_exit = Finalize(self, _kill_all, args=(self._workers,), exitpriority=100)
        if at_once:
            self._fill()

    def play(self, actor: Actor[StateT], blocks: Sequence[Block[StateT]]) -> list[Played[StateT]]:
        """The results of all blocks, in their order; the arrays are valid until the next call.

        Raises:
            BlockError: A block failed in every worker that tried it.
            NotFiniteError: The numbers of the training are not finite.
            WorkersError: The actor or a state cannot be sent to workers, or no worker can be started.
        """
        if self._given_up:
            return self._here.play(actor, blocks)
        try:
            packed_actor = pack_or_refuse("the agent", actor.acting_part())
            packed = [pack_or_refuse("the agent's state", block) for block in blocks]
            self._take_main_along([packed_actor, *packed])
        except WorkersError as error:
            self._give_up(str(error))
            return self._here.play(actor, blocks)
        self._publish(packed_actor)
        collect = _Collect(blocks, packed, device_of(blocks[0].state))
        if self._started:
            self._fill(collect)
        try:
            self._hear(collect, 0.0)  # those that died in the meantime are replaced
            while len(collect.results) < len(blocks):
                self._hand_out(collect)
                alone = bool(collect.waiting) and self._plays_here()
                if alone:
                    self._play_here(packed_actor, collect)
                self._hear(collect, 0.0 if alone else LOOK_SECONDS)
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
        idle = [worker for worker in self._workers if worker.idle]
        for worker in idle:
            worker.ask_to_close()
        until = time.monotonic() + CLOSE_SECONDS
        for worker in list(self._workers):
            worker.close(until if worker in idle else 0.0)
            self._workers.remove(worker)
        self._at_exit.cancel()
        self._file.close()
        self._here.close()

    # Workers ---------------------------------------------------------------------------------------------

    def _fill(self, collect: _Collect | None = None) -> None:
        """Starts workers until there are `count`."""
        if self._given_up or len(self._workers) >= self.count:
            return
        self._started = True
        module = getattr(getattr(self._make_envs, "func", self._make_envs), "__module__", "") or ""
        try:
            _allow_files(FILES_BESIDES + FILES_PER_WORKER * self.count)
            start_server([module] if module.startswith("metarl.") else [])
            while len(self._workers) < self.count:
                self._workers.append(Worker(self._file, self._packed, with_main=self._with_main))
        except OSError as error:
            files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            few = 0 <= files < FILES_BESIDES + FILES_PER_WORKER * self.count
            limit = f"; this process may open only {files} files (ulimit -n)" if few else ""
            self._give_up(f"a worker process cannot be started ({error}{limit})", collect)

    def _drop(self, workers: Sequence[Worker]) -> None:
        """Kills workers and forgets them."""
        for worker in workers:
            worker.close()
            self._workers.remove(worker)

    def _give_up(self, why: str, collect: _Collect | None = None) -> None:
        """Goes on in this process only.

        Raises:
            WorkersError: The caller asked for workers.
        """
        if self._strict:
            raise WorkersError(why)
        self._say(f"sampling goes on in this process, since worker processes cannot be used: {why}")
        self._given_up = True
        if collect is not None:
            collect.waiting.extend(worker.block for worker in self._workers if worker.block is not None)
        self._drop(list(self._workers))

    def _take_main_along(self, packed: Sequence[Packed]) -> None:
        """Has the workers import the main module, if the agent is defined there.

        Raises:
            WorkersError: They cannot import it.
        """
        if not self._with_main and any(map(is_needed, packed)):
            check_importable()
            self._with_main = True
            self._drop(list(self._workers))

    def _publish(self, actor: Packed) -> None:
        """Writes the actor for all workers, unless it has not changed. None of them is at work."""
        if not same(actor, self._actor):
            self._actor, self._version = copied(actor), self._version + 1
            self._letter = self._actor_box.write(actor)

    # A collect -------------------------------------------------------------------------------------------

    def _hand_out(self, collect: _Collect) -> None:
        """Gives each idle worker a block; that of the last collect, if possible, since its tasks are set there."""
        for i, worker in enumerate(self._workers):
            if collect.waiting and worker.idle:
                number = i if i in collect.waiting else collect.waiting[0]
                worker.give(number, self._version, self._letter, collect.packed[number], collect.ends.get(worker, 0))
                if worker.block is not None:
                    collect.waiting.remove(number)

    def _plays_here(self) -> bool:
        """Whether this process plays: never a block that a worker may have failed in."""
        return self._given_up or not (self._strict or self._was_ready)

    def _play_here(self, actor: Packed, collect: _Collect) -> None:
        """Plays a block in this process."""
        number, clock = collect.waiting.popleft(), time.perf_counter()
        block = unpack(copied(collect.packed[number]))
        trajectories, state = self._here.play(unpack(copied(actor)), [block])[0]
        collect.results[number] = trajectories, unpack(pack(state), collect.device)
        self._alone_seconds += time.perf_counter() - clock
        if self._alone_seconds >= PAYS_AFTER:
            self._fill(collect)

    def _hear(self, collect: _Collect, seconds: float) -> None:
        """Waits for news of workers, and handles them."""
        for worker, event in self._events(seconds):
            self._handle(worker, event, collect)

    def _events(self, seconds: float) -> Iterator[tuple[Worker, Result | Failure | str]]:
        """Waits for news of workers: results, exceptions, or their end in words."""
        heard: list[Any] = [worker.connection for worker in self._workers]
        heard += [worker.sentinel for worker in self._workers if worker.sentinel is not None]
        news = set(wait(heard, seconds))
        for worker in list(self._workers):
            if worker not in self._workers:  # dropped with another
                continue
            if worker.connection in news:
                try:
                    message = worker.connection.recv()
                except (EOFError, OSError):
                    message = worker.end_in_words()
                if message == READY:
                    worker.ready, self._was_ready, self._failed_starts = True, True, 0
                    continue
                yield worker, message
            elif worker.problem or worker.sentinel in news:
                yield worker, worker.end_in_words()
            elif not worker.ready and worker.silent_seconds() > START_SECONDS:
                yield worker, f"did not start within {START_SECONDS:g} s"
            elif worker.block is not None and (hang := worker.hang_in_words(self._silent)):
                worker.ask_for_trace()
                yield worker, hang

    def _handle(self, worker: Worker, event: Result | Failure | str, collect: _Collect) -> None:
        """Places a result, or replaces a worker and has its block played again.

        Raises:
            BlockError: The block failed too often.
            NotFiniteError: The numbers of the training are not finite, which another try does not change.
            WorkersError: Workers were asked for, and do not start.
        """
        number = worker.block
        if isinstance(event, Result):
            assert number is not None
            worker.block, collect.ends[worker] = None, event.state.end
            episodes, state = worker.read(event.trajectories), worker.read(event.state)
            collect.results[number] = unpack(episodes), unpack(copied(state), collect.device)
            worker.pass_notes_on()
            return
        if isinstance(event, Failure) and event.not_finite is not None and number is not None:
            raise NotFiniteError(event.not_finite)
        trace = event.trace if isinstance(event, Failure) else worker.trace()
        what = event.in_words() if isinstance(event, Failure) else f"{event}{collect.called(worker)}"
        again = worker.runs_script_again()
        self._drop([worker])
        if number is not None:
            collect.waiting.appendleft(number)
            collect.tries.failed(number, what, trace)
            self._say(f"a worker process {what}; its block of tasks is played again")
        elif worker.ready:
            self._say(f"a worker process {what}; another one takes its place")
        else:
            self._failed_starts += 1
            if again or self._failed_starts >= TRIES:
                self._give_up(f"a worker process {what}{_last_line(trace)}", collect)
        self._fill(collect)


class _Collect:
    """The state of one collect.

    Args:
        blocks: The blocks.
        packed: The same, packed.
        device: Device of the actor's state.
    """

    def __init__(self, blocks: Sequence[Block[Any]], packed: Sequence[Packed], device: torch.device) -> None:
        self.blocks, self.packed, self.device = blocks, packed, device
        self.tries = Tries([len(block.tasks) for block in blocks], [task for block in blocks for task in block.tasks])
        self.waiting = deque(range(len(blocks)))
        self.results: dict[int, Played[Any]] = {}
        self.ends: dict[Worker, int] = {}  # first free byte of the outbox of each worker

    def called(self, worker: Worker) -> str:
        """The row and the task whose environment a worker was calling, in words; empty if it was not."""
        row = worker.called_row()
        if row is None or worker.block is None:
            return ""
        block = self.blocks[worker.block]
        return f" in row {row}, task: {describe(block.tasks[row // block.episodes])}"


def _allow_files(count: int) -> None:
    """Raises this process's limit of open files, if it is lower and may be raised."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count if hard == resource.RLIM_INFINITY else min(count, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _last_line(trace: str) -> str:
    lines = trace.strip().splitlines()
    return f" ({lines[-1].strip()})" if lines else ""


def _kill_all(workers: list[Worker]) -> None:
    for worker in workers:
        worker.close()
