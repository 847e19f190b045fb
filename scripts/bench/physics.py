"""The limit of sampling: MuJoCo alone, in one process with one thread per core.

Each process records an episode of random actions in every row of its share. It then plays the same controls again with
calls of MuJoCo only; these are timed. So the limit depends on no code of ours that steps, acts or records.
"""

from __future__ import annotations

import contextlib
import logging
import math
import multiprocessing
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from typing import Any, Protocol, runtime_checkable

import mujoco
import numpy as np

from metarl.envs.mujoco_batch import Simulation
from metarl.types import Task
from metarl.vector import TaskVecEnv, available_cores, limit_cores, random_actions
from metarl.workers.choice import NamedEnvs
from metarl.workers.server import ctrl_c_is_ours

START_METHOD = "spawn"
WAIT_SECONDS = 60.0
"""Longest time that a process waits for the others at the start of a round, s."""
STATE = mujoco.mjtState.mjSTATE_INTEGRATION
"""All that a simulation's next states depend on."""

Controls = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows of a step `[R]`, their controls `[R, nu]` and positions of mocap bodies `[R, nmocap, 3]`."""


@runtime_checkable
class Physical(Protocol):
    """Environments that are simulations of MuJoCo."""

    def simulations(self) -> list[Simulation]:
        """The simulation of each row."""


@dataclass(frozen=True)
class Share:
    """The rows that one process steps.

    Args:
        make_envs: Makes their environments.
        tasks: Their tasks.
        episodes: Rows per task.
        horizon: `T`.
        seed: Seed of resets and actions.
    """

    make_envs: NamedEnvs
    tasks: tuple[Task, ...]
    episodes: int
    horizon: int
    seed: int


class Replay:
    """An episode of random actions in every row, which can be stepped again by MuJoCo alone.

    Args:
        envs: `Physical` environments whose tasks are set.
        seed: Seed of resets and actions.
    """

    def __init__(self, envs: TaskVecEnv, seed: int) -> None:
        assert isinstance(envs, Physical)
        envs.reset(seed=seed)
        self._simulations = envs.simulations()
        self._starts = [_state(one) for one in self._simulations]
        self._steps = _recorded(envs, self._simulations, np.random.default_rng(seed))
        self.num_steps = sum(len(rows) for rows, _, _ in self._steps)

    def rewind(self) -> None:
        """Puts every simulation into its first state."""
        for one, start in zip(self._simulations, self._starts, strict=True):
            mujoco.mj_setState(one.model, one.data, start, STATE)

    def seconds(self) -> float:
        """Seconds of MuJoCo's calls for all steps; setting the controls is not counted."""
        seconds, mj_step = 0.0, mujoco.mj_step
        for rows, controls, mocap in self._steps:
            live = [self._simulations[row] for row in rows.tolist()]
            for one, control, position in zip(live, controls, mocap, strict=True):
                one.data.ctrl[:], one.data.mocap_pos[:] = control, position
            calls = [(one.model, one.data, one.frame_skip) for one in live]
            after = live[0].after
            clock = time.perf_counter()
            if after is None:
                for model, data, frame_skip in calls:
                    mj_step(model, data, frame_skip)
            else:
                for model, data, frame_skip in calls:
                    mj_step(model, data, frame_skip)
                    after(model, data)
            seconds += time.perf_counter() - clock
        return seconds


def _state(one: Simulation) -> np.ndarray:
    state = np.zeros(mujoco.mj_stateSize(one.model, STATE))
    mujoco.mj_getState(one.model, one.data, state, STATE)
    return state


def _recorded(envs: TaskVecEnv, simulations: Sequence[Simulation], rng: np.random.Generator) -> list[Controls]:
    """The controls of one episode of random actions in every row; only live rows count."""
    steps = []
    live = np.ones(envs.num_envs, dtype=np.bool_)
    while live.any():
        _, _, terminated, truncated, _ = envs.step(random_actions(envs.single_action_space, envs.num_envs, rng))
        rows = np.flatnonzero(live)
        data = [simulations[row].data for row in rows.tolist()]
        steps.append((rows, np.stack([d.ctrl for d in data]), np.stack([d.mocap_pos for d in data])))
        live &= ~(terminated | truncated)
    return steps


