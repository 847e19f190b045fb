"""`metarl bench planning`: control steps per second of agents that plan, and of a plain loop over environments."""

from __future__ import annotations

import contextlib
import dataclasses
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, cast

import numpy as np

from metarl.config import Layers, Rounds, RoundsOrDefault, Rows, RowsOrOwn, Seed, check
from metarl.learning.networks.fused import LAYER
from metarl.learning.planning.agent import PlanningAgent
from metarl.learning.planning.state import Plans
from metarl.registry import agent_class, make_family
from metarl.runs import resolve_device, versions
from metarl.sampling import LocalSampler, Sampler
from metarl.scripts.bench.stopwatch import Stopwatch
from metarl.scripts.bench.synthetic import synthetic_batch
from metarl.scripts.bench.tables import print_table
from metarl.scripts.common import border, end_with_json, parse
from metarl.scripts.reference.planning import act_one_by_one
from metarl.seeding import Streams
from metarl.tasks import Family
from metarl.types import Action, Step, Task
from metarl.vector import available_cores
from metarl.workers.blocks import BlockSampler
from metarl.workers.choice import WorkerChoice, make_player

COLUMNS = ("agent", "rounds", "candidates", "steps_per_s", "plain_steps_per_s", "ratio_vs_plain", "product_gflops")
"""Columns of the printed table."""
STEPS = 20
"""Steps of an episode."""
WINDOWS = {"window": STEPS, "past": 16, "future": 4}
"""Steps of the agents' windows."""


@dataclass(frozen=True, kw_only=True)
class PlanningCommand:
    """Measures episodes of agents that plan: adapting, planning, and the physics, which takes little of the time.

    Episodes are played as in a training, by a worker for each core. The plain loop plays them in this process, with one
    call of a planner per environment (`metarl.scripts.reference.planning`). The two take turns; the figures are
    medians, and the ratio is taken within a turn.
    """

    agents: tuple[Literal["mb-mpc", "grbal", "rebal"], ...] = ("mb-mpc", "grbal", "rebal")
    """Agents to measure."""
    family: str = "half-cheetah-crippled"
    """Family that they plan in."""
    environments: Rows = 10
    """Environments that act at once."""
    candidates: Rows = 500
    """Candidates of a control step for each environment, all rounds together."""
    rounds: tuple[Rounds, ...] = (1, 5)
    """Rounds that the candidates are divided into; each number is measured."""
    plan_steps: Rounds = 10
    """Steps of a plan."""
    hidden: Layers = (200, 200)
    """Units of each hidden layer of the model."""
    turns: Rounds = 5
    """Measurements, after a warm-up."""
    workers: RoundsOrDefault = None
    """Processes that play; 0 for this process. By default one for each core."""
    threads: RowsOrOwn = 0
    """Threads of PyTorch in the plain loop; 0 for one for each core."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the models."""
    seed: Seed = 0
    """Seed of models, tasks and candidates."""
    json: bool = False
    """Print the results as one JSON line at the end."""


class OneByOne:
    """An agent that plans for one environment after another; everything else is the agent's own.

    Args:
        agent: The agent.
        threads: Threads of PyTorch while it acts.
    """

    def __init__(self, agent: PlanningAgent[Any], threads: int) -> None:
        self._agent, self.acting_threads = agent, threads

    def __getattr__(self, name: str) -> Any:
        return getattr(self._agent, name)

    def act(self, state: Plans, step: Step, rng: np.random.Generator, mode: bool = False) -> tuple[Action, Plans]:
        """See `act_one_by_one`."""
        return act_one_by_one(self._agent, state, step, rng)


