"""`metarl bench iteration`: time per part of a training iteration, by number of workers.

With our update, and with that of the plain reference.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from metarl.agent import MetaAgent
from metarl.config import RoundsOrNone, RowsOrOwn
from metarl.files import write_bytes
from metarl.memory import RunSize, agent_memory, check_memory
from metarl.registry import agent_class, make_family
from metarl.runs import resolve_device, use_matmul, versions
from metarl.sampling import collects
from metarl.scripts.bench.physics import Physical, PhysicsLimit
from metarl.scripts.bench.picture import check_picture, speed_picture
from metarl.scripts.bench.sampling import SPEEDS, Sampling, median, progress, ratio, speed_row, worker_counts
from metarl.scripts.bench.settings import ContenderCommand, contenders, with_settings
from metarl.scripts.bench.tables import print_table
from metarl.scripts.common import border, end_with_json
from metarl.scripts.presets import default_settings
from metarl.seeding import Streams
from metarl.sizes import batch_memory
from metarl.types import MetaBatch, Step, Trajectories
from metarl.vector import available_cores
from metarl.workers.blocks import BlockSampler, Player, default_blocks

PARTS = ("sampling", "adaptation", "update", "rest")
"""Parts of an iteration: acting and stepping, inner loop, outer step, and the rest (setting the tasks, ...)."""


@dataclass(frozen=True, kw_only=True)
class IterationCommand(ContenderCommand):
    """Measures the parts of a training iteration, with our update and the reference's in turn; medians over rounds."""

    tasks: RowsOrOwn = 0
    """Tasks of a meta-batch (M); 0 for the preset's number."""
    workers: tuple[RoundsOrNone, ...] = ()
    """Numbers of worker processes to measure, 0 for none; 0, 1, 2, 4, ... and the number of cores by default.
    The reference's iterations are sampled by the largest number."""
    out: Path | None = None
    """Picture to write: speed of sampling against workers (.png)."""


class Clocked:
    """An agent with a clock on `act`, `adapt` and `meta_update`; everything else is the agent's own.

    Args:
        agent: The agent.

    Attributes:
        seconds: Seconds spent so far in each of the methods.
    """

    def __init__(self, agent: MetaAgent[Any]) -> None:
        self._agent = agent
        self.seconds = dict.fromkeys(("act", "adapt", "meta_update"), 0.0)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def _timed(self, name: str, *arguments: Any) -> Any:
        clock = time.perf_counter()
        result = getattr(self._agent, name)(*arguments)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds[name] += time.perf_counter() - clock
        return result

    def act(self, state: Any, step: Step, rng: np.random.Generator) -> Any:
        """See `metarl.agent.MetaAgent`."""
        return self._timed("act", state, step, rng)

    def adapt(self, state: Any, trajectories: Trajectories) -> Any:
        """See `metarl.agent.MetaAgent`."""
        return self._timed("adapt", state, trajectories)

    def meta_update(self, batch: MetaBatch[Any]) -> dict[str, float]:
        """See `metarl.agent.MetaAgent`."""
        report: dict[str, float] = self._timed("meta_update", batch)
        return report


def one_iteration(agent: MetaAgent[Any], sampler: BlockSampler, family: Any, streams: Streams) -> dict[str, Any]:
    """Seconds of each part of an iteration (`metarl.training.meta_train`) and of acting, and the environment steps.

    The seconds of acting are those of this process: 0 if workers act.
    """
    clocked: Any = Clocked(agent)
    begun = time.perf_counter()
    tasks = family.distribution.sample(sampler.num_tasks, streams.tasks)
    sampler.set_tasks(tasks)
    state = clocked.begin_training(tasks, sampler.episodes)
    ready = time.perf_counter()
    trajectories = [collected for collected, _ in collects(sampler, clocked, state, streams.next())]
    collected = time.perf_counter()
    clocked.meta_update(MetaBatch(tuple(tasks), tuple(trajectories)))
    seconds = time.perf_counter() - begun
    parts = {
        "sampling": collected - ready - clocked.seconds["adapt"],
        "adaptation": clocked.seconds["adapt"],
        "update": clocked.seconds["meta_update"],
    }
    return {
        **parts,
        "rest": seconds - sum(parts.values()),
        "seconds": seconds,
        "acting": clocked.seconds["act"],
        "env_steps": sum(played.env_steps for played in trajectories),
    }


@dataclass(frozen=True)
class Contender:
    """An agent that makes one iteration after another.

    Args:
        agent: The agent.
        streams: Its random numbers.
    """

    agent: MetaAgent[Any]
    streams: Streams

    def iterate(self, player: Player, sampling: Sampling) -> dict[str, Any]:
        """The output of `one_iteration`."""
        sizes = len(sampling.tasks), sampling.episodes, sampling.horizon, sampling.blocks
        return one_iteration(self.agent, BlockSampler(player, *sizes), sampling.family, self.streams)


