"""Size of each agent's exported graph, and the time of a step of onnxruntime on one core: the table of docs/export.md.

Agents are untrained, with their default settings, on half-cheetah-vel with 200 steps; those that plan on
half-cheetah-crippled. Each time is a median.

    OMP_NUM_THREADS=1 python tools/exported_sizes.py
    OMP_NUM_THREADS=1 python tools/exported_sizes.py --agents rl2 --cells gru lstm
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from typing import Any, get_args, get_type_hints

import numpy as np
import onnxruntime

import metarl
from metarl.agents.rma import RmaConfig
from metarl.exporting.adapted import step_for_task
from metarl.exporting.graph import onnx_graph
from metarl.learning.networks.cells.settings import CellName
from metarl.learning.networks.exported.step import PolicyStep
from metarl.registry import AGENTS, agent_class, make_family, names
from metarl.seeding import Streams

CELL_SETTINGS = {"rl2": "cell", "varibad": "cell", "recurrent-sac": "cell", "rma": "history_encoder"}
"""The setting that chooses the cell, of agents that have several."""
OF_RMA = get_args(get_type_hints(RmaConfig)["history_encoder"])
HORIZON, EPISODES = 200, 20
SECONDS = 1.0
"""Time that the steps of a graph are repeated for."""


def exported(agent: str, cell: str | None) -> tuple[PolicyStep, bytes]:
    """The step and the graph of an untrained agent."""
    plans = getattr(agent_class(agent), "needs_reward", False)
    family = make_family("half-cheetah-crippled" if plans else "half-cheetah-vel")
    settings: dict[str, Any] = {CELL_SETTINGS[agent]: cell} if cell else {}
    made: Any = metarl.make_agent(agent, family.spaces(HORIZON), **settings)
    if plans:
        made.iteration = made.config.warmup_iterations
    task = family.distribution.held_out(1)[0]
    step, _ = step_for_task(agent, made, family, task, Streams(0), episodes=EPISODES, horizon=HORIZON)
    return step, onnx_graph(step)


def microseconds(step: PolicyStep, graph: bytes) -> float:
    """Median time of a step on one core."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    rng, took = np.random.default_rng(0), list[float]()
    given = {name: rng.standard_normal(size, dtype=np.float32) for name, size in step.sizes.items()}
    given["memory"] = np.zeros_like(given["memory"])
    while sum(took) < SECONDS:
        began = time.perf_counter()
        given["memory"] = session.run(None, given)[1]
        took.append(time.perf_counter() - began)
    return 1e6 * float(np.median(took))


def row(agent: str, cell: str | None) -> str:
    """A row of the table."""
    step, graph = exported(agent, cell)
    parts = ", ".join(part.name for part in step.parts if part.name != "steps") or "nothing"
    memory = step.sizes["memory"]
    took = microseconds(step, graph)
    return f"| `{agent}` | {cell or ''} | {len(graph) / 1024:,.0f} | {memory:,} | {parts} | {took:,.0f} |"


def main(arguments: Sequence[str] | None = None) -> int:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--agents", nargs="+", default=names(AGENTS), choices=names(AGENTS))
    cells = list(dict.fromkeys([*OF_RMA, *get_args(CellName)]))
    parser.add_argument("--cells", nargs="+", default=cells, choices=cells)
    words = parser.parse_args(arguments)
    print("| agent | cell | graph, KiB | memory, numbers | in the memory, after the steps | step, us |")
    print("|---|---|---|---|---|---|")
    for agent in words.agents:
        there = OF_RMA if agent == "rma" else get_args(CellName)
        for cell in [one for one in words.cells if one in there] if agent in CELL_SETTINGS else [None]:
            print(row(agent, cell), flush=True)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