def ready(name: str, rounds: int, family: Family, command: PlanningCommand) -> PlanningAgent[Any]:
    """An agent after a meta-update on random episodes.

    Args:
        name: Name of the agent.
        rounds: Rounds of a control step.
        family: Source of spaces and reward.
        command: Sizes and seed.
    """
    kind: Any = agent_class(name)
    known = {field.name for field in dataclasses.fields(kind.Config)}
    config = kind.Config(
        rounds=rounds,
        candidates=max(command.candidates // rounds, 1),
        plan_steps=command.plan_steps,
        hidden=command.hidden,
        gradient_steps=1,
        **{name: steps for name, steps in WINDOWS.items() if name in known},
    )
    agent = kind.build(
        config, family.spaces(STEPS), device=resolve_device(command.device), rng=np.random.default_rng(command.seed)
    )
    agent.meta_update(synthetic_batch(agent, family, command.environments, 1, STEPS, command.seed)[0])
    return cast(PlanningAgent[Any], agent)


def bench_planning(command: PlanningCommand) -> dict[str, Any]:
    """Control steps per second, as `metarl bench planning` prints them.

    Args:
        command: Options of the measurement.

    Raises:
        ValueError: The family declares no reward, or there is nothing to measure.
    """
    for name in ("agents", "rounds"):
        if not getattr(command, name):
            raise ValueError(f"{name}: got nothing, expected one or more; leave --{name} out for the default")
    family, count, rows = make_family(command.family), command.environments, list[dict[str, Any]]()
    tasks = family.distribution.sample(count, np.random.default_rng(command.seed))
    workers = min(available_cores() if command.workers is None else command.workers, count)
    agents = [(name, ready(name, r, family, command)) for name in command.agents for r in command.rounds]
    with contextlib.ExitStack() as closing:
        player = make_player(WorkerChoice(workers), family, command.family, max(workers, 1))
        closing.callback(player.close)
        envs = family.make_envs(count, 1, STEPS)
        closing.callback(envs.close)
        ours = BlockSampler(player, count, 1, STEPS, max(workers, 1))
        samplers: dict[str, Sampler[Any]] = {"ours": ours, "plain": LocalSampler(envs)}
        for name, agent in agents:
            seconds = _in_turn(agent, samplers, tasks, command)
            rows.append(_row(name, agent, seconds, count))
            print(f"{name}, {agent.config.rounds} rounds: done", file=sys.stderr, flush=True)
    about = versions()
    return {
        "device": str(resolve_device(command.device)),
        "workers": workers,
        "threads": command.threads or available_cores(),
        "onednn": LAYER is not None,
        "hardware": about["machine"],
        "versions": {**about["packages"], "python": about["python"]},
        "environments": count,
        "plan_steps": command.plan_steps,
        "hidden": list(command.hidden),
        "rows": rows,
    }


def _in_turn(
    agent: PlanningAgent[Any], samplers: Mapping[str, Sampler[Any]], tasks: Sequence[Task], command: PlanningCommand
) -> dict[str, list[float]]:
    """Seconds of a control step in each turn, by us and by the plain loop."""
    stopwatch, seconds = Stopwatch(resolve_device(command.device)), {key: list[float]() for key in samplers}
    players: dict[str, Any] = {"ours": agent, "plain": OneByOne(agent, command.threads or available_cores())}
    for turn in range(command.turns + 1):
        for key, sampler in samplers.items():
            sampler.set_tasks(tasks)
            begun, streams = agent.begin(tasks, 1), Streams(command.seed)
            taken = stopwatch(lambda: sampler.collect(players[key], begun, streams))  # noqa: B023
            if turn:
                seconds[key].append(taken / STEPS)
    return seconds


def _row(name: str, agent: PlanningAgent[Any], seconds: Mapping[str, list[float]], environments: int) -> dict[str, Any]:
    """Figures of one agent; the products are those of the models' predictions."""
    config, sizes = agent.config, agent.dynamics.networks.sizes
    predictions = environments * config.rounds * config.candidates * config.plan_steps
    flops = 2 * predictions * sum(a * b for a, b in pairwise(sizes))
    ours, plain = (statistics.median(seconds[key]) for key in ("ours", "plain"))
    ratios = [b / a for a, b in zip(seconds["ours"], seconds["plain"], strict=True)]
    return {
        "agent": name,
        "rounds": config.rounds,
        "candidates": config.candidates,
        "steps_per_s": float(f"{1 / ours:.4g}"),
        "plain_steps_per_s": float(f"{1 / plain:.4g}"),
        "ratio_vs_plain": float(f"{statistics.median(ratios):.3g}"),
        "product_gflops": float(f"{flops / ours / 1e9:.3g}"),
    }


def main(arguments: Sequence[str]) -> int:
    """Runs `metarl bench planning`; returns its exit code."""
    with border():
        command: PlanningCommand = parse(PlanningCommand, "metarl bench planning", arguments, PlanningCommand())
        check(command)
        value = bench_planning(command)
    if command.json:
        end_with_json(value)
    else:
        print_table(COLUMNS, value["rows"])
        print(
            f"{value['environments']} environments, plans of {value['plan_steps']} steps, layers {value['hidden']} on "
            f"{value['device']}, {value['workers']} workers; the plain loop has {value['threads']} threads. Control "
            "steps are those of all environments at once"
        )
    return 0
