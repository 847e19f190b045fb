"""`metarl bench iteration`: time per part of a training iteration, with our update and with the reference's."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from metarl.agent import MetaAgent
from metarl.config import RowsOrOwn
from metarl.memory import RunSize, agent_memory, check_memory
from metarl.registry import agent_class, make_family
from metarl.runs import resolve_device, use_matmul, versions
from metarl.sampling import LocalSampler, collects
from metarl.scripts.bench.rollout import Physical
from metarl.scripts.bench.settings import ContenderCommand, contenders, with_settings
from metarl.scripts.bench.tables import print_table
from metarl.scripts.common import border, end_with_json
from metarl.scripts.presets import default_settings
from metarl.seeding import Streams
from metarl.sizes import batch_memory
from metarl.types import MetaBatch, Step, Trajectories
from metarl.vector import TaskVecEnv

PARTS = ("sampling", "adaptation", "update", "rest")
"""Parts of an iteration: acting and stepping, inner loop, outer step, and the rest (setting the tasks, ...)."""


@dataclass(frozen=True, kw_only=True)
class IterationCommand(ContenderCommand):
    """Measures the parts of a training iteration, with our update and the reference's in turn; medians over rounds."""

    tasks: RowsOrOwn = 0
    """Tasks of a meta-batch (M); 0 for the preset's number."""


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


def one_iteration(agent: MetaAgent[Any], envs: TaskVecEnv, family: Any, streams: Streams) -> dict[str, Any]:
    """Seconds of each part of an iteration (`metarl.training.meta_train`) and of acting, and the trajectories."""
    clocked: Any = Clocked(agent)
    begun = time.perf_counter()
    tasks = family.distribution.sample(envs.num_tasks, streams.tasks)
    envs.set_tasks(tasks)
    state = clocked.begin(tasks, envs.episodes)
    ready = time.perf_counter()
    trajectories = [collected for collected, _ in collects(LocalSampler(envs), clocked, state, streams)]
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
        "trajectories": trajectories,
    }


def bare_physics_seconds(envs: TaskVecEnv, trajectories: Sequence[Trajectories], seed: int) -> float | None:
    """Seconds of the physics alone for the same actions; None for a family without physics."""
    if not isinstance(envs, Physical):
        return None
    seconds = 0.0
    for played in trajectories:
        envs.reset(seed=seed)
        actions = played.actions.reshape(envs.num_envs, -1, played.actions.shape[-1])
        mask = played.mask.reshape(envs.num_envs, -1)
        for t in range(mask.shape[1]):
            rows = np.flatnonzero(mask[:, t])
            if not len(rows):
                break
            envs.set_controls(rows, actions[rows, t])
            clock = time.perf_counter()
            envs.bare_physics(rows)
            seconds += time.perf_counter() - clock
    return seconds


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
    envs = family.make_envs(training.tasks, training.episodes, spaces.horizon)
    agents = contenders(command, config, spaces, device, with_reference=command.reference)
    streams = {name: Streams(command.seed) for name in agents}
    rounds: list[dict[str, dict[str, Any]]] = []
    try:
        for i in range(command.rounds + 1):
            done = {name: one_iteration(agent, envs, family, streams[name]) for name, agent in agents.items()}
            done["ours"]["physics"] = bare_physics_seconds(envs, done["ours"]["trajectories"], i)
            rounds.append(done)
            print(f"{command.agent} on {family.name}: round {i} of {command.rounds}", file=sys.stderr, flush=True)
    finally:
        envs.close()
    measured = rounds[1:]  # the first warms up

    def median(contender: str, part: str) -> float:
        return float(f"{statistics.median(one[contender][part] for one in measured):.4g}")

    def ratio(over: Mapping[str, str], under: Mapping[str, str]) -> float:
        """Median of the ratios within a round, so that machine drift cancels."""
        ((a, x),), ((b, y),) = over.items(), under.items()
        return float(f"{statistics.median(one[a][x] / one[b][y] for one in measured):.4g}")

    about = versions()
    has_physics = measured[0]["ours"]["physics"] is not None
    return {
        "agent": command.agent,
        "family": family.name,
        "tasks": training.tasks,
        "episodes": training.episodes,
        "horizon": envs.horizon,
        "device": str(device),
        "matmul": command.matmul,
        "threads": torch.get_num_threads(),
        "hardware": about["machine"],
        "versions": {**about["packages"], "python": about["python"]},
        "seconds": median("ours", "seconds"),
        "parts": {part: median("ours", part) for part in PARTS},
        "acting_seconds": median("ours", "acting"),
        "physics_seconds": median("ours", "physics") if has_physics else None,
        "fraction_of_physics": ratio({"ours": "physics"}, {"ours": "sampling"}) if has_physics else None,
        "reference_seconds": median("reference", "seconds") if command.reference else None,
        "reference_parts": {part: median("reference", part) for part in PARTS} if command.reference else None,
        "ratio_vs_reference": ratio({"reference": "seconds"}, {"ours": "seconds"}) if command.reference else None,
    }


def main(arguments: Sequence[str]) -> int:
    """Runs `metarl bench iteration`; returns its exit code."""
    with border():
        value = bench_iteration(*with_settings(IterationCommand, "metarl bench iteration", arguments))
    if "--json" in arguments:
        end_with_json(value)
        return 0
    rows = [{"contender": "ours", "seconds": value["seconds"], **value["parts"]}]
    if value["reference_parts"]:
        rows.append({"contender": "reference", "seconds": value["reference_seconds"], **value["reference_parts"]})
    print_table(("contender", "seconds", *PARTS), rows)
    if value["fraction_of_physics"]:
        print(f"sampling with the policy: {value['fraction_of_physics']:.2f} of bare physics")
    return 0