def shares(
    make_envs: NamedEnvs, tasks: Sequence[Task], episodes: int, horizon: int, seed: int, cores: int
) -> list[Share]:
    """Equal shares of `M * E` rows, of all tasks if there are enough rows of each.

    Args:
        make_envs: Makes the environments of a share.
        tasks: The `M` tasks.
        episodes: `E`.
        horizon: `T`.
        seed: Seed of resets and actions.
        cores: Number of shares.
    """
    each = math.ceil(episodes / cores)
    count = math.ceil(math.ceil(len(tasks) * episodes / cores) / each)
    places = [[(core * count + i) % len(tasks) for i in range(count)] for core in range(cores)]
    return [
        Share(make_envs, tuple(tasks[i] for i in mine), each, horizon, seed + core) for core, mine in enumerate(places)
    ]


def serve(connection: Connection, barrier: Any, share: Share) -> None:
    """Steps a share of the rows as often as it is asked to; the main function of a process."""
    limit_cores(1)
    logging.disable(logging.WARNING)  # the owner has made such environments, and said what there is to say
    try:
        envs = share.make_envs(len(share.tasks), share.episodes, share.horizon)
        envs.set_tasks(share.tasks)
        replay = Replay(envs, share.seed)
        connection.send((0, 0.0))
        while connection.recv():
            replay.rewind()
            barrier.wait(WAIT_SECONDS)
            connection.send((replay.num_steps, replay.seconds()))
        envs.close()
    except (EOFError, ConnectionError):
        pass  # the owner has ended
    except Exception:
        with contextlib.suppress(OSError):
            connection.send(traceback.format_exc())


class PhysicsLimit:
    """Processes that step MuJoCo's simulations of a family and do nothing else.

    Args:
        make_envs: Makes the environments of a share.
        tasks: The `M` tasks.
        episodes: `E`.
        horizon: `T`.
        seed: Seed of resets and actions.
        cores: Number of processes; one per core by default.

    Raises:
        ValueError: A process ended or raised.
    """

    def __init__(
        self,
        make_envs: NamedEnvs,
        tasks: Sequence[Task],
        episodes: int,
        horizon: int,
        *,
        seed: int = 0,
        cores: int | None = None,
    ) -> None:
        self.cores = cores or available_cores()
        context: Any = multiprocessing.get_context(START_METHOD)
        barrier = self._barrier = context.Barrier(self.cores)  # its memory is used anew as soon as nobody here holds it
        self._processes, self._connections = list[Any](), list[Connection]()
        try:
            with ctrl_c_is_ours(later=True):
                for share in shares(make_envs, tasks, episodes, horizon, seed, self.cores):
                    ours, theirs = context.Pipe()
                    self._connections.append(ours)
                    process = context.Process(target=serve, args=(theirs, barrier, share), daemon=True)
                    process.start()
                    self._processes.append(process)
                    theirs.close()
            self._answers()
        except BaseException:
            self.close()
            raise

    def steps_per_second(self) -> float:
        """Environment steps per second, summed over the processes, of one episode in every row.

        Raises:
            ValueError: A process ended or raised.
        """
        for connection in self._connections:
            with contextlib.suppress(OSError):  # its process has ended, as the answer tells
                connection.send(True)
        return sum(steps / seconds for steps, seconds in self._answers())

    def _answers(self) -> list[tuple[int, float]]:
        """One answer of each process."""
        answers, open_ones = list[tuple[int, float]](), list(self._connections)
        while open_ones:
            for connection in wait(open_ones):
                assert isinstance(connection, Connection)
                open_ones.remove(connection)
                try:
                    answer = connection.recv()
                except (EOFError, OSError):
                    answer = "it ended, perhaps for want of memory"
                if isinstance(answer, str):
                    raise ValueError(
                        f"physics limit: got no speed from a process ({answer.strip().splitlines()[-1]}), expected "
                        "steps per second; use fewer --tasks or --episodes"
                    )
                answers.append(answer)
        return answers

    def close(self) -> None:
        """Ends the processes."""
        for process in self._processes:
            process.kill()
        for process in self._processes:
            process.join()
            process.close()
        for connection in self._connections:
            connection.close()
        self._processes.clear()
        self._connections.clear()
