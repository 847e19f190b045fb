"""`metarl bench planning`: control steps per second of agents that plan, and of a plain loop over environments."""

from __future__ import annotations

import dataclasses
import statistics
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch

from metarl.config import Layers, Rounds, Rows, RowsOrOwn, Seed, check
from metarl.learning.device.process import threads
from metarl.learning.networks.fused import LAYER
from metarl.learning.planning.agent import PlanningAgent
from metarl.learning.planning.state import Plans
from metarl.registry import agent_class, make_family
from metarl.runs import resolve_device, versions
from metarl.scripts.bench.stopwatch import Stopwatch
from metarl.scripts.bench.synthetic import synthetic_batch, synthetic_tasks
from metarl.scripts.bench.tables import print_table
from metarl.scripts.common import border, end_with_json, parse
from metarl.scripts.reference.planning import act_one_by_one
from metarl.tasks import Family
from metarl.types import Floats, Spaces, Step

COLUMNS = ("agent", "rounds", "candidates", "steps_per_s", "plain_steps_per_s", "ratio_vs_plain", "product_gflops")
"""Columns of the printed table."""
ACTED = 4
"""Control steps in one measurement."""
SEEN = 20
"""Steps of the episodes that statistics and windows come from."""


@dataclass(frozen=True, kw_only=True)
class PlanningCommand:
    """Measures control steps of all environments at once: adapting, planning and choosing an action, without physics.

    The plain loop calls a planner once per environment (`metarl.scripts.reference.planning`). Both use the same
    candidates and the same threads, and take turns; the figures are medians, the ratio is taken within a turn.
    """

    agents: tuple[Literal["mb-mpc", "grbal", "rebal"], ...] = ("mb-mpc", "grbal", "rebal")
    """Agents to measure."""
    family: str = "half-cheetah-crippled"
    """Family whose spaces and reward are used; observations are random."""
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
    turns: Rounds = 7
    """Measurements, after a warm-up."""
    threads: RowsOrOwn = 0
    """Threads of PyTorch; 0 for its default, one per core."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Device of the models."""
    seed: Seed = 0
    """Seed of models, observations and candidates."""
    json: bool = False
    """Print the results as one JSON line at the end."""


def ready(name: str, rounds: int, family: Family, command: PlanningCommand) -> tuple[PlanningAgent[Any], Plans, Step]:
    """An agent after a meta-update on random episodes, a state with full windows, and the input of a step.

    Args:
        name: Name of the agent.
        rounds: Rounds of a control step.
        family: Source of spaces and reward.
        command: Sizes and seed.
    """
    kind: Any = agent_class(name)
    known = {field.name for field in dataclasses.fields(kind.Config)}
    windows = {"window": SEEN, "past": SEEN - 4, "future": 4}
    config = kind.Config(
        rounds=rounds,
        candidates=max(command.candidates // rounds, 1),
        plan_steps=command.plan_steps,
        hidden=command.hidden,
        gradient_steps=1,
        **{name: steps for name, steps in windows.items() if name in known},
    )
    spaces: Spaces = family.spaces(SEEN)
    rng = np.random.default_rng(command.seed)
    agent = kind.build(config, spaces, device=resolve_device(command.device), rng=rng)
    batch, _ = synthetic_batch(agent, family, command.environments, 1, SEEN, command.seed)
    agent.meta_update(batch)
    state = agent.begin(synthetic_tasks(command.environments, spaces.action_size, rng), 1)
    window = torch.tensor(rng.standard_normal(state.window.shape, dtype=np.float32), device=state.window.device)
    state = replace(state, window=window, count=torch.full_like(state.count, SEEN))
    shape = (command.environments, 1)
    step = Step(
        observation=rng.standard_normal((*shape, spaces.observation_size), dtype=np.float32),
        previous_action=np.zeros((*shape, spaces.action_size), dtype=np.float32),
        previous_reward=np.zeros(shape, dtype=np.float32),
        first=np.zeros(shape, dtype=np.bool_),
        live=np.ones(shape, dtype=np.bool_),
    )
    return agent, state, step


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
    family, device = make_family(command.family), resolve_device(command.device)
    rows, count = list[dict[str, Any]](), command.threads or torch.get_num_threads()
    for name in dict.fromkeys(command.agents):
        for rounds in dict.fromkeys(command.rounds):
            agent, state, step = ready(name, rounds, family, command)
            work = {"ours": _acting(agent.act, state, step), "plain": _acting(_plain(agent), state, step)}
            seconds: dict[str, list[float]] = {key: [] for key in work}
            stopwatch = Stopwatch(device)
            with threads(count):
                for turn in range(command.turns + 1):
                    for key, one in work.items():
                        taken = stopwatch(one) / ACTED
                        if turn:
                            seconds[key].append(taken)
            rows.append(_row(name, agent, seconds, command.environments))
            print(f"{name}, {rounds} rounds: done", file=sys.stderr, flush=True)
    about = versions()
    return {
        "device": str(device),
        "threads": count,
        "onednn": LAYER is not None,
        "hardware": about["machine"],
        "versions": {**about["packages"], "python": about["python"]},
        "environments": command.environments,
        "plan_steps": command.plan_steps,
        "hidden": list(command.hidden),
        "rows": rows,
    }


def _plain(agent: PlanningAgent[Any]) -> Callable[..., Any]:
    return lambda *arguments: act_one_by_one(agent, *arguments)


def _acting(act: Callable[..., Any], state: Plans, step: Step) -> Callable[[], Any]:
    """A function that makes `ACTED` control steps, each from the same state with candidates of its own."""

    def acted() -> list[Floats]:
        return [act(state, step, np.random.default_rng(i))[0].environment for i in range(ACTED)]

    return acted


def _row(name: str, agent: PlanningAgent[Any], seconds: dict[str, list[float]], environments: int) -> dict[str, Any]:
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
            f"{value['device']}, {value['threads']} threads; steps_per_s: control steps of all environments"
        )
    return 0