def measure(
    measured: Mapping[str, Contender],
    sampling: Sampling,
    workers: int,
    limit: PhysicsLimit | None,
    command: IterationCommand,
) -> dict[str, Any]:
    """A row of results for one number of workers: medians over the rounds.

    Args:
        measured: The agents to measure in turn; `ours` is among them.
        sampling: Sizes of the meta-batch.
        workers: Number of workers.
        limit: Measures the limit; None without physics.
        command: Rounds, and the names of agent and family.
    """

    def warm_up(player: Player) -> None:
        for contender in measured.values():
            contender.iterate(player, sampling)

    rounds: list[dict[str, dict[str, Any]]] = []
    limits: list[float | None] = []
    with sampling.player(workers, warm_up) as player:
        for i in range(command.rounds):
            rounds.append({name: one.iterate(player, sampling) for name, one in measured.items()})
            limits.append(limit.steps_per_second() if limit else None)
            progress(f"{command.agent} on {sampling.family.name}", workers, i + 1, command.rounds)

    def values(contender: str, part: str) -> list[float]:
        return [one[contender][part] for one in rounds]

    speeds = [one["ours"]["env_steps"] / one["ours"]["sampling"] for one in rounds]
    row = {
        **speed_row(workers, speeds, limits),
        "seconds": median(values("ours", "seconds")),
        "parts": {part: median(values("ours", part)) for part in PARTS},
        "acting_seconds": None if workers else median(values("ours", "acting")),
    }
    if "reference" in measured:
        row |= {
            "reference_seconds": median(values("reference", "seconds")),
            "reference_parts": {part: median(values("reference", part)) for part in PARTS},
            "ratio_vs_reference": ratio(values("reference", "seconds"), values("ours", "seconds")),
        }
    return row


def bench_iteration(command: IterationCommand, config: Any) -> dict[str, Any]:
    """Seconds of an iteration and of its parts, as `metarl bench iteration` prints them.

    Args:
        command: Options of the measurement.
        config: Settings of the agent.

    Raises:
        ValueError: The family or the device does not exist, or the device does not support the format.
    """
    training, _ = default_settings(command.agent, command.family, command.preset)
    asked = {name: getattr(command, name) for name in ("tasks", "episodes", "horizon")}
    training = replace(training, **{name: value for name, value in asked.items() if value})
    family = make_family(command.family).with_finite_train_set(training.train_tasks)
    device = resolve_device(command.device)
    use_matmul(command.matmul, device)
    if hasattr(config, "warmup_iterations"):  # measure iterations with an update
        config = replace(config, warmup_iterations=0)
    spaces = family.spaces(training.horizon)
    size = RunSize(tasks=training.tasks, episodes=training.episodes, iterations=1, gpu=device.type == "cuda")
    check_memory(
        [
            *batch_memory(family, spaces, training.tasks, training.episodes),
            *agent_memory(agent_class(command.agent), config, spaces, size),
        ]
    )
    agents = contenders(command, config, spaces, device, with_reference=command.reference)
    every = {name: Contender(agent, Streams(command.seed)) for name, agent in agents.items()}
    with contextlib.closing(family.make_envs(1, 1, spaces.horizon)) as envs:
        physical = isinstance(envs, Physical)
    tasks = family.distribution.sample(training.tasks, np.random.default_rng(command.seed))
    blocks = default_blocks(training.tasks, available_cores())
    sampling = Sampling(family, command.family, tuple(tasks), training.episodes, spaces.horizon, blocks, command.seed)
    counts, rows = worker_counts(command.workers), []
    with contextlib.ExitStack() as closing:
        limit = closing.enter_context(contextlib.closing(sampling.limit())) if physical else None
        for workers in counts:
            measured = every if workers == counts[-1] else {"ours": every["ours"]}
            rows.append(measure(measured, sampling, workers, limit, command))
    about = versions()
    last = {"reference_seconds": None, "reference_parts": None, "ratio_vs_reference": None, **rows[-1]}
    return {
        "agent": command.agent,
        "family": family.name,
        "tasks": training.tasks,
        "episodes": training.episodes,
        "horizon": spaces.horizon,
        "blocks": blocks,
        "device": str(device),
        "matmul": command.matmul,
        "threads": torch.get_num_threads(),
        "hardware": about["machine"],
        "versions": {**about["packages"], "python": about["python"]},
        **last,
        "rows": [
            {**{name: row[name] for name in (*SPEEDS, "seconds", "acting_seconds")}, **row["parts"]} for row in rows
        ],
    }


def main(arguments: Sequence[str]) -> int:
    """Runs `metarl bench iteration`; returns its exit code."""
    with border():
        command, config = with_settings(IterationCommand, "metarl bench iteration", arguments)
        if command.out is not None:
            check_picture(command.out)
        value = bench_iteration(command, config)
        if command.out is not None:
            title = f"sampling of {value['agent']} on {value['family']}"
            write_bytes(command.out, speed_picture(value["rows"], title))
    if command.json:
        end_with_json(value)
        return 0
    print_table((*SPEEDS, "seconds", *PARTS), value["rows"])
    if value["reference_parts"]:
        sizes = {"contender": "reference", "workers": value["workers"], "seconds": value["reference_seconds"]}
        print_table(("contender", "workers", "seconds", *PARTS), [{**sizes, **value["reference_parts"]}])
    if command.out is not None:
        print(f"picture: {command.out}")
    return 0
